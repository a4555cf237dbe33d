"""Messages and bodies: the vectors of rpc/SPEC.md, and what must be refused."""

import datetime
import pathlib
import re
import unittest

import msgpack

import body
import wire
from errors import Refused
from wire import FROM_CALLEE, FROM_CALLER, BadBody, Message, decode, encode

ANY = FROM_CALLER | FROM_CALLEE
VECTORS = [  # what the table at the end of the SPEC says of each, in its order
    Message(wire.CALL, id=1, method="echo", timeout=1000, body=msgpack.packb("你好!!!")),
    Message(wire.REPLY, id=128, body=bytes.fromhex("93c0")),
    Message(wire.ERROR, id=1, code=12, outcome=wire.NOT_EXECUTED, text="no!!"),
    Message(wire.CANCEL, id=2**32),
    Message(wire.GOAWAY),
    Message(wire.PART, id=1, body=b"\1\2\3"),
    Message(wire.OPEN, id=2, method="chat", form=wire.MESSAGES, request_id="r"),
    Message(wire.OPEN, id=3, method="http", form=wire.CONNECTION, header=[("k", b"v")]),
    Message(wire.ITEM, body=b"\xc0"),
    Message(wire.ITEM, body=b"\x03\x00", compressed=True),
    Message(wire.END),
    Message(wire.HEADER),
    Message(wire.DONE, trailer=[("a", b""), ("a", b"\xff")]),
    Message(wire.CALL, id=1, method="m", flags=1, body=b"\xc0"),
    Message(wire.REPLY, id=1, trailer=[("k", b"v")], body=b"\xc0"),
    Message(wire.ERROR, id=1, code=8, outcome=wire.EXECUTED, retry=1000, details=[("q", b"\5")]),
]


def spec_vectors():
    spec = (pathlib.Path(__file__).parents[2] / "rpc" / "SPEC.md").read_text()
    table = spec.split("## Vectors")[1].split("```")[1]
    return [re.search(r"  ([0-9a-f]{8} [0-9a-f ]+?)( +\(.*)?$", line)[1] for line in table.strip().splitlines()]


class TestVectors(unittest.TestCase):
    def test_spec(self):
        found = [bytes.fromhex(text) for text in spec_vectors()]
        self.assertEqual(len(found), len(VECTORS))
        for data, message in zip(found, VECTORS):
            with self.subTest(data.hex()):
                self.assertEqual(int.from_bytes(data[:4], "big"), len(data) - 4)
                self.assertEqual(decode(data[4:], ANY), message)
                self.assertEqual(encode(message), data[4:])

    def test_their_bodies(self):
        with self.assertRaisesRegex(BadBody, "B1"):
            body.unpack(VECTORS[1].body)
        with self.assertRaisesRegex(BadBody, "W10"):
            wire.inflate(VECTORS[9].body, 100)
        self.assertEqual(body.unpack(VECTORS[0].body), "你好!!!")

    def test_cut_and_lengthened(self):
        """No vector is a message any more when a byte is missing; what follows one is its body, or refused."""
        for message in VECTORS:
            payload = encode(message)
            for n in range(len(payload)):
                try:
                    self.assertEqual(encode(decode(payload[:n], ANY)), payload[:n])
                    self.assertIn("body", wire.ELEMENTS[wire._number(message)])
                except Refused:
                    pass
            if "body" not in wire.ELEMENTS[wire._number(message)]:
                with self.assertRaises(Refused):
                    decode(payload + b"\xc0", ANY)

    def test_every_byte_changed(self):
        """What is accepted re-encodes to the same bytes (W3)."""
        accepted = 0
        for payload in map(encode, VECTORS):
            for at in range(len(payload)):
                for value in range(256):
                    spoilt = payload[:at] + bytes([value]) + payload[at + 1:]
                    try:
                        message = decode(spoilt, ANY)
                    except Refused:
                        continue
                    accepted += 1
                    self.assertEqual(encode(message), spoilt)
        self.assertGreater(accepted, 1000)


