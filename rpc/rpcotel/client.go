package rpcotel

import (
	"context"
	"maps"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealmux/sealmux/rpc"
)

// Client returns the interceptor for the Options of a rpc.Client, or for those of the clients of a cluster.Client.
func Client(opts Options) rpc.Interceptor {
	o := newObserver(opts, "client")
	return rpc.Interceptor{
		Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (resp *rpc.Response, err error) {
			w := o.begin(ctx, req.Method)
			panicked := true
			defer func() { w.end(err, panicked, clients, -1, -1) }()
			resp, err = next(w.ctx, o.carrying(w.ctx, req))
			panicked = false
			return resp, err
		},
		Open: func(ctx context.Context, req *rpc.Request, next rpc.OpenFunc) (rpc.RawStream, error) {
			w := o.begin(ctx, req.Method)
			s := &clientStream{watch: w}
			panicked := true
			defer func() {
				if panicked {
					w.end(nil, true, clients, 0, 0)
				}
			}()
			inner, err := next(w.ctx, o.carrying(w.ctx, req))
			panicked = false
			if err != nil {
				w.end(err, false, clients, 0, 0)
				return nil, err
			}
			s.RawStream = inner
			if req.Body != nil {
				s.sent.Add(1)
			}
			// A caller may leave a stream to its context.
			s.forget = context.AfterFunc(ctx, func() { s.tell(ctx.Err()) }) // not its cause, which has no code
			return s, nil
		},
	}
}

// clients reports whether a failure is one to its client: each is.
func clients(rpc.Code) bool { return true }

// maxHeader and maxValues are what metadata may be in all (rpc.Metadata).
const (
	maxHeader = 8 << 10
	maxValues = 64
)

// carrying is req with the trace context of ctx in its header, if there is room.
func (o *observer) carrying(ctx context.Context, req *rpc.Request) *rpc.Request {
	if _, plain := o.opts.Propagator.(propagation.TraceContext); plain && !trace.SpanContextFromContext(ctx).IsValid() {
		return req
	}
	own := make(rpc.Metadata)
	o.opts.Propagator.Inject(ctx, carrier(own))
	if len(own) == 0 {
		return req
	}
	all := maps.Clone(req.Header)
	if all == nil {
		all = make(rpc.Metadata, len(own))
	}
	for _, key := range o.opts.Propagator.Fields() {
		delete(all, strings.ToLower(key)) // the caller's would go with another trace
	}
	maps.Copy(all, own)
	size, values := 0, 0
	for key, list := range all {
		for _, value := range list {
			size += len(key) + len(value)
			values++
		}
	}
	if size > maxHeader || values > maxValues {
		return req
	}
	with := *req
	with.Header = all
	return &with
}

// A clientStream ends its span when it ends.
type clientStream struct {
	rpc.RawStream
	watch          *watch
	forget         func() bool
	sent, received atomic.Int64
}

// Send is a rpc.RawStream's.
func (s *clientStream) Send(message rpc.Raw) error {
	err := s.RawStream.Send(message)
	if err == nil {
		s.sent.Add(1)
	}
	return err
}

// Recv is a rpc.RawStream's.
func (s *clientStream) Recv() (rpc.Raw, error) {
	message, err := s.RawStream.Recv()
	if err == nil {
		s.received.Add(1)
		return message, nil
	}
	s.over(ended(err))
	return message, err
}

// Close is a rpc.RawStream's.
func (s *clientStream) Close() error {
	err := s.RawStream.Close()
	s.over(context.Canceled) // unless it has ended before
	return err
}

func (s *clientStream) over(err error) {
	s.forget()
	s.tell(err)
}

func (s *clientStream) tell(err error) {
	s.watch.end(err, false, clients, s.sent.Load(), s.received.Load())
}
