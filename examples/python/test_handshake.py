"""The handshake: a client that meets server_role.py, and all that it must refuse."""

import unittest

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import handshake
import identity
import server_role
from errors import KeyRequired, PeerAlert, Refused, Truncated, Untrusted
from handshake import ALERT, KEY_OFFER, KEY_REQUEST, SERVER_HELLO, TICKET_REFUSED
from identity import Trust
from meeting import CLIENT_KEY, KEY, OTHER_KEY, Meeting, Script, message, new_key

PIN = Trust(KEY.public)


def types(conn):
    return [sent[5] for sent in conn.sent if sent[:4] == b"SMUX"]


class TestMeets(unittest.TestCase):
    def agree(self, meeting):
        self.assertIsNone(meeting.client_error)
        self.assertIsNone(meeting.server_error)
        self.assertEqual(meeting.client.client_secret, meeting.server.server_secret)
        self.assertEqual(meeting.client.server_secret, meeting.server.client_secret)
        self.assertEqual((meeting.client.exporter, meeting.client.resumption),
                         (meeting.server.exporter, meeting.server.resumption))
        meeting.client_records.send(1, b"there")
        self.assertEqual(meeting.server_records.receive(), (1, b"there"))
        meeting.server_records.send(1, b"back")
        self.assertEqual(meeting.client_records.receive(), (1, b"back"))

    def test_key_in_hand(self):
        with Meeting(PIN) as m:
            self.agree(m)
            self.assertEqual(types(m.client_conn), [1, 3])
            self.assertIsNone(m.role.client)

    def test_id_in_hand(self):
        with Meeting(Trust(OTHER_KEY.public, KEY.public.id), keys=[new_key(), KEY]) as m:
            self.agree(m)
            self.assertEqual(types(m.client_conn), [4, 1, 3])
            self.assertEqual(m.client.server_key.id, KEY.public.id)

    def test_first_in_the_clients_order(self):
        with Meeting(Trust(OTHER_KEY.public, KEY.public), keys=[KEY, OTHER_KEY]) as m:
            self.agree(m)
            self.assertEqual(m.client.server_key.id, OTHER_KEY.public.id)

    def test_judge(self):
        with Meeting(Trust(judge=lambda key: key.id == KEY.public.id)) as m:
            self.agree(m)
            self.assertEqual(m.client_conn.sent[0], message(KEY_REQUEST, b"\0"))

    def test_client_key(self):
        with Meeting(PIN, key=CLIENT_KEY, admits=lambda key: key.id == CLIENT_KEY.public.id) as m:
            self.agree(m)
            self.assertTrue(m.client.key_required)
            self.assertEqual(m.role.client.id, CLIENT_KEY.public.id)

    def test_client_key_unasked(self):
        with Meeting(PIN, key=CLIENT_KEY) as m:
            self.agree(m)
            self.assertEqual(m.role.client.id, CLIENT_KEY.public.id)

    def test_not_admitted(self):
        with Meeting(PIN, key=OTHER_KEY, admits=lambda key: key.id == CLIENT_KEY.public.id) as m:
            self.assertIsInstance(m.client_error, PeerAlert)
            self.assertEqual((m.client_error.code, m.client_error.plain), (5, False))
        with Meeting(PIN, admits=lambda key: True) as m:
            self.assertIsInstance(m.client_error, KeyRequired)

    def test_larger_keys(self):
        for bits in (3072, 4096):
            key = new_key(bits)
            with Meeting(Trust(key.public), keys=[key]) as m:
                self.agree(m)


