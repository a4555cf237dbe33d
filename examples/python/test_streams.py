"""The state machine of streams: two of them face to face, and frames that must be refused."""

import unittest

from errors import Refused
from streams import (ACK, DATA, FIN, LATE_UPDATES, MAX_BODY, MAX_UNACKNOWLEDGED, MAX_WINDOW, RST, SYN, UPDATE, WINDOW, Mux,
                     frame)


def pair(max_streams=1000):
    return Mux(max_streams, max_streams), Mux(max_streams, max_streams, client=False, accepting=True)


def pass_on(*muxes):
    """Carries frames to and fro until none is left."""
    while any(mux.out for mux in muxes):
        for from_, to in (muxes, muxes[::-1]):
            frames, from_.out = from_.out, []
            if frames:
                to.receive(b"".join(frames))


class TestPair(unittest.TestCase):
    def setUp(self):
        self.client, self.server = pair()

    def connected(self):
        stream = self.client.open()
        pass_on(self.client, self.server)
        accepted = self.server.accept()
        pass_on(self.client, self.server)
        return stream, accepted

    def test_bytes_both_ways(self):
        stream, accepted = self.connected()
        data = bytes(range(256)) * 4096  # four windows
        got, sent = bytearray(), 0
        while len(got) < len(data):
            sent += self.client.write(stream, data[sent:])
            pass_on(self.client, self.server)
            got += self.server.read(accepted, 50000)
            pass_on(self.client, self.server)
        self.assertEqual(got, data)
        self.client.finish(stream)
        pass_on(self.client, self.server)
        self.assertTrue(accepted.fin_received and not accepted.over)
        self.assertEqual(self.server.write(accepted, b"bye"), 3)
        self.server.finish(accepted)
        pass_on(self.client, self.server)
        self.assertEqual(self.client.read(stream, 10), b"bye")
        self.assertTrue(stream.over and accepted.over and not self.client.streams and not self.server.streams)

    def test_window(self):
        stream, _ = self.connected()
        self.assertEqual(self.client.write(stream, bytes(WINDOW + 1)), WINDOW)
        self.assertEqual(self.client.write(stream, b"x"), 0)
        self.assertEqual({len(f) for f in self.client.out}, {12 + MAX_BODY})

    def test_fin_waits_for_the_ack(self):
        stream = self.client.open()
        self.client.close(stream)
        self.assertEqual(len(self.client.out), 1)  # S7
        pass_on(self.client, self.server)
        accepted = self.server.accept()
        pass_on(self.client, self.server)
        self.assertTrue(accepted.fin_received)

    def test_limits_of_the_opener(self):
        """S5."""
        for _ in range(MAX_UNACKNOWLEDGED):
            self.assertIsNotNone(self.client.open())
        self.assertIsNone(self.client.open())
        pass_on(self.client, self.server)
        self.server.accept()
        pass_on(self.client, self.server)
        self.assertIsNotNone(self.client.open())
        few = Mux(2, 1)
        self.assertEqual([few.open() is None for _ in range(3)], [False, False, True])

    def test_abandoned(self):
        """S9: the peer is told with a RST, and for that gets a byte if it has no window."""
        stream, accepted = self.connected()
        self.server.write(accepted, bytes(WINDOW))
        pass_on(self.client, self.server)
        self.client.close(stream)
        pass_on(self.client, self.server)
        self.assertEqual(accepted.send_window, 1)
        self.assertEqual(self.server.write(accepted, b"xy"), 1)
        pass_on(self.client, self.server)
        self.assertTrue(stream.over and accepted.over)
        self.assertFalse(accepted.cut)  # the client's FIN came before its RST

    def test_refused_stream(self):
        """A client that does not accept answers with RST, and grants what is on its way."""
        client, server = pair()
        stream = server.open()
        server.write(stream, bytes(WINDOW))
        pass_on(client, server)
        self.assertTrue(stream.over and stream.cut)
        self.assertEqual((client.late_bytes, client.late_updates), (0, LATE_UPDATES))


