"""Bodies (section B of rpc/SPEC.md): one msgpack value, checked before msgpack sees it."""

import msgpack

from wire import BadBody

MAX_DEPTH, MAX_VALUES = 32, 100000  # B2, B3
NIL, FALSE, TRUE = 0xc0, 0xc2, 0xc3
NUMBERS = {0xca: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8}
TEXTS, BINARIES = {0xd9: 1, 0xda: 2, 0xdb: 4}, {0xc4: 1, 0xc5: 2, 0xc6: 4}
ARRAYS, MAPS = {0xdc: 2, 0xdd: 4}, {0xde: 2, 0xdf: 4}
TIMESTAMPS = {b"\xd6\xff": 4, b"\xd7\xff": 8, b"\xc7\x0c\xff": 12}  # B4


def pack(value):
    """The body of a value; ValueError if no peer would take it."""
    body = msgpack.packb(value, datetime=True)
    try:
        check(body)
    except BadBody as err:
        raise ValueError(str(err)) from err
    return body


def unpack(body):
    """The value of a body; BadBody if it breaks a rule of B. Timestamps become msgpack.Timestamp."""
    check(body)
    return msgpack.unpackb(body, raw=False, strict_map_key=False, timestamp=0)


def check(body):
    checker = _Checker(body)
    checker.value(0)
    if checker.at != len(body):
        raise BadBody("B7: something follows the value")


class _Checker:
    def __init__(self, body):
        self.body, self.at, self.values = body, 0, 0

    def take(self, n):
        if n > len(self.body) - self.at:
            raise BadBody("B1: a length or count above the bytes left")
        self.at += n
        return self.body[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def value(self, depth):
        """Steps over a value. Returns what a map may have as a key (B6), as a value to compare, else None."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise BadBody("B3: over 100,000 values")
        tag = self.take(1)[0]
        if tag < 0x80 or tag >= 0xe0:
            return tag if tag < 0x80 else tag - 256
        if tag in NUMBERS:
            number = self.take(NUMBERS[tag])
            return None if tag in (0xca, 0xcb) else int.from_bytes(number, "big", signed=tag >= 0xd0)
        if 0xa0 <= tag < 0xc0 or tag in TEXTS:
            return self.text(self.number(TEXTS[tag]) if tag in TEXTS else tag - 0xa0)
        if tag in BINARIES:
            self.take(self.number(BINARIES[tag]))
        elif 0x90 <= tag < 0xa0 or tag in ARRAYS:
            self.array(self.number(ARRAYS[tag]) if tag in ARRAYS else tag - 0x90, depth + 1)
        elif 0x80 <= tag < 0x90 or tag in MAPS:
            self.map(self.number(MAPS[tag]) if tag in MAPS else tag - 0x80, depth + 1)
        elif tag not in (NIL, FALSE, TRUE):
            self.timestamp(tag)
        return None

    def text(self, n):
        try:
            return self.take(n).decode()
        except UnicodeDecodeError as err:
            raise BadBody("B5: text that is not UTF-8") from err

    def _enter(self, n, depth):
        if depth > MAX_DEPTH:
            raise BadBody("B2: nested deeper than 32")
        if n > len(self.body) - self.at:
            raise BadBody("B1: a count above the bytes left")

    def array(self, n, depth):
        self._enter(n, depth)
        for _ in range(n):
            self.value(depth)

    def map(self, n, depth):
        self._enter(2 * n, depth)
        keys = set()
        for _ in range(n):
            key = self.value(depth)
            if key is None or key in keys:
                raise BadBody("B6: a key that is neither text nor an integer, or comes twice")
            keys.add(key)
            self.value(depth)

    def timestamp(self, tag):
        head = bytes([tag]) + self.take(2 if tag == 0xc7 else 1)
        if head not in TIMESTAMPS:
            raise BadBody("B4: an extension that is not a timestamp")
        data = self.take(TIMESTAMPS[head])
        nanoseconds = {4: 0, 8: int.from_bytes(data, "big") >> 34, 12: int.from_bytes(data[:4], "big")}[len(data)]
        if nanoseconds > 999999999:
            raise BadBody("B4: over 999,999,999 nanoseconds")
