package rpc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A memListener yields sessions made by dial.
type memListener struct {
	sessions chan *memSession
	closed   atomic.Bool
}

func newMemListener() *memListener { return &memListener{sessions: make(chan *memSession)} }

func (l *memListener) Accept(ctx context.Context) (*memSession, error) {
	select {
	case s := <-l.sessions:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memListener) Close() error { l.closed.Store(true); return nil }

func (l *memListener) dial() *memSession {
	a, b := newMemPair()
	l.sessions <- b
	return a
}

func TestServe(t *testing.T) {
	srv, l := NewServer(Options{}), newMemListener()
	served := make(chan error, 1)
	go func() { served <- Serve(bg, srv, l) }() // S is inferred
	c := NewClient(l.dial(), Options{})
	if _, err := Call[string](bg, c, "echo", "x"); err != nil {
		t.Fatal(err)
	}
	if err := srv.Shutdown(bg); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != ErrServerClosed || !l.closed.Load() {
		t.Fatal(err)
	}
	_, err := Call[string](bg, c, "echo", "x")
	want(t, err, Unavailable, NotSent)
	c.Close()
	a, b := newMemPair()
	if err := srv.ServeSession(bg, b); err != ErrServerClosed {
		t.Fatal(err)
	}
	<-a.Done()

	ctx, cancel := context.WithCancel(bg)
	srv, l = NewServer(Options{}), newMemListener()
	go func() { served <- Serve(ctx, srv, l) }()
	s := l.dial()
	cancel()
	if err := <-served; err != context.Canceled {
		t.Fatal(err)
	}
	<-s.Done()
}

// TestShutdownLosesNothing: under load, every call succeeds or was never executed, and each that a handler took is answered.
func TestShutdownLosesNothing(t *testing.T) {
	for range 20 {
		var executed, answered atomic.Int64
		srv := NewServer(Options{})
		Handle(srv, "m", func(_ context.Context, b []byte) (int, error) { executed.Add(1); return len(b), nil })
		c, _ := start(t, srv, Options{})
		var wg sync.WaitGroup
		begun := make(chan struct{}, 1000)
		for i := range 50 {
			wg.Go(func() {
				size := 10
				if i%5 == 0 {
					size = LargeCall + 10
				}
				for {
					_, err := Call[int](bg, c, "m", make([]byte, size))
					if err != nil {
						if o := OutcomeOf(err); o != NotSent && o != NotExecuted || !errors.Is(err, ErrDraining) && !errors.Is(err, Unavailable) {
							t.Error(err)
						}
						return
					}
					answered.Add(1)
					select {
					case begun <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 100 {
			<-begun
		}
		if err := srv.Shutdown(bg); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if executed.Load() != answered.Load() {
			t.Errorf("%d executed, %d answered", executed.Load(), answered.Load())
		}
	}
}

func TestGoawayFinishesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		release := make(chan struct{})
		handleRaw(srv, "wait", func(context.Context, Raw) (Raw, error) { <-release; return Raw{7}, nil })
		c, _ := start(t, srv, Options{})
		type result struct {
			n   int
			err error
		}
		first, down := make(chan result, 1), make(chan error, 1)
		go func() { n, err := Call[int](bg, c, "wait", nil); first <- result{n, err} }()
		synctest.Wait()
		begin := time.Now()
		go func() { down <- srv.Shutdown(bg) }()
		synctest.Wait()
		_, err := Call[int](bg, c, "wait", nil)
		want(t, err, Unavailable, NotSent)
		if !errors.Is(err, ErrDraining) {
			t.Error(err)
		}
		close(release)
		if r := <-first; r.err != nil || r.n != 7 {
			t.Error(r)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the drain lingered %v for a client that had said it was done", took)
		}
	})
}

func TestShutdownCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		deaf := make(chan struct{})
		handleRaw(srv, "deaf", func(context.Context, Raw) (Raw, error) { <-deaf; return Raw{0xc0}, nil })
		c, _ := start(t, srv, Options{})
		failed := make(chan error, 1)
		go func() { _, err := Call[any](bg, c, "deaf", nil); failed <- err }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		if err := srv.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		want(t, <-failed, Unavailable, OutcomeUnknown)
		close(deaf)
	})
}

// TestDrainingIsTold: a client's user hears of a drain, of the session's end and of Close without making a call, and the calls in
// flight go on behind the first.
func TestDrainingIsTold(t *testing.T) {
	for name, row := range map[string]struct {
		calls bool // so that there is a stream for the notice; without one the server ends the session
		end   func(c *Client, srv *Server, session *memSession)
	}{
		"a drain with a call in flight": {true, func(_ *Client, srv *Server, _ *memSession) { go srv.Shutdown(bg) }},
		"a drain of an idle session":    {false, func(_ *Client, srv *Server, _ *memSession) { srv.Shutdown(bg) }},
		"a session cut":                 {false, func(_ *Client, _ *Server, s *memSession) { s.end(errors.New("cut")) }},
		"close":                         {false, func(c *Client, _ *Server, _ *memSession) { c.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := NewServer(Options{})
				release := make(chan struct{})
				handleRaw(srv, "wait", func(context.Context, Raw) (Raw, error) { <-release; return Raw{7}, nil })
				c, session := start(t, srv, Options{})
				answered := make(chan error, 1)
				if row.calls {
					go func() { _, err := Call[int](bg, c, "wait", nil); answered <- err }()
				}
				synctest.Wait()
				select {
				case <-c.Draining():
					t.Error("draining before anything has happened")
				default:
				}
				row.end(c, srv, session)
				synctest.Wait()
				select {
				case <-c.Draining():
				default:
					t.Error("nobody is told")
				}
				close(release)
				if row.calls {
					if err := <-answered; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestLinger: a client that never closes its streams delays a drain by the documented time only.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHostile(t, NewServer(Options{}))
		go h.conn.Write(appendCall(nil, 1, "echo", 0, []byte{0xa0}))
		h.expect(kindReply)
		begin := time.Now()
		go h.expect(kindGoaway)
		if err := h.srv.Shutdown(bg); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != linger {
			t.Error(took)
		}
	})
}

// TestManyCancels: calls given up at any point leave nothing behind on either side.
func TestManyCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		handleRaw(srv, "wait", func(ctx context.Context, _ Raw) (Raw, error) { <-ctx.Done(); return nil, ctx.Err() })
		c, _ := start(t, srv, Options{})
		var wg sync.WaitGroup
		for i := range 10_000 {
			ctx, cancel := context.WithCancel(bg)
			wg.Go(func() {
				_, err := Call[any](ctx, c, "wait", make([]byte, 10))
				if CodeOf(err) != Canceled && CodeOf(err) != ResourceExhausted {
					t.Error(err)
				}
			})
			wg.Go(cancel)
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		wg.Wait()
		synctest.Wait()
		srv.mu.Lock()
		defer srv.mu.Unlock()
		for ss := range srv.sessions {
			if len(ss.calls) != 0 || ss.held.used != 0 || len(ss.streams) != 1 {
				t.Error(len(ss.calls), ss.held.used, len(ss.streams))
			}
		}
		if c.inflight != 0 || len(c.shared.calls) != 0 || c.shared.out.room.used != 0 {
			t.Error(c.inflight, len(c.shared.calls), c.shared.out.room.used)
		}
	})
}