class TestRefuses(unittest.TestCase):
    def setUp(self):
        self.mux = Mux(1000, 2)
        self.stream = self.mux.open()  # id 1

    def refuses(self, rule, *frames):
        with self.assertRaisesRegex(Refused, rule):
            for data in frames:
                self.mux.receive(data)

    def acknowledged(self):
        self.mux.receive(frame(UPDATE, ACK, 1, 0))

    def test_s1(self):
        self.refuses("S1", frame(UPDATE, ACK, 1, 0)[:-1])
        self.refuses("S1", frame(DATA, 0, 1, 5, b"1234"))
        self.refuses("S1", frame(DATA, ACK, 1, 1, b"1") + b"\0")

    def test_s2(self):
        self.refuses("S2", b"\x01" + frame(UPDATE, ACK, 1, 0)[1:])
        for kind, flags in ((2, 1), (3, 0), (UPDATE, 16 | ACK), (UPDATE, 0x8000)):
            self.refuses("S2", frame(kind, flags, 1, 0))

    def test_s3(self):
        self.acknowledged()
        self.refuses("S3", frame(DATA, 0, 1, 0))
        self.refuses("S3", frame(DATA, 0, 1, MAX_BODY + 1, bytes(MAX_BODY + 1)))
        for flags in (SYN, FIN, RST, ACK | FIN):
            self.refuses("S3", frame(DATA, flags, 1, 1, b"x"))

    def test_s4(self):
        self.refuses("S4", frame(UPDATE, 0, 1, 5))
        self.refuses("S4", frame(DATA, 0, 1, 1, b"x"))
        self.acknowledged()
        self.refuses("S4", frame(UPDATE, ACK, 1, 0))
        self.refuses("S4", frame(DATA, ACK, 1, 1, b"x"))
        self.mux.receive(frame(UPDATE, FIN, 1, 0))
        self.refuses("S4", frame(UPDATE, FIN, 1, 0))
        self.refuses("S4", frame(UPDATE, SYN | ACK, 2, 0))

    def test_s5(self):
        self.refuses("S5", frame(UPDATE, SYN, 1, 0))
        self.refuses("S5", frame(UPDATE, SYN, 3, 0))
        self.refuses("S5", frame(UPDATE, SYN, 0, 0))
        self.mux.receive(frame(UPDATE, SYN, 4, 0))
        self.refuses("S5", frame(UPDATE, SYN, 4, 0))
        self.refuses("S5", frame(UPDATE, SYN, 2, 0))
        accepting = Mux(1, 2, accepting=True)
        accepting.receive(frame(UPDATE, SYN, 2, 0) + frame(UPDATE, SYN, 4, 0))
        with self.assertRaisesRegex(Refused, "S5"):
            accepting.receive(frame(UPDATE, SYN, 6, 0))

    def test_s6(self):
        self.acknowledged()
        self.refuses("S6", frame(UPDATE, 0, 1, MAX_WINDOW - WINDOW + 1))
        self.mux.receive(frame(UPDATE, 0, 1, MAX_WINDOW - WINDOW))
        for _ in range(WINDOW // MAX_BODY):
            self.mux.receive(frame(DATA, 0, 1, MAX_BODY, bytes(MAX_BODY)))
        self.refuses("S6", frame(DATA, 0, 1, 1, b"x"))
        self.mux.read(self.stream, WINDOW)
        self.mux.receive(frame(DATA, 0, 1, 1, b"x") + frame(UPDATE, FIN, 1, 0))
        self.refuses("S6", frame(DATA, 0, 1, 1, b"x"))

    def test_s7(self):
        for flags in (FIN, RST):
            accepting = Mux(1, 2, accepting=True)
            accepting.receive(frame(UPDATE, SYN, 2, 0))
            with self.assertRaisesRegex(Refused, "S7"):
                accepting.receive(frame(UPDATE, flags, 2, 0))

    def test_s8(self):
        self.refuses("S8", frame(UPDATE, 0, 3, 1))
        self.refuses("S8", frame(UPDATE, RST, 2, 0))
        self.refuses("S8", frame(UPDATE, 0, 0, 1))
        self.mux.receive(frame(UPDATE, RST, 1, 0))  # refuses the stream
        for _ in range(LATE_UPDATES):
            self.mux.receive(frame(UPDATE, 0, 1, 1))
        self.refuses("S8", frame(UPDATE, 0, 1, 1))
        for _ in range(WINDOW // MAX_BODY):
            self.mux.receive(frame(DATA, 0, 1, MAX_BODY, bytes(MAX_BODY)))
        self.refuses("S8", frame(DATA, 0, 1, 1, b"x"))


if __name__ == "__main__":
    unittest.main()
