"""yamux frames as section 8 of transport/SPEC.md restricts them: a state machine without threads or sockets.

Mux.receive takes the data of a record; what is to be sent collects in Mux.out, frame by frame.
"""

from collections import deque

from errors import Refused

DATA, UPDATE = 0, 1  # S2
SYN, ACK, FIN, RST = 1, 2, 4, 8
HEADER, MAX_BODY = 12, 32768  # S3
WINDOW, MAX_WINDOW = 262144, 16777216  # S6
MAX_UNACKNOWLEDGED = 256  # S5
LATE_UPDATES = 136  # S8


def frame(kind, flags, id_, length, body=b""):
    return bytes([0, kind]) + flags.to_bytes(2, "big") + id_.to_bytes(4, "big") + length.to_bytes(4, "big") + body


class Stream:
    """The state of one stream. Its owner goes through the methods of Mux."""

    def __init__(self, id_, mine, send_window=WINDOW):
        self.id, self.mine, self.send_window, self.receive_window = id_, mine, send_window, WINDOW
        self.inbox = bytearray()  # bounded by the window
        self.acknowledged = self.fin_wanted = self.fin_sent = self.fin_received = False
        self.abandoned = False  # closed both ways: nobody reads what comes
        self.cut = False  # ended by a RST that takes back what the peer may still have sent
        self.over = False


