"""Records (section 5 of transport/SPEC.md): one direction each in Sealer and Opener, both and their rules in Channel.

Channel has no lock: one thread may send while another receives.
"""

import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import schedule
from errors import KeyRequired, PeerAlert, Refused, Truncated
from handshake import Ticket

DATA, CLOSE, ALERT, KEY_UPDATE, PING, PONG, ACCEPT = range(1, 8)
TAG = 16
MAX_DATA = 33024  # R1: 32 KiB + 256
MIN_LENGTH, MAX_LENGTH = 1 + TAG, 1 + MAX_DATA + TAG
SEALED_RECORDS, SEALED_BYTES, OPENED_RECORDS = 2**22, 2**36, 2**23  # R6
MAX_TICKET, MAX_LIFETIME = 2048, 86400  # H15


class _Direction:
    def __init__(self, secret):
        self.secret = secret
        self._keys()

    def _keys(self):
        key, self.iv = schedule.record_keys(self.secret)
        self.aead, self.count, self.bytes = AESGCM(key), 0, 0

    def update(self):
        """The next key, with its counter at 0 (R3, K4)."""
        self.secret = schedule.next_secret(self.secret)
        self._keys()

    def nonce(self):
        """R1: the iv, its last 8 bytes xored with the number of records under this key."""
        tail = int.from_bytes(self.iv[4:], "big") ^ self.count
        return self.iv[:4] + tail.to_bytes(8, "big")


class Sealer(_Direction):
    """Makes records. It updates its key after at most max_records of them (R6)."""

    def __init__(self, secret, max_records=SEALED_RECORDS):
        super().__init__(secret)
        self.max_records = max(2, max_records)  # R7: one record and the update

    def seal(self, kind, data=b""):
        """The bytes of a record, behind a key update if one is due."""
        if len(data) > MAX_DATA:
            raise ValueError("R1: too much for one record")
        due = self.count >= self.max_records - 1 or self.bytes + len(data) >= SEALED_BYTES - MAX_LENGTH
        if not due:
            return self._seal(kind, data)
        update = self._seal(KEY_UPDATE, b"")
        self.update()
        return update + self._seal(kind, data)

    def _seal(self, kind, data):
        length = (1 + len(data) + TAG).to_bytes(2, "big")
        sealed = self.aead.encrypt(self.nonce(), bytes([kind]) + data, length)
        self.count += 1
        self.bytes += 1 + len(data)
        return length + sealed


class Opener(_Direction):
    """Opens records, and follows key updates."""

    def open(self, length, sealed):
        """(type, data), or Refused (R4, R6)."""
        if self.count >= OPENED_RECORDS:
            raise Refused("R6: 2^23 records under one key")
        try:
            plain = self.aead.decrypt(self.nonce(), sealed, length)
        except InvalidTag as err:
            raise Refused("R4: a record does not open") from err
        self.count += 1
        if plain[0] == KEY_UPDATE:
            if len(plain) > 1:
                raise Refused("R3: a key update with data")
            if self.count == 1:
                raise Refused("R7: a key update as the first record under a key")
            self.update()
        return plain[0], plain[1:]


class Channel:
    """Records over a connection, behind a handshake."""

    def __init__(self, conn, established, max_records=SEALED_RECORDS):
        self.conn, self.established = conn, established
        self.sealer, self.opener = Sealer(established.client_secret, max_records), Opener(established.server_secret)
        self.ticket = None  # that the server gave (H15)
        self.key_updates = 0  # of the peer
        self._first, self._buffer = True, b""

    def send(self, kind, data=b""):
        self.conn.write(self.sealer.seal(kind, data))

    def receive(self):
        """(type, data) of the next record: DATA, CLOSE, PING, PONG, or ACCEPT, checked. An alert is raised as PeerAlert, and
        key updates are done here. TimeoutError of the connection passes through and loses nothing."""
        while True:
            kind, data = self.record()
            first, self._first = self._first, False
            self._check_first(kind, data, first)
            if kind == ALERT and len(data) == 1:
                raise PeerAlert(data[0])  # section 7: an unknown code is an alert all the same
            if kind == KEY_UPDATE:
                self.key_updates += 1
                continue
            if kind in (CLOSE, PING, PONG) and not data or kind in (DATA, ACCEPT) and (data or kind == ACCEPT):
                return kind, data
            raise Refused(f"R3: a record of type {kind} with {len(data)} bytes")

    def record(self):
        """(type, data) of the next record, whatever its type; a key update is done when it is returned."""
        length = self._peek(2)
        n = int.from_bytes(length, "big")
        if not MIN_LENGTH <= n <= MAX_LENGTH:
            raise Refused(f"R2: a record of {n} bytes")
        record = self._peek(2 + n)
        self._buffer = b""
        return self.opener.open(length, record[2:])

    def _peek(self, n):
        """The first n bytes of what has come and is not yet used, waiting for them."""
        while len(self._buffer) < n:
            part = self.conn.read(n - len(self._buffer))
            if not part:
                raise Truncated("R5: the connection ended without a close record")  # between records as inside of one
            self._buffer += part
        return self._buffer[:n]

    def _check_first(self, kind, data, first):
        """H9 and H15: where an accept record must and may stand, and what is in it."""
        required = self.established.key_required
        if kind != ACCEPT:
            if first and required and kind != ALERT:
                raise Refused("H9: the first record is neither accept nor alert")
            return
        if not first:
            raise Refused("H9: an accept that is not the first record")
        if not data:
            if not required:
                raise Refused("H15: an accept that says nothing")
            return
        lifetime, ticket = int.from_bytes(data[:4], "big"), data[4:]
        if not self.established.wants_ticket or not 1 <= lifetime <= MAX_LIFETIME or not 1 <= len(ticket) <= MAX_TICKET:
            raise Refused("H15: a ticket that was not asked for, or is of another form")
        own = self.established
        self.ticket = Ticket(own.server_key, own.client_key.public.id if own.client_key else None, own.protocol,
                             own.resumption, ticket, time.monotonic() + lifetime)

    def await_accept(self):
        """H9: if a client key is required, nothing is done before the server has accepted it."""
        if self.established.key_required:
            if self.established.client_key is None:
                raise KeyRequired("H9: the server admits only clients that it knows")  # it would say so with alert 5
            self.receive()  # anything but accept raises: _check_first
