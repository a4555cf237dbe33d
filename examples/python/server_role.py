"""The server's side of the handshake (section 3 of transport/SPEC.md), for tests: there, a client meets itself.

It keeps no state but its ticket key.
"""

import hashlib
import os
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import channel
import handshake as hs
import mlkem
import schedule
from errors import Refused
from handshake import Dialogue, Established, Fields
from identity import PublicKey

CHAIN = 12 * 3600  # H13


class Fresh:
    """What must be new in each handshake."""

    def x25519_private(self):
        return os.urandom(32)

    def mlkem_message(self):
        """m of FIPS 203."""
        return os.urandom(32)

    def stand_in(self):
        """H5: what takes the place of S if that cannot be had."""
        return os.urandom(32)


class Tickets:
    """H15: id of the ticket key, nonce, sealed."""

    def __init__(self, key=None, id_=None, now=time.time):
        self.key, self.id, self.now = AESGCM(key or os.urandom(32)), id_ or os.urandom(16), now

    def seal(self, end, server_id, protocol, secret, client_spki):
        nonce = os.urandom(12)
        bound = server_id + hashlib.sha256(protocol).digest()
        plain = b"\x01" + end.to_bytes(8, "big") + bound + secret + client_spki
        return self.id + nonce + self.key.encrypt(nonce, plain, self.id)

    def open(self, ticket, server_id, protocol):
        """(end, secret, client's SubjectPublicKeyInfo), or None if it is not good (H13)."""
        if len(ticket) < 28 + 105 + 16 or ticket[:16] != self.id:
            return None
        try:
            plain = self.key.decrypt(ticket[16:28], ticket[28:], self.id)
        except InvalidTag:
            return None
        end = int.from_bytes(plain[1:9], "big")
        bound = server_id + hashlib.sha256(protocol).digest()
        if plain[0] != 1 or plain[9:73] != bound or self.now() > end:
            return None
        return end, plain[73:105], plain[105:]


