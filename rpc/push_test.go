package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// A pushSession is a session whose streams hand over what arrives, as those of *transport.Session do, for tests on a Pipe. pieces,
// from 1, is how many bytes they hand over at a time at most; 0 for all.
type pushSession struct {
	Session
	pieces int
	pumps  sync.WaitGroup
}

func (s *pushSession) Err() error { return sessionErr(s.Session) }

func (s *pushSession) Open(ctx context.Context) (net.Conn, error) { return s.wrap(s.Session.Open(ctx)) }
func (s *pushSession) Accept() (net.Conn, error)                  { return s.wrap(s.Session.Accept()) }

func (s *pushSession) wrap(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	c := &pushConn{Conn: conn, pieces: s.pieces}
	c.cond.L = &c.mu
	s.pumps.Go(c.pump)
	return c, nil
}

// A pushConn is a stream as *transport.Stream is: see Receive there.
type pushConn struct {
	net.Conn
	pieces int

	mu   sync.Mutex // protects all below
	cond sync.Cond
	f    func([]byte) int
	busy bool
	kept []byte
	err  error
}

func (c *pushConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *pushConn) Receive(f func([]byte) int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) > 0 || c.err != nil || c.busy {
		return false
	}
	c.f = f
	return true
}

func (c *pushConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.kept) == 0 && c.err == nil {
		c.cond.Wait()
	}
	if len(c.kept) == 0 {
		return 0, c.err
	}
	n := copy(b, c.kept)
	c.kept = c.kept[n:]
	c.cond.Broadcast()
	return n, nil
}

// pump reads the stream.
func (c *pushConn) pump() {
	b := make([]byte, 32<<10)
	for {
		n, err := c.Conn.Read(b)
		for p := b[:n]; len(p) > 0; {
			piece := len(p)
			if c.pieces > 0 {
				piece = min(piece, c.pieces)
			}
			c.deliver(p[:piece])
			p = p[piece:]
		}
		if err != nil {
			c.mu.Lock()
			c.err = err
			f := c.f
			c.f = nil
			c.cond.Broadcast()
			c.mu.Unlock()
			if f != nil {
				f(nil)
			}
			return
		}
	}
}

func (c *pushConn) deliver(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.f; f != nil {
		c.busy = true
		c.mu.Unlock()
		n := f(p)
		c.mu.Lock()
		c.busy = false
		if p = p[n:]; len(p) > 0 {
			c.f = nil
		}
	}
	for len(c.kept) > 256<<10 && len(p) > 0 && c.f == nil { // the window
		c.cond.Wait()
	}
	c.kept = append(c.kept, p...)
	c.cond.Broadcast()
}

// Messages of all sizes, in pieces of all sizes, between callers and handlers of all kinds.
func TestPushedPieces(t *testing.T) {
	for _, pieces := range []int{1, 3, 1000, 0} {
		a, b := newPipe()
		as, bs := &pushSession{Session: a, pieces: pieces}, &pushSession{Session: b, pieces: pieces}
		srv := NewServer(Options{})
		served := make(chan error, 1)
		go func() { served <- srv.ServeSession(bg, bs) }()
		c := NewClient(as, Options{})
		sizes := []int{0, 1, 2, 63, 64, 65, 5000, 16 << 10, LargeCall - 100, LargeCall, LargeCall + 1, 200_000}
		if pieces > 0 && pieces < 1000 {
			sizes = sizes[:8]
		}
		var wg sync.WaitGroup
		for _, size := range sizes {
			wg.Go(func() {
				body := make([]byte, size)
				for range 3 {
					got, err := Call[[]byte](bg, c, "echo", body)
					if err != nil || len(got) != len(EchoPrefix)+size {
						t.Error(pieces, size, len(got), err)
					}
				}
				s, err := Bidi[[]byte, []byte]{Name: "echo"}.Open(bg, c)
				if err != nil {
					t.Error(err)
					return
				}
				s.Send(body)
				s.CloseSend()
				if got, err := s.Recv(); err != nil || len(got) != len(EchoPrefix)+size {
					t.Error(pieces, size, len(got), err)
				}
				if _, err := s.Recv(); err != io.EOF {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		c.Close()
		srv.Close()
		<-served
		as.pumps.Wait()
		bs.pumps.Wait()
	}
}
