"""This client against the real server: builds and starts sealmux from this repository, on loopback ports.

/usr/bin/python3 examples/python/interop.py    needs go; it takes some seconds and ends with an error if anything is off.
"""

import faulthandler
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import channel
import handshake
import identity
import rpc
import session
from errors import KeyRequired, PeerAlert, SessionEnded, Truncated, Untrusted
from streams import SYN, UPDATE, frame

ROOT = pathlib.Path(__file__).resolve().parents[2]
ECHO = "服务端已收到数据: "  # E1


class Server:
    """One sealmux serve process."""

    started = []

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--listen", "127.0.0.1:0", "--key", KEYS / "server/private.pem", *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        Server.started.append(self.process)
        line = self.process.stdout.readline()
        ready = re.match(r"listening on 127\.0\.0\.1:(\d+) ", line)
        if not ready:
            raise AssertionError(f"sealmux serve says {line!r}")
        self.address = ("127.0.0.1", int(ready[1]))

    def stop(self):
        """SIGTERM, and whether it ended well."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


def build(folder):
    """The program and keys that all tests share."""
    global PROGRAM, KEYS, PIN
    KEYS = pathlib.Path(folder)
    PROGRAM = KEYS / "sealmux"
    subprocess.run(["go", "build", "-o", PROGRAM, "./cmd/sealmux"], cwd=ROOT, check=True)
    for name in ("server", "alice", "mallory"):
        subprocess.run([PROGRAM, "keygen", "--out", KEYS / name], check=True, capture_output=True)
    (KEYS / "clients").mkdir()
    shutil.copy(KEYS / "alice/public.pem", KEYS / "clients/alice.pem")
    PIN = identity.Trust(identity.read_public_key(KEYS / "server/public.pem"))


class Base(unittest.TestCase):
    options = ["--allow-anonymous"]

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.options)

    @classmethod
    def tearDownClass(cls):
        if code := cls.server.stop():
            raise AssertionError(f"the server ended with {code}")

    def dial(self, **options):
        trust = options.pop("trust", PIN)
        return session.dial(self.server.address, trust, options.pop("protocol", rpc.PROTOCOL), timeout=30, **options)

    def client(self, **options):
        """A client whose end must be clean: the server's close record comes (R5, section 9)."""
        client = rpc.Client(self.dial(**options))
        self.addCleanup(lambda: client.session.error or self.assertTrue(client.close()))
        return client

    def works(self, client):
        self.assertEqual(client.call("echo", "x").value, ECHO + "x")

    def fails(self, code, outcome, run, *args):
        with self.assertRaises(rpc.CallError) as caught:
            run(*args)
        self.assertEqual((caught.exception.code, caught.exception.outcome), (code, outcome), caught.exception)


