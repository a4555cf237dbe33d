"""The client's side of the handshake (section 3 of transport/SPEC.md) over anything with read(n) and write(bytes).

read(n) returns 1 to n bytes, or b"" at the end of the connection, and raises TimeoutError when H11's deadline is over.
"""

import hashlib
import hmac
import os
import time
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import mlkem
import schedule
from errors import PeerAlert, Refused, SealmuxError, Stalled, Truncated, Untrusted
from identity import PrivateKey, PublicKey

MAGIC, VERSION = b"SMUX", 1
CLIENT_HELLO, SERVER_HELLO, CLIENT_FINISHED, KEY_REQUEST, KEY_OFFER, ALERT, RESUME_HELLO, TICKET_REFUSED = range(1, 9)
MAX_MESSAGE = 4096  # H2, header included
MAX_STREAMS = 50000  # H6
SIGNATURE_CONTEXT = b"sealmux/1 client authentication\x00"  # H7


class Fresh:
    """What must be new in each handshake. A test gives its own; everybody else leaves it alone."""

    def x25519_private(self):
        return os.urandom(32)

    def mlkem_seed(self):
        """d || z of FIPS 203."""
        return os.urandom(64)

    def secret(self):
        """S (H5)."""
        return os.urandom(32)

    def wrap(self, server_key, secret):
        """The OAEP ciphertext of S (H5)."""
        return server_key.wrap(secret)

    def sign(self, client_key, message):
        """The PSS signature (H7)."""
        return client_key.sign(message)


@dataclass
class Ticket:
    """What a client keeps to resume (H12): good once, and only for what it was given with."""

    server_key: PublicKey
    client_id: bytes | None
    protocol: bytes
    secret: bytes
    ticket: bytes
    until: float  # time.monotonic()
    used: bool = False

    def fits(self, trust, key, protocol):
        """H12: whether it may be shown to this server now."""
        return (not self.used and time.monotonic() < self.until and trust.judge(self.server_key)
                and self.client_id == (key.public.id if key else None) and self.protocol == protocol)


@dataclass
class Established:
    """What a handshake ends with. Its repr shows no secret."""

    server_key: PublicKey
    client_key: PrivateKey | None
    protocol: bytes
    resumed: bool
    key_required: bool  # the server's first record is accept or alert (H9)
    wants_ticket: bool
    max_streams: int  # that the client may have open
    own_max_streams: int  # that the server may have open
    client_secret: bytes = field(repr=False)
    server_secret: bytes = field(repr=False)
    exporter: bytes = field(repr=False)
    resumption: bytes = field(repr=False)


class Dialogue:
    """Sends and receives handshake messages, and keeps the transcript (K1)."""

    def __init__(self, conn):
        self.conn, self.transcript, self.t1 = conn, hashlib.sha256(), None

    def send(self, kind, body):
        message = MAGIC + bytes([VERSION, kind]) + len(body).to_bytes(2, "big") + body
        self.transcript.update(message)
        self.conn.write(message)

    def receive(self, *due):
        """(type, body) of the next message, which must be of a type that is due, or an alert."""
        header = b""
        for want in MAGIC:  # H1: byte by byte, without an answer
            header += self._exactly(1)
            if header[-1] != want:
                raise Refused("H1: the peer speaks another protocol", alert=None)
        header += self._exactly(1)
        if header[4] != VERSION:
            raise Refused("H1: the peer speaks another version", alert=3)
        header += self._exactly(3)
        kind, length = header[5], int.from_bytes(header[6:], "big")
        if kind not in due and kind != ALERT:
            raise Refused(f"H1: type {kind} is not due", alert=4)
        if length > MAX_MESSAGE - len(header):
            raise Refused(f"H2: a message of {length} bytes", alert=4)
        body = self._exactly(length)
        if kind == ALERT:
            raise _alert(body)
        if kind == SERVER_HELLO:  # T1 ends before its sealed block
            through = self.transcript.copy()
            through.update(header + body[:32 + mlkem.CIPHERTEXT_BYTES])
            self.t1 = through.digest()
        self.transcript.update(header + body)
        return kind, body

    def digest(self):
        return self.transcript.digest()

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                part = self.conn.read(n - len(data))
            except TimeoutError as err:
                raise Stalled("H11: the handshake takes too long") from err
            if not part:
                raise Truncated("the connection ended in the handshake")
            data += part
        return data


def _alert(body):
    """H8: the error that an alert's body stands for. It is believed for nothing but that the handshake has failed."""
    if len(body) == 33 and body[0] == 1:
        return PeerAlert(1, body[1:], plain=True)
    if len(body) != 1 or body[0] == 1:
        return Refused("H8: an alert of another form", alert=None)
    return PeerAlert(body[0], plain=True)


class Fields:
    """Takes a body apart; what is short or left over is refused with alert 4 (H8)."""

    def __init__(self, body):
        self.rest = body

    def take(self, n):
        if len(self.rest) < n:
            raise Refused("H8: a message is too short", alert=4)
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def end(self):
        if self.rest:
            raise Refused("H8: a message is too long", alert=4)


def exchange(private, public):
    """X25519; a result of all zeros is refused (H10)."""
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        shared = bytes(32)
    if hmac.compare_digest(shared, bytes(32)):
        raise Refused("H10: an X25519 result of all zeros", alert=4)
    return shared


