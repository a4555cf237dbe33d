"""The caller against a callee that says what it likes."""

import queue
import threading
import unittest

import body
import rpc
import wire
from errors import Refused, SealmuxError
from wire import Message


class Stream:
    """A stream whose peer is the test."""

    def __init__(self):
        self.incoming, self.rest, self.sent = queue.Queue(), b"", []
        self.finished = threading.Event()

    def says(self, *messages):
        for m in messages:
            payload = wire.encode(m) if isinstance(m, Message) else m
            self.incoming.put(len(payload).to_bytes(4, "big") + payload)

    def ends(self, data=b""):
        self.incoming.put(data)
        self.incoming.put(b"")

    def read(self, n):
        if not self.rest:
            self.rest = self.incoming.get(timeout=20)
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def write(self, data):
        self.sent.append(wire.decode(data[4:], wire.FROM_CALLER))

    def finish(self):
        self.finished.set()

    close = finish


class Session:
    def __init__(self):
        self.streams, self.failed = [], threading.Event()
        self.error = None

    def open(self):
        self.streams.append(Stream())
        return self.streams[-1]

    def accept(self):
        raise SealmuxError("nothing calls here")

    def fail(self, error):
        self.error = error
        self.failed.set()


class Base(unittest.TestCase):
    def setUp(self):
        self.session = Session()
        self.client = rpc.Client(self.session, limit=100000)
        self.first = self.session.streams[0]

    def tearDown(self):
        self.first.ends()
        self.client.first.thread.join()

    def fails(self, call, code, outcome):
        with self.assertRaises(rpc.CallError) as caught:
            call.result()
        self.assertEqual((caught.exception.code, caught.exception.outcome), (code, outcome))
        return caught.exception

    def breaks(self, rule):
        self.assertTrue(self.session.failed.wait(20))
        self.assertRegex(str(self.session.error), rule)


class TestCalls(Base):
    def test_out_of_order(self):
        calls = [self.client.start("m", n) for n in range(3)]
        self.assertEqual([m.id for m in self.first.sent], [1, 2, 3])
        self.first.says(*(Message(wire.REPLY, id=id_, body=bytes([id_])) for id_ in (2, 3, 1)))
        self.assertEqual([call.result().value for call in calls], [1, 2, 3])

    def test_what_a_call_says(self):
        self.client.start("m", "x", timeout=1.5, header=[("k", b"v")], request_id="r")
        self.assertEqual(self.first.sent[0], Message(wire.CALL, id=1, method="m", timeout=1500000, header=[("k", b"v")],
                                                     request_id="r", body=body.pack("x")))
        with self.assertRaises(ValueError):
            self.client.call("m", {1.5: 2})

    def test_parts(self):
        big, small = self.client.start("m", 1), self.client.start("m", 2)
        data = body.pack(bytes(70000))
        self.first.says(Message(wire.PART, id=1, body=data[:32753]), Message(wire.REPLY, id=2, body=b"\5"),
                        Message(wire.PART, id=1, body=data[32753:65506]), Message(wire.REPLY, id=1, body=data[65506:]))
        self.assertEqual((small.result().value, big.result().value), (5, bytes(70000)))

    def test_too_long(self):
        """W2: the call fails, the session goes on."""
        parts, good = (self.client.start("m", n) for n in range(2))
        piece = bytes(32753)
        self.first.says(*[Message(wire.PART, id=1, body=piece)] * 5, Message(wire.REPLY, id=1, body=b"\1"),
                        Message(wire.REPLY, id=2, body=b"\1"))
        self.fails(parts, rpc.RESOURCE_EXHAUSTED, rpc.EXECUTED)
        self.assertEqual(good.result().value, 1)

    def test_errors(self):
        for outcome, want in ((wire.NOT_EXECUTED, rpc.NOT_EXECUTED), (wire.EXECUTED, rpc.EXECUTED)):
            call = self.client.start("m", 1)
            self.first.says(Message(wire.ERROR, id=call.id, code=5, outcome=outcome, text="t", details=[("d", b"\1")],
                                    trailer=[("k", b"v")]))
            err = self.fails(call, 5, want)
            self.assertEqual((err.text, err.details, err.trailer), ("t", [("d", b"\1")], [("k", b"v")]))

    def test_bad_bodies(self):
        """B and W10: of their call alone."""
        bad, packed, good = (self.client.start("m", n) for n in range(3))
        self.first.says(Message(wire.REPLY, id=1, body=b"\x93\xc0"),
                        Message(wire.REPLY, id=2, body=b"\3\0", compressed=True), Message(wire.REPLY, id=3, body=b"\1"))
        self.fails(bad, rpc.INTERNAL, rpc.EXECUTED)
        self.fails(packed, rpc.INTERNAL, rpc.EXECUTED)
        self.assertEqual(good.result().value, 1)

    def test_cancel(self):
        call, other = self.client.start("m", 1), self.client.start("m", 2)
        call.cancel()
        self.assertEqual(self.first.sent[-1], Message(wire.CANCEL, id=1))
        self.first.says(Message(wire.REPLY, id=1, body=b"\1"), Message(wire.REPLY, id=2, body=b"\2"))  # C3: dropped
        self.fails(call, rpc.CANCELED, rpc.UNKNOWN)
        self.assertEqual(other.result().value, 2)

    def test_time_is_up(self):
        self.fails(self.client.start("m", 1, timeout=0.001), rpc.DEADLINE_EXCEEDED, rpc.UNKNOWN)
        self.assertEqual(self.first.sent[-1], Message(wire.CANCEL, id=1))

    def test_large(self):
        """C1: on a stream of its own, closed behind the answer and not before."""
        self.client.start("m", bytes(65000))
        call = self.client.start("m", bytes(70000))
        own = self.session.streams[1]
        self.assertEqual((len(self.first.sent), len(own.sent), own.finished.is_set()), (1, 1, False))
        own.says(Message(wire.REPLY, id=2, body=b"\1"))
        self.assertEqual(call.result().value, 1)
        self.assertTrue(own.finished.wait(20))
        own.ends()

    def test_goaway(self):
        """C9."""
        call = self.client.start("m", 1)
        self.first.says(Message(wire.GOAWAY), Message(wire.REPLY, id=1, body=b"\1"))
        self.assertEqual(call.result().value, 1)
        self.assertTrue(self.first.finished.wait(20))
        for start in (self.client.start, self.client.call):
            with self.assertRaises(rpc.CallError) as caught:
                start("m", 1)
            self.assertEqual((caught.exception.code, caught.exception.outcome), (rpc.UNAVAILABLE, rpc.NOT_SENT))

    def test_cut(self):
        call = self.client.start("m", 1)
        self.first.ends(b"\0\0")  # W1: of the stream alone
        self.fails(call, rpc.UNAVAILABLE, rpc.UNKNOWN)
        self.client.first.thread.join()
        self.assertFalse(self.session.failed.is_set())
        again = self.client.start("m", 2)  # C1: on a new first stream
        self.assertEqual(self.session.streams[1].sent, [Message(wire.CALL, id=2, method="m", body=b"\2")])
        self.session.streams[1].says(Message(wire.REPLY, id=2, body=b"\3"))
        self.assertEqual(again.result().value, 3)
        self.session.streams[1].ends()


