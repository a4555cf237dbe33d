package rpcotel

import (
	"context"
	"net"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Server returns the interceptor for the Options of a rpc.Server. Put it first, so that the others are within its spans.
func Server(opts Options) rpc.Interceptor {
	o := newObserver(opts, "server")
	return rpc.Interceptor{
		Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (resp *rpc.Response, err error) {
			w := o.answer(ctx, req)
			panicked := true
			defer func() { w.end(err, panicked, servers, -1, -1) }()
			resp, err = next(w.ctx, req)
			panicked = false
			return resp, err
		},
		Stream: func(ctx context.Context, req *rpc.Request, inner rpc.MessageStream, next rpc.StreamFunc) (err error) {
			w := o.answer(ctx, req)
			s := &serverStream{MessageStream: inner}
			panicked := true
			defer func() { w.end(err, panicked, servers, s.sent.Load(), s.received.Load()) }()
			err = next(w.ctx, req, s)
			panicked = false
			return err
		},
	}
}

// answer begins the span of what a client has asked for, in the client's trace.
func (o *observer) answer(ctx context.Context, req *rpc.Request) *watch {
	ctx = o.opts.Propagator.Extract(ctx, carrier(req.Header))
	var peer []attribute.KeyValue
	if p, ok := transport.PeerFrom(ctx); ok && p.Addr != nil {
		peer = append(peer, semconv.NetworkPeerAddress(p.Addr.String()))
		if tcp, ok := p.Addr.(*net.TCPAddr); ok {
			peer = []attribute.KeyValue{semconv.NetworkPeerAddress(tcp.IP.String()), semconv.NetworkPeerPort(tcp.Port)}
		}
	}
	return o.begin(ctx, req.Method, peer...)
}

// servers reports whether a failure is the server's.
func servers(code rpc.Code) bool {
	switch code {
	case rpc.Unknown, rpc.DeadlineExceeded, rpc.Unimplemented, rpc.Internal, rpc.Unavailable, rpc.DataLoss:
		return true
	}
	return false
}

// A serverStream counts.
type serverStream struct {
	rpc.MessageStream
	sent, received atomic.Int64
}

// Send is a rpc.MessageStream's.
func (s *serverStream) Send(message rpc.Raw) error {
	err := s.MessageStream.Send(message)
	if err == nil {
		s.sent.Add(1)
	}
	return err
}

// Recv is a rpc.MessageStream's.
func (s *serverStream) Recv() (rpc.Raw, error) {
	message, err := s.MessageStream.Recv()
	if err == nil {
		s.received.Add(1)
	}
	return message, err
}