class TestCalls(Base):
    def test_echo(self):
        client = self.client()
        for text in ("", "hello", "你好，世界", "a#b##", "x" * 65000):
            self.assertEqual(client.call("any", text).value, ECHO + text)
        self.assertEqual(client.call("any", b"\0\xff").value, ECHO.encode() + b"\0\xff")
        for value in (1, None, [1], {"a": 1}):
            self.fails(rpc.INVALID_ARGUMENT, rpc.EXECUTED, client.call, "any", value)

    def test_built_in(self):
        client = self.client()
        self.assertEqual(client.call("sealmux.Health", "").value, "serving")
        methods = client.call("sealmux.Methods", "sealmux.").value
        self.assertEqual([m["name"] for m in methods["methods"]],
                         ["sealmux.Health", "sealmux.Methods", "sealmux.WatchHealth"])
        self.assertEqual(methods["types"][methods["methods"][0]["request"]]["kind"], "text")
        self.fails(12, rpc.NOT_EXECUTED, client.call, "sealmux.None", "")
        self.fails(12, rpc.NOT_EXECUTED, client.call, "sealmux.WatchHealth", "")  # another form
        self.fails(rpc.INVALID_ARGUMENT, rpc.NOT_EXECUTED, client.call, "sealmux.Health", 1)

    def test_mebibytes(self):
        """C1 and C10: there on streams of their own, back in parts."""
        client = self.client()
        for n in (32700, 65520, 65536, 70000, 1 << 20):
            self.assertEqual(client.call("big", "y" * n).value, ECHO + "y" * n)
            self.assertEqual(client.call("big", bytes(n)).value, ECHO.encode() + bytes(n))

    def test_compressed(self):
        """W10: this server is not set up for it, and answers what is not compressed."""
        client = rpc.Client(self.dial(), compress=True, compress_own=True)
        self.works(client)
        self.fails(rpc.INVALID_ARGUMENT, rpc.NOT_EXECUTED, client.call, "big", "y" * 1000)
        self.assertTrue(client.close())

    def test_reply_over_the_limit(self):
        client = rpc.Client(self.dial(), limit=65536)
        self.fails(rpc.RESOURCE_EXHAUSTED, rpc.EXECUTED, client.call, "big", "y" * 200000)
        self.works(client)
        self.assertTrue(client.close())

    def test_request_over_the_limit(self):
        client = self.client()
        self.fails(rpc.RESOURCE_EXHAUSTED, rpc.NOT_EXECUTED, client.call, "big", bytes(5 << 20))
        self.works(client)

    def test_pipelined(self):
        client = self.client()
        calls = [client.start("echo", f"call {n}") for n in range(1000)]
        for n, call in enumerate(calls):
            self.assertEqual(call.result().value, f"{ECHO}call {n}")

    def test_many_threads(self):
        client, errors = self.client(), []

        def run(n):
            try:
                for i in range(20):
                    size = 100000 if i % 10 == 0 else 50
                    text = f"{n} {i} " + "z" * size
                    assert client.call("echo", text, timeout=60).value == ECHO + text
            except Exception as err:
                errors.append(err)

        threads = [threading.Thread(target=run, args=[n]) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])

    def test_cancel(self):
        client = self.client()
        for _ in range(20):
            call = client.start("echo", bytes(60000))
            call.cancel()
            try:
                call.result()  # the answer may have been faster
            except rpc.CallError as err:
                self.assertEqual(err.code, rpc.CANCELED)
        watch = client.stream("sealmux.WatchHealth")
        watch.send("")
        watch.end()
        self.assertEqual(next(iter(watch)), "serving")
        watch.cancel()
        self.works(client)


class TestStreams(Base):
    def test_item_by_item(self):
        client = self.client()
        stream = client.stream("echo", timeout=60)
        items = iter(stream)
        for n in range(100):
            stream.send(f"item {n}")
            self.assertEqual(next(items), f"{ECHO}item {n}")
        stream.end()
        self.assertEqual(list(items), [])

    def test_both_ways_at_once(self):
        """More than a window each way, so that both directions need theirs refilled."""
        client = self.client()
        stream = client.stream("echo", timeout=60)
        sender = threading.Thread(target=lambda: ([stream.send(bytes([n]) * 20000) for n in range(100)], stream.end()))
        sender.start()
        for n, got in enumerate(stream):
            self.assertEqual(got, ECHO.encode() + bytes([n]) * 20000)
        sender.join()
        self.assertEqual(n, 99)

    def test_bad_item(self):
        client = self.client()
        stream = client.stream("echo")
        stream.send(5)
        self.fails(rpc.INVALID_ARGUMENT, rpc.EXECUTED, list, stream)
        self.fails(12, rpc.NOT_EXECUTED, list, client.stream("sealmux.None"))
        self.works(client)

    def test_many_at_once(self):
        """More than may be unacknowledged (S5)."""
        client = self.client()
        streams = [client.stream("echo") for _ in range(300)]
        for n, stream in enumerate(streams):
            stream.send(f"stream {n}")
        for n, stream in enumerate(streams):
            self.assertEqual(next(iter(stream)), f"{ECHO}stream {n}")
        for stream in streams:
            stream.end()
            self.assertEqual(list(stream), [])
        self.works(client)
        self.assertEqual(len(client.session.mux.streams), 1)  # no stream is left but the first


