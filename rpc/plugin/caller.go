package plugin

import (
	"context"
	"errors"
	"net"

	"github.com/sealmux/sealmux/rpc"
)

// A caller calls the process that there is at the time.
type caller struct{ p *Plugin }

// running returns that process, waiting for the next if there is to be one.
func (c caller) running(ctx context.Context) (*run, error) {
	for {
		c.p.mu.Lock()
		r, changed, stopped := c.p.current, c.p.changed, c.p.stopped
		c.p.mu.Unlock()
		if stopped {
			return nil, failed(rpc.Unavailable, rpc.NotSent, ErrStopped)
		}
		if r != nil {
			return r, nil
		}
		select {
		case <-changed:
		case <-c.p.stopping:
		case <-c.p.done:
			return nil, failed(rpc.Unavailable, rpc.NotSent, c.p.Err())
		case <-ctx.Done():
			return nil, failed(rpc.CodeOf(ctx.Err()), rpc.NotSent, ctx.Err())
		}
	}
}

// try has use called with a process until it has not failed for the end of that: what was not sent goes to the next one.
func (c caller) try(ctx context.Context, use func(*run) error) error {
	for {
		r, err := c.running(ctx)
		if err != nil {
			return err
		}
		err = r.explain(ctx, use(r))
		if exit := (*ExitError)(nil); err == nil || rpc.OutcomeOf(err) != rpc.NotSent || !errors.As(err, &exit) {
			return err
		}
		c.p.mu.Lock()
		changed := c.p.changed
		same := c.p.current == r
		c.p.mu.Unlock()
		if !same {
			continue
		}
		select { // supervise is about to take it away
		case <-changed:
		case <-c.p.done:
		case <-ctx.Done():
			return err
		}
	}
}

// Do makes a unary call.
func (c caller) Do(ctx context.Context, req *rpc.Request) (resp *rpc.Response, err error) {
	err = c.try(ctx, func(r *run) (err error) {
		resp, err = r.client.Do(ctx, req)
		return err
	})
	return resp, err
}

// Open opens a stream of messages.
func (c caller) Open(ctx context.Context, req *rpc.Request) (s rpc.RawStream, err error) {
	err = c.try(ctx, func(r *run) error {
		inner, err := r.client.Open(ctx, req)
		s = &stream{RawStream: inner, r: r, ctx: ctx}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// OpenConn opens a connection. What ends it later, it tells as the session does.
func (c caller) OpenConn(ctx context.Context, method string) (conn net.Conn, err error) {
	err = c.try(ctx, func(r *run) (err error) {
		conn, err = r.client.OpenConn(ctx, method)
		return err
	})
	return conn, err
}

// A stream explains its end, if that was the plug-in's.
type stream struct {
	rpc.RawStream
	r   *run
	ctx context.Context
}

// Recv returns the next message.
func (s *stream) Recv() (rpc.Raw, error) {
	message, err := s.RawStream.Recv()
	return message, s.r.explain(s.ctx, err)
}

// explain adds how the process ended to an error that came of it. It waits for the process to have ended, until ctx ends.
func (r *run) explain(ctx context.Context, err error) error {
	var e *rpc.Error
	if !errors.As(err, &e) || e.Code != rpc.Unavailable || e.Outcome == rpc.Executed {
		return err
	}
	select {
	case <-r.ended:
	case <-r.exited:
	default:
		if !errors.Is(err, rpc.ErrClientClosed) {
			return err // the plug-in's own answer, such as that it drains
		}
	}
	select {
	case <-r.over:
		return failed(e.Code, e.Outcome, r.err)
	case <-ctx.Done():
		return err
	}
}

// failed makes an error of a call.
func failed(code rpc.Code, outcome rpc.Outcome, cause error) error {
	err := rpc.Errorf(code, "%w", cause)
	if e := (*rpc.Error)(nil); errors.As(err, &e) {
		e.Outcome = outcome
	}
	return err
}