class TestRefuses(unittest.TestCase):
    def refuses(self, rule, hexes, expected=ANY):
        with self.assertRaisesRegex(Refused, rule):
            decode(bytes.fromhex(hexes), expected)

    def test_canonical(self):
        self.refuses("W3", "92 04 cc01")
        self.refuses("W3", "92 04 cd0080")
        self.refuses("W3", "92 04 ce0000ffff")
        self.refuses("W3", "92 04 cf00000000ffffffff")
        self.refuses("W3", "92 04 d001")  # a signed one
        self.refuses("W3", "dc0002 04 01")
        self.refuses("W3", "95 03 01 0c 02 d9026e6f")
        self.refuses("W3", "92 0a dc0000")
        self.refuses("W3", "92 0b 92 a161 c50001ff")
        self.refuses("W3", "92 04 01 00")

    def test_shorter_kind(self):
        self.refuses("W3", "98 0c 01 a16d 00 00 a0 90 c0")
        self.refuses("W3", "95 0d 01 90 90 c0")
        self.refuses("W3", "99 0e 01 08 03 a0 00 90 90 90")

    def test_kinds(self):
        self.refuses("W4", "91 0f")
        self.refuses("W4", "92 05 01")
        self.refuses("W4", "91 04")
        self.refuses("W4", "92 04 01", FROM_CALLEE)
        self.refuses("W4", "91 05", FROM_CALLER)
        self.refuses("W4", "95 41 01 a16d 00 c0")  # W10: a call so is always of kind 12
        self.refuses("W4", "93 46 01 c0")  # a part cannot be
        decode(bytes.fromhex("98 4c 01 a16d 00 00 a0 90 0300"), ANY)

    def test_fields(self):
        self.refuses("W5", "92 04 00")
        self.refuses("W6", "95 01 01 a0 00 c0")
        self.refuses("W6", "95 01 01 a16d cf0020c49ba5e353f8 c0")
        self.refuses("W6", "95 01 01 da0100" + "61" * 256 + "00 c0")
        self.refuses("W8", "95 03 01 00 02 a0")
        self.refuses("W8", "95 03 01 11 02 a0")
        self.refuses("W8", "95 03 01 01 01 a0")
        self.refuses("W8", "95 03 01 01 02 da1001" + "61" * 4097)
        self.refuses("W9", "98 07 01 a16d 00 03 00 a0 90")
        self.refuses("W9", "98 07 01 a16d 00 01 02 a0 90")
        self.refuses("W11", "93 02 01")
        self.refuses("W12", "95 03 01 01 02 a1ff")

    def test_metadata(self):
        for rule, pairs in (("out of order", [("b", b""), ("a", b"")]), ("letters", [("A", b"")]), ("W7", [("", b"")]),
                            ("W7", [("a" * 65, b"")]), ("W7", [("a", b"")] * 65), ("W7", [("a", bytes(8192))])):
            with self.assertRaisesRegex(ValueError, rule):
                encode(Message(wire.HEADER, header=pairs))
        encode(Message(wire.HEADER, header=[("a", bytes(8191))]))
        self.refuses("W7", "92 0a 91 a161")
        self.refuses("W7", "92 0a dd7fffffff")  # nothing is made of a count

    def test_details(self):
        for pairs in ([("q", b"")] * 17, [("q", bytes(16384))], [("", b"")]):
            with self.assertRaisesRegex(ValueError, "W8"):
                encode(Message(wire.ERROR, id=1, code=1, outcome=2, details=pairs))


class TestBodies(unittest.TestCase):
    def refuses(self, rule, data):
        with self.assertRaisesRegex(BadBody, rule):
            body.unpack(bytes.fromhex(data) if isinstance(data, str) else data)

    def test_values(self):
        for value in (None, True, 0, -1, 2**64 - 1, -2**63, 1.5, "é", b"\xff", [], {}, {"a": [1, {2: None}]}, [[]] * 3):
            self.assertEqual(body.unpack(body.pack(value)), value)
        now = datetime.datetime(2026, 11, 25, 16, 0, 0, 5000, datetime.timezone.utc)
        self.assertEqual(body.unpack(body.pack(now)).to_datetime(), now)
        for value in ({1.5: 1}, {None: 1}, msgpack.ExtType(4, b"1234")):
            with self.assertRaises(ValueError):
                body.pack(value)

    def test_not_the_smallest(self):
        self.assertEqual(body.unpack(bytes.fromhex("dd00000001 cf0000000000000001")), [1])

    def test_b1(self):
        for data in ("", "91", "dd7fffffff", "df7fffffff", "db7fffffff61", "c6ffffffff", "cd00", "a261", "8101", "c1"):
            self.refuses("B1|B4", data)

    def test_depth(self):
        body.check(b"\x91" * 32 + b"\xc0")
        self.refuses("B2", b"\x91" * 33 + b"\xc0")
        self.refuses("B2", b"\x81\x01" * 33 + b"\xc0")

    def test_values_counted(self):
        body.check(b"\xdc\xff\xff" + b"\xc0" * 65535)
        many = b"\xdd" + (99999).to_bytes(4, "big") + b"\xc0" * 99999
        body.check(many)
        self.refuses("B3", b"\xdd" + (100000).to_bytes(4, "big") + b"\xc0" * 100000)

    def test_extensions(self):
        for data in ("d4ff00", "d60100000000", "c704ff00000000", "c70c01" + "00" * 12, "c80004ff00000000", "c90000"):
            self.refuses("B4", data)
        self.refuses("B4", "d7ff" + ((10**9) << 34).to_bytes(8, "big").hex())
        self.refuses("B4", "c70cff" + (10**9).to_bytes(4, "big").hex() + "00" * 8)

    def test_text_and_keys(self):
        self.refuses("B5", "a1ff")
        self.refuses("B5", "a3eda080")  # a surrogate
        for data in ("81c001", "81c40161c0", "8190c0", "81ca00000000c0", "82a16101a16102", "82a16101d9016102",
                     "820101cc0102", "82ff01d0ff02"):
            self.refuses("B6", data)
        self.assertEqual(body.unpack(bytes.fromhex("8201c0a131c0")), {1: None, "1": None})
        self.refuses("B7", "c0c0")


class TestDeflate(unittest.TestCase):
    def test_there_and_back(self):
        data = body.pack("a" * 100000)
        packed, compressed = wire.deflate(data)
        self.assertTrue(compressed and len(packed) < 1000)
        self.assertEqual(wire.inflate(packed, len(data)), data)
        self.assertEqual(wire.deflate(b"\xc0"), (b"\xc0", False))

    def test_refuses(self):
        packed, _ = wire.deflate(b"\xc4\x64" + b"a" * 100)
        for bad in (packed[:-1], packed + b"\0", b"\xff\xff", b""):
            with self.assertRaises(BadBody):
                wire.inflate(bad, 1000)
        with self.assertRaises(BadBody):
            wire.inflate(packed, 101)


if __name__ == "__main__":
    unittest.main()
