"""The server of the scripts as their wire describes it: server.py PRIVATE_KEY. It prints its port, and serves until its input ends."""
import ast
import base64
import socketserver
import sys
import threading

from Cryptodome.Cipher import PKCS1_v1_5
from Cryptodome.PublicKey import RSA

from client import decrypt, encrypt

PREFIX = "服务端已收到数据: "


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        buffered = b""
        while True:
            part = self.request.recv(65536)
            if not part:
                return
            buffered += part
            while b"#" in part and b"#" in buffered:
                request, buffered = buffered.split(b"#", 1)
                self.request.sendall(self.answer(request) + b"#")

    def answer(self, request):
        # The scripts have eval here. For this wire literal_eval says the same.
        request = ast.literal_eval(base64.b64decode(request).decode())
        keys = self.server.rsa.decrypt(base64.b64decode(request["key"]), None)
        keys = ast.literal_eval(keys.decode())
        text = decrypt(keys["aes_key"], keys["aes_iv"], request["data"])
        return base64.b64encode(encrypt(keys["aes_key"], keys["aes_iv"], PREFIX + text).encode())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def main():
    with Server(("127.0.0.1", 0), Connection) as server:
        server.rsa = PKCS1_v1_5.new(RSA.import_key(open(sys.argv[1]).read()))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
