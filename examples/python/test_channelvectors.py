"""The vectors of transport/testdata/vectors, whose README says what is in them: all roles, byte for byte."""

import functools
import hashlib
import threading
import time
import unittest
from unittest import mock

import channel
import handshake
import identity
import schedule
import server_role
from errors import KeyRequired, PeerAlert, Refused, SealmuxError, SessionEnded, StreamReset, Truncated, Untrusted
from handshake import Established
from session import Session
from vectors import ROOT, Vector, run_all

TESTDATA = ROOT / "transport" / "testdata"
CHANNEL = TESTDATA / "vectors"


class Dialogue:
    """The recorded dialogue as a connection: what is written must be what was recorded, in its place."""

    def __init__(self, blocks):
        self.blocks = [list(block) for block in blocks]

    def read(self, n):
        if not self.blocks:
            return b""
        way, data = self.blocks[0]
        if way != "in":
            raise AssertionError(f"reads, though {data[:20].hex()}... is due")
        out, rest = data[:n], data[n:]
        self.blocks[0][1] = rest
        if not rest:
            del self.blocks[0]
        return out

    def write(self, data):
        if self.blocks and self.blocks[0][0] == "in":
            del self.blocks[0]  # what was refused need not be read to its end
        if not self.blocks or not self.blocks[0][1].startswith(data):
            due = self.blocks[0][1] if self.blocks else b""
            raise AssertionError(f"writes {data[:40].hex()}... in place of {due[:40].hex()}...")
        self.blocks[0][1] = self.blocks[0][1][len(data):]
        if not self.blocks[0][1]:
            del self.blocks[0]

    def check_end(self):
        left = [way for way, _ in self.blocks if way == "out"]
        if left:
            raise AssertionError("the last of what is due was not written")


@functools.cache
def private_key(name):
    return identity.read_private_key(TESTDATA / f"{name}.pem")


def public_key(name):
    return private_key(name).public


# RSA with randomness that is given, which the library has no way to take