class Server:
    """keys are PrivateKeys; admits is a function of a client's PublicKey, or None if any client may come."""

    def __init__(self, conn, keys, protocol, admits=None, max_streams=1024, fresh=None, tickets=None, gives_tickets=True):
        self.dialogue, self.conn = Dialogue(conn), conn
        self.keys, self.protocol, self.admits, self.max_streams = keys, protocol, admits, max_streams
        self.fresh, self.tickets, self.gives_tickets = fresh or Fresh(), tickets or Tickets(), gives_tickets

    def run(self):
        """(Established, Channel) behind the accept record; Refused after the alert was sent (H8)."""
        try:
            established, wants_ticket = self._handshake()
        except Refused as refused:
            if refused.alert is not None:
                body = bytes([refused.alert]) + (self.keys[0].public.id if refused.alert == 1 else b"")
                self.conn.write(hs.MAGIC + bytes([hs.VERSION, hs.ALERT]) + len(body).to_bytes(2, "big") + body)
            raise
        return established, self._accept(established, wants_ticket)

    def _handshake(self):
        due = [hs.CLIENT_HELLO, hs.KEY_REQUEST, hs.RESUME_HELLO]
        while True:
            kind, body = self.dialogue.receive(*due)
            if kind == hs.CLIENT_HELLO:
                return self._full(body)
            due.remove(kind)  # H3: once each
            if kind == hs.KEY_REQUEST:
                self._offer(body)
            elif (finished := self._resume(body)) is not None:
                return finished

    def _offer(self, body):
        """H4."""
        fields = Fields(body)
        count = fields.number(1)
        if count > 16:
            raise Refused("H4: over 16 ids", alert=4)
        ids = [fields.take(32) for _ in range(count)]
        fields.end()
        held = {key.public.id: key.public for key in self.keys}
        offer = next((held[id_] for id_ in ids if id_ in held), self.keys[0].public)
        self.dialogue.send(hs.KEY_OFFER, offer.spki)

    def _hello(self, body):
        """The fields of ClientHello and ResumeHello, checked for form and protocol (H5, H12)."""
        fields = Fields(body)
        server_id, share, ek = fields.take(32), fields.take(32), fields.take(mlkem.EK_BYTES)
        protocol = fields.take(fields.number(1))
        last = fields.take(fields.number(2))
        fields.end()
        if protocol != self.protocol:
            raise Refused("H5: another application protocol", alert=2)
        key = next((key for key in self.keys if key.public.id == server_id), None)
        return key, server_id, share, ek, last

    def _shared(self, share, ek):
        """H10, then the server's half of both exchanges: its share and ciphertext, and the two secrets."""
        try:
            mlkem.check_encapsulation_key(ek)
        except mlkem.KeyRefused as err:
            raise Refused(f"H10: {err}", alert=4) from err
        private = self.fresh.x25519_private()
        x25519_secret = hs.exchange(private, share)
        kem_secret, ciphertext = mlkem.encaps(ek, self.fresh.mlkem_message())
        return hs.x25519_public(private) + ciphertext, kem_secret, x25519_secret

    def _full(self, body):
        key, _, share, ek, wrapped = self._hello(body)
        if key is None:
            raise Refused("H5: a key that this server does not hold", alert=1)
        answer, kem_secret, x25519_secret = self._shared(share, ek)
        if len(wrapped) != key.public.size:
            raise Refused("H5: the length of the RSA ciphertext", alert=4)
        secret = self.fresh.stand_in()
        try:
            unwrapped = key.unwrap(wrapped)
            secret = unwrapped if len(unwrapped) == 32 else secret
        except ValueError:
            pass  # H5: implicit rejection; it takes another time here, which a test does not mind
        self.end = int(self.tickets.now()) + CHAIN
        early = schedule.early(secret, resumed=False)
        return self._finish(key, answer, schedule.handshake(early, kem_secret, x25519_secret), None)

    def _resume(self, body):
        key, server_id, share, ek, ticket = self._hello(body)
        if not 1 <= len(ticket) <= channel.MAX_TICKET:
            raise Refused("H12: the length of the ticket", alert=4)
        good = key and self.tickets.open(ticket, server_id, self.protocol)
        if not good:
            self.dialogue.send(hs.TICKET_REFUSED, b"")
            return None
        self.end, secret, spki = good
        answer, kem_secret, x25519_secret = self._shared(share, ek)
        early = schedule.early(secret, resumed=True)
        return self._finish(key, answer, schedule.handshake(early, kem_secret, x25519_secret), spki)

    def _finish(self, key, answer, secret, ticket_spki):
        """H6 and H7: (Established, whether the client wants a ticket). ticket_spki is the client that a ticket names, None
        in a full handshake."""
        header = hs.MAGIC + bytes([hs.VERSION, hs.SERVER_HELLO]) + (len(answer) + 21).to_bytes(2, "big")
        through = self.dialogue.transcript.copy()
        through.update(header + answer)
        t1 = through.digest()
        block_key, nonce = schedule.block_key(secret, b"server", t1)
        plain = bytes([self.admits is not None]) + self.max_streams.to_bytes(4, "big")
        self.dialogue.send(hs.SERVER_HELLO, answer + AESGCM(block_key).encrypt(nonce, plain, t1))
        t2 = self.dialogue.digest()
        _, sealed = self.dialogue.receive(hs.CLIENT_FINISHED)
        block = Fields(hs.open_block(schedule.block_key(secret, b"client", t1), sealed, t2))
        flags, streams = block.number(1), block.number(4)
        spki, signature = block.take(block.number(2)), block.take(block.number(2))
        block.end()
        if flags > 1 or not 1 <= streams <= hs.MAX_STREAMS or bool(spki) != bool(signature):
            raise Refused("H7: flags, MaxStreams, or a key without a signature", alert=4)
        if ticket_spki is not None:
            if spki:
                raise Refused("H14: a key in a resumed handshake", alert=4)
            self.client = PublicKey(ticket_spki) if ticket_spki else None
        else:
            self.client = PublicKey(spki) if spki else None
            if self.client:
                self.client.check_signature(signature, hs.SIGNATURE_CONTEXT + t2)
        t3 = self.dialogue.digest()
        return Established(
            server_key=key.public, client_key=None, protocol=self.protocol, resumed=ticket_spki is not None,
            key_required=False, wants_ticket=False, max_streams=streams, own_max_streams=self.max_streams,
            client_secret=schedule.traffic_secret(secret, b"server", t3),  # what this side sends with
            server_secret=schedule.traffic_secret(secret, b"client", t3),
            exporter=schedule.exporter(secret, t3), resumption=schedule.resumption(secret, t3)), flags == 1

    def _accept(self, established, wants_ticket):
        """H9 and H15: the first record, if one is due."""
        records = channel.Channel(self.conn, established)
        if self.admits is not None and (self.client is None or not self.admits(self.client)):
            records.send(channel.ALERT, b"\x05")
            raise Refused("H9: the client is not admitted", alert=None)
        if wants_ticket and self.gives_tickets:
            spki = self.client.spki if self.client else b""
            server_id = established.server_key.id
            ticket = self.tickets.seal(self.end, server_id, self.protocol, established.resumption, spki)
            lifetime = max(1, self.end - int(self.tickets.now()))
            records.send(channel.ACCEPT, lifetime.to_bytes(4, "big") + ticket)
        elif self.admits is not None:
            records.send(channel.ACCEPT)
        return records
