package cluster

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// TestStreamsAndDrain: streams and connections are opened without pause while servers are drained and replaced. Those whose handlers
// were never reached go elsewhere: none fails.
func TestStreamsAndDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		count := rpc.ServerStream[int, int]{Name: "count"}
		register := func(s *rpc.Server) {
			count.Handle(s, func(_ context.Context, n int, send func(int) error) error {
				for i := range n {
					time.Sleep(time.Millisecond)
					if err := send(i); err != nil {
						return err
					}
				}
				return nil
			})
			rpc.HandleConn(s, "raw", func(_ context.Context, conn net.Conn) error {
				_, err := io.Copy(conn, conn)
				return err
			})
		}
		addrs := []string{"a", "b", "c"}
		for _, addr := range addrs {
			f.start(t, addr, rpc.Options{}, register)
		}
		c := f.client(t, Static(addrs...), Options{})
		l := newLoad()
		var streams, conns atomic.Int64
		for range 8 {
			l.wg.Go(func() {
				for ctx := range l.until() {
					n := 0
					for i, err := range count.Call(ctx, c, 10) {
						if err != nil || i != n {
							t.Error("stream:", i, err)
						}
						n++
					}
					if n != 10 {
						t.Errorf("%d messages", n)
					}
					streams.Add(1)
				}
			})
			l.wg.Go(func() {
				for ctx := range l.until() {
					conn, err := c.OpenConn(ctx, "raw")
					if err != nil {
						t.Error("conn:", err)
						continue
					}
					time.Sleep(5 * time.Millisecond)
					io.WriteString(conn, "bytes")
					conn.(interface{ CloseWrite() error }).CloseWrite()
					if b, err := io.ReadAll(conn); err != nil || string(b) != "bytes" {
						t.Error("conn:", string(b), err)
					}
					conn.Close()
					conns.Add(1)
				}
			})
		}
		for range 4 {
			for _, addr := range addrs {
				time.Sleep(300*time.Millisecond + 50*time.Microsecond)
				f.mu.Lock()
				old := f.servers[addr]
				f.mu.Unlock()
				old.drain(t)
				f.start(t, addr, rpc.Options{}, register)
			}
		}
		close(l.stop)
		l.wg.Wait()
		synctest.Wait()
		if streams.Load() < 500 || conns.Load() < 500 {
			t.Error(streams.Load(), conns.Load())
		}
		for _, e := range c.Snapshot().Endpoints {
			if e.InFlight != 0 {
				t.Errorf("%+v", e)
			}
		}
	})
}

// until yields contexts until the load is to stop.
func (l *load) until() func(func(context.Context) bool) {
	return func(yield func(context.Context) bool) {
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(bg, time.Minute)
			more := yield(ctx)
			cancel()
			if !more {
				return
			}
		}
	}
}

// refuseFirst are the options of a server that refuses its first n streams, and how many it was asked about.
func refuseFirst(n int64) (rpc.Options, *atomic.Int64) {
	refused := new(atomic.Int64)
	return rpc.Options{Authorize: func(_ context.Context, req *rpc.Request) error {
		if req.Method == "echo" && refused.Add(1) <= n {
			return &rpc.Error{Code: rpc.ResourceExhausted}
		}
		return nil
	}}, refused
}