def x25519_public(private):
    public = X25519PrivateKey.from_private_bytes(private).public_key()
    return public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def open_block(key_nonce, sealed, associated):
    """Opens the one block that a handshake key is for (K3)."""
    key, nonce = key_nonce
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag as err:
        raise Refused("a block of the handshake does not open", alert=4) from err


def connect(conn, trust, protocol, *, key=None, ticket=None, wants_ticket=False, max_streams=16, fresh=None):
    """Runs the handshake and returns an Established; raises a SealmuxError, after telling the server why (H8)."""
    if not 1 <= max_streams <= MAX_STREAMS or len(protocol) > 255:
        raise ValueError("H5, H7: 1 to 50000 streams, and at most 255 bytes of application protocol")
    try:
        return Client(conn, trust, protocol, key, wants_ticket, max_streams, fresh or Fresh()).run(ticket)
    except Refused as refused:
        if refused.alert is not None:
            alert = bytes([refused.alert])
            try:
                conn.write(MAGIC + bytes([VERSION, ALERT]) + len(alert).to_bytes(2, "big") + alert)
            except (OSError, SealmuxError):
                pass  # the handshake has failed already, for the better reason
        raise


class Client:
    """The steps of a client, in order."""

    def __init__(self, conn, trust, protocol, key, wants_ticket, max_streams, fresh):
        self.dialogue = Dialogue(conn)
        self.trust, self.protocol, self.key = trust, protocol, key
        self.wants_ticket, self.max_streams, self.fresh = wants_ticket, max_streams, fresh

    def run(self, ticket):
        if ticket is not None and ticket.fits(self.trust, self.key, self.protocol):
            ticket.used = True  # H12: once, whatever becomes of it
            self.send_hello(RESUME_HELLO, ticket.server_key.id, ticket.ticket)
            early = schedule.early(ticket.secret, resumed=True)
            kind, body = self.dialogue.receive(SERVER_HELLO, TICKET_REFUSED)
            if kind == SERVER_HELLO:
                return self.finish(body, early, ticket.server_key, resumed=True)
            Fields(body).end()  # H13: empty; go on as if there were no ticket
        server_key = self.trust.only_key or self.ask_for_key()
        secret = self.fresh.secret()
        self.send_hello(CLIENT_HELLO, server_key.id, self.fresh.wrap(server_key, secret))
        _, body = self.dialogue.receive(SERVER_HELLO)
        return self.finish(body, schedule.early(secret, resumed=False), server_key, resumed=False)

    def ask_for_key(self):
        """KeyRequest and KeyOffer (H3, H4)."""
        ids = self.trust.ids
        self.dialogue.send(KEY_REQUEST, bytes([len(ids)]) + b"".join(ids))
        _, spki = self.dialogue.receive(KEY_OFFER)
        server_key = PublicKey(spki)
        if not self.trust.judge(server_key):
            raise Untrusted(f"H4: the server offers {server_key.fingerprint}, which is not trusted", alert=None)
        return server_key

    def send_hello(self, kind, server_id, last):
        """ClientHello or ResumeHello (H5, H12), with shares of its own."""
        self.x25519 = self.fresh.x25519_private()
        seed = self.fresh.mlkem_seed()
        ek, self.mlkem = mlkem.keygen(seed[:32], seed[32:])
        self.dialogue.send(kind, server_id + x25519_public(self.x25519) + ek
                           + bytes([len(self.protocol)]) + self.protocol + len(last).to_bytes(2, "big") + last)

    def finish(self, server_hello, early, server_key, resumed):
        """From ServerHello on (H6, H7)."""
        fields = Fields(server_hello)
        share, ciphertext, sealed = fields.take(32), fields.take(mlkem.CIPHERTEXT_BYTES), fields.take(5 + 16)
        fields.end()
        secret = schedule.handshake(early, mlkem.decaps(self.mlkem, ciphertext), exchange(self.x25519, share))
        t1 = self.dialogue.t1
        block = Fields(open_block(schedule.block_key(secret, b"server", t1), sealed, t1))
        flags, streams = block.number(1), block.number(4)
        if flags > 1 or not 1 <= streams <= MAX_STREAMS:
            raise Refused("H6: flags or MaxStreams", alert=4)

        t2 = self.dialogue.digest()
        spki = signature = b""
        if self.key is not None and not resumed:  # H7, H14
            spki, signature = self.key.public.spki, self.fresh.sign(self.key, SIGNATURE_CONTEXT + t2)
        finished = (bytes([self.wants_ticket]) + self.max_streams.to_bytes(4, "big")
                    + len(spki).to_bytes(2, "big") + spki + len(signature).to_bytes(2, "big") + signature)
        key, nonce = schedule.block_key(secret, b"client", t1)
        self.dialogue.send(CLIENT_FINISHED, AESGCM(key).encrypt(nonce, finished, t2))
        t3 = self.dialogue.digest()
        return Established(
            server_key=server_key, client_key=self.key, protocol=self.protocol, resumed=resumed,
            key_required=flags == 1, wants_ticket=self.wants_ticket,
            max_streams=streams, own_max_streams=self.max_streams,
            client_secret=schedule.traffic_secret(secret, b"client", t3),
            server_secret=schedule.traffic_secret(secret, b"server", t3),
            exporter=schedule.exporter(secret, t3), resumption=schedule.resumption(secret, t3))
