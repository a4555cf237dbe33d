"""The callee's side of rpc/SPEC.md. A Callee has no methods and answers so; Echo, for tests, has E1's and M's.

One thread serves a stream, and runs its calls one after the other, which C1 allows.
"""

import threading
from collections import deque

import body as bodies
import wire
from errors import Refused, SealmuxError, SessionEnded
from messages import (CANCELED, EXECUTED, INVALID_ARGUMENT, NOT_EXECUTED, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED,
                      CallError, Messages, TooLong)
from wire import Message

PIECE = 32753  # C10
ENVELOPE = 9121  # W2: what may surround the body of a call
LEAST_CALL = 65600  # W2: a body of a call that is taken in any case
REMEMBERED = 512  # C7: cancels for which nothing ran


class _Served(Messages):
    """A stream that the peer has opened."""

    def __init__(self, stream):
        super().__init__(stream)
        self.of_calls = True  # until an open

    def say(self, message):
        with self.send_lock:
            self.send(message)


class Callee:
    """Answers the calls, streams and connections of a session's peer. limit is the longest body taken (W2)."""

    def __init__(self, session, limit=wire.DEFAULT_LIMIT, compress=False):
        self.session, self.limit, self.compress = session, limit, compress
        self.lock = threading.Lock()  # protects what follows
        self.running, self.cancelled, self.served, self.draining = {}, deque(maxlen=REMEMBERED), set(), False

    # What a Callee with methods does otherwise

    def call(self, method, request):
        """The answer to a call. A CallError is sent as it is."""
        raise CallError(UNIMPLEMENTED, NOT_EXECUTED, "this side only calls")

    def stream(self, method, items, ended):
        """Yields the answers on a stream of messages; ended is a threading.Event that is set when it was cancelled."""
        raise CallError(UNIMPLEMENTED, NOT_EXECUTED, "this side only calls")

    def takes_one_request(self, method):
        """Whether a stream's handler does not run before its one request has come whole (S2)."""
        return False

    # The session's side

    def serve(self):
        """Serves streams until the session ends."""
        try:
            while True:
                threading.Thread(target=self.serve_stream, args=[self.session.accept()], daemon=True).start()
        except SealmuxError:
            self._cancel_all()  # the session has ended

    def serve_stream(self, stream):
        served = _Served(stream)
        with self.lock:
            self.served.add(served)
            draining = self.draining
        try:
            if draining:
                served.say(Message(wire.GOAWAY))
            self._serve(served)
        except Refused as err:
            self.session.fail(err)
            self._cancel_all()
        except SealmuxError:
            pass  # the stream was cut, which cancels what is on it (C7, W1)
        stream.close()
        with self.lock:
            self.served.discard(served)
            last = self.draining and not self.served
        if last:
            self.session.fail(SessionEnded("this side has drained"))

    def drain(self):
        """C9."""
        with self.lock:
            self.draining = True
            of_calls = [served for served in self.served if served.of_calls]
        for served in of_calls:
            served.say(Message(wire.GOAWAY))

    def _serve(self, served):
        last_id, first = 0, True
        while (received := self._receive(served, first)) is not None:
            m, whole = received
            if m.kind == wire.OPEN:
                served.of_calls = False
                self._open(served, m)
                return
            first = False
            if m.kind == wire.CANCEL:
                self._cancel(m.id)
                continue
            if m.id <= last_id:
                raise Refused("C2: ids grow")
            last_id = m.id
            self._call(served, m, whole)

    def _receive(self, served, first):
        """(message, whole) on a stream of calls, or of one that is not settled yet (C1). Of a call that is too long the head
        is judged, and the rest thrown away (W2)."""
        expected = {wire.CALL, wire.CANCEL} | ({wire.OPEN} if first else set())
        try:
            m = served.receive(expected, max(self.limit, LEAST_CALL) + ENVELOPE)
            return m and (m, len(m.body) <= max(self.limit, LEAST_CALL))
        except TooLong as err:
            m = wire.decode(served.exactly(wire.LEAST_LIMIT), expected)  # without a body it would be shorter, and is refused
            left = err.length - wire.LEAST_LIMIT
            while left:
                left -= len(served.exactly(min(left, wire.LEAST_LIMIT)))
            return m, False

    def _begin(self, m):
        """C2, C4, C7: an Event that cancels it, or the CallError of what does not run."""
        ended = threading.Event()
        with self.lock:
            if m.id in self.running:
                raise Refused("C2: the id of what is running")
            if self.draining:
                raise CallError(UNAVAILABLE, NOT_EXECUTED, "this side is draining", details=[("sealmux.draining", b"")])
            if m.id in self.cancelled:
                raise CallError(CANCELED, NOT_EXECUTED, "cancelled before it began")
            self.running[m.id] = ended
        return ended

    def _finish(self, m):
        with self.lock:
            self.running.pop(m.id, None)

    def _cancel(self, id_):
        """C7."""
        with self.lock:
            ended = self.running.get(id_)
            if ended is None:
                self.cancelled.append(id_)
        if ended is not None:
            ended.set()

    def _cancel_all(self):
        with self.lock:
            running = list(self.running.values())
        for ended in running:
            ended.set()

    def _call(self, served, m, whole):
        try:
            self._begin(m)
            try:
                if not whole:
                    raise CallError(RESOURCE_EXHAUSTED, NOT_EXECUTED, f"W2: a body over {self.limit} bytes")
                self._reply(served, m.id, bodies.pack(self.call(m.method, self._unpack(m, NOT_EXECUTED))))
            finally:
                self._finish(m)
        except CallError as err:
            served.say(error_message(m.id, err))

    def _reply(self, served, id_, body):
        """C10."""
        while len(body) > PIECE:
            served.say(Message(wire.PART, id=id_, body=body[:PIECE]))
            body = body[PIECE:]
        served.say(Message(wire.REPLY, id=id_, body=body))

    def _open(self, served, m):
        try:
            ended = self._begin(m)
            try:
                if m.form == wire.CONNECTION:
                    raise CallError(UNIMPLEMENTED, NOT_EXECUTED, "no connections here")
                outcome = NOT_EXECUTED if self.takes_one_request(m.method) else EXECUTED  # S2
                for answer in self.stream(m.method, self._items(served, outcome), ended):
                    served.say(Message(wire.ITEM, body=bodies.pack(answer)))
                if not ended.is_set():  # S4: a cancelled one is closed without an answer
                    served.say(Message(wire.DONE))
            finally:
                self._finish(m)
        except CallError as err:
            served.say(error_message(m.id, err))

    def _items(self, served, outcome):
        """The caller's items to its end (S1); outcome is that of the error if one is not good."""
        while True:
            try:
                m = served.receive({wire.ITEM, wire.END}, self.limit + 2)
            except TooLong as err:
                raise CallError(RESOURCE_EXHAUSTED, outcome, str(err)) from err
            if m is None:
                raise SealmuxError("S1: the stream ends before the caller's end")
            if m.kind == wire.END:
                return
            yield self._unpack(m, outcome)

    def _unpack(self, m, outcome):
        body = m.body
        try:
            if m.compressed:
                if not self.compress:
                    raise wire.BadBody("W10: compression is not set up here")
                body = wire.inflate(body, self.limit)
            return bodies.unpack(body)
        except wire.TooMuch as err:
            raise CallError(RESOURCE_EXHAUSTED, outcome, str(err)) from err
        except wire.BadBody as err:
            raise CallError(INVALID_ARGUMENT, outcome, str(err)) from err


