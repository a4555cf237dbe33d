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

// A Caller makes calls. *Client is one.
type Caller interface {
	// CallRaw sends body, one encoded msgpack value, to the method, and returns the value of its reply, or an *Error.
	CallRaw(ctx context.Context, method string, body Raw) (Raw, error)
}

// Protocol names what this package speaks, for a session that has application protocols: transport.Config.Protocol.
const Protocol = "sealmux-rpc/1"

// Limits that options do not change.
const (
	// LargeCall is the size in bytes of a request body above which the call goes on a stream of its own, so that it does
	// not delay the small ones, which share a stream.
	LargeCall = 64 << 10
	// DefaultMaxMessage is the default limit of a message each way, in bytes, envelope included.
	DefaultMaxMessage = 4 << 20
)

// Options are the limits of a Client or a Server. The zero value of a field, or a negative one, stands for its default.
type Options struct {
	// MaxSend and MaxReceive limit a message in bytes, envelope (at most 300 bytes) included; default 4 MiB, at most 1 GiB, at
	// least 8 KiB.
	// A sender refuses more with ErrTooLarge. To a receiver more is a broken protocol, so let MaxReceive be no less than
	// the peer's MaxSend.
	MaxSend, MaxReceive int
	// MaxStreams limits, for a Server, the streams that a session has open at once; more wait in the session. Default 256, at least 2.
	// For a Client it limits the large calls in flight, each of which has a stream of its own; more wait. Default 64.
	MaxStreams int
	// MaxCalls limits the handlers that run at once for one session of a Server; a call beyond them fails at once with
	// ResourceExhausted, not executed. Default 4096.
	MaxCalls int
	// MaxHeld limits the bytes of requests and unwritten replies that a Server holds for one session; default 64 MiB.
	// Beyond it small calls fail at once with ResourceExhausted, not executed, and large ones after 2 s in which there was no room. The replies
	// of handlers that ran already when it was reached come on top: at most MaxCalls of MaxSend bytes.
	MaxHeld int
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
		*v = min(max(*v, 8<<10), 1<<30) // the longest error, and any envelope, is below 8 KiB
	}
	set(&o.MaxStreams, streams)
	set(&o.MaxCalls, 4096)
	set(&o.MaxHeld, 64<<20)
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