class TestResumes(unittest.TestCase):
    def ticket(self, **options):
        with Meeting(PIN, wants_ticket=True, **options) as m:
            m.server_records.send(1, b"x")
            m.client_records.receive() if not m.client.key_required else None
            first = m.client_records.ticket
            self.assertIsNotNone(first)
            return first

    def test_chain(self):
        tickets = server_role.Tickets()
        admits = {"admits": lambda key: key.id == CLIENT_KEY.public.id, "tickets": tickets, "key": CLIENT_KEY}
        ticket = self.ticket(**admits)
        for _ in range(2):
            with Meeting(PIN, ticket=ticket, wants_ticket=True, **admits) as m:
                self.assertIsNone(m.client_error)
                self.assertEqual(types(m.client_conn), [7, 3])
                self.assertTrue(m.client.resumed and m.server.resumed)
                self.assertEqual(m.client.client_secret, m.server.server_secret)
                self.assertEqual(m.role.client.id, CLIENT_KEY.public.id)  # H14
                self.assertTrue(ticket.used)
                ticket = m.client_records.ticket

    def test_refused_ticket(self):
        """H13: the client goes on as if it had none, with new shares; the transcript covers both attempts."""
        for trust, want in ((PIN, [7, 1, 3]), (Trust(KEY.public.id), [7, 4, 1, 3])):
            with Meeting(trust, ticket=self.ticket()) as m:
                self.assertIsNone(m.client_error)
                self.assertEqual(types(m.client_conn), want)
                self.assertFalse(m.client.resumed)
                self.assertEqual(m.client.client_secret, m.server.server_secret)
                hellos = [sent for sent in m.client_conn.sent if sent[5] in (1, 7)]
                self.assertNotEqual(hellos[0][40:72], hellos[1][40:72])

    def test_does_not_fit(self):
        """H12: another key of the server or client, another protocol, a second use, or too late."""
        def unfit(trust=PIN, key=None, protocol=b"p", **change):
            ticket = self.ticket()
            for name, value in change.items():
                setattr(ticket, name, value)
            return not ticket.fits(trust, key, protocol)
        self.assertFalse(unfit())
        self.assertTrue(unfit(trust=Trust(OTHER_KEY.public)))
        self.assertTrue(unfit(key=CLIENT_KEY))
        self.assertTrue(unfit(protocol=b"q"))
        self.assertTrue(unfit(used=True))
        self.assertTrue(unfit(until=0.0))


class TestClientRefuses(unittest.TestCase):
    def refuses(self, alert, *says, kind=Refused, trust=PIN):
        peer = Script(*says)
        with self.assertRaises(kind) as caught:
            handshake.connect(peer, trust, b"p")
        if alert is None:
            self.assertNotIn(message(ALERT, b"\x04"), peer.heard)
        else:
            self.assertTrue(peer.heard.endswith(message(ALERT, bytes([alert]))), peer.heard[-12:])
        return caught.exception

    def test_form(self):
        hello = bytes(32 + 1088 + 21)
        self.refuses(None, b"HTTP/1.1")  # H1: no answer
        self.refuses(None, b"SMUT")
        self.refuses(3, message(SERVER_HELLO, hello, version=2))
        self.refuses(4, message(KEY_OFFER, KEY.public.spki))  # not due
        self.refuses(4, message(TICKET_REFUSED, b""))
        self.refuses(4, b"SMUX\x01\x02\x0f\xf9")  # H2: 4089 bytes of body, none of which is read
        self.refuses(4, message(SERVER_HELLO, hello[1:]))
        self.refuses(4, message(SERVER_HELLO, hello + b"\0"))
        self.refuses(None, b"SMU", kind=Truncated)
        self.refuses(None, message(SERVER_HELLO, hello)[:-1], kind=Truncated)

    def test_shares(self):
        self.refuses(4, message(SERVER_HELLO, bytes(32 + 1088 + 21)))  # H10: the zero point gives zeros
        self.refuses(4, message(SERVER_HELLO, b"\x09" + bytes(31 + 1088 + 21)))  # H6: the block does not open

    def test_alerts(self):
        self.assertEqual(self.refuses(None, message(ALERT, b"\x08"), kind=PeerAlert).code, 8)
        self.assertEqual(self.refuses(None, message(ALERT, b"\x2a"), kind=PeerAlert).code, 42)  # an unknown one
        err = self.refuses(None, message(ALERT, b"\x01" + bytes(32)), kind=PeerAlert)
        self.assertEqual((err.code, err.server_id), (1, bytes(32)))
        for body in (b"", b"\x01", b"\x04\x04", b"\x02" + bytes(32)):
            self.refuses(None, message(ALERT, body))

    def test_offers(self):
        trust = Trust(KEY.public.id)
        self.refuses(None, message(KEY_OFFER, OTHER_KEY.public.spki), kind=Untrusted, trust=trust)
        p256 = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        spki = KEY.public.spki
        for bad in (b"", b"\x30", spki[:-1], spki + b"\0", p256):
            self.refuses(4, message(KEY_OFFER, bad), trust=trust)

    def test_spoilt_on_the_way(self):
        """Each byte that somebody changes on the way shows, at one side or both."""
        for name, at in (("client_change", 0), ("client_change", 1), ("server_change", 0)):
            for byte in (8, 40, 100, 500, -1):
                def change(n, data):
                    if n != at:
                        return data
                    spoilt = bytearray(data)
                    spoilt[byte] ^= 1
                    return bytes(spoilt)
                with self.subTest(f"{name} {at}, byte {byte}"), Meeting(PIN, key=CLIENT_KEY, admits=lambda key: True,
                                                                        **{name: change}) as m:
                    self.assertIsNotNone(m.client_error)
                    self.assertIsNotNone(m.server_error)