class Mux:
    """One side's streams. max_streams is how many it may have open, own_max_streams how many its peer may. Without
    accepting, each stream that the peer opens is refused with RST."""

    def __init__(self, max_streams, own_max_streams, client=True, accepting=False):
        self.max_streams, self.own_max_streams, self.client, self.accepting = max_streams, own_max_streams, client, accepting
        self.streams, self.out, self.arrived = {}, [], deque()
        self.next_id, self.last_peer_id = (1 if client else 2), 0
        self.late_updates = self.late_bytes = 0  # what S8 still grants

    # What the owner does

    def open(self):
        """A new stream, or None while the limits of S5 do not allow one."""
        mine = [s for s in self.streams.values() if s.mine]
        if len(mine) >= self.max_streams or sum(not s.acknowledged for s in mine) >= MAX_UNACKNOWLEDGED:
            return None
        stream = self.streams[self.next_id] = Stream(self.next_id, mine=True)
        self.next_id += 2
        self._update(stream, SYN)
        return stream

    def accept(self):
        """The peer's next stream, acknowledged (S4), or None."""
        if not self.arrived:
            return None
        stream = self.arrived.popleft()
        stream.acknowledged = True
        self._update(stream, ACK)
        return stream

    def write(self, stream, data):
        """Sends as much of data as the window allows (S6), and returns how much that is."""
        n = min(len(data), stream.send_window)
        for start in range(0, n, MAX_BODY):
            body = bytes(data[start:min(start + MAX_BODY, n)])
            self.out.append(frame(DATA, 0, stream.id, len(body), body))
        stream.send_window -= n
        return n

    def read(self, stream, n):
        """At most n bytes of what has come. When half of the window is used, the peer gets it back."""
        out = bytes(stream.inbox[:n])
        del stream.inbox[:n]
        free = WINDOW - stream.receive_window - len(stream.inbox)
        if free >= WINDOW // 2 and not stream.fin_received and not stream.over:
            stream.receive_window += free
            self._update(stream, 0, free)
        return out

    def finish(self, stream):
        """FIN, as soon as the stream is acknowledged (S7)."""
        stream.fin_wanted = True
        if stream.fin_wanted and stream.acknowledged and not stream.fin_sent and not stream.over:
            stream.fin_sent = True
            self._update(stream, FIN)
            self._end_if_both_finished(stream)

    def close(self, stream):
        """FIN, and what comes is not wanted any more: data is answered with RST, for which a byte must fit (S9)."""
        stream.abandoned = True
        stream.inbox.clear()
        self.finish(stream)
        if not stream.over and not stream.fin_received and stream.receive_window == 0:
            stream.receive_window = 1
            self._update(stream, 0, 1)

    def _update(self, stream, flags, delta=0):
        self.out.append(frame(UPDATE, flags, stream.id, delta))

    # What the peer does

    def receive(self, data):
        """All frames of a data record. What breaks S1 to S8 is Refused."""
        while data:
            if len(data) < HEADER:
                raise Refused("S1: a record ends inside of a frame's header")
            version, kind, flags = data[0], data[1], int.from_bytes(data[2:4], "big")
            id_, length = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
            if version != 0 or kind not in (DATA, UPDATE) or flags & ~(SYN | ACK | FIN | RST):
                raise Refused(f"S2: version {version}, type {kind}, flags {flags}")
            if kind == UPDATE:
                self._on_update(flags, id_, length)
                data = data[HEADER:]
                continue
            if not 1 <= length <= MAX_BODY or flags & ~ACK:
                raise Refused(f"S3: a data frame of {length} bytes with flags {flags}")
            if len(data) < HEADER + length:
                raise Refused("S1: a record ends inside of a frame's body")
            self._on_data(flags, id_, data[HEADER:HEADER + length])
            data = data[HEADER + length:]

    def _on_update(self, flags, id_, delta):
        if flags & SYN:
            self._on_open(flags, id_, delta)
            return
        stream = self._find(id_)
        if stream is None:
            self.late_updates -= 1
            if self.late_updates < 0:
                raise Refused("S8: too many window updates for streams that are over")
            return
        if flags & RST and not flags & ACK and stream.mine:
            stream.acknowledged = True  # S4: a RST refuses the stream
        else:
            self._acknowledge(stream, flags)
        if not stream.acknowledged and flags & (FIN | RST):
            raise Refused("S7: FIN or RST of the opener before the ACK")
        if stream.send_window + delta > MAX_WINDOW:
            raise Refused("S6: a window above 16777216")
        stream.send_window += delta
        if flags & FIN:
            if stream.fin_received:
                raise Refused("S4: a second FIN")
            stream.fin_received = True
        if flags & RST:
            stream.cut = not stream.fin_received  # S9
            self._end(stream, late_bytes=stream.receive_window)
        elif stream.fin_wanted:
            self.finish(stream)  # which may have waited for the ACK
        self._end_if_both_finished(stream)

    def _on_data(self, flags, id_, body):
        stream = self._find(id_)
        if stream is None:
            self.late_bytes -= len(body)
            if self.late_bytes < 0:
                raise Refused("S8: data for a stream that is over")
            return
        self._acknowledge(stream, flags)
        if stream.fin_received:
            raise Refused("S6: data behind FIN")
        if len(body) > stream.receive_window:
            raise Refused("S6: data beyond the window")
        stream.receive_window -= len(body)
        if stream.fin_wanted:
            self.finish(stream)
        if stream.abandoned:  # S9
            self._update(stream, RST)
            self._end(stream, late_bytes=stream.receive_window)
        else:
            stream.inbox += body

    def _on_open(self, flags, id_, delta):
        if flags != SYN:
            raise Refused("S4: SYN does not come alone")
        if id_ == 0 or self._is_mine(id_) or id_ <= self.last_peer_id:
            raise Refused(f"S5: a stream with the id {id_}")
        if WINDOW + delta > MAX_WINDOW:
            raise Refused("S6: a window above 16777216")
        self.last_peer_id = id_
        stream = self.streams[id_] = Stream(id_, mine=False, send_window=WINDOW + delta)
        theirs = [s for s in self.streams.values() if not s.mine]
        if len(theirs) > self.own_max_streams or sum(not s.acknowledged for s in theirs) > MAX_UNACKNOWLEDGED:
            raise Refused("S5: too many streams")
        if self.accepting:
            self.arrived.append(stream)
        else:
            self._update(stream, RST)
            self._end(stream, late_bytes=WINDOW)

    def _acknowledge(self, stream, flags):
        """S4: of a stream that it has not opened, a side's first frame carries ACK, and none after it does."""
        if flags & ACK:
            if not stream.mine or stream.acknowledged:
                raise Refused("S4: an ACK that is not due")
            stream.acknowledged = True
        elif stream.mine and not stream.acknowledged:
            raise Refused("S4: a first frame without ACK")

    def _find(self, id_):
        """The stream, None if it is over; an id that was never opened is refused (S8)."""
        stream = self.streams.get(id_)
        opened = id_ < self.next_id if self._is_mine(id_) else 0 < id_ <= self.last_peer_id
        if stream is None and not opened:
            raise Refused(f"S8: a frame for the stream {id_}, which was never opened")
        return stream

    def _is_mine(self, id_):
        return (id_ % 2 == 1) == self.client

    def _end_if_both_finished(self, stream):
        if stream.fin_sent and stream.fin_received and not stream.over:
            self._end(stream, late_bytes=0)

    def _end(self, stream, late_bytes):
        stream.over = True
        del self.streams[stream.id]
        self.late_updates += LATE_UPDATES
        self.late_bytes += late_bytes