def mgf1(seed, n):
    blocks = (hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range((n + 31) // 32))
    return b"".join(blocks)[:n]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def oaep(key, secret, seed):
    """RFC 8017, 7.1.1."""
    numbers = key.key.public_numbers()
    data = hashlib.sha256(identity.WRAP_LABEL).digest() + bytes(key.size - len(secret) - 66) + b"\1" + secret
    masked = xor(data, mgf1(seed, len(data)))
    block = b"\0" + xor(seed, mgf1(masked, 32)) + masked
    return pow(int.from_bytes(block, "big"), numbers.e, numbers.n).to_bytes(key.size, "big")


def pss(key, message, salt):
    """RFC 8017, 8.1.1 and 9.1.1; a modulus of ours has a multiple of 8 bits."""
    numbers = key.key.private_numbers()
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
    data = bytes(key.public.size - 66) + b"\1" + salt
    masked = bytearray(xor(data, mgf1(digest, len(data))))
    masked[0] &= 0x7f
    block = bytes(masked) + digest + b"\xbc"
    return pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n).to_bytes(key.public.size, "big")


class ClientFresh(handshake.Fresh):
    def __init__(self, vector):
        self.vector = vector

    def x25519_private(self):
        return self.vector.bytes("x25519")

    def mlkem_seed(self):
        return self.vector.bytes("mlkem")

    def secret(self):
        return self.vector.bytes("secret")

    def wrap(self, server_key, secret):
        return oaep(server_key, secret, self.vector.bytes("oaep"))

    def sign(self, client_key, message):
        return pss(client_key, message, self.vector.bytes("pss"))


class ServerFresh(server_role.Fresh):
    def __init__(self, vector):
        self.vector = vector

    def x25519_private(self):
        return self.vector.bytes("x25519")

    def mlkem_message(self):
        return self.vector.bytes("mlkem")

    def stand_in(self):
        return self.vector.bytes("secret")


def outcome(error):
    """How the README names the way a handshake ended."""
    if isinstance(error, Truncated):
        return "truncated"
    if isinstance(error, KeyRequired):
        return "client key required"
    if isinstance(error, Untrusted):
        return "server key"
    if isinstance(error, PeerAlert):
        plain = {1: "server key", 2: "application protocol", 3: "version", 8: "busy"}
        names = plain if error.plain else {5: "unauthorized"}
        return names.get(error.code, "handshake")
    if isinstance(error, Refused):
        if str(error).startswith("H1: the peer speaks another protocol"):
            return "not sealmux"
        if "not admitted" in str(error):
            return "unauthorized"
        return {1: "unknown key", 2: "application protocol", 3: "version"}.get(error.alert, "handshake")
    raise error


class Spy:
    """Sees the steps of a handshake that its results do not show."""

    def __init__(self):
        self.seen = {}

    def __enter__(self):
        digests = iter(("t2", "t3"))

        def block_key(secret, role, t1):
            self.seen |= {"t1": t1, "handshake-secret": secret}
            return real_block_key(secret, role, t1)

        def combine(early, kem_secret, x25519_secret):
            self.seen |= {"mlkem-result": kem_secret, "x25519-result": x25519_secret}
            return real_combine(early, kem_secret, x25519_secret)

        def digest(dialogue):
            return self.seen.setdefault(next(digests), real_digest(dialogue))

        real_block_key, real_combine, real_digest = schedule.block_key, schedule.handshake, handshake.Dialogue.digest
        self.patches = [mock.patch.object(schedule, "block_key", block_key),
                        mock.patch.object(schedule, "handshake", combine),
                        mock.patch.object(handshake.Dialogue, "digest", digest)]
        for patch in self.patches:
            patch.start()
        return self

    def __exit__(self, *_):
        for patch in self.patches:
            patch.stop()


class TestChannelVectors(unittest.TestCase):
    def test_client(self):
        run_all(self, CHANNEL, "client", self.client, 72)

    def test_server(self):
        run_all(self, CHANNEL, "server", self.server, 89)

    def test_records(self):
        run_all(self, CHANNEL, "records", self.records, 28)

    def test_session(self):
        run_all(self, CHANNEL, "session", self.session, 64)

    def test_no_other_role(self):
        roles = {Vector(path).get("role") for path in CHANNEL.glob("*.txt")}
        self.assertEqual(roles, {"client", "server", "records", "session"})

    def test_a_changed_case_fails(self):
        """The runner sees a bit of difference in what is sent, and another end."""
        for name, run in (("client-asks", self.client), ("server-asked", self.server), ("session-ping", self.session)):
            spoilt = Vector(CHANNEL / f"{name}.txt")
            out = next(block for block in spoilt.blocks if block[0] == "out")
            out[1] = out[1][:-1] + bytes([out[1][-1] ^ 1])
            with self.assertRaises(AssertionError):
                run(spoilt)
        for name, run in (("client-asks", self.client), ("records-update", self.records), ("session-stream", self.session)):
            other = Vector(CHANNEL / f"{name}.txt")
            other.values["expect"] = ["busy"]
            with self.assertRaises(AssertionError):
                run(other)

    # Handshakes

    def client(self, v):
        conn, spy = Dialogue(v.blocks), Spy()
        pins = [public_key(name) for name in v.values["pin-key"]]
        pins += [identity.parse_fingerprint(text) for text in v.values["pin"]]
        key = private_key(v.get("key")) if v.get("key") else None
        ticket = None
        if v.get("ticket"):
            ticket = handshake.Ticket(
                public_key(v.get("ticket-of")), key.public.id if key else None, v.get("protocol", "").encode(),
                v.bytes("ticket-secret"), v.bytes("ticket"), float("inf"))
        records = None
        try:
            with spy:
                established = handshake.connect(
                    conn, identity.Trust(*pins), v.get("protocol", "").encode(), key=key, ticket=ticket,
                    wants_ticket=v.get("tickets") == "yes", max_streams=v.number("max-streams"), fresh=ClientFresh(v))
            records = channel.Channel(conn, established)
            records.await_accept()
        except SealmuxError as err:
            self.assertEqual(outcome(err), v.get("expect"), err)
            conn.check_end()
            return
        self.assertEqual(v.get("expect"), "ok")
        conn.check_end()
        self.results(v, spy, established, established.server_key.fingerprint,
                     established.client_secret, established.server_secret)
        self.assertEqual(records.ticket and records.ticket.ticket, v.bytes("new-ticket") or None)
        if records.ticket:
            self.assertEqual(records.ticket.secret, v.bytes("new-ticket-secret"))

    def server(self, v):
        conn, spy = Dialogue(v.blocks), Spy()
        admitted = [public_key(name).id for name in v.values["admit"] if name != "anyone"]
        tickets = None
        if v.get("ticket-key"):
            tickets = server_role.Tickets(id_=v.bytes("ticket-key")[:16], key=v.bytes("ticket-key")[16:])
        role = server_role.Server(
            conn, [private_key(name) for name in v.values["key"]], v.get("protocol", "").encode(),
            admits=None if v.get("admit") == "anyone" else lambda key: key.id in admitted,
            max_streams=v.number("max-streams"), fresh=ServerFresh(v), tickets=tickets, gives_tickets=False)
        try:
            with spy:
                established, _ = role.run()
        except SealmuxError as err:
            self.assertEqual(outcome(err), v.get("expect"), err)
            conn.check_end()
            return
        self.assertEqual(v.get("expect"), "ok")
        conn.check_end()
        self.results(v, spy, established, role.client.fingerprint if role.client else "none",
                     established.server_secret, established.client_secret)

    def results(self, v, spy, established, peer, client_traffic, server_traffic):
        """What an ok handshake must come to."""
        self.assertEqual(v.get("peer"), peer)
        self.assertEqual(v.number("peer-max-streams"), established.max_streams)
        self.assertEqual(v.get("resumed"), "yes" if established.resumed else "no")
        exported = schedule.export(established.exporter, b"vector", b"context", 40)
        got = spy.seen | {"client-traffic": client_traffic, "server-traffic": server_traffic,
                          "exporter": established.exporter, "exported": exported}
        for name in ("client-traffic", "server-traffic", "exporter", "exported", "t1", "t2", "t3", "x25519-result",
                     "mlkem-result", "handshake-secret"):
            self.assertEqual(got[name].hex(), v.get(name), name)

    # Records

    def channel(self, v, conn, receive, send=bytes(32)):
        established = Established(
            server_key=public_key("server"), client_key=None, protocol=b"", resumed=False, key_required=False,
            wants_ticket=v.get("tickets") == "yes", max_streams=v.number("allowed-streams", 1),
            own_max_streams=v.number("max-streams", 1), client_secret=send, server_secret=receive, exporter=b"",
            resumption=v.bytes("resumption"))
        return channel.Channel(conn, established)

    def records(self, v):
        records, got = self.channel(v, Dialogue(v.blocks), v.bytes("secret")), []
        with self.assertRaises(SealmuxError) as caught:
            while True:
                kind, data = records.record()
                if kind != channel.KEY_UPDATE:
                    got.append(f"{kind} {shown(data)}")
        self.assertEqual(got, v.values["record"])
        self.ends_so(v, caught.exception)

    def ends_so(self, v, error):
        self.assertEqual(reason(error), v.get("expect"), error)
        if isinstance(error, PeerAlert):
            self.assertEqual(error.code, v.number("alert"))

    # Sessions

    def session(self, v):
        conn = Feed()
        session = Session(conn, self.channel(v, conn, v.bytes("receive"), v.bytes("send")),
                          client=v.get("side") == "client", accepting=True)
        streams = [session.open() for _ in range(v.number("open", 0))]
        threads = []
        if v.get("accept") == "yes":
            threads.append(threading.Thread(target=accept_all, args=[session, streams]))
            threads[0].start()
        quiet = not streams and not threads  # then all that is sent is in the vector
        at = 0
        for way, data in v.blocks:
            if way == "in":
                conn.feed(data)
                conn.wait_read(over=lambda: session.error)
                with session.cond:  # S7: a stream's end must not come before it was accepted
                    session.cond.wait_for(lambda: not threads or not session.mux.arrived)
            elif quiet:
                self.assertEqual(conn.wait_written(at + len(data))[at:], data)
                at += len(data)
            else:
                self.fail("an [out] that is up to the side under test")
        conn.end()
        with session.cond:
            self.assertTrue(session.cond.wait_for(lambda: session.error, 20))
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(ending(stream) for stream in streams), v.values["stream"])
        self.ends_so(v, session.error)
        ticket = session.ticket
        self.assertEqual(ticket and ticket.ticket, v.bytes("new-ticket") or None)
        self.assertEqual(ticket and ticket.secret, v.bytes("new-ticket-secret") or None)
        session.close()
        if quiet:
            self.assertEqual(bytes(conn.written[at:]), b"")