class TestIdentities(Base):
    def test_fingerprint(self):
        self.works(self.client(trust=identity.Trust(PIN.ids[0])))

    def test_several_pins(self):
        alice = identity.read_public_key(KEYS / "alice/public.pem")
        self.works(self.client(trust=identity.Trust(alice, PIN.only_key)))

    def test_judge(self):
        self.works(self.client(trust=identity.Trust(judge=lambda key: key.id == PIN.ids[0])))
        with self.assertRaises(Untrusted):
            self.dial(trust=identity.Trust(judge=lambda key: False))

    def test_wrong_pin(self):
        alice = identity.read_public_key(KEYS / "alice/public.pem")
        with self.assertRaises(PeerAlert) as caught:
            self.dial(trust=identity.Trust(alice))
        self.assertEqual((caught.exception.code, caught.exception.server_id), (1, PIN.ids[0]))
        with self.assertRaises(Untrusted):
            self.dial(trust=identity.Trust(alice.id))

    def test_key_though_none_is_asked(self):
        self.works(self.client(key=identity.read_private_key(KEYS / "alice/private.pem")))

    def test_other_protocol(self):
        with self.assertRaises(PeerAlert) as caught:
            self.dial(protocol=b"sealmux-rpc/9")
        self.assertEqual(caught.exception.code, 2)

    def test_ticket(self):
        ticket = None
        for n in range(4):
            client = self.client(ticket=ticket, wants_ticket=True)
            self.works(client)
            self.assertEqual(client.session.established.resumed, n > 0)
            ticket = client.session.ticket
            self.assertIsNotNone(ticket)
        ticket.ticket = bytes(len(ticket.ticket))  # that no server has sealed: the same connection goes on without (H13)
        client = self.client(ticket=ticket)
        self.works(client)
        self.assertFalse(client.session.established.resumed)

    def test_exporter(self):
        """K5 is not seen from outside; but two sessions must not have the same."""
        one, two = self.dial(), self.dial()
        self.assertNotEqual(one.established.exporter, two.established.exporter)
        self.assertTrue(one.close() and two.close())


class TestAuthorized(Base):
    @classmethod
    def setUpClass(cls):
        cls.options = ["--authorized-keys", KEYS / "clients"]
        super().setUpClass()

    def test_admitted(self):
        alice = identity.read_private_key(KEYS / "alice/private.pem")
        client = self.client(key=alice, wants_ticket=True)
        self.works(client)
        again = self.client(key=alice, ticket=client.session.ticket, wants_ticket=True)
        self.works(again)
        self.assertTrue(again.session.established.resumed and again.session.established.key_required)

    def test_not_admitted(self):
        with self.assertRaises(PeerAlert) as caught:
            self.dial(key=identity.read_private_key(KEYS / "mallory/private.pem"))
        self.assertEqual((caught.exception.code, caught.exception.plain), (5, False))
        with self.assertRaises(KeyRequired):
            self.dial()


class TestCommand(Base):
    """client.py as a process."""

    def run_client(self, *args, key="server"):
        host, port = self.server.address
        return subprocess.run(
            [sys.executable, "-B", pathlib.Path(__file__).parent / "client.py", "--server-key", KEYS / f"{key}/public.pem",
             "--key", KEYS / "alice/private.pem", f"{host}:{port}", *args], capture_output=True, text=True, timeout=60)

    def test_commands(self):
        for args, want in ((["echo", "hello", "你好"], f"{ECHO}hello\n{ECHO}你好\n"),
                           (["call", "sealmux.Health", '""'], '"serving"\n'),
                           (["stream", "any", '"a"', '"b"'], f'"{ECHO}a"\n"{ECHO}b"\n')):
            done = self.run_client(*args)
            self.assertEqual((done.stdout, done.stderr, done.returncode), (want, "", 0))
        done = self.run_client("selftest")
        self.assertRegex(done.stdout, r"^health: serving; methods: 3\nserver: SHA256:\S{43}; streams: 1024; "
                                      r"client key required: False\n$")

    def test_failures(self):
        done = self.run_client("echo", "x", key="mallory")
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertRegex(done.stderr, "unknown key")
        done = self.run_client("call", "sealmux.None", '""')
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "Unimplemented, not executed")