class TestBreaks(Base):
    def test_never_called(self):
        call = self.client.start("m", 1)
        self.first.says(Message(wire.REPLY, id=2, body=b"\1"))
        self.breaks("C3")
        self.fails(call, rpc.UNAVAILABLE, rpc.UNKNOWN)

    def test_length(self):
        self.first.incoming.put(b"\0\0\0\1")
        self.breaks("W2")

    def test_length_over_all(self):
        self.first.incoming.put(b"\x40\0\0\1")
        self.breaks("W2")

    def test_length_on_a_stream_of_calls(self):
        self.first.incoming.put((98305).to_bytes(4, "big"))
        self.breaks("C10")

    def test_kind_of_a_caller(self):
        self.first.says(Message(wire.CANCEL, id=1))
        self.breaks("W4")

    def test_kind_of_a_stream(self):
        self.first.says(Message(wire.DONE))
        self.breaks("W4")


class TestStreams(Base):
    def open(self):
        stream = self.client.stream("m", header=[("k", b"v")])
        return stream, self.session.streams[-1]

    def test_items(self):
        stream, peer = self.open()
        stream.send(1)
        stream.end()
        self.assertEqual([m.kind for m in peer.sent], [wire.OPEN, wire.ITEM, wire.END])
        peer.says(Message(wire.HEADER, header=[("h", b"1")]), Message(wire.ITEM, body=b"\1"), Message(wire.ITEM, body=b"\2"),
                  Message(wire.DONE, trailer=[("t", b"2")]))
        self.assertEqual(list(stream), [1, 2])
        self.assertEqual((stream.header, stream.trailer), ([("h", b"1")], [("t", b"2")]))
        self.assertTrue(peer.finished.is_set())

    def fails_stream(self, stream, code, outcome):
        with self.assertRaises(rpc.CallError) as caught:
            list(stream)
        self.assertEqual((caught.exception.code, caught.exception.outcome), (code, outcome))

    def test_error(self):
        stream, peer = self.open()
        peer.says(Message(wire.ERROR, id=stream.id, code=5, outcome=wire.EXECUTED))
        self.fails_stream(stream, 5, rpc.EXECUTED)

    def test_cut(self):
        stream, peer = self.open()
        peer.says(Message(wire.ITEM, body=b"\1"))
        peer.ends()
        self.fails_stream(stream, rpc.UNAVAILABLE, rpc.UNKNOWN)

    def test_cancel(self):
        stream, peer = self.open()
        stream.cancel()
        self.assertEqual(self.first.sent, [Message(wire.CANCEL, id=stream.id)])
        self.assertTrue(peer.finished.is_set())

    def test_breaks(self):
        for rule, messages in (("S1", [Message(wire.ERROR, id=9, code=5, outcome=2)]),
                               ("W4", [Message(wire.HEADER), Message(wire.HEADER)]),
                               ("W4", [Message(wire.ITEM, body=b"\1"), Message(wire.HEADER)]),
                               ("W4", [Message(wire.REPLY, id=1, body=b"\1")]),
                               ("W4", [Message(wire.ITEM, body=b"\1"), Message(wire.GOAWAY)])):
            stream, peer = self.open()
            peer.says(*messages)
            with self.subTest(rule), self.assertRaisesRegex(Refused, rule):
                list(stream)
            self.breaks(rule)

    def test_connection(self):
        connection = self.client.connection("m")
        peer = self.session.streams[-1]
        peer.says(Message(wire.HEADER, header=[("h", b"1")]))
        peer.incoming.put(b"raw")
        self.assertEqual((connection.taken().read(10), connection.header), (b"raw", [("h", b"1")]))


if __name__ == "__main__":
    unittest.main()
