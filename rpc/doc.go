// Package rpc makes calls over any multiplexed session: a Client calls methods by name, a Server runs handlers, and many
// calls run at once on one connection.
//
//	srv := rpc.NewServer(rpc.Options{})
//	rpc.Handle(srv, "greet", func(ctx context.Context, name string) (string, error) { return "hello " + name, nil })
//	go rpc.Serve(ctx, srv, listener) // a *transport.Listener, or any Listener
//
//	client := rpc.NewClient(session, rpc.Options{}) // a *transport.Session, or any Session
//	defer client.Close()
//	answer, err := rpc.Call[string](ctx, client, "greet", "world")
//
// # Promises
//
// A call runs at most once: this package never repeats one. It has exactly one outcome, which OutcomeOf tells: NotSent and
// NotExecuted mean that its handler did not run, Executed that it did, OutcomeUnknown that nobody can tell; only then is
// it up to the method whether to repeat the call. Every error of a call is an *Error with a Code, and errors.Is finds the
// code, the cause of a lost session, and the context's errors.
//
// A context's deadline and its end reach the handler. When a context ends its call returns at once, whatever the peer does.
// A handler that panics harms only its own call. After Server.Shutdown returned nil, every call that a handler took was
// answered, but for clients that took longer than five seconds to take the answer.
//
// What a peer sends is bounded before it is allocated, and checked before msgpack decodes it (Check). A peer that breaks
// the protocol loses its session with an error that matches ErrProtocol; its bytes are not logged. For one session a server
// holds at most Options.MaxHeld bytes of requests and replies, besides the replies of the handlers that run already, 256
// KiB of unwritten replies and 16 KiB of unread bytes a stream, and a large message for each stream while it is read.
//
// # What it does not promise
//
// Calls have no order among each other, even those of one goroutine if their sizes differ. A handler that ignores its
// context cannot be stopped: Close leaves it behind, and its reply is dropped. A session whose client opens its first stream
// at the very moment of a Shutdown may end that call with OutcomeUnknown. A large reply to a small call delays the small
// replies behind it. A request's bytes are compared with the Go type they are for, except for types with decoding methods
// of their own, which must read exactly one value and must not panic; msgpack extensions other than timestamps do not pass.
// Nothing here is encrypted or authenticated: that is the session's work.
//
// # Goroutines and locks
//
//	Client          one waits for the session's end, one opens the shared stream, one closes the session; per stream a
//	                reader and a writer. Stopped by Close or the session's end; Close waits.
//	Server          the callers of Serve and ServeSession; Serve runs one a session; per session one that cuts, per stream
//	                a reader and a writer. Stopped by Shutdown, Close, the context or the session's end; ServeSession waits.
//	handlers        one a call. Stopped by their context; Shutdown waits for them.
//	lock order      clientStream.mu, outbox.mu, room.mu; serverSession.mu, outbox.mu, room.mu. Client.mu and Server.mu are
//	                held alone. Nothing blocks under a lock.
//
// The wire is SPEC.md, whose rule numbers the code cites. Reading order: status.go, wire.go, check.go, fit.go; then room.go,
// outbox.go, frame.go; then client.go and clientstream.go; server.go, serversession.go and serverstream.go.
package rpc
