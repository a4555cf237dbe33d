"""Whole sessions of two Python sides over a socket pair: calls in both directions, pings, ends."""

import socket
import threading
import time
import unittest
from unittest import mock

import channel
import handshake
import rpc
import server_role
import session
from callee import Echo
from errors import PeerAlert, Refused, SessionEnded, Stalled, StreamReset, Truncated
from identity import Trust
from meeting import KEY
from session import Session, SocketConn


class TestSession(unittest.TestCase):
    def setUp(self):
        ours, theirs = map(SocketConn, socket.socketpair())
        ours.deadline = theirs.deadline = time.monotonic() + 20
        made = []
        role = server_role.Server(theirs, [KEY], b"p", max_streams=300)
        thread = threading.Thread(target=lambda: made.append(role.run()))
        thread.start()
        self.client_conn = ours
        established = handshake.connect(ours, Trust(KEY.public), b"p")
        thread.join()
        self.client = Session(ours, channel.Channel(ours, established), accepting=True)
        self.server = Session(theirs, made[0][1], client=False, accepting=True)
        self.addCleanup(self.server.close)
        self.addCleanup(self.client.close)

    def test_calls_both_ways(self):
        client = rpc.Client(self.client)
        server = rpc.Client(self.server, callee=Echo(self.server))
        big = "x" * 300000
        self.assertEqual(client.call("m", big).value, Echo.PREFIX + big)
        with self.assertRaises(rpc.CallError) as caught:
            server.call("m", "to a side that only calls")
        self.assertEqual((caught.exception.code, caught.exception.outcome), (12, rpc.NOT_EXECUTED))
        with self.assertRaises(rpc.CallError) as caught:
            list(server.stream("m"))
        self.assertEqual((caught.exception.code, caught.exception.outcome), (12, rpc.NOT_EXECUTED))
        stream = client.stream("m")
        for item in ("a", "b"):
            stream.send(item)
        stream.end()
        self.assertEqual(list(stream), [Echo.PREFIX + "a", Echo.PREFIX + "b"])

    def test_drain(self):
        callee = Echo(self.server)
        client = rpc.Client(self.client)
        rpc.Client(self.server, callee=callee)
        call = client.call("m", "x")
        self.assertEqual(call.value, Echo.PREFIX + "x")
        callee.drain()
        with self.client.cond:
            self.assertTrue(self.client.cond.wait_for(lambda: self.client.error, 20))
        self.assertTrue(client.draining and self.client.peer_closed)

    def test_bytes_and_ends(self):
        """More than a window each way, FIN, and a close on which the other side writes on (S9)."""
        stream, data = self.client.open(), bytes(range(256)) * 4096
        other = self.server.accept()
        sender = threading.Thread(target=lambda: (stream.write(data), stream.finish()))
        sender.start()
        got = b""
        while part := other.read(100000):
            got += part
        sender.join()
        self.assertEqual(got, data)
        stream.close()
        with self.assertRaises(StreamReset):
            while True:
                other.write(bytes(100000))
        self.assertFalse(self.client.error or self.server.error)

    def test_clean_close(self):
        stream = self.client.open()
        other = self.server.accept()
        stream.write(b"last")
        self.assertTrue(self.client.close())
        self.assertEqual(other.read(10), b"last")
        with self.assertRaises(SessionEnded):
            other.read(10)
        self.assertTrue(self.server.peer_closed)

    def test_cut(self):
        self.client_conn.abort()
        with self.assertRaises(Truncated):
            self.server.accept()
        self.assertFalse(self.server.close())

    def test_refused(self):
        """Section 9: alert 6 in place of close."""
        with self.client.cond:
            self.client.mux.out.append(b"\1" + bytes(11))
            self.client.cond.notify_all()
        with self.assertRaisesRegex(Refused, "S2"):
            self.server.accept()
        with self.assertRaises(PeerAlert) as caught:
            self.client.accept()
        self.assertEqual(caught.exception.code, 6)


class TestSilence(unittest.TestCase):
    def test_ping_then_end(self):
        """R8, with times of no length: a peer that says nothing gets a ping, and then the session is over."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        conn = SocketConn(ours)
        established = handshake.Established(
            server_key=KEY.public, client_key=None, protocol=b"", resumed=False, key_required=False, wants_ticket=False,
            max_streams=1, own_max_streams=1, client_secret=bytes(32), server_secret=bytes(32), exporter=b"", resumption=b"")
        with mock.patch.object(session, "QUIET", 0.0), mock.patch.object(session, "ANSWER", 0.2):
            silent = Session(conn, channel.Channel(conn, established))
            opener = channel.Opener(bytes(32))
            record = theirs.recv(100)
            self.assertEqual(opener.open(record[:2], record[2:]), (channel.PING, b""))
            with self.assertRaises(Stalled):
                silent.accept()
        silent.close()


if __name__ == "__main__":
    unittest.main()