def error_message(id_, err):
    """A CallError as a message."""
    outcome = wire.NOT_EXECUTED if err.outcome == NOT_EXECUTED else wire.EXECUTED
    return Message(wire.ERROR, id=id_, code=err.code, outcome=outcome, text=err.text, retry=err.retry, details=err.details,
                   header=err.header, trailer=err.trailer)


class Echo(Callee):
    """E1 and M, of a server without methods."""

    PREFIX = "服务端已收到数据: "
    METHODS = {"sealmux.Health": "unary", "sealmux.Methods": "unary", "sealmux.WatchHealth": "server stream"}

    def call(self, method, request):
        form = self._form(method)
        if form not in (None, "unary"):
            raise CallError(UNIMPLEMENTED, NOT_EXECUTED, "that is a stream")
        if form is None:
            return self._echo(request)
        text = self._text(request, NOT_EXECUTED)
        return self._health(text) if method == "sealmux.Health" else self._methods(text)

    def stream(self, method, items, ended):
        form = self._form(method)
        if form == "unary":
            raise CallError(UNIMPLEMENTED, NOT_EXECUTED, "that is a call")
        return map(self._echo, items) if form is None else self._watch(items, ended)

    def takes_one_request(self, method):
        return method == "sealmux.WatchHealth"

    def _form(self, method):
        if method.startswith("sealmux.") and method not in self.METHODS:
            raise CallError(UNIMPLEMENTED, NOT_EXECUTED, "no such method")
        return self.METHODS.get(method)

    def _echo(self, value):
        if isinstance(value, str):
            return self.PREFIX + value
        if isinstance(value, bytes):
            return self.PREFIX.encode() + value
        raise CallError(INVALID_ARGUMENT, EXECUTED, "an echo takes text and binary")

    def _text(self, value, outcome):
        """B8: text, or nil for none."""
        if value is not None and not isinstance(value, str):
            raise CallError(INVALID_ARGUMENT, outcome, "B8: text is due")
        return value or ""

    def _health(self, service):
        return "unknown" if service else "serving"

    def _watch(self, items, ended):
        requests = []
        for item in items:
            requests.append(item)
            if len(requests) > 1:
                break
        if len(requests) != 1:
            raise CallError(INVALID_ARGUMENT, NOT_EXECUTED, "S2: one request is due")
        yield self._health(self._text(requests[0], NOT_EXECUTED))
        ended.wait()

    def _methods(self, prefix):
        methods, types = [], []
        for name, form in sorted(self.METHODS.items()):
            if name.startswith(prefix):
                methods.append({"name": name, "form": form, "request": len(types), "reply": len(types) + 1})
                types += [{"kind": "text"}, {"kind": "any" if name == "sealmux.Methods" else "text"}]
        return {"methods": methods or None, "types": types or None}
