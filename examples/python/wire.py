"""Messages (W) and bodies (B) of rpc/SPEC.md: bytes in, bytes out.

What breaks a rule of W is Refused, which ends the session; what breaks one of B is a BadBody, which fails a call.
"""

import zlib
from dataclasses import dataclass, field

import msgpack

from errors import Refused, SealmuxError

MIN_PAYLOAD, MAX_PAYLOAD = 2, 2**30  # W2
DEFAULT_LIMIT, LEAST_LIMIT = 4194304, 65536  # W2; a message without a body or piece is shorter than the latter
MAX_TIMEOUT = 9223372036854775  # W6, microseconds
MAX_TEXT, MAX_VALUES, MAX_METADATA, MAX_DETAILS, MAX_DETAIL_BYTES = 4096, 64, 8192, 16, 16384  # W7, W8
NOT_EXECUTED, EXECUTED = 2, 3  # W8
MESSAGES, CONNECTION = 1, 2  # W9: forms
COMPRESSED = 64  # W10
KEY_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")

# W4: the elements behind the kind. call, reply and error have a short form, which is due when it says the same (W3).
CALL, REPLY, ERROR, CANCEL, GOAWAY, PART, OPEN, ITEM, END, HEADER, DONE = range(1, 12)
LONG = {12: CALL, 13: REPLY, 14: ERROR}
ELEMENTS = {
    1: ("id", "method", "timeout", "body"),
    2: ("id", "body"),
    3: ("id", "code", "outcome", "text"),
    4: ("id",),
    5: (),
    6: ("id", "body"),
    7: ("id", "method", "timeout", "form", "flags", "request_id", "header"),
    8: ("body",),
    9: (),
    10: ("header",),
    11: ("trailer",),
    12: ("id", "method", "timeout", "flags", "request_id", "header", "body"),
    13: ("id", "header", "trailer", "body"),
    14: ("id", "code", "outcome", "text", "retry", "details", "header", "trailer"),
}
FROM_CALLER = {CALL, CANCEL, OPEN, ITEM, END}
FROM_CALLEE = {REPLY, ERROR, GOAWAY, PART, ITEM, HEADER, DONE}
MAY_BE_COMPRESSED = {2, 8, 12, 13}  # a call so is always of kind 12


class BadBody(SealmuxError):
    """A body that breaks a rule of B, or does not inflate (W10)."""


class TooMuch(BadBody):
    """A body that inflates to more than the limit (W10)."""


@dataclass
class Message:
    """Any message. kind is one of CALL to DONE; what its kind does not have keeps its zero."""

    kind: int
    id: int = 0
    method: str = ""
    timeout: int = 0
    form: int = 0
    flags: int = 0
    request_id: str = ""
    header: list = field(default_factory=list)  # of (key, bytes), as trailer
    trailer: list = field(default_factory=list)
    code: int = 0
    outcome: int = 0
    text: str = ""
    retry: int = 0
    details: list = field(default_factory=list)  # of (name, bytes)
    body: bytes = b""  # or the piece of a part
    compressed: bool = False


def _number(message):
    """The kind on the wire: the shorter form if it says the same (W3)."""
    m = message
    if m.kind == CALL and (m.flags or m.request_id or m.header or m.compressed):
        return 12
    if m.kind == REPLY and (m.header or m.trailer):
        return 13
    if m.kind == ERROR and (m.retry or m.details or m.header or m.trailer):
        return 14
    return m.kind


def encode(message):
    """The payload of a message; ValueError if it breaks a rule."""
    number = _number(message)
    try:
        out = _pack_array(1 + len(ELEMENTS[number])) + msgpack.packb(number + COMPRESSED * message.compressed)
        for name in ELEMENTS[number]:
            value = getattr(message, name)
            if name == "body":
                out += value
            elif isinstance(value, list):
                out += _pack_array(2 * len(value)) + b"".join(msgpack.packb(v) for pair in value for v in pair)
            else:
                out += msgpack.packb(value)
        decode(out, FROM_CALLER | FROM_CALLEE)
    except (Refused, OverflowError) as err:
        raise ValueError(f"no message: {err}") from err
    return out


def _pack_array(n):
    return msgpack.Packer(autoreset=True).pack_array_header(n)