class TestServerRefuses(unittest.TestCase):
    """server_role.py too must keep the rules, or it would not show that the client does."""

    def test_alerts(self):
        with Meeting(PIN, protocol=b"q") as m:
            self.assertEqual(m.client_error.code, 2)
        with Meeting(Trust(OTHER_KEY.public)) as m:
            self.assertEqual((m.client_error.code, m.client_error.server_id), (1, KEY.public.id))

        class Low(handshake.Fresh):
            def wrap(self, server_key, secret):
                return super().wrap(server_key, secret)[:-1]
        with Meeting(PIN, fresh=Low()) as m:
            self.assertEqual(m.client_error.code, 4)

    def test_implicit_rejection(self):
        """H5: what RSA does not open shows at ClientFinished, or for an honest client at ServerHello's block."""
        class Other(handshake.Fresh):
            def wrap(self, server_key, secret):
                return OTHER_KEY.public.wrap(secret)
        with Meeting(PIN, fresh=Other()) as m:
            self.assertIn("does not open", str(m.client_error))
            self.assertEqual(types(m.server_conn), [SERVER_HELLO])

    def test_not_canonical(self):
        def change(n, data):
            if n != 0:
                return data
            at = 8 + 64
            return data[:at] + b"\xff\xff" + data[at + 2:]
        with Meeting(PIN, client_change=change) as m:
            self.assertEqual(m.client_error.code, 4)
            self.assertIn("H10", str(m.server_error))


class TestIdentity(unittest.TestCase):
    def test_bounds(self):
        for bits, exponent in ((1024, 65537), (2056 - 4, 65537), (2048, 3)):
            with self.assertRaisesRegex(Refused, "I1"):
                new_key(bits, exponent)

    def test_reencoding(self):
        spki = KEY.public.spki
        self.assertEqual(identity.PublicKey(spki).id, KEY.public.id)
        algorithm = "06092a864886f70d010101"
        without_null = spki.replace(bytes.fromhex("300d" + algorithm + "0500"), bytes.fromhex("300b" + algorithm))
        outer = int.from_bytes(spki[2:4], "big") - 2
        for bad in (b"\x30\x82" + outer.to_bytes(2, "big") + without_null[4:], b"\x30\x83\x00" + spki[2:], spki + b"\0"):
            with self.assertRaises(Refused):
                identity.PublicKey(bad)

    def test_fingerprint(self):
        self.assertEqual(identity.parse_fingerprint(KEY.public.fingerprint), KEY.public.id)
        text = KEY.public.fingerprint
        for bad in ("SHA256:", text + "=", text[:-1], "MD5:" + text[7:]):
            with self.assertRaises(ValueError):
                identity.parse_fingerprint(bad)

    def test_trust_of_nothing(self):
        with self.assertRaises(ValueError):
            Trust()


if __name__ == "__main__":
    unittest.main()
