"""For tests: a client and a server_role.Server that meet over a socket pair, and conversations that are all scripted."""

import socket
import threading

from cryptography.hazmat.primitives.asymmetric import rsa

import channel
import handshake
import identity
import server_role
from errors import SealmuxError


def new_key(bits=2048, exponent=65537):
    return identity.PrivateKey(rsa.generate_private_key(exponent, bits))


KEY, CLIENT_KEY, OTHER_KEY = new_key(), new_key(), new_key()


class Conn:
    """A socket as connect wants it. change(n, bytes) may alter the n-th message sent."""

    def __init__(self, sock, change=None):
        self.sock, self.change, self.sent = sock, change, []
        sock.settimeout(20)

    def read(self, n):
        return self.sock.recv(n)

    def write(self, data):
        if self.change:
            data = self.change(len(self.sent), data)
        self.sent.append(data)
        self.sock.sendall(data)


class Meeting:
    """The handshake of both. client or client_error, and server or server_error, say how it went."""

    def __init__(self, trust=None, *, key=None, ticket=None, wants_ticket=False, protocol=b"p", fresh=None,
                 client_change=None, server_change=None, **server):
        ours, theirs = socket.socketpair()
        self.client_conn, self.server_conn = Conn(ours, client_change), Conn(theirs, server_change)
        self.client = self.server = self.client_error = self.server_error = None
        thread = threading.Thread(target=self._serve, args=[{"keys": [KEY], "protocol": b"p"} | server])
        thread.start()
        try:
            self.client = handshake.connect(self.client_conn, trust or identity.Trust(KEY.public), protocol, key=key,
                                            ticket=ticket, wants_ticket=wants_ticket, fresh=fresh)
            self.client_records = channel.Channel(self.client_conn, self.client)
            self.client_records.await_accept()
        except SealmuxError as err:
            self.client_error = err
            ours.shutdown(socket.SHUT_WR)
        thread.join()

    def _serve(self, options):
        self.role = server_role.Server(self.server_conn, **options)
        try:
            self.server, self.server_records = self.role.run()
        except SealmuxError as err:
            self.server_error = err
            self.server_conn.sock.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client_conn.sock.close()
        self.server_conn.sock.close()


class Script:
    """A peer that says what it is to say, whatever it hears."""

    def __init__(self, *says):
        self.says, self.heard = b"".join(says), b""

    def read(self, n):
        out, self.says = self.says[:n], self.says[n:]
        return out

    def write(self, data):
        self.heard += data


def message(kind, body, version=1):
    return b"SMUX" + bytes([version, kind]) + len(body).to_bytes(2, "big") + body