// TestStreamMoves: a stream moves while nothing was sent or received on it, and then no more.
func TestStreamMoves(t *testing.T) {
	echo := rpc.Bidi[string, string]{Name: "echo"}
	register := func(s *rpc.Server) {
		echo.Handle(s, func(_ context.Context, s *rpc.Stream[string, string]) error {
			for m, err := range s.All() {
				if err != nil {
					return err
				}
				if err := s.Send(m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// A server that has begun to drain, and whose notice is still on its way: its answers are.
	open := func(t *testing.T, sent bool) (s *rpc.OpenStream[string, string], c *Client) {
		f := new(fleet)
		first := f.start(t, "a", rpc.Options{}, register)
		c = f.client(t, Static("a", "b"), Options{Eager: true})
		synctest.Wait()
		first.freeze(true)
		f.start(t, "b", rpc.Options{}, register)
		s, err := echo.Open(within(t, time.Minute), c)
		if err != nil {
			t.Fatal(err)
		}
		if sent {
			if err := s.Send("early"); err != nil {
				t.Fatal(err)
			}
		}
		go first.drain(t)
		synctest.Wait()
		first.freeze(false)
		return s, c
	}
	bubble(t, "before", func(t *testing.T) {
		s, c := open(t, false)
		go func() {
			time.Sleep(30 * time.Second) // Recv has noticed by then
			s.Send("hello")
			s.CloseSend()
		}()
		if m, err := s.Recv(); err != nil || m != "hello" {
			t.Error(m, err)
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Error(err)
		}
		if c.Snapshot().Retries == 0 {
			t.Error("it did not move: does this test what it should?")
		}
	})
	bubble(t, "behind a message", func(t *testing.T) {
		s, _ := open(t, true)
		_, err := s.Recv()
		want(t, err, rpc.Unavailable, rpc.NotExecuted)
		if _, again := s.Recv(); again != err {
			t.Error(again)
		}
		s.Close()
	})
	bubble(t, "closed meanwhile", func(t *testing.T) {
		f := new(fleet)
		first := f.start(t, "a", rpc.Options{}, register)
		c := f.client(t, Static("a"), Options{Eager: true})
		synctest.Wait()
		first.freeze(true)
		s, err := echo.Open(bg, c)
		if err != nil {
			t.Fatal(err)
		}
		go first.drain(t)
		synctest.Wait()
		ended := make(chan error, 1)
		go func() { _, err := s.Recv(); ended <- err }()
		first.freeze(false)
		time.Sleep(time.Minute) // it waits for a server now
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		s.Close()
		want(t, <-ended, rpc.Canceled, rpc.NotExecuted)
	})
}

// TestStreamRefused: overload is the caller's to see: a stream that reached a server is not repeated.
func TestStreamRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		opts, asked := refuseFirst(1)
		echo := rpc.Bidi[string, string]{Name: "echo"}
		f.start(t, "a", opts, func(s *rpc.Server) {
			echo.Handle(s, func(_ context.Context, s *rpc.Stream[string, string]) error { return nil })
		})
		c := f.client(t, Static("a"), Options{})
		s, err := echo.Open(within(t, time.Minute), c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		want(t, err, rpc.ResourceExhausted, rpc.NotExecuted)
		if asked.Load() != 1 {
			t.Error(asked.Load())
		}
	})
}

// TestConnNotRepeated: a connection whose server is lost while it is opened may have run, and is not opened again.
func TestConnNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		for _, addr := range []string{"a", "b"} {
			f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
				rpc.HandleConn(s, "raw", func(_ context.Context, conn net.Conn) error { return nil })
			})
		}
		c := f.client(t, Static("a", "b"), Options{Policy: func(string) Policy { return Policy{Idempotent: true} }, Eager: true})
		synctest.Wait()
		for _, s := range f.servers {
			s.freeze(true)
		}
		ended := make(chan error, 1)
		go func() { _, err := c.OpenConn(within(t, time.Minute), "raw"); ended <- err }()
		synctest.Wait()
		for _, s := range f.servers {
			s.cut()
			s.freeze(false)
		}
		want(t, <-ended, rpc.Unavailable, rpc.OutcomeUnknown)
	})
}

// A tired session opens so many streams and then no more.
type tired struct {
	rpc.Session
	left atomic.Int64
}

func (s *tired) Open(ctx context.Context) (net.Conn, error) {
	if s.left.Add(-1) < 0 {
		return nil, transport.ErrStreamsExhausted
	}
	return s.Session.Open(ctx)
}

// TestSpentSession: a session that has used up its streams is replaced; what is in flight on it ends well.
func TestSpentSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		release := make(chan struct{})
		f.start(t, "a", rpc.Options{}, func(s *rpc.Server) {
			rpc.HandleConn(s, "raw", func(_ context.Context, conn net.Conn) error { return nil })
			work.Handle(s, func(context.Context, int) (int, error) { <-release; return 1, nil })
		})
		c := New(Static("a"), Options{Dial: func(ctx context.Context, e Endpoint) (rpc.Session, error) {
			session, err := f.dial(ctx, e)
			s := &tired{Session: session}
			s.left.Store(10)
			return s, err
		}})
		defer c.Close()
		ended := make(chan error, 1)
		go func() { _, err := work.Call(bg, c, 1); ended <- err }()
		for range 50 {
			conn, err := c.OpenConn(within(t, time.Minute), "raw")
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			time.Sleep(time.Second) // so that the session has lived
		}
		close(release)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := c.Snapshot().endpoint("a").Sessions; n != 6 { // 9 conns each
			t.Errorf("%d sessions", n)
		}
	})
}

// TestMovedRequestIsItsOwn: a stream that moves asks for what it was opened for, whatever its opener does with the request meanwhile.
func TestMovedRequestIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		count := rpc.ServerStream[string, int]{Name: "count"}
		var header []string
		serve := func(addr string) *server {
			opts := rpc.Options{Authorize: func(_ context.Context, req *rpc.Request) error {
				if req.Method == count.Name {
					header = append(header, req.Header["tenant"]...)
				}
				return nil
			}}
			return f.start(t, addr, opts, func(s *rpc.Server) {
				count.Handle(s, func(_ context.Context, _ string, send func(int) error) error { return send(1) })
			})
		}
		first := serve("a")
		c := f.client(t, Static("a", "b"), Options{Eager: true})
		synctest.Wait()
		first.freeze(true)
		serve("b")
		req := &rpc.Request{Method: count.Name, Body: rpc.Raw{0xa0}, Header: rpc.Metadata{"tenant": {"mine"}}}
		s, err := c.Open(within(t, time.Minute), req)
		if err != nil {
			t.Fatal(err)
		}
		req.Body[0], req.Header["tenant"][0] = 0xc0, "another's"
		go first.drain(t)
		synctest.Wait()
		first.freeze(false)
		if _, err := s.Recv(); err != nil {
			t.Error(err)
		}
		s.Close()
		if len(header) != 1 || header[0] != "mine" {
			t.Errorf("asked for %q", header)
		}
	})
}
