"""The client of the scripts as their wire describes it: client.py HOST PORT PUBLIC_KEY < lines. It prints a reply a line."""
import base64
import random
import socket
import string
import sys

from Cryptodome.Cipher import AES, PKCS1_v1_5
from Cryptodome.PublicKey import RSA

LETTERS = string.ascii_letters + string.digits


def pad(data):
    while len(data) % 16:
        data += b"\0"
    return data


def encrypt(key, iv, text):
    return AES.new(key.encode(), AES.MODE_CBC, iv.encode()).encrypt(pad(text.encode())).hex()


def decrypt(key, iv, digits):
    return AES.new(key.encode(), AES.MODE_CBC, iv.encode()).decrypt(bytes.fromhex(digits)).rstrip(b"\0").decode()


def main():
    host, port, public = sys.argv[1:]
    rsa = PKCS1_v1_5.new(RSA.import_key(open(public).read()))
    connection = socket.create_connection((host, int(port)))
    for line in open(0, encoding="utf-8", newline="\n"):
        text = line.rstrip("\n")
        key = "".join(random.choices(LETTERS, k=32))
        iv = "".join(random.choices(LETTERS, k=16))
        wrapped = base64.b64encode(rsa.encrypt(('{"aes_key":"%s", "aes_iv":"%s"}' % (key, iv)).encode())).decode()
        request = '{"key":"%s", "data":"%s"}' % (wrapped, encrypt(key, iv, text))
        connection.sendall(base64.b64encode(request.encode()) + b"#")
        reply = b""
        while not reply.endswith(b"#"):
            part = connection.recv(4096)
            if not part:
                sys.exit("the server ended the connection")
            reply += part
        print(decrypt(key, iv, base64.b64decode(reply[:-1]).decode()), flush=True)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    main()
