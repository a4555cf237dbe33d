package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A memSession is one end of a session in memory: its streams are net.Pipes, so a write ends when it was read.
type memSession struct {
	*memLink
	incoming, outgoing chan net.Conn
}

// A memLink is what both ends share.
type memLink struct {
	done  chan struct{}
	mu    sync.Mutex
	err   error // nil after a clean end
	conns []net.Conn
}

type peerKey struct{}

func newMemPair() (client, server *memSession) {
	l := &memLink{done: make(chan struct{})}
	a, b := make(chan net.Conn, 256), make(chan net.Conn, 256)
	return &memSession{l, a, b}, &memSession{l, b, a}
}

func (s *memSession) Open(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	ours, theirs := &memConn{a, s.memLink}, &memConn{b, s.memLink}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return nil, errors.New("mem: session ended")
	default:
	}
	select {
	case s.outgoing <- theirs:
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
		return nil, errors.New("mem: backlog full")
	}
	s.conns = append(s.conns, a, b)
	return ours, nil
}

func (s *memSession) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.done:
		return nil, s.readErr()
	}
}

func (s *memSession) Close() error { s.end(nil); return nil }

func (s *memSession) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, peerKey{}, "the peer")
}

func (l *memLink) Done() <-chan struct{} { return l.done }

func (l *memLink) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *memLink) readErr() error {
	if err := l.Err(); err != nil {
		return err
	}
	return io.EOF
}

// end ends the session: cleanly, or cut with err.
func (l *memLink) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		return
	default:
	}
	l.err = err
	close(l.done)
	for _, c := range l.conns {
		c.Close()
	}
}

type memConn struct {
	net.Conn
	link *memLink
}

func (c *memConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.link.done:
		if err != nil {
			err = c.link.readErr()
		}
	default:
	}
	return n, err
}

// start serves srv on one end of a session and returns a client on the other.
func start(t testing.TB, srv *Server, opts Options) (*Client, *memSession) {
	t.Helper()
	a, b := newMemPair()
	done := make(chan error, 1)
	go func() { done <- srv.ServeSession(context.Background(), b) }()
	c := NewClient(a, opts)
	t.Cleanup(func() {
		c.Close()
		srv.Close()
		<-done
	})
	return c, a
}

// want checks code and outcome of err.
func want(t testing.TB, err error, code Code, outcome Outcome) {
	t.Helper()
	if CodeOf(err) != code || OutcomeOf(err) != outcome || !errors.Is(err, code) && code != OK {
		t.Fatalf("got %v, want %v, %v", err, code, outcome)
	}
}

// handleRaw registers a handler of bodies.
func handleRaw(s *Server, name string, fn func(context.Context, Raw) (Raw, error)) {
	s.HandleRaw(name, func(ctx context.Context, req *Request) (*Response, error) {
		reply, err := fn(ctx, req.Body)
		return &Response{Body: reply}, err
	})
}
