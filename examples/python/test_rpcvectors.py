"""The vectors of rpc/testdata/vectors, whose README says what is in them."""

import struct
import threading
import time
import unittest

import msgpack

import body as bodies
import rpc
import wire
from callee import Echo
from errors import Refused, SealmuxError, SessionEnded
from vectors import ROOT, Vector, run_all
from wire import BadBody

RPC = ROOT / "rpc" / "testdata" / "vectors"
ANY = wire.FROM_CALLER | wire.FROM_CALLEE
HEADERS = {"title", "role", "expect", "rule", "insert", "limit", "compress", "state", "as"}  # the others tell what comes out
FIELDS = ("id", "method", "timeout", "form", "flags", "request_id", "code", "outcome", "text", "retry", "details", "header",
          "trailer")


def results(vector):
    return {name: values for name, values in vector.values.items() if name not in HEADERS}


def pairs(values):
    return [f"{key}={value.hex()}" for key, value in values]


def message_fields(m):
    """A message as role message tells it."""
    out = {"kind": [str(wire._number(m))]}
    if m.compressed:
        out["compressed"] = ["yes"]
    for name in FIELDS:
        value = getattr(m, name)
        if isinstance(value, list):
            value = pairs(value)
        elif value:
            value = [str(value)]
        if value:
            out[{"details": "detail"}.get(name, name).replace("_", "-")] = value
    if m.body:
        out |= {"body": [m.body.hex()]} if len(m.body) <= 1024 else {"body-size": [str(len(m.body))]}
    return out


