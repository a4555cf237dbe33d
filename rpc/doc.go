// Package rpc makes calls over any multiplexed session: a Client calls methods by name, a Server runs handlers, and many
// calls, streams and connections run at once on one session, in both directions.
//
//	var Greet = rpc.Unary[string, string]{Name: "greet"} // shared by both sides
//
//	srv := rpc.NewServer(rpc.Options{})
//	Greet.Handle(srv, func(ctx context.Context, name string) (string, error) { return "hello " + name, nil })
//	go rpc.Serve(ctx, srv, listener) // a *transport.Listener, or any Listener
//
//	client := rpc.NewClient(session, rpc.Options{}) // a *transport.Session, or any Session
//	defer client.Close()
//	answer, err := Greet.Call(ctx, client, "world")
//
// Unary, ServerStream, ClientStream and Bidi are the forms of typed methods; Handle and Call do the same as Unary by name, Server.Register
// takes the methods of a struct. HandleConn and Caller.OpenConn hand a stream over as a net.Conn. BackFrom calls the other side
// from within a handler. Server.HandleRaw, Server.HandleStream and Caller take messages as bytes. Pipe is a session for tests.
//
// # Types that msgpack does not carry
//
// Handle says of which types messages may be. For others the method names a Codec, on both sides, and they stay as they are:
//
//	var Draw = rpc.Unary[Shape, *big.Float]{Name: "draw", Codec: rpc.Gob} // Shape is an interface
//
// JSON and Gob are codecs, and so is whatever has Codec's three methods. This is what becomes of types without one:
//
//	cross                big.Int, big.Rat, url.URL, netip.Addr, net.IP, and what has MarshalBinary or MarshalText
//	cross with a loss    big.Float (its precision), time.Time (its zone), unexported fields beside exported ones; in an any, an int,
//	                     which comes back as small as its bytes are
//	refused by Handle    interfaces with methods, complex numbers, maps whose keys are neither text nor integers, structs with
//	                     unexported fields alone, though they have MarshalJSON or GobEncode
//
// # From net/rpc
//
// A service of net/rpc moves in two steps. First it runs as it is, its codec too, over connections in the session:
//
//	go service.Accept(rpc.ListenConn(srv, "arith")) // a *net/rpc.Server, beside the handlers of srv
//
//	conn, err := client.OpenConn(ctx, "arith")
//	old := netrpc.NewClient(conn)
//
// Then srv.Register("Arith", arith) takes the same struct, and callers say Call[Reply](ctx, client, "Arith.Multiply", args): with
// deadlines, outcomes, and errors that keep their kind. For types that msgpack does not carry there is RegisterCodec.
// net/http runs over connections in the same way (ListenConn, ConnContext).
//
// # Promises
//
// A call runs at most once: this package never repeats one. It has exactly one outcome, which OutcomeOf tells: NotSent and
// NotExecuted mean that its handler did not run, Executed that it did, OutcomeUnknown that nobody can tell; only then is
// it up to the method whether to repeat the call. Every error of a call is an *Error with a Code, and errors.Is finds the
// code, the registered errors of the other side (Options.Errors), the cause of a lost session, and the context's errors.
//
// The messages of a stream arrive in order, each once, and io.EOF means that the other side has said that they were all:
// a stream that is cut, for whatever reason, ends with another error. So does a connection (HandleConn) that nobody has closed in good
// order, or that was reset. A receiver that lags behind makes the sender wait.
//
// A context's deadline and its end reach the handler. When a context ends its call returns at once, whatever the peer does.
// A handler that panics harms only its own call. After Server.Shutdown returned nil, every call that a handler took was
// answered, and its answer handed to the session; a client that takes none keeps Shutdown waiting until its context ends.
//
// What a peer sends is bounded before it is allocated, and checked before msgpack, JSON or gob decode it (Check, JSON, Gob). A peer that breaks
// the protocol loses its session with an error that matches ErrProtocol; its bytes are not logged. For one session a
// server holds at most Options.MaxHeld bytes of requests and replies, besides the replies of the handlers that run already; for each
// stream of calls 256 KiB of unwritten replies, for the first 1 MiB, for any stream 16 KiB of unread bytes, and one message while it is read.
//
// # What it does not promise
//
// Handlers that call back take part in the limits: if they fill Options.MaxCalls, and what they wait for calls them again,
// those calls wait for their turn until a deadline ends them. Give calls back a deadline.
//
// Calls have no order among each other, even those of one goroutine if their sizes differ. A handler that ignores its
// context cannot be stopped: Close leaves it behind, and its reply is dropped. A session whose client opens its first stream
// at the very moment of a Shutdown may end that call with OutcomeUnknown. A request's bytes are compared with the Go type
// they are for, except for types with decoding methods
// of their own, which must read exactly one value and must not panic; msgpack extensions other than timestamps do not pass.
// Nothing here is encrypted or authenticated, nor does it notice a peer that is silent: that is the session's work
// (transport.Config.KeepaliveInterval), and ends its calls when the session ends.
//
// # Goroutines and locks
//
//	Client          one accepts the peer's streams, one opens the shared stream, one closes the session; per stream of calls
//	                a writer, while there is something that its callers could not write at once, and a reader, while there is something that
//	                may have to wait (always, if the session is not a *transport.Session). Stopped by Close or the session's end;
//	                Close waits.
//	Server          the callers of Serve and ServeSession; Serve runs one a session; per session one that closes; readers and
//	                writers as a Client has. Stopped by Shutdown, Close, the context or the session's end; ServeSession waits.
//	handlers        one a stream or connection. Of calls, workers: each takes the calls of one stream until there are none, and while
//	                some wait one more is on its way, so that nobody waits for a slow handler. Stopped by their context; Shutdown
//	                waits for them.
//	OnSession       one a session. Stopped by its context, which ends with the session; nobody waits.
//	callers         streams and connections have no goroutine on the caller's side: who sends and receives does the work.
//	lock order      serverSession.mu, outbox.mu, room.mu; clientStream.mu, outbox.mu, room.mu; items.writing and receiving
//	                before openStream.mu or serverCall.mu, and they alone are held while a stream blocks. callContext.state and
//	                queue.mu come last. Client.mu and Server.mu are held alone.
//
// The wire is SPEC.md, whose rule numbers the code cites. Reading order: status.go, errors.go, wire.go, msgpack.go, parse.go, check.go, fit.go, codec.go, coded.go, gobwalk.go;
// then room.go, outbox.go, frame.go, intake.go, items.go; then client.go, clientcall.go, clientstream.go, clientopen.go, clientconn.go; server.go,
// registry.go, serversession.go, serverstream.go, serverwork.go, servercall.go, callcontext.go, serveropen.go, drain.go; at last method.go.
package rpc
