// Package transport is one encrypted connection with many streams in it, between two sides that know each
// other by their RSA keys. No certificate authority, no configuration of ciphers.
//
//	key, _ := transport.GenerateKey(0)
//	server := &transport.Config{Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient()}
//	listener, _ := transport.Listen(ctx, "tcp", "127.0.0.1:0", server)
//	go func() {
//		session, _ := listener.Accept(ctx)
//		stream, _ := session.Accept()
//		io.Copy(stream, stream)
//		stream.Close()
//	}()
//	client := &transport.Config{Peers: transport.Pin(key.Public())}
//	session, _ := transport.Dial(ctx, "tcp", listener.Addr().String(), client)
//	stream, _ := session.Open(ctx) // a net.Conn
//
// # Promises
//
//   - A client talks to the holder of a key it pins, or to nobody; a server admits the clients its Config
//     names. Nothing defaults to trusting everybody, and nothing is negotiated down.
//   - Nothing is delivered that was not authenticated, in order, exactly once within its stream.
//   - An end is authenticated too. Read returns io.EOF only when the peer ended that stream; a cut connection
//     is ErrTruncated (io.ErrUnexpectedEOF), the peer's Close is ErrPeerClosed, each after the data before it.
//   - What was written before Close reaches a peer that still reads, within Config.CloseTimeout.
//   - Recorded traffic stays secret if the RSA key leaks later: X25519 and ML-KEM-768 are mixed in.
//   - A stranger can make this side hold at most one 4 KiB message. An authenticated peer: 128 KiB of records that
//     were read and not yet opened, 4 MiB of answers that it does not take (then the session ends), and for each
//     stream that is open, or closed less than ten seconds ago, Config.StreamWindow and 34 KiB of unread data.
//   - A session that is resumed (Config.Tickets) has all of this too: fresh keys, and both sides' trust asked anew.
//   - Everything ends: a handshake by HandshakeTimeout or its context, a silent peer by KeepaliveInterval +
//     KeepaliveTimeout, one that takes no data by WriteTimeout, blocked calls at once by Close, and those with
//     a deadline or context by that.
//
// # What is not promised
//
//   - The lengths and times of records, the client's address and which server key it asks for are visible.
//     Who the client is, is not.
//   - Whoever has the server's private key can pose as the server, and whoever has a client's as that client: see below.
//   - Memory that held secrets is cleared where Go lets us; copies that the runtime made are not.
//
// # Security
//
// The attacker owns the network: he reads, changes, drops, delays, replays and injects what he likes, connects as often as he
// likes from where he likes, and may be an authenticated peer himself. He has no private key of an honest side. Then he learns
// lengths, times and addresses, can keep two sides from talking, and nothing else: SPEC.md, section 10, says what each property
// rests on, and where its limits are. Every fault and attack we know of is listed with its outcome, and the test that shows it,
// in internal/hostile/README.md.
//
//   - Floods. A Listener bounds the handshakes in progress, in all and for each source; whoever makes it wait loses his place
//     first; a source whose handshakes fail is kept out for 15 seconds; private-key operations take half of the processors at
//     most (Config.MaxHandshakes). Who has many addresses can still use that half up: strangers then wait, sessions go on.
//   - No oracle. A ciphertext that does not open is answered as every other failure, after the same work (rule H5).
//   - Randomness comes from crypto/rand, which ends the process rather than give none. Keys in files have mode 0600, and are
//     refused if others may read them (ReadPrivateKey says what root may hand over); no key or secret is in any log, error or String.
//   - yamux is used unforked and fenced. GO-2025-3408 (a stream's Close may block for ever, and with it the session) is open for
//     every release from 0.1.0 on, and vulnerability scanners will name it. What fences it: yamux never writes to the
//     connection, its writes are queued by code that does not block; data does not pass through it; frames are checked
//     before it sees them (rules S1 to S8); what its Close does is done in a goroutine that nobody's Stream.Close waits for; and a
//     session that stalls is ended from outside, by timers of its own, which ends yamux.
//     internal/mutants takes each of these rules out in turn, and a test fails.
//
// First contact: who has no key of the server at hand keeps a file of those he knows, with KnownServers: it asks about a server once,
// remembers its key, and refuses another. Who answers yes without comparing the fingerprint believes the network that one time.
//
// To replace a server's key: list the new and the old one in Config.Keys, have clients pin both (Pin(old, new)), then the new
// one alone, then drop the old one. A client chooses by the key's id, so both kinds of clients are served meanwhile; once
// the old key is gone, whoever still pins it gets a *ServerKeyError with both fingerprints. If a private key has leaked, drop
// it first: forward secrecy keeps what was recorded, but until clients pin another key the thief can pose as the server.
//
// To revoke a client: remove its file from the folder of AuthorizedKeys, and its sessions end within five seconds, as does
// whatever they were doing; with a TrustFunc, change the answer and call Trust.Recheck. A ticket is of no use to it: trust is
// asked for anew when a session is resumed. To shut out everybody at once, close the sessions and the Listener.
//
// Found a hole? Please tell the maintainers in private, with what it takes to see it, before you tell others.
//
// # Goroutines and locks
//
// A session has two goroutines, at times a third, and a timer:
//
//	yamux's receiving one    reads records, checks frames, ends the session     until the raw connection ends
//	yamux's sending one      queues window updates, never blocks                until yamux is closed
//	Session.write            seals and writes what is queued                    while there is something queued
//
// A Write of up to 8 KiB, and WriteNow, seal and write what is queued themselves, as far as the operating system takes it
// at once, unless somebody is at it: txHalf.busy says who has the cipher. Data passes yamux by in both directions: streams
// frame what they write, the guard puts what comes into their inboxes, and grants windows. yamux opens, accepts and ends streams.
//
// The receiving one waits without a buffer where the operating system lets it (readWait), and calls what Stream.Receive was given.
//
// Session.Close waits for all of them. A Listener has one that accepts, one that calls Config.HandshakeFailed, and one for each
// handshake; its Close waits for them. An AuthorizedKeys has a timer while there are sessions that it has let in.
//
//	roster.mu        the guests of a Trust                 taken before nothing of ours
//	knownServers.mu  questions that are open               taken before nothing of ours
//	gate.mu          the handshakes of a Listener          taken before nothing of ours
//	Stream.writing   one Write or final close at a time    taken before the others
//	Session.openMu   stream ids in order on the wire       taken before guard.mu
//	Stream.mu        closed                                taken before nothing of ours
//	inbox.mu         what came on a stream                 taken before nothing of ours
//	guard.mu         the table of streams                  taken before txHalf.mu and budget.mu
//	txHalf.mu        the queue                             taken before budget.mu
//	budget.mu        one budget                            last
//
// # Reading order
//
// SPEC.md, messages.go (and dissect.go, what an onlooker sees of them), handshakeclient.go and handshakeserver.go, gate.go, turns.go, trust.go, revoke.go, known.go, knownfile.go, schedule.go and record.go, conn.go, tx.go, guard.go, guardout.go, inbox.go, session.go, stream.go,
// ending.go. Comments name the rules of SPEC.md: H for the handshake, K keys, R records, S streams.
package transport