def text_of(value):
    """A value as role body tells it."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"float({struct.pack('>d', value).hex()})"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, msgpack.Timestamp):
        return f"time({value.seconds}, {value.nanoseconds})"
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of, value)) + "]"
    return "{" + ", ".join(f"{text_of(k)}: {text_of(v)}" for k, v in value.items()) + "}"


def quoted(text):
    special = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(special.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


class TestMessages(unittest.TestCase):
    def test_vectors(self):
        run_all(self, RPC, "message", self.message, 156)

    def test_bodies(self):
        run_all(self, RPC, "body", self.body, 106)

    def message(self, v):
        (_, data), = v.blocks
        length = int.from_bytes(data[:4], "big")
        if v.get("expect") == "refused":
            with self.assertRaises(Refused):
                if not wire.MIN_PAYLOAD <= length <= wire.MAX_PAYLOAD:
                    raise Refused("W2")
                self.assertEqual(length, len(data) - 4)
                wire.decode(data[4:], ANY)
            return
        self.assertEqual(v.get("expect"), "ok")
        self.assertEqual(length, len(data) - 4)
        m = wire.decode(data[4:], ANY)
        self.assertEqual(message_fields(m), results(v))
        self.assertEqual(wire.encode(m), data[4:])

    def body(self, v):
        (_, data), = v.blocks
        if v.get("as"):
            return  # Python has no types of this kind
        if v.get("expect") == "bad":
            with self.assertRaises(BadBody):
                bodies.unpack(data)
            return
        self.assertEqual(v.get("expect"), "ok")
        value = bodies.unpack(data)
        if v.get("value"):
            self.assertEqual(text_of(value), v.get("value"))


class Stream:
    """A stream whose other end is the test, which knows when the reader has dealt with all that came."""

    def __init__(self):
        self.cond, self.incoming, self.written = threading.Condition(), bytearray(), bytearray()
        self.ended = self.idle = self.closed = self.cut = False

    def feed(self, data):
        with self.cond:
            self.incoming += data
            self.idle = not data and self.idle
            self.cond.notify_all()

    def end(self):
        with self.cond:
            self.ended, self.idle = True, False
            self.cond.notify_all()

    def read(self, n):
        with self.cond:
            if not self.incoming and not self.ended:
                self.idle = True
                self.cond.notify_all()
            self.cond.wait_for(lambda: self.incoming or self.ended or self.cut)
            if self.cut:
                raise SealmuxError("the stream is cut")
            data = bytes(self.incoming[:n])
            del self.incoming[:n]
            return data

    def write(self, data):
        with self.cond:
            self.written += data
            self.cond.notify_all()

    def finish(self):
        with self.cond:
            self.closed = True
            self.cond.notify_all()

    def close(self):
        with self.cond:
            self.closed = self.cut = True
            self.cond.notify_all()


class Session:
    def __init__(self):
        self.streams, self.error, self.changed = [], None, threading.Event()

    def open(self):
        if self.error:
            raise self.error
        self.streams.append(Stream())
        return self.streams[-1]

    def accept(self):
        raise SealmuxError("nothing calls here")

    def fail(self, error):
        self.error = self.error or error
        for stream in self.streams:
            stream.close()


class Program:
    """One call, stream or connection that the driver has made, and what came of it."""

    def __init__(self, client, message):
        self.id, self.lines, self.kind, self.thing = message.id, [], message.kind, None
        self.outcome = None
        options = {"header": message.header, "request_id": message.request_id}
        if message.kind == wire.CALL:
            self.thing = client.start(message.method, bodies.unpack(message.body), **options)
            run = self._call
        elif message.form == wire.MESSAGES:
            self.thing, run = client.stream(message.method, **options), self._messages
        else:
            self.thing, run = client.connection(message.method, **options), self._connection
        self.bytes = None
        self.thread = threading.Thread(target=self._run, args=[run], daemon=True)
        self.thread.start()

    def _run(self, run):
        try:
            self.outcome = run()
        except rpc.CallError as err:
            from_callee = [("header", pairs(err.header)), ("trailer", pairs(err.trailer)), ("text", [err.text]),
                           ("retry", [str(err.retry)] if err.retry else []), ("detail", pairs(err.details))]
            if err.from_callee:
                self.lines += [(name, value) for name, values in from_callee for value in values]
            self.outcome = f"error {err.code} {err.outcome}"
        except SealmuxError:
            self.outcome = "error 14 unknown"  # the session has ended

    def _call(self):
        reply = self.thing.future.result()
        self.lines += [("header", p) for p in pairs(reply.header)] + [("trailer", p) for p in pairs(reply.trailer)]
        return f"reply {bodies.pack(reply.value).hex()}"

    def _messages(self):
        for value in self.thing:
            self.lines.append(("item", bodies.pack(value).hex()))
        self.lines += [("header", p) for p in pairs(self.thing.header)]
        self.lines += [("trailer", p) for p in pairs(self.thing.trailer)]
        return "done"

    def _connection(self):
        stream = self.thing.taken()
        self.lines += [("header", p) for p in pairs(self.thing.header)]
        self.outcome = "taken"
        data = b""
        while part := stream.read(100):
            data += part
        stream.close()
        self.bytes = data
        return "taken"


class TestCaller(unittest.TestCase):
    def test_vectors(self):
        run_all(self, RPC, "caller", self.caller, 83)

    def test_a_changed_case_fails(self):
        for name, header, value in (("caller-reply", "call", "1 reply a177"), ("caller-stream", "item", "1 a178"),
                                    ("caller-cut", "call", "1 error 13 unknown"), ("caller-conn", "bytes", "1 00")):
            other = Vector(RPC / f"{name}.txt")
            other.values[header] = [value]
            with self.assertRaises(AssertionError):
                self.caller(other)

    def caller(self, v):
        self.session = Session()
        self.client = rpc.Client(self.session, limit=v.number("limit", wire.DEFAULT_LIMIT), compress=bool(v.get("compress")),
                                 compress_own=False)
        self.first, self.programs = self.session.streams[0], {}
        self.own, written = None, {}
        for name, data in v.blocks:
            if name == "in":
                self.stream().feed(data)
                self.settle()
                continue
            self.assertIn(name, ("out", "first"))
            if name == "out" or bytes(self.first.written) != data:  # else the client has given up by itself
                self.act(data)
            stream = self.first if name == "first" else self.stream()
            at = written.get(stream, 0)
            self.assertEqual(bytes(stream.written[at:]), data, name)
            written[stream] = at + len(data)
        self.ends(v)

    def stream(self):
        """The stream of the case."""
        return self.own or self.first

    def act(self, data):
        """Makes the calls that an [out] consists of."""
        while data:
            if any(p.outcome == "taken" for p in self.programs.values()):
                self.own.write(data)
                return
            length = int.from_bytes(data[:4], "big")
            m, data = wire.decode(data[4:4 + length], ANY), data[4 + length:]
            if m.kind == wire.CANCEL:
                self.programs[m.id].thing.cancel()
            elif m.kind == wire.ITEM:
                next(iter(self.programs.values())).thing.send(bodies.unpack(m.body))
            elif m.kind == wire.END:
                next(iter(self.programs.values())).thing.end()
            else:
                self.programs[m.id] = Program(self.client, m)
                if len(self.session.streams) > 1:
                    self.own = self.session.streams[1]
        self.settle()

    def settle(self):
        """Until all that was fed is dealt with: every reader waits, or has ended."""
        until = time.monotonic() + 20
        while not all(self.quiet(stream) for stream in self.session.streams):
            time.sleep(0.001)  # readers wait on conditions of their own
            self.assertLess(time.monotonic(), until, "what was fed is not read")

    def quiet(self, stream):
        readers_over = stream is self.own and not any(p.thread.is_alive() for p in self.programs.values())
        return readers_over or stream.idle and not stream.incoming or stream.cut or self.session.error is not None

    def ends(self, v):
        expect = v.get("expect")
        if expect == "cut":
            self.stream().end()
        if any(p.outcome == "taken" for p in self.programs.values()):
            self.own.end()
        for p in self.programs.values():
            waiting = f"{p.id} waiting" in v.values.get("call", [])
            p.thread.join(0 if waiting else 20)
            self.assertEqual(p.thread.is_alive(), waiting, "whether it goes on")
        self.assertEqual(self.told(), {k: sorted(values) for k, values in results(v).items()})
        if expect == "refused":
            self.assertIsInstance(self.session.error, Refused)
            return
        self.assertIsNone(self.session.error)
        if expect == "goaway":
            with self.assertRaises(rpc.CallError) as caught:
                self.client.start("m", None)
            self.assertEqual((caught.exception.code, caught.exception.outcome), (14, rpc.NOT_SENT))
            self.assertTrue(all(stream.closed for stream in self.session.streams))
            return
        if self.own is not None and not any(p.thread.is_alive() for p in self.programs.values()):
            self.assertTrue(self.own.closed or any(p.outcome == "taken" for p in self.programs.values()))
        self.goes_on(expect)

    def goes_on(self, expect):
        """Another call is made and answered."""
        if expect == "cut" and self.own is None:
            self.client.first.thread.join(20)
        call = self.client.start("again", None)
        stream = self.session.streams[-1] if expect == "cut" and self.own is None else self.first
        stream.feed(framed(wire.Message(wire.REPLY, id=call.id, body=b"\x07")))
        self.assertEqual(call.future.result(20).value, 7)

    def told(self):
        """What came of the calls, as the vectors say it."""
        out = {}
        for id_, p in sorted(self.programs.items()):
            lines = p.lines + [("call", p.outcome or "waiting")]
            if p.bytes is not None:
                lines.append(("bytes", p.bytes.hex()))
            for name, value in lines:
                out.setdefault(name, []).append(f"{id_} {value}")
        return {name: sorted(values) for name, values in out.items()}


class TestCallee(unittest.TestCase):
    """callee.Echo, as the README of the vectors wants it."""

    def test_vectors(self):
        run_all(self, RPC, "callee", self.callee, 95)

    def test_a_changed_case_fails(self):
        other = Vector(RPC / "callee-echo-text.txt")
        out = other.blocks[1]
        out[1] = out[1][:-1] + bytes([out[1][-1] ^ 1])
        with self.assertRaises(AssertionError):
            self.callee(other)

    def callee(self, v):
        self.session = Session()
        self.served = Echo(self.session, v.number("limit", wire.DEFAULT_LIMIT), bool(v.get("compress")))
        first, stream = self.opened(), self.opened()
        if v.get("state") == "draining":
            self.settle()
            self.served.drain()
        at = 0
        for name, data in v.blocks:
            if name == "out":
                self.settle()
                got, at = bytes(stream.written[at:]), len(stream.written)
                self.assertEqual(list(plain(got)), list(plain(data)))
                continue
            (first if name == "first" else stream).feed(data)
            self.settle()
        errors = [m for m in plain(bytes(stream.written)) if m.kind == wire.ERROR]
        stream.end()
        self.threads[stream].join(20)
        self.assertFalse(self.threads[stream].is_alive())
        if v.get("expect") == "refused":
            self.assertIsInstance(self.session.error, Refused)
            return
        self.assertEqual(bytes(stream.written[at:]), b"", "behind the last block")
        self.assertTrue(stream.closed)
        self.assertEqual(bool(errors), v.get("expect") == "call-error")
        if errors:
            self.assertEqual((errors[-1].code, errors[-1].outcome), (v.number("code"), v.number("outcome")))
        if v.get("state") == "draining":
            first.end()
            self.threads[first].join(20)
            self.assertIsInstance(self.session.error, SessionEnded)
            return
        self.assertIsNone(self.session.error)
        again = self.opened()
        again.feed(framed(wire.Message(wire.CALL, id=10**6, method="echo", body=bodies.pack("x"))))
        self.settle()
        self.assertEqual([m.body for m in plain(bytes(again.written))], [bodies.pack(Echo.PREFIX + "x")])

    def opened(self):
        stream = self.session.open()
        thread = threading.Thread(target=self.served.serve_stream, args=[stream], daemon=True)
        if len(self.session.streams) == 1:
            self.threads = {}
        self.threads[stream] = thread
        thread.start()
        return stream

    def settle(self):
        """Until every stream's thread waits for bytes, or for a cancel, or has ended."""
        until = time.monotonic() + 20
        while not all(stream.idle or not thread.is_alive() or self.watching(stream)
                      for stream, thread in self.threads.items()):
            time.sleep(0.001)
            self.assertLess(time.monotonic(), until, "what was fed is not read")

    def watching(self, stream):
        return b"serving" in stream.written and bool(self.served.running)


def framed(m):
    payload = wire.encode(m)
    return len(payload).to_bytes(4, "big") + payload


def plain(data):
    """Messages without what is for people."""
    while data:
        length = int.from_bytes(data[:4], "big")
        m, data = wire.decode(data[4:4 + length], wire.FROM_CALLEE), data[4 + length:]
        m.text = ""
        if m.kind == wire.REPLY and m.body[:1] == b"\x82":
            m.body = bodies.unpack(m.body)  # of M, compared by value
        yield m


if __name__ == "__main__":
    unittest.main()
