"""Calls over a session (rpc/SPEC.md, the caller's side): unary, streams of messages, connections."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import body as bodies
import wire
from callee import Callee
from errors import Refused, SealmuxError
from messages import (CANCELED, DEADLINE_EXCEEDED, EXECUTED, INTERNAL, INVALID_ARGUMENT, NOT_EXECUTED, NOT_SENT,
                      RESOURCE_EXHAUSTED, UNAVAILABLE, UNKNOWN, CallError, Connection, Messages, MessageStream, TooLong,
                      from_message)
from wire import Message

__all__ = ["CANCELED", "DEADLINE_EXCEEDED", "INTERNAL", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAVAILABLE",
           "EXECUTED", "NOT_EXECUTED", "NOT_SENT", "UNKNOWN", "PROTOCOL", "CallError", "Client", "Connection",
           "MessageStream", "Reply"]

PROTOCOL = b"sealmux-rpc/1"  # the application protocol of the channel (H5)
OWN_STREAM = 65600  # C1: a larger request goes on a stream of its own
MAX_ANSWER = 98304  # C10: a payload of a callee on a stream of calls


@dataclass
class Reply:
    value: object
    header: list = field(default_factory=list)
    trailer: list = field(default_factory=list)


class Call:
    """One call under way."""

    def __init__(self, client, stream, id_, timeout):
        self.client, self.stream, self.id, self.timeout = client, stream, id_, timeout
        self.future, self.parts = Future(), bytearray()

    def result(self):
        """The Reply, or CallError."""
        try:
            return self.future.result(self.timeout)
        except TimeoutError:
            self._give_up(CallError(DEADLINE_EXCEEDED, UNKNOWN, "the time is up"))
        return self.future.result()

    def cancel(self):
        """C7. The answer, should one come, is dropped (C3)."""
        self._give_up(CallError(CANCELED, UNKNOWN, "the caller has cancelled the call"))

    def _give_up(self, error):
        if self.stream.take(self.id) is not None:
            if not self.stream.once:  # else its stream's end says so
                self.client.send_cancel(self.id)
            self.finish(error=error)

    def finish(self, reply=None, error=None):
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(reply)
        self.client.ended(self.id)
        if self.stream.once:
            self.stream.stream.close()


class _CallStream(Messages):
    """A stream of calls, with a thread that reads the answers."""

    EXPECTED = {wire.REPLY, wire.ERROR, wire.GOAWAY, wire.PART}

    def __init__(self, client, stream, once=False):
        super().__init__(stream)
        self.client, self.once, self.last_id, self.lost = client, once, 0, False
        self.lock, self.pending = threading.Lock(), {}
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def start(self, message, timeout):
        """Sends a call; the lock makes ids grow (C2)."""
        with self.send_lock:
            message.id = self.client.new_id()
            call = Call(self.client, self, message.id, timeout)
            with self.lock:
                if self.lost:
                    self.client.ended(call.id)
                    raise CallError(UNAVAILABLE, NOT_SENT, "the stream of calls is lost")
                self.pending[call.id], self.last_id = call, call.id
            try:
                self.send(message)
            except ValueError:  # the caller's mistake; nothing is sent
                self.take(call.id)
                self.client.ended(call.id)
                if self.once:
                    self.stream.close()
                raise
            except SealmuxError as err:
                if self.take(call.id) is not None:
                    call.finish(error=CallError(UNAVAILABLE, NOT_SENT, str(err)))
        return call

    def take(self, id_):
        with self.lock:
            return self.pending.pop(id_, None)

    def _run(self):
        why = "the stream has ended"
        try:
            while (message := self.receive(self.EXPECTED, MAX_ANSWER)) is not None:
                self._answer(message)
        except TooLong as err:
            why = f"C10: {err}"
            self.client.session.fail(Refused(why))
        except Refused as err:
            why = str(err)
            self.client.session.fail(err)
        except SealmuxError as err:
            why = str(err)
        with self.lock:
            self.lost, calls, self.pending = True, self.pending, {}
        for call in calls.values():
            call.finish(error=CallError(UNAVAILABLE, UNKNOWN, why))
        self.stream.close()

    def _answer(self, m):
        if m.kind == wire.GOAWAY:
            self.client.goaway()
            return
        if m.id > self.last_id:
            raise Refused("C3: an answer to a call that was not made")
        if m.kind == wire.PART:
            with self.lock:
                call = self.pending.get(m.id)
            if call is not None:  # else it was given up (C3)
                call.parts += m.body
                if len(call.parts) > self.client.limit and self.take(m.id):
                    self._too_long(call)
            return
        call = self.take(m.id)
        if call is None:
            return
        if m.kind == wire.ERROR:
            call.finish(error=from_message(m))
            return
        m.body = bytes(call.parts) + m.body  # C10
        if len(m.body) > self.client.limit:
            self._too_long(call)
            return
        try:
            call.finish(Reply(self.client.unpack(m), m.header, m.trailer))
        except CallError as err:
            call.finish(error=err)

    def _too_long(self, call):
        """W2: the call alone fails; what else comes of its reply is dropped."""
        call.finish(error=CallError(RESOURCE_EXHAUSTED, EXECUTED, f"W2: a reply over {self.client.limit} bytes"))


class Client:
    """Calls over a session, from any number of threads. limit is the longest body that is taken (W2). compress asks for
    compressed answers and takes them; compress_own sends compressed bodies too, which the server must be known to take.
    callee answers what the server calls, a Callee without methods if none is given."""

    def __init__(self, session, limit=wire.DEFAULT_LIMIT, compress=False, compress_own=False, callee=None):
        if not wire.LEAST_LIMIT <= limit <= wire.MAX_PAYLOAD:
            raise ValueError("W2: a limit is 65,536 to 2^30 bytes")
        self.session, self.limit, self.compress, self.compress_own = session, limit, compress, compress_own
        self.lock, self.last_id, self.running, self.draining = threading.Lock(), 0, set(), False
        self._renewing = threading.Lock()
        self.first = _CallStream(self, session.open())  # C1: before any other
        threading.Thread(target=(callee or Callee(session, limit)).serve, daemon=True).start()

    def call(self, method, request, **options):
        """A unary call: Reply or CallError. options as those of start."""
        return self.start(method, request, **options).result()

    def start(self, method, request, *, timeout=None, header=(), request_id=""):
        """Sends a call and returns it as a Call. timeout is in seconds."""
        message = Message(wire.CALL, method=method, timeout=_microseconds(timeout), request_id=request_id,
                          header=list(header), flags=int(self.compress))
        message.body, message.compressed = self.pack(request)
        self._check_open()
        if len(message.body) <= OWN_STREAM:
            return self.first.start(message, timeout)
        return _CallStream(self, self._open(), once=True).start(message, timeout)  # C1

    def stream(self, method, *, timeout=None, header=(), request_id=""):
        """Opens a stream of messages (S1)."""
        return MessageStream(*self._open_call(wire.MESSAGES, method, timeout, header, request_id), timeout)

    def connection(self, method, *, timeout=None, header=(), request_id=""):
        """Asks for a connection (S6)."""
        return Connection(*self._open_call(wire.CONNECTION, method, timeout, header, request_id), timeout)

    def close(self):
        """Closes the first stream, once all has ended, and the session. Returns whether the server closed it too."""
        self.first.stream.finish()
        return self.session.close()

    # For the classes above and below

    def _open(self):
        try:
            return self.session.open()
        except SealmuxError as err:
            raise CallError(UNAVAILABLE, NOT_SENT, str(err)) from err

    def _open_call(self, form, method, timeout, header, request_id):
        self._check_open()
        messages, id_ = Messages(self._open()), self.new_id()
        try:
            messages.send(Message(wire.OPEN, id=id_, method=method, timeout=_microseconds(timeout), form=form,
                                  flags=int(self.compress), request_id=request_id, header=list(header)))
        except (SealmuxError, ValueError) as err:
            messages.stream.close()
            self.ended(id_)
            if isinstance(err, ValueError):  # the caller's mistake
                raise
            raise CallError(UNAVAILABLE, NOT_SENT, str(err)) from err
        return self, messages, id_

    def _check_open(self):
        """Before each call, stream or connection: C9, and a first stream that is there (C1)."""
        if self.draining:
            raise CallError(UNAVAILABLE, NOT_SENT, "the server takes no new calls in this session (C9)")
        with self._renewing:
            if self.first.lost:
                self.first = _CallStream(self, self._open())

    def new_id(self):
        with self.lock:
            self.last_id += 1
            self.running.add(self.last_id)
            return self.last_id

    def ended(self, id_):
        with self.lock:
            self.running.discard(id_)
            last = self.draining and not self.running
        if last:
            self.first.stream.finish()  # C9: nothing is on its way

    def goaway(self):
        with self.lock:
            self.draining = True
        self.ended(0)

    def send_cancel(self, id_):
        try:
            with self.first.send_lock:
                self.first.send(Message(wire.CANCEL, id=id_))
        except SealmuxError:
            pass  # then the session is over, and so is the call

    def pack(self, value):
        body = bodies.pack(value)
        return wire.deflate(body) if self.compress_own else (body, False)

    def unpack(self, message, too_much=INTERNAL):
        """The value of a reply or item; CallError (B, W10), with the code too_much if it inflates to more than the limit."""
        body = message.body
        try:
            if message.compressed:
                if not self.compress:
                    raise wire.BadBody("W10: a compressed body that was not asked for")
                body = wire.inflate(body, self.limit)
            return bodies.unpack(body)
        except wire.TooMuch as err:
            raise CallError(too_much, EXECUTED, str(err)) from err
        except wire.BadBody as err:
            raise CallError(INTERNAL, EXECUTED, str(err)) from err


def _microseconds(seconds):
    """W6: 0 is no timeout, so the shortest is 1."""
    return 0 if seconds is None else min(wire.MAX_TIMEOUT, max(1, round(seconds * 1e6)))
