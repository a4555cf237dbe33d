package rpc

import (
	"context"
	"log/slog"
	"net"
)

// A Session is what this package runs on: one connection that carries many streams. *transport.Session is one. Streams are
// ordered and reliable; their Read returns io.EOF only when the peer closed the stream cleanly and another error when the
// session was cut; their Close unblocks Read and Write. Close of a session flushes what was written and unblocks Open,
// Accept and every stream. All methods may be called from several goroutines at once.
//
// A session may also have
//
//	Context(context.Context) context.Context // decorates the context of every handler, with the verified peer for example
//	Done() <-chan struct{}                   // closed when the session has ended
//	Err() error                              // why it ended; nil before
//
// and its streams
//
//	WriteNow(b []byte) int                   // writes what needs no waiting, and returns how much: small messages leave sooner
//	Reset() error                            // Close, but the peer reads an error, not io.EOF, behind what was written
type Session interface {
	Open(ctx context.Context) (net.Conn, error)
	Accept() (net.Conn, error)
	Close() error
}

// A Listener yields sessions, as *transport.Listener does. Its Accept returns an error only when the listener is of no more
// use or ctx has ended: a peer that fails to become a session is the listener's own affair.
type Listener[S Session] interface {
	Accept(ctx context.Context) (S, error)
	Close() error
}

// A Caller makes calls. *Client is one, and so is what BackFrom returns. Safe for concurrent use.
type Caller interface {
	// Do makes a unary call. Its error is an *Error, whose Outcome says whether the handler can have run. When ctx ends Do
	// returns at once, with Canceled or DeadlineExceeded, and the handler's context is cancelled; a deadline of ctx reaches
	// the handler too. req is not kept.
	Do(ctx context.Context, req *Request) (*Response, error)
	// Open opens a stream of messages to the handler of req.Method. It does not wait for it: if there is none, Recv says so.
	// The stream, and the handler's context, end with ctx.
	Open(ctx context.Context, req *Request) (RawStream, error)
	// OpenConn opens a connection to the method's handler and waits until that takes it or refuses. ctx bounds the opening alone,
	// and may have metadata (WithHeader). The connection has CloseWrite, as a *net.TCPConn has, and Reset() error, which closes it
	// so that the handler reads an error behind what came, not io.EOF.
	OpenConn(ctx context.Context, method string) (net.Conn, error)
}

// Protocol names what this package speaks, for a session that has application protocols: transport.Config.Protocol.
const Protocol = "sealmux-rpc/1"

// Limits that options do not change.
const (
	// LargeCall is the size in bytes of a request body, of 64 KiB of data and what encodes them, above which the call goes on a stream of its own, so that it does
	// not delay the small ones, which share a stream.
	LargeCall = 64<<10 + 64
	// DefaultMaxMessage is the default limit of a message each way, in bytes, envelope included.
	DefaultMaxMessage = 4 << 20
)

// Options are the limits and the habits of a Client or a Server. The zero value of a limit, or a negative one, stands for its
// default. Where a Client answers calls (Handlers) its limits are those of that Server.
type Options struct {
	// MaxSend and MaxReceive limit a message in bytes, with an envelope of up to 300 bytes and metadata; default 4 MiB, at
	// least 64 KiB, at most 64 KiB less than 1 GiB. A sender refuses more with ErrTooLarge; to a receiver more fails its call as ResourceExhausted.
	MaxSend, MaxReceive int
	// MaxStreams limits, for a Server, the streams of messages and connections that run at once for one session; one more fails at
	// once as ResourceExhausted, not executed. Default 1024. For a Client it limits the calls with large requests in flight, each of which
	// has a stream of its own; more wait. Default 64.
	MaxStreams int
	// MaxCalls limits the handlers of unary calls that run at once for one session of a Server. Up to MaxQueue more wait for
	// their turn, none if that is negative; one more fails at once as ResourceExhausted, not executed. Health counts, but does not
	// wait. Defaults 1024 and 4096.
	MaxCalls, MaxQueue int
	// MaxServerCalls and MaxServerStreams limit the same for all sessions of a Server together. As many calls again wait.
	// Defaults 8192 and 65536.
	MaxServerCalls, MaxServerStreams int
	// MaxHeld limits the bytes of requests and unwritten replies of unary calls that a Server holds for one session; default
	// 64 MiB. Beyond it small calls fail at once as ResourceExhausted, not executed, and large ones after 2 s in which there
	// was no room. The replies of handlers that ran already when it was reached come on top: at most MaxCalls of MaxSend bytes.
	MaxHeld int

	// Authorize is asked, on a Server, about every call, stream and connection before its body is decoded. Its error is the
	// call's, not executed. It must be quick, and may look at InfoFrom(ctx) and the session's peer.
	Authorize func(ctx context.Context, req *Request) error
	// Interceptors stand around the calls that a Client makes or a Server answers, the first outermost.
	Interceptors []Interceptor
	// Errors are the kinds of errors that stay themselves across the wire.
	Errors []ErrorKind
	// Handlers answers, on a Client, the calls that the other side makes over its session (BackFrom). Without it they are
	// refused as Unimplemented. The Server may be that of any number of clients; its Shutdown drains its part of their sessions.
	Handlers *Server
	// OnSession is called, on a Server, in a goroutine of its own for every session that it serves, with a Caller of the other
	// side's handlers. ctx has the peer and ends with the session.
	OnSession func(ctx context.Context, back Caller)
	// CompressOver lets messages with a body of at least so many bytes be compressed (deflate) if that makes them smaller,
	// and accepts such; both sides must set it. Default 0: never. The size of a compressed message tells about its contents:
	// who can mix text of his own with a secret in one message, and sees sizes, learns the secret. Leave it off there.
	CompressOver int
	// HideMethods makes a Server keep its list of methods (Methods) to itself.
	HideMethods bool
	// Logger gets recovered panics with their stacks at level Error, and sessions that break the protocol at level Warn.
	// Default: nothing is logged.
	Logger *slog.Logger
}

func (o Options) withDefaults(streams int) Options {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&o.MaxSend, DefaultMaxMessage)
	set(&o.MaxReceive, DefaultMaxMessage)
	for _, v := range []*int{&o.MaxSend, &o.MaxReceive} {
		*v = min(max(*v, 64<<10), maxFrame-64<<10) // any envelope is below 64 KiB
	}
	set(&o.MaxStreams, streams)
	set(&o.MaxCalls, 1024)
	switch {
	case o.MaxQueue == 0:
		o.MaxQueue = 4096
	case o.MaxQueue < 0:
		o.MaxQueue = 0
	}
	set(&o.MaxServerCalls, 8192)
	set(&o.MaxServerStreams, 65536)
	set(&o.MaxHeld, 64<<20)
	o.CompressOver = max(o.CompressOver, 0)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// sessionErr is why sess ended, nil if it has not or does not tell.
func sessionErr(sess Session) error {
	if e, ok := sess.(interface{ Err() error }); ok {
		return e.Err()
	}
	return nil
}