def shown(data):
    """Data as the README writes it."""
    return data.hex() if len(data) <= 64 else f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


def reason(error):
    """How the README names the way a session ended."""
    if isinstance(error, Refused):
        return "record" if str(error).startswith(("R2", "R4")) else "broke"
    names = {Truncated: "truncated", PeerAlert: "alert", SessionEnded: "closed", StreamReset: "stream reset"}
    for kind, name in names.items():
        if isinstance(error, kind):
            return name
    raise error


def accept_all(session, streams):
    try:
        while True:
            streams.append(session.accept())
    except SealmuxError:
        pass


def ending(stream):
    """All that came on a stream, and how it ended."""
    data = b""
    try:
        while part := stream.read(1 << 20):
            data += part
        end = "end"
    except SealmuxError as err:
        end = reason(err)
    return f"{stream.id} {shown(data)}, {end}"


class Feed:
    """A connection that is given its bytes bit by bit, and knows when all of them are dealt with."""

    def __init__(self):
        self.cond, self.incoming, self.written = threading.Condition(), bytearray(), bytearray()
        self.ended = self.idle = False
        self.deadline = None

    def feed(self, data):
        with self.cond:
            self.incoming += data
            self.idle = False
            self.cond.notify_all()

    def end(self):
        with self.cond:
            self.ended = True
            self.cond.notify_all()

    def wait_read(self, over):
        """Until the reader asks for more, so that what it has had is dealt with, or over() says that it does not read on."""
        until = time.monotonic() + 20
        with self.cond:
            while not (self.idle or self.ended or over()):
                self.cond.wait(0.01)  # over is told to another condition
                if time.monotonic() > until:
                    raise AssertionError("what was fed is not read")

    def wait_written(self, n):
        with self.cond:
            self.cond.wait_for(lambda: len(self.written) >= n, 20)
            return bytes(self.written)

    def read(self, n):
        with self.cond:
            self.idle = not self.incoming
            self.cond.notify_all()
            self.cond.wait_for(lambda: self.incoming or self.ended)
            data = bytes(self.incoming[:n])
            del self.incoming[:n]
            return data

    def write(self, data):
        with self.cond:
            self.written += data
            self.cond.notify_all()

    def finish_writing(self):
        pass

    abort = close = end


if __name__ == "__main__":
    unittest.main()
