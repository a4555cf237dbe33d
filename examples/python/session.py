"""A session: streams over a channel over a socket, with a thread that reads and a thread that writes.

One condition guards everything that both threads and the callers touch. Only the writer waits for the socket to take
bytes, and it holds no lock then; so the reader goes on reading whatever the peer does, and two sides that both write
cannot wait for each other.
"""

import select
import socket
import threading
import time

import channel
import handshake
from errors import PeerAlert, Refused, SealmuxError, SessionEnded, Stalled, StreamReset, Truncated
from streams import Mux

QUIET, ANSWER = 15.0, 10.0  # R8
LINGER = 1.0  # section 9
MAX_QUEUED = 1 << 20  # bytes that callers have waiting for the writer
MAX_UNSENT = 4 << 20  # with the answers that the peer makes us queue; beyond it we give up


class SocketConn:
    """A socket as handshake and channel want it. read raises TimeoutError at the deadline (time.monotonic())."""

    def __init__(self, sock):
        self.sock, self.deadline = sock, None
        sock.settimeout(QUIET + ANSWER)  # for writing; reading waits in select

    def read(self, n):
        wait = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        if not select.select([self.sock], [], [], wait)[0]:
            raise TimeoutError
        try:
            return self.sock.recv(n)
        except ConnectionError:
            return b""  # cut is cut, with a FIN or a RST of TCP (R5)

    def write(self, data):
        try:
            self.sock.sendall(data)
        except TimeoutError as err:
            raise Stalled("the peer takes nothing") from err
        except OSError as err:
            raise Truncated(f"the connection is cut: {err}") from err

    def close(self):
        self.sock.close()

    def finish_writing(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is cut already

    def abort(self):
        """Ends both directions, which wakes a reader."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def dial(address, trust, protocol, *, key=None, ticket=None, wants_ticket=False, timeout=10.0,
         max_records=channel.SEALED_RECORDS):
    """Connects to (host, port) and returns a Session that the server has accepted, within timeout seconds (H11)."""
    deadline = time.monotonic() + timeout
    conn = SocketConn(socket.create_connection(address, timeout))
    conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.deadline = deadline
    try:
        established = handshake.connect(conn, trust, protocol, key=key, ticket=ticket, wants_ticket=wants_ticket)
        records = channel.Channel(conn, established, max_records)
        try:
            records.await_accept()
        except TimeoutError as err:
            raise Stalled("H11: the server does not accept in time") from err
        return Session(conn, records, accepting=True)
    except BaseException:
        conn.close()
        raise


class Session:
    """Any number of threads may open and use streams."""

    def __init__(self, conn, records, client=True, accepting=False):
        self.conn, self.records, self.established = conn, records, records.established
        self.cond = threading.Condition()
        self.mux = Mux(self.established.max_streams, self.established.own_max_streams, client, accepting)
        self.error = None  # the first, which stays
        self.peer_closed = False  # by an authenticated close record
        self._last = None  # the record that ends our direction
        self._ping_due = self._pong_due = False
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    @property
    def ticket(self):
        """What the server gave to resume with, or None (so far)."""
        return self.records.ticket

    def open(self):
        """A new SessionStream; waits while the limits of S5 do not allow one."""
        with self.cond:
            while True:
                self._check()
                stream = self.mux.open()
                if stream is not None:
                    self.cond.notify_all()
                    return SessionStream(self, stream)
                self.cond.wait()

    def accept(self):
        """The next stream that the peer has opened, if this session accepts streams; those that came before its end too."""
        with self.cond:
            self.cond.wait_for(lambda: self.mux.arrived or self.error)
            stream = self.mux.accept()
            if stream is None:
                raise self.error
            self.cond.notify_all()
            return SessionStream(self, stream)

    def close(self):
        """Sends what is queued and a close record, and waits for the peer's for at most a second (section 9).
        Returns whether it came."""
        self._end(SessionEnded("this side has closed the session"), (channel.CLOSE, b""))
        reader, writer = self._threads
        reader.join(LINGER)
        self.conn.abort()
        reader.join()
        writer.join()
        self.conn.close()
        return self.peer_closed

    def fail(self, error):
        """Ends the session for a reason of the application's protocol: what waits is sent, and a close record."""
        self._end(error, (channel.CLOSE, b""))

    def _check(self):
        if self.error is not None:
            raise self.error

    def _end(self, error, last):
        """The first one decides; last is the (type, data) of our last record, or None if the connection is gone."""
        with self.cond:
            if self.error is None:
                self.error, self._last = error, last
                if last is None:
                    self.conn.abort()
            self.cond.notify_all()

    # The reader

    def _read(self):
        try:
            while not self.peer_closed:
                self._dispatch(*self._next_record())
        except Refused as err:  # section 9: alert 6 in place of close, and what comes is discarded
            self._end(err, (channel.ALERT, b"\x06"))
            self._discard()
        except PeerAlert as err:  # section 9: as a close
            self._end(err, (channel.CLOSE, b""))
        except SealmuxError as err:
            self._end(err, None)

    def _next_record(self):
        """R8: any record is a sign of life."""
        self.conn.deadline = time.monotonic() + QUIET
        try:
            return self.records.receive()
        except TimeoutError:
            with self.cond:
                self._ping_due = True
                self.cond.notify_all()
        self.conn.deadline = time.monotonic() + ANSWER
        try:
            return self.records.receive()
        except TimeoutError as err:
            raise Stalled("R8: no answer to a ping") from err

    def _dispatch(self, kind, data):
        with self.cond:
            if kind == channel.DATA and self._last is None:
                self.mux.receive(data)
                if sum(map(len, self.mux.out)) > MAX_UNSENT:
                    raise Stalled("the peer asks for answers that it does not take")
            elif kind == channel.PING:
                self._pong_due = True
            elif kind == channel.CLOSE:
                self.peer_closed = True
                self._end(SessionEnded("the peer has closed the session"), (channel.CLOSE, b""))
            self.cond.notify_all()

    def _discard(self):
        self.conn.deadline = time.monotonic() + LINGER
        try:
            while self.conn.read(65536):
                pass
        except TimeoutError:
            pass
        self.conn.abort()

    # The writer

    def _write(self):
        try:
            while True:
                with self.cond:
                    self.cond.wait_for(lambda: self.mux.out or self._ping_due or self._pong_due or self.error)
                    records, last = self._take_records(), self._last
                    if self.error is not None and last is None:
                        return
                    self.cond.notify_all()
                for kind, data in records:
                    self.records.send(kind, data)
                if last is not None:
                    self.records.send(*last)
                    self.conn.finish_writing()
                    return
        except SealmuxError as err:
            self._end(err, None)

    def _take_records(self):
        """What waits, as (type, data) of records: whole frames, as many in each as fit (S1)."""
        frames, self.mux.out = self.mux.out, []
        records = []
        if self._ping_due:
            records.append((channel.PING, b""))
        if self._pong_due:
            records.append((channel.PONG, b""))
        self._ping_due = self._pong_due = False
        data = b""
        for frame in frames:
            if len(data) + len(frame) > channel.MAX_DATA:
                records.append((channel.DATA, data))
                data = b""
            data += frame
        if data:
            records.append((channel.DATA, data))
        return records if self._last is None or self._last[0] == channel.CLOSE else []


class SessionStream:
    """One stream as bytes. One thread may read while another writes."""

    def __init__(self, session, stream):
        self.session, self.stream = session, stream

    @property
    def id(self):
        return self.stream.id

    def read(self, n):
        """1 to n bytes, or b"" behind the peer's FIN; raises StreamReset, or the session's error."""
        session, stream = self.session, self.stream
        with session.cond:
            session.cond.wait_for(lambda: stream.inbox or stream.fin_received or stream.over or stream.abandoned
                                  or session.error)
            if stream.inbox:
                data = session.mux.read(stream, n)
                session.cond.notify_all()
                return data
            if stream.fin_received:
                return b""
            if stream.cut or stream.abandoned:
                raise StreamReset("the stream is cut")
            raise session.error or StreamReset("the stream is over")

    def write(self, data):
        """All of data, waiting for windows. What it raises comes before the last byte was handed over."""
        session, stream, rest = self.session, self.stream, memoryview(data)
        with session.cond:
            while rest:
                session.cond.wait_for(lambda: session.error or stream.over or stream.send_window
                                      and sum(map(len, session.mux.out)) < MAX_QUEUED)
                session._check()
                if stream.over or stream.fin_wanted:
                    raise StreamReset("the stream takes nothing any more")
                rest = rest[session.mux.write(stream, rest):]
                session.cond.notify_all()

    def finish(self):
        """Ends our direction (FIN)."""
        self._do(self.session.mux.finish)

    def close(self):
        """Ends our direction, and throws away what comes."""
        self._do(self.session.mux.close)

    def _do(self, end):
        with self.session.cond:
            if self.session.error is None and not self.stream.over:
                end(self.stream)
            self.session.cond.notify_all()