class TestRecords(Base):
    """Below the streams, where the server's answers to what is wrong can be seen."""

    def channel(self):
        conn = session.SocketConn(socket.create_connection(self.server.address, 30))
        self.addCleanup(conn.sock.close)
        conn.deadline = time.monotonic() + 30
        return channel.Channel(conn, handshake.connect(conn, PIN, rpc.PROTOCOL))

    def alert(self, records):
        with self.assertRaises(PeerAlert) as caught:
            while True:
                records.receive()
        return caught.exception.code

    def test_ping_and_close(self):
        records = self.channel()
        records.send(channel.PING)
        self.assertEqual(records.receive(), (channel.PONG, b""))
        records.send(channel.CLOSE)
        self.assertEqual(records.receive(), (channel.CLOSE, b""))
        self.assertEqual(records.conn.read(1), b"")

    def test_key_updates(self):
        client = self.client(max_records=3)
        for n in range(50):
            self.works(client)

    def test_what_is_refused(self):
        for name, kind, data in (
                ("no such type", 9, b"x"), ("close with data", channel.CLOSE, b"x"), ("no frame", channel.DATA, b"x"),
                ("an even id", channel.DATA, frame(UPDATE, SYN, 2, 0)), ("a yamux ping", channel.DATA, frame(2, SYN, 0, 1)),
                ("never opened", channel.DATA, frame(0, 0, 7, 1, b"x")), ("a client's accept", channel.ACCEPT, b"")):
            with self.subTest(name):
                records = self.channel()
                records.send(kind, data)
                self.assertEqual(self.alert(records), 6)

    def test_spoilt(self):
        records = self.channel()
        sealed = bytearray(records.sealer.seal(channel.PING))
        sealed[-1] ^= 1
        records.conn.write(bytes(sealed))
        self.assertEqual(self.alert(records), 6)

    def test_early_key_update(self):
        records = self.channel()
        records.conn.write(records.sealer._seal(channel.KEY_UPDATE, b""))
        self.assertEqual(self.alert(records), 6)

    def test_other_peers(self):
        for hello, answer in ((b"GET / HTTP/1.1\r\n\r\n", b""), (b"SMUX\x02\x01\x00\x00", b"SMUX\x01\x06\x00\x01\x03"),
                              (b"SMUX\x01\x03\x00\x00", b"SMUX\x01\x06\x00\x01\x04"),
                              (b"SMUX\x01\x01\x0f\xf9", b"SMUX\x01\x06\x00\x01\x04")):
            with self.subTest(hello), socket.create_connection(self.server.address, 30) as sock:
                sock.sendall(hello)
                got = b""
                try:
                    while part := sock.recv(100):
                        got += part
                except ConnectionResetError:
                    pass
                self.assertEqual(got, answer)


class TestEnds(unittest.TestCase):
    dial, works, fails = Base.dial, Base.works, Base.fails

    def test_drain(self):
        """C9: the server says goaway; what runs ends, new calls are not sent, and the session ends with a close record."""
        self.server = Server("--allow-anonymous")
        client = rpc.Client(self.dial())
        self.works(client)
        watch = client.stream("sealmux.WatchHealth")
        watch.send("")
        watch.end()
        items = iter(watch)
        self.assertEqual(next(items), "serving")
        stopping = threading.Thread(target=lambda: self.addCleanup(self.assertEqual, self.server.stop(), 0))
        stopping.start()
        self.assertEqual(next(items), "draining")
        until = time.monotonic() + 30
        while not client.draining and time.monotonic() < until:
            time.sleep(0.01)  # the goaway is on another stream
        self.fails(rpc.UNAVAILABLE, rpc.NOT_SENT, client.call, "echo", "x")
        watch.cancel()
        stopping.join()
        with client.session.cond:
            client.session.cond.wait_for(lambda: client.session.peer_closed or client.session.error, 30)
        self.assertTrue(client.session.peer_closed)
        self.assertIsInstance(client.session.error, SessionEnded)
        client.close()

    def test_killed(self):
        """R5: a cut is never an end, and a call that was sent is unknown."""
        self.server = Server("--allow-anonymous")
        client = rpc.Client(self.dial())
        self.works(client)
        stream = client.stream("echo")
        stream.send("x")
        items = iter(stream)
        self.assertEqual(next(items), ECHO + "x")
        self.server.process.kill()
        self.server.process.wait(30)
        self.server.process.stdout.close()
        self.fails(rpc.UNAVAILABLE, rpc.UNKNOWN, next, items)
        self.assertIsInstance(client.session.error, Truncated)
        self.assertFalse(client.close())


if __name__ == "__main__":
    faulthandler.dump_traceback_later(600, exit=True)  # what hangs must fail too
    with tempfile.TemporaryDirectory() as folder:
        try:
            build(folder)
            unittest.main(verbosity=2)
        finally:
            for process in Server.started:
                process.kill()  # those of tests that failed; for others it does nothing
