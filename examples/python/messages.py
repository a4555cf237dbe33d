"""Whole messages on a stream, what a failed call says, and streams of messages (W1, W2, S of rpc/SPEC.md)."""

import threading

import wire
from errors import Refused, SealmuxError
from wire import Message

CODES = ("OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted "
         "FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated").split()
INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE = 3, 4, 8, 13, 14
CANCELED = 1
NOT_SENT, NOT_EXECUTED, EXECUTED, UNKNOWN = "not sent", "not executed", "executed", "unknown"  # C5


class CallError(SealmuxError):
    """A call that failed. outcome says whether its handler may have run (C5)."""

    def __init__(self, code, outcome, text, retry=0, details=(), header=(), trailer=()):
        super().__init__(f"{CODES[code]}, {outcome}: {text}")
        self.code, self.outcome, self.text, self.retry = code, outcome, text, retry
        self.details, self.header, self.trailer = list(details), list(header), list(trailer)


def from_message(m):
    outcome = NOT_EXECUTED if m.outcome == wire.NOT_EXECUTED else EXECUTED
    return CallError(m.code, outcome, m.text, m.retry, m.details, m.header, m.trailer)


class Messages:
    """Whole messages of one stream (W1, W2)."""

    def __init__(self, stream, limit):
        self.stream, self.limit = stream, limit
        self.send_lock = threading.Lock()  # messages do not mix, and ids grow in the order sent (C2)

    def send(self, message):
        payload = wire.encode(message)
        self.stream.write(len(payload).to_bytes(4, "big") + payload)

    def receive(self, expected):
        """(message, whole), or None at the end. Of a message over the limit only the head is kept, and whole is False."""
        head = self._exactly(4, may_end=True)
        if not head:
            return None
        length = int.from_bytes(head, "big")
        if not wire.MIN_PAYLOAD <= length <= wire.MAX_PAYLOAD:
            raise Refused(f"W2: a payload of {length} bytes")
        if length <= self.limit:
            return wire.decode(self._exactly(length), expected), True
        message = wire.decode(self._exactly(wire.LEAST_LIMIT), expected)  # what has no body is shorter, and refused here
        left = length - wire.LEAST_LIMIT
        while left:
            left -= len(self._exactly(min(left, wire.LEAST_LIMIT)))
        return message, False

    def _exactly(self, n, may_end=False):
        data = bytearray()
        while len(data) < n:
            part = self.stream.read(n - len(data))
            if not part:
                if may_end and not data:
                    return b""
                raise SealmuxError("W1: the stream ends inside of a message")
            data += part
        return bytes(data)


class MessageStream:
    """A stream of messages: send items and end them in one thread, iterate over what comes in another. It ends cleanly only
    with done (S1); then trailer is set. header is set before the first item."""

    def __init__(self, client, messages, id_, timeout):
        self.client, self.messages, self.id = client, messages, id_
        self.header, self.trailer, self._got_header, self._got_item = [], [], False, False
        self._error = None
        self._timer = timeout and threading.Timer(timeout, self._give_up, [DEADLINE_EXCEEDED, "the time is up"])
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def send(self, value):
        body, compressed = self.client.pack(value)
        with self.messages.send_lock:
            self.messages.send(Message(wire.ITEM, body=body, compressed=compressed))

    def end(self):
        """No item comes after it."""
        with self.messages.send_lock:
            self.messages.send(Message(wire.END))

    def cancel(self):
        """S4."""
        self._give_up(CANCELED, "the caller has cancelled the stream")

    def _give_up(self, code, why):
        self._error = self._error or CallError(code, UNKNOWN, why)
        self.client.send_cancel(self.id)
        self._close()

    def _close(self):
        if self._timer:
            self._timer.cancel()
        self.messages.stream.close()
        self.client.ended(self.id)

    def __iter__(self):
        try:
            while True:
                m, whole = self._next()
                if m.kind == wire.DONE:
                    self.trailer = m.trailer
                    self._close()
                    return
                if m.kind == wire.ERROR:
                    if m.id != self.id:
                        raise Refused("S1: an error with another id")
                    self._close()
                    raise from_message(m)
                if m.kind == wire.HEADER:
                    if self._got_header or self._got_item:
                        raise Refused("S1: a second header, or one behind an item")
                    self._got_header, self.header = True, m.header
                    continue
                self._got_item = True
                yield self._value(m, whole)
        except Refused as err:
            self.client.session.fail(err)
            raise

    def _next(self):
        try:
            received = self.messages.receive({wire.ITEM, wire.ERROR, wire.HEADER, wire.DONE})
        except Refused:
            raise
        except SealmuxError as err:
            self._close()
            raise self._error or CallError(UNAVAILABLE, UNKNOWN, f"S1: the stream is cut: {err}") from err
        if received is None:
            self._close()
            raise CallError(UNAVAILABLE, UNKNOWN, "S1: the stream is cut, with neither done nor error")
        return received

    def _value(self, m, whole):
        try:
            if not whole:
                raise CallError(RESOURCE_EXHAUSTED, UNKNOWN, f"W2: an item over {self.client.limit} bytes")
            return self.client.unpack(m)
        except CallError as err:
            self._give_up(err.code, err.text)
            raise
