"""The key schedule against another HKDF, and records with all that their receiver refuses."""

import hashlib
import unittest

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

import channel
import schedule
from channel import ACCEPT, ALERT, CLOSE, DATA, KEY_UPDATE, PING, PONG, Channel, Opener, Sealer
from errors import PeerAlert, Refused, Truncated
from handshake import Established
from meeting import CLIENT_KEY, KEY, Script

SECRET, OTHER = bytes(range(32)), bytes(range(32, 64))


class TestSchedule(unittest.TestCase):
    def test_rfc5869(self):
        """Appendix A.1 of RFC 5869."""
        prk = schedule.extract(bytes(range(13)), b"\x0b" * 22)
        self.assertEqual(prk.hex(), "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
        self.assertEqual(schedule.expand(prk, bytes(range(0xf0, 0xfa)), 42).hex(),
                         "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")

    def test_labels(self):
        """Each name of section 4, written out, over the library's HKDF."""
        def expand(info, n):
            return HKDFExpand(hashes.SHA256(), n, info).derive(SECRET)
        t = hashlib.sha256(b"transcript").digest()
        for role in (b"client", b"server"):
            key, nonce = schedule.block_key(SECRET, role, t)
            self.assertEqual(key + nonce, expand(b"sealmux/1 " + role + b" handshake" + t, 44))
            self.assertEqual(schedule.traffic_secret(SECRET, role, t), expand(b"sealmux/1 " + role + b" traffic" + t, 32))
        self.assertEqual(schedule.record_keys(SECRET), (expand(b"sealmux/1 key", 32), expand(b"sealmux/1 iv", 12)))
        self.assertEqual(schedule.next_secret(SECRET), expand(b"sealmux/1 update", 32))
        self.assertEqual(schedule.exporter(SECRET, t), expand(b"sealmux/1 exporter" + t, 32))
        self.assertEqual(schedule.resumption(SECRET, t), expand(b"sealmux/1 resumption" + t, 32))
        info = b"sealmux/1 export\x05label" + hashlib.sha256(b"context").digest()
        self.assertEqual(schedule.export(SECRET, b"label", b"context", 8160), expand(info, 8160))
        with self.assertRaises(ValueError):
            schedule.export(SECRET, b"label", b"context", 8161)
        self.assertEqual(schedule.early(SECRET, False), schedule.extract(b"sealmux/1", SECRET))
        self.assertEqual(schedule.early(SECRET, True), schedule.extract(b"sealmux/1 resumed", SECRET))
        self.assertEqual(schedule.handshake(SECRET, b"kem", b"x"), schedule.extract(SECRET, b"kemx"))


def receiver(*records, **options):
    """A client's Channel to which the server says these records."""
    options = {"key_required": False, "wants_ticket": False, "client_key": None} | options
    established = Established(server_key=KEY.public, protocol=b"p", resumed=False, max_streams=1, own_max_streams=1,
                              client_secret=OTHER, server_secret=SECRET, exporter=SECRET, resumption=OTHER, **options)
    return Channel(Script(*records), established)


class TestRecords(unittest.TestCase):
    def setUp(self):
        self.sealer = Sealer(SECRET)

    def refuses(self, rule, *records, alert=6, **options):
        channel_ = receiver(*records, **options)
        with self.assertRaisesRegex(Refused, rule) as caught:
            while True:
                channel_.receive()
        self.assertEqual(caught.exception.alert, alert)

    def test_there(self):
        sizes = (1, 100, channel.MAX_DATA)
        channel_ = receiver(*(self.sealer.seal(DATA, b"x" * n) for n in sizes))
        for n in sizes:
            self.assertEqual(channel_.receive(), (DATA, b"x" * n))
        with self.assertRaises(Truncated):  # R5
            channel_.receive()
        with self.assertRaises(ValueError):
            self.sealer.seal(DATA, b"x" * (channel.MAX_DATA + 1))

    def test_layout(self):
        """R1, with the second nonce written out."""
        key, iv = schedule.record_keys(SECRET)
        self.sealer.seal(PING)
        record = self.sealer.seal(DATA, b"abc")
        self.assertEqual(record[:2], bytes([0, 1 + 3 + 16]))
        nonce = iv[:11] + bytes([iv[11] ^ 1])
        self.assertEqual(channel.AESGCM(key).decrypt(nonce, record[2:], record[:2]), b"\x01abc")

    def test_lengths(self):
        for length in (0, 16, 33042, 65535):
            self.refuses("R2", length.to_bytes(2, "big"))  # though nothing else has come

    def test_spoilt(self):
        record = self.sealer.seal(DATA, b"abc")
        for at in (2, 3, len(record) - 1):
            spoilt = bytearray(record)
            spoilt[at] ^= 1
            self.refuses("R4", bytes(spoilt))
        later = self.sealer.seal(DATA, b"d")
        self.refuses("R4", later)  # a record dropped
        self.refuses("R4", record, record)  # or sent again
        self.refuses("R4", Sealer(OTHER).seal(DATA, b"abc"))

    def test_cut(self):
        record = self.sealer.seal(DATA, b"abc")
        for n in (0, 1, 2, len(record) - 1):
            with self.assertRaises(Truncated):
                receiver(record[:n]).receive()

    def test_forms(self):
        for kind, data in ((0, b""), (8, b"x"), (DATA, b""), (CLOSE, b"x"), (ALERT, b""), (ALERT, b"44"),
                           (KEY_UPDATE, b"x"), (PING, b"x"), (PONG, b"x")):
            self.refuses("R3", Sealer(SECRET).seal(kind, data))

    def test_alert(self):
        for code in (5, 6, 99):
            with self.assertRaises(PeerAlert) as caught:
                receiver(Sealer(SECRET).seal(ALERT, bytes([code]))).receive()
            self.assertEqual(caught.exception.code, code)

    def test_key_updates(self):
        sealer = Sealer(SECRET, max_records=3)
        channel_ = receiver(*(sealer.seal(DATA, bytes([n])) for n in range(9)))
        self.assertEqual([channel_.receive()[1][0] for _ in range(9)], list(range(9)))
        self.assertEqual(channel_.key_updates, 4)
        self.refuses("R7", Sealer(SECRET).seal(KEY_UPDATE))
        sealer = Sealer(SECRET)
        records = [sealer.seal(PING), sealer.seal(KEY_UPDATE)]
        sealer.update()
        self.refuses("R7", *records, sealer.seal(KEY_UPDATE))

    def test_limits(self):
        """R6, with a counter that is set rather than counted."""
        opener, sealer = Opener(SECRET), Sealer(SECRET)
        opener.count = sealer.count = channel.OPENED_RECORDS - 1
        record = sealer._seal(PING, b"")
        self.assertEqual(opener.open(record[:2], record[2:]), (PING, b""))
        record = sealer._seal(PING, b"")
        with self.assertRaisesRegex(Refused, "R6"):
            opener.open(record[:2], record[2:])
        sealer = Sealer(SECRET)
        sealer.bytes = channel.SEALED_BYTES - 10
        self.assertEqual(len(sealer.seal(PING)), 2 * 19)
        self.assertEqual((sealer.count, sealer.secret), (1, schedule.next_secret(SECRET)))

    def test_accept(self):
        ping, accept = Sealer(SECRET).seal(PING), Sealer(SECRET).seal(ACCEPT)
        ticket = Sealer(SECRET).seal(ACCEPT, (60).to_bytes(4, "big") + b"ticket")
        self.refuses("H9", ping, key_required=True)
        self.refuses("H15", accept)
        self.refuses("H15", ticket)
        self.refuses("H9", self.sealer.seal(PING), self.sealer.seal(ACCEPT))
        for data in (b"\0", bytes(4), bytes(4) + b"t", (86401).to_bytes(4, "big") + b"t", (60).to_bytes(4, "big"),
                     (60).to_bytes(4, "big") + bytes(2049)):
            self.refuses("H15", Sealer(SECRET).seal(ACCEPT, data), wants_ticket=True)
        for options in ({}, {"key_required": True}):
            channel_ = receiver(ticket, wants_ticket=True, client_key=CLIENT_KEY, **options)
            self.assertEqual(channel_.receive()[0], ACCEPT)
            self.assertEqual((channel_.ticket.ticket, channel_.ticket.secret), (b"ticket", OTHER))
            self.assertEqual(channel_.ticket.client_id, CLIENT_KEY.public.id)


if __name__ == "__main__":
    unittest.main()