class _Reader:
    """Canonical msgpack (W3). Nothing is taken that is not there or is above its limit."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Refused("W3: a message is cut short")
        self.at += n
        return self.data[self.at - n:self.at]

    def _sized(self, fixed, fixed_max, sizes, what):
        """A number with a tag: up to fixed_max in the tag's byte itself, or in so many bytes behind it."""
        start = self.at
        tag = self.take(1)[0]
        if fixed <= tag <= fixed + fixed_max:
            return tag - fixed
        if tag not in sizes:
            raise Refused(f"W3: no {what}")
        n = int.from_bytes(self.take(sizes[tag]), "big")
        smaller = [size for size in sizes.values() if size < self.at - start - 1]
        if n <= fixed_max or smaller and n < 1 << 8 * max(smaller):
            raise Refused(f"W3: not the smallest {what}")
        return n

    def uint(self, least, most, what):
        n = self._sized(0, 127, {0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8}, what)
        if not least <= n <= most:
            raise Refused(f"{what} is {n}")
        return n

    def array(self, most, what):
        n = self._sized(0x90, 15, {0xdc: 2, 0xdd: 4}, "array")
        if n > most:
            raise Refused(f"{what} has {n} elements")
        return n

    def text(self, least, most, what):
        n = self._sized(0xa0, 31, {0xd9: 1, 0xda: 2, 0xdb: 4}, "text")
        if not least <= n <= most:
            raise Refused(f"{what} has {n} bytes")
        try:
            return self.take(n).decode()  # strict
        except UnicodeDecodeError as err:
            raise Refused("W12: text that is not UTF-8") from err

    def binary(self, most, what):
        n = self._sized(0, -1, {0xc4: 1, 0xc5: 2, 0xc6: 4}, "binary")
        if n > most:
            raise Refused(f"{what} has {n} bytes")
        return self.take(n)

    def pairs(self, most_pairs, most_bytes, name_bytes, what):
        """Names and binary in turn (W7, W8)."""
        n, size, out = self.array(2 * most_pairs, what), 0, []
        if n % 2:
            raise Refused(f"{what} ends behind a name")
        for _ in range(n // 2):
            name = self.text(1, name_bytes, what)
            value = self.binary(most_bytes, what)
            size += len(name.encode()) + len(value)
            if size > most_bytes:
                raise Refused(f"{what} has over {most_bytes} bytes")
            out.append((name, value))
        return out

    def metadata(self):
        out = self.pairs(MAX_VALUES, MAX_METADATA, 64, "W7: a header or trailer")
        keys = [key for key, _ in out]
        if keys != sorted(keys) or not KEY_LETTERS.issuperset("".join(keys).encode()):
            raise Refused("W7: keys out of order, or of other letters")
        return out


READERS = {
    "id": lambda r: r.uint(1, 2**64 - 1, "W5: an id"),
    "method": lambda r: r.text(1, 255, "W6: a method"),
    "timeout": lambda r: r.uint(0, MAX_TIMEOUT, "W6: a timeout"),
    "form": lambda r: r.uint(1, 2, "W9: a form"),
    "flags": lambda r: r.uint(0, 1, "W9: flags"),
    "request_id": lambda r: r.text(0, 255, "W6: a request id"),
    "header": _Reader.metadata,
    "trailer": _Reader.metadata,
    "code": lambda r: r.uint(1, 16, "W8: a code"),
    "outcome": lambda r: r.uint(NOT_EXECUTED, EXECUTED, "W8: an outcome"),
    "text": lambda r: r.text(0, MAX_TEXT, "W8: a text"),
    "retry": lambda r: r.uint(0, MAX_TIMEOUT, "W8: retry"),
    "details": lambda r: r.pairs(MAX_DETAILS, MAX_DETAIL_BYTES, 255, "W8: details"),
}


def decode(payload, expected):
    """The message that a payload holds, of one of the expected kinds; else Refused."""
    reader = _Reader(payload)
    count = reader.array(15, "W4: a message")
    number = reader.uint(1, 127, "W4: a kind")
    message = Message(0)
    if number - COMPRESSED in MAY_BE_COMPRESSED:
        message.compressed = True
        number -= COMPRESSED
    message.kind = LONG.get(number, number)
    if number not in ELEMENTS or message.kind not in expected or count != 1 + len(ELEMENTS[number]):
        raise Refused(f"W4: kind {number} with {count} elements is not due")
    for name in ELEMENTS[number]:
        if name == "body":  # W11: the rest
            message.body = payload[reader.at:]
            if not message.body:
                raise Refused("W11: no body")
            reader.at = len(payload)
        else:
            setattr(message, name, READERS[name](reader))
    if reader.at != len(payload):
        raise Refused("W3: something follows the message")
    if _number(message) != number:
        raise Refused("W3: a longer kind that says no more than the shorter")
    return message


def deflate(body):
    """(body, compressed): W10."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(body) + packer.flush()
    return (packed, True) if len(packed) < len(body) else (body, False)


def inflate(body, limit):
    """W10: at most limit bytes come out; else BadBody."""
    unpacker = zlib.decompressobj(wbits=-15)
    try:
        out = unpacker.decompress(body, limit + 1)
    except zlib.error as err:
        raise BadBody("W10: not deflate's") from err
    if len(out) > limit:
        raise TooMuch(f"W10: over {limit} bytes")
    if not unpacker.eof or unpacker.unused_data or not out:
        raise BadBody("W10: nothing, cut short, or something follows")
    return out
