"""Whole messages on a stream, what a failed call says, and streams of messages (W1, W2, S of rpc/SPEC.md)."""

import threading

import wire
from errors import Refused, SealmuxError
from wire import Message

CODES = ("OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted "
         "FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated").split()
INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE = 3, 4, 8, 13, 14
CANCELED, UNIMPLEMENTED = 1, 12
NOT_SENT, NOT_EXECUTED, EXECUTED, UNKNOWN = "not sent", "not executed", "executed", "unknown"  # C5


class CallError(SealmuxError):
    """A call that failed. outcome says whether its handler may have run (C5); from_callee whether a message said so."""

    def __init__(self, code, outcome, text, retry=0, details=(), header=(), trailer=(), from_callee=False):
        super().__init__(f"{CODES[code]}, {outcome}: {text}")
        self.code, self.outcome, self.text, self.retry, self.from_callee = code, outcome, text, retry, from_callee
        self.details, self.header, self.trailer = list(details), list(header), list(trailer)


def from_message(m):
    outcome = NOT_EXECUTED if m.outcome == wire.NOT_EXECUTED else EXECUTED
    return CallError(m.code, outcome, m.text, m.retry, m.details, m.header, m.trailer, from_callee=True)


class TooLong(SealmuxError):
    """A message over the limit, of which only the length was read (W2)."""

    def __init__(self, length):
        super().__init__(f"W2: a message of {length} bytes")
        self.length = length


class Messages:
    """Whole messages of one stream (W1)."""

    def __init__(self, stream):
        self.stream = stream
        self.send_lock = threading.Lock()  # messages do not mix, and ids grow in the order sent (C2)

    def send(self, message):
        payload = wire.encode(message)
        self.stream.write(len(payload).to_bytes(4, "big") + payload)

    def receive(self, expected, most):
        """The next message, of at most so many bytes, or None at the end."""
        head = self.exactly(4, may_end=True)
        if not head:
            return None
        length = int.from_bytes(head, "big")
        if not wire.MIN_PAYLOAD <= length <= wire.MAX_PAYLOAD:
            raise Refused(f"W2: a payload of {length} bytes")
        if length > most:
            raise TooLong(length)
        return wire.decode(self.exactly(length), expected)

    def exactly(self, n, may_end=False):
        """n bytes, or none at the stream's end if it may end here."""
        data = bytearray()
        while len(data) < n:
            part = self.stream.read(n - len(data))
            if not part:
                if may_end and not data:
                    return b""
                raise SealmuxError("W1: the stream ends inside of a message")
            data += part
        return bytes(data)


class _OwnStream:
    """What streams of messages and connections share: an open, and an end that others may bring about."""

    def __init__(self, client, messages, id_, timeout):
        self.client, self.messages, self.id = client, messages, id_
        self.header, self._error, self._first = [], None, True
        self._timer = timeout and threading.Timer(timeout, self._give_up, [DEADLINE_EXCEEDED, "the time is up"])
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def cancel(self):
        """S4."""
        self._give_up(CANCELED, "the caller has given it up")

    def _give_up(self, code, why, outcome=UNKNOWN):
        self._error = self._error or CallError(code, outcome, why)
        self.client.send_cancel(self.id)
        self._close()

    def _close(self):
        if self._timer:
            self._timer.cancel()
        self.messages.stream.close()
        self.client.ended(self.id)

    def _next(self, expected):
        """The next message; a goaway before the first is taken (C9)."""
        try:
            while True:
                m = self.messages.receive(expected | {wire.GOAWAY} if self._first else expected, self.client.limit + 2)
                if m is None:
                    raise SealmuxError("S1: the stream ends with neither done nor error")
                if m.kind != wire.GOAWAY:
                    break
                self.client.goaway()
        except Refused as err:
            self.client.session.fail(err)
            self._close()
            raise
        except TooLong as err:
            self._give_up(RESOURCE_EXHAUSTED, str(err), EXECUTED)
            raise self._error from err
        except SealmuxError as err:
            self._close()
            raise self._error or CallError(UNAVAILABLE, UNKNOWN, f"the stream is cut: {err}") from err
        self._first = False
        if m.kind == wire.ERROR:
            if m.id != self.id:
                refused = Refused("S1, S6: an error with another id")
                self.client.session.fail(refused)
                self._close()
                raise refused
            self._close()
            raise from_message(m)
        return m


class MessageStream(_OwnStream):
    """A stream of messages: send items and end them in one thread, iterate over what comes in another. It ends cleanly only
    with done (S1); then trailer is set. header is set before the first item."""

    trailer = ()

    def send(self, value):
        body, compressed = self.client.pack(value)
        with self.messages.send_lock:
            self.messages.send(Message(wire.ITEM, body=body, compressed=compressed))

    def end(self):
        """No item comes after it."""
        with self.messages.send_lock:
            self.messages.send(Message(wire.END))

    def __iter__(self):
        expected = {wire.ITEM, wire.ERROR, wire.DONE}
        m = self._next(expected | {wire.HEADER})
        if m.kind == wire.HEADER:
            self.header = m.header
            m = self._next(expected)
        while m.kind != wire.DONE:
            yield self._value(m)
            m = self._next(expected)
        self.trailer = m.trailer
        self._close()

    def _value(self, m):
        try:
            return self.client.unpack(m, too_much=RESOURCE_EXHAUSTED)
        except CallError as err:
            self._give_up(err.code, err.text, err.outcome)
            raise


class Connection(_OwnStream):
    """A connection that was asked for (S6)."""

    def taken(self):
        """The stream of bytes that it is, once the callee has taken it, and has set header. It is the caller's to close."""
        m = self._next({wire.HEADER, wire.ERROR})
        self.header = m.header
        if self._timer:
            self._timer.cancel()
        self.client.ended(self.id)
        return self.messages.stream
