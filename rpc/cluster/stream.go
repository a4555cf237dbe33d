package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/sealmux/sealmux/rpc"
)

// Open opens a stream of messages: see rpc.Caller. The balancer places it. It goes to another endpoint only while its handler never ran
// and nothing was sent on it but the request.
func (c *Client) Open(ctx context.Context, req *rpc.Request) (rpc.RawStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	own := *req // it is kept until the stream has begun
	own.Body, own.Header = bytes.Clone(req.Body), cloned(req.Header)
	s := &stream{client: c, ctx: ctx, cancel: cancel, req: &own, tries: c.beginStream(req.Method)}
	if err := s.place(); err != nil {
		cancel()
		return nil, err
	}
	return s, nil
}

// beginStream is begin for what is not repeated once it may have run, even if the method could be.
func (c *Client) beginStream(method string) *tries {
	t := c.begin(method)
	t.policy.Idempotent = false
	return t
}

// A placed is a stream of one session.
type placed struct {
	rpc.RawStream
	leave func() // may be called again
}

// A stream is a stream of messages that may move before it has begun. It has no goroutine.
type stream struct {
	client *Client
	ctx    context.Context
	cancel context.CancelFunc
	req    *rpc.Request
	tries  *tries

	mu    sync.Mutex // protects all below; held while the stream is moved, which Close and ctx end
	at    *placed
	begun bool  // something was sent or received: it moves no more
	err   error // how it has ended, if not as the stream of a session says
}

// place opens the stream on a session.
func (s *stream) place() error {
	return s.client.run(s.ctx, s.tries, nil, func(sess *session) error {
		raw, err := sess.client.Open(s.ctx, s.client.fresh(s.req))
		if err != nil {
			sess.leave()
			return err
		}
		leave := sync.OnceFunc(sess.leave)
		stop := context.AfterFunc(s.ctx, leave)
		s.at = &placed{raw, func() { leave(); stop() }}
		return nil
	})
}

// moved places the stream anew if err, of where it was, says that its handler never ran. Otherwise it returns the error
// that has ended the stream.
func (s *stream) moved(at *placed, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.at != at: // somebody else was quicker
		return nil
	case err == io.EOF || s.begun || verdictOf(err) != elsewhere:
		s.at.leave()
		if err != io.EOF {
			s.tries.note(err)
			err = s.tries.settle(err)
		}
		s.err = err
		s.cancel()
		return err
	}
	s.at.leave()
	s.tries.note(err)
	s.client.tally.retries.Add(1)
	if s.err = s.place(); s.err != nil {
		s.cancel()
	}
	return s.err
}

// where is the stream as it is placed now. begun says that it must stay there.
func (s *stream) where(begun bool) *placed {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = s.begun || begun
	return s.at
}

// Send is rpc.MessageStream's.
func (s *stream) Send(message rpc.Raw) error { return s.where(true).Send(message) }

// CloseSend is rpc.RawStream's.
func (s *stream) CloseSend() error { return s.where(s.req.Body == nil).CloseSend() }

// Recv is rpc.MessageStream's.
func (s *stream) Recv() (rpc.Raw, error) {
	for {
		at := s.where(false)
		message, err := at.Recv()
		if err == nil {
			s.where(true)
			return message, nil
		}
		if err := s.moved(at, err); err != nil {
			return nil, err
		}
	}
}

// Header is rpc.RawStream's.
func (s *stream) Header() (rpc.Metadata, error) {
	for {
		at := s.where(false)
		header, err := at.Header()
		if err == nil {
			s.where(true)
			return header, nil
		}
		if err := s.moved(at, err); err != nil {
			return nil, err
		}
	}
}

// Trailer is rpc.RawStream's.
func (s *stream) Trailer() rpc.Metadata { return s.where(false).Trailer() }

// Close is rpc.RawStream's.
func (s *stream) Close() error {
	if !s.mu.TryLock() { // it may be waiting for a place
		s.cancel()
		s.mu.Lock()
	}
	s.begun = true
	at := s.at
	s.mu.Unlock()
	err := at.Close()
	at.leave()
	s.cancel()
	return err
}

// OpenConn opens a connection to a method's handler: see rpc.Caller. The balancer places it.
func (c *Client) OpenConn(ctx context.Context, method string) (conn net.Conn, err error) {
	err = c.run(ctx, c.beginStream(method), nil, func(s *session) error {
		raw, err := s.client.OpenConn(ctx, method)
		if err != nil {
			s.leave()
			return err
		}
		s.hear()
		conn = &placedConn{Conn: raw, leave: sync.OnceFunc(s.leave)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// A placedConn counts for its session until it is closed.
type placedConn struct {
	net.Conn
	leave func()
}

// CloseWrite ends what this side writes.
func (c *placedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Reset is Close for a connection on which not all was said: see rpc.Caller.
func (c *placedConn) Reset() error {
	defer c.leave()
	if r, ok := c.Conn.(interface{ Reset() error }); ok {
		return r.Reset()
	}
	return c.Conn.Close()
}

// Close is net.Conn's.
func (c *placedConn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
