package rpcprom

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmux/sealmux/rpc"
)

const (
	unary  = "unary"
	stream = "stream"
)

// Client returns the interceptor for the Options of a rpc.Client, or for those of the clients of a cluster.Client, where it counts
// attempts.
func (m *Metrics) Client() rpc.Interceptor {
	return rpc.Interceptor{
		Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (resp *rpc.Response, err error) {
			began := time.Now()
			m.client.inFlight.Inc()
			panicked := true
			defer func() { m.called(req.Method, unary, began, err, panicked) }()
			resp, err = next(ctx, req)
			panicked = false
			return resp, err
		},
		Open: func(ctx context.Context, req *rpc.Request, next rpc.OpenFunc) (rpc.RawStream, error) {
			s := &clientStream{counted: m.client.counted(), method: req.Method, m: m, began: time.Now()}
			m.client.inFlight.Inc()
			panicked := true
			defer func() {
				if panicked {
					s.count(nil, true)
				}
			}()
			inner, err := next(ctx, req)
			panicked = false
			if err != nil {
				s.count(err, false)
				return nil, err
			}
			s.RawStream = inner
			if req.Body != nil {
				s.sent.Inc()
			}
			// A caller may leave a stream to its context.
			s.forget = context.AfterFunc(ctx, func() { s.count(ctx.Err(), false) }) // its cause has no code
			return s, nil
		},
	}
}

// called counts a client's call that has ended.
func (m *Metrics) called(method, form string, began time.Time, err error, panicked bool) {
	code, outcome := rpc.CodeOf(err), rpc.OutcomeOf(err)
	if panicked { // an interceptor within this one
		code, outcome = rpc.Internal, rpc.OutcomeUnknown
	}
	m.client.done(method, form, began, code, outcome)
}

// Server returns the interceptor for the Options of a rpc.Server. Put it first, so that it counts what the others do.
func (m *Metrics) Server() rpc.Interceptor {
	return rpc.Interceptor{
		Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (resp *rpc.Response, err error) {
			began := time.Now()
			m.server.inFlight.Inc()
			panicked := true
			defer func() { m.answered(ctx, req.Method, unary, began, err, panicked) }()
			resp, err = next(ctx, req)
			panicked = false
			return resp, err
		},
		Stream: func(ctx context.Context, req *rpc.Request, inner rpc.MessageStream, next rpc.StreamFunc) (err error) {
			began := time.Now()
			m.server.inFlight.Inc()
			panicked := true
			defer func() { m.answered(ctx, req.Method, stream, began, err, panicked) }()
			err = next(ctx, req, &serverStream{inner, m.server.counted()})
			panicked = false
			return err
		},
	}
}

// answered counts a server's.
func (m *Metrics) answered(ctx context.Context, method, form string, began time.Time, err error, panicked bool) {
	if panicked {
		err = rpc.Internal
	}
	outcome := rpc.InfoFrom(ctx).Outcome(err)
	m.server.done(m.name(method, outcome), form, began, rpc.CodeOf(err), outcome)
}

// counted are the messages of a stream.
type counted struct{ sent, received prometheus.Counter }

func (s *side) counted() counted {
	return counted{s.messages.WithLabelValues("sent"), s.messages.WithLabelValues("received")}
}

func (c counted) send(s rpc.MessageStream, message rpc.Raw) error {
	err := s.Send(message)
	if err == nil {
		c.sent.Inc()
	}
	return err
}

func (c counted) receive(s rpc.MessageStream) (rpc.Raw, error) {
	message, err := s.Recv()
	if err == nil {
		c.received.Inc()
	}
	return message, err
}

type serverStream struct {
	rpc.MessageStream
	counted
}

// Send is a rpc.MessageStream's.
func (s *serverStream) Send(message rpc.Raw) error { return s.send(s.MessageStream, message) }

// Recv is a rpc.MessageStream's.
func (s *serverStream) Recv() (rpc.Raw, error) { return s.receive(s.MessageStream) }

// A clientStream is counted when it ends.
type clientStream struct {
	rpc.RawStream
	counted
	m      *Metrics
	method string
	began  time.Time
	forget func() bool
	once   sync.Once
}

// Send is a rpc.RawStream's.
func (s *clientStream) Send(message rpc.Raw) error { return s.send(s.RawStream, message) }

// Recv is a rpc.RawStream's.
func (s *clientStream) Recv() (rpc.Raw, error) {
	message, err := s.receive(s.RawStream)
	switch err {
	case nil:
	case io.EOF: // the handler has ended well
		s.over(nil)
	default:
		s.over(err)
	}
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
	s.count(err, false)
}

func (s *clientStream) count(err error, panicked bool) {
	s.once.Do(func() { s.m.called(s.method, stream, s.began, err, panicked) })
}
