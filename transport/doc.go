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
//     stream that is open, or closed less than ten seconds ago, 2 x Config.StreamWindow of unread data.
//   - A session that is resumed (Config.Tickets) has all of this too: fresh keys, and both sides' trust asked anew.
//   - Everything ends: a handshake by HandshakeTimeout or its context, a silent peer by KeepaliveInterval +
//     KeepaliveTimeout, one that takes no data by WriteTimeout, blocked calls at once by Close, and those with
//     a deadline or context by that.
//
// # What is not promised
//
//   - The lengths and times of records, the client's address and which server key it asks for are visible.
//     Who the client is, is not.
//   - Whoever has the server's private key can pose as the server. Replace keys by listing the new and the
//     old one in Config.Keys until all clients pin the new one.
//   - A client that is removed from the authorised keys is refused in its next handshake, resumed or not; sessions that it
//     has are not ended by that.
//   - Memory that held secrets is cleared where Go lets us; copies that the runtime made are not.
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
// Session.Close waits for all of them. A Listener has one, and one for each handshake; its Close waits for them.
//
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
// SPEC.md, messages.go, handshakeclient.go and handshakeserver.go, schedule.go and record.go, conn.go, tx.go, guard.go, guardout.go, inbox.go, session.go, stream.go,
// ending.go. Comments name the rules of SPEC.md: H for the handshake, K keys, R records, S streams.
package transport
