package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	count = ServerStream[int, int]{Name: "count"}
	sum   = ClientStream[int, int]{Name: "sum"}
	chat  = Bidi[string, string]{Name: "chat"}
)

// streams returns a server with a method of each form.
func streams() *Server {
	srv := NewServer(Options{})
	count.Handle(srv, func(_ context.Context, n int, send func(int) error) error {
		for i := range n {
			if err := send(i); err != nil {
				return err
			}
		}
		if n < 0 {
			return Errorf(OutOfRange, "n is %d", n)
		}
		return nil
	})
	sum.Handle(srv, func(_ context.Context, items iter.Seq2[int, error]) (total int, err error) {
		for n, err := range items {
			if err != nil {
				return 0, err
			}
			if n < 0 {
				return 0, NotFound
			}
			total += n
		}
		return total, nil
	})
	chat.Handle(srv, func(_ context.Context, s *Stream[string, string]) error {
		for text, err := range s.All() {
			if err == nil {
				err = s.Send("re: " + text)
			}
			if err != nil {
				return err
			}
		}
		return s.Send("bye")
	})
	return srv
}

func TestStreams(t *testing.T) {
	c, _ := start(t, streams(), Options{})
	for range 3 {
		var got []int
		for n, err := range count.Call(bg, c, 1000) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
		if len(got) != 1000 || !slices.IsSorted(got) {
			t.Error(got)
		}
		if total, err := sum.Call(bg, c, slices.Values(got)); err != nil || total != 499500 {
			t.Error(total, err)
		}
	}
	for n, err := range count.Call(bg, c, -1) {
		want(t, err, OutOfRange, Executed)
		if n != 0 {
			t.Error(n)
		}
	}
	_, err := sum.Call(bg, c, slices.Values([]int{1, -1, 2}))
	want(t, err, NotFound, Executed)

	s, err := chat.Open(bg, c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		text := fmt.Sprint(i)
		if err := s.Send(text); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Recv(); err != nil || got != "re: "+text {
			t.Fatal(got, err)
		}
	}
	if err := errors.Join(s.CloseSend(), s.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if err := s.Send("x"); !errors.Is(err, ErrStreamDone) {
		t.Error(err)
	}
	if got, err := s.Recv(); err != nil || got != "bye" {
		t.Error(got, err)
	}
	for range 2 {
		if _, err := s.Recv(); err != io.EOF {
			t.Error(err)
		}
	}
	s.Close()
	if _, err := s.Recv(); err != io.EOF {
		t.Error(err)
	}
	// Not a stream, not unary, not there.
	_, err = Call[int](bg, c, "count", 1)
	want(t, err, Unimplemented, NotExecuted)
	for name, code := range map[string]Code{"none": Unimplemented, "": InvalidArgument} {
		for _, err := range (ServerStream[int, int]{Name: name}).Call(bg, c, 1) {
			if CodeOf(err) != code {
				t.Error(name, err)
			}
		}
	}
}

// TestEchoStream: a server on which nothing is registered echoes the messages of a stream too.
func TestEchoStream(t *testing.T) {
	c, _ := start(t, NewServer(Options{}), Options{})
	s, err := chat.Open(bg, c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Send("你好")
	if got, err := s.Recv(); err != nil || got != EchoPrefix+"你好" {
		t.Error(got, err)
	}
}

// TestStreamEnds: however a stream ends but by its handler's good return, nobody takes that for the end.
func TestStreamEnds(t *testing.T) {
	endless := func(t *testing.T) (*Server, chan error) {
		srv, ended := NewServer(Options{}), make(chan error, 10)
		chat.Handle(srv, func(ctx context.Context, s *Stream[string, string]) error {
			s.Send("first")
			for _, err := range s.All() {
				if err != nil {
					ended <- err
					return err
				}
			}
			ended <- nil
			<-ctx.Done()
			return ctx.Err()
		})
		return srv, ended
	}
	for name, row := range map[string]struct {
		end     func(cancel func(), sess *memSession, srv *Server, s *OpenStream[string, string])
		code    Code
		handler Code // of the handler's error
	}{
		"cancel": {func(cancel func(), _ *memSession, _ *Server, _ *OpenStream[string, string]) { cancel() }, Canceled, Canceled},
		"close":  {func(_ func(), _ *memSession, _ *Server, s *OpenStream[string, string]) { s.Close() }, Canceled, Canceled},
		"session cut": {func(_ func(), sess *memSession, _ *Server, _ *OpenStream[string, string]) {
			sess.end(io.ErrUnexpectedEOF)
		}, Unavailable, 0},
		"session ended": {func(_ func(), sess *memSession, _ *Server, _ *OpenStream[string, string]) { sess.end(nil) }, Unavailable, 0},
		"server closed": {func(_ func(), _ *memSession, srv *Server, _ *OpenStream[string, string]) { srv.Close() }, Unavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, ended := endless(t)
				c, sess := start(t, srv, Options{})
				ctx, cancel := context.WithCancel(bg)
				defer cancel()
				s, err := chat.Open(ctx, c)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := s.Recv(); got != "first" || err != nil {
					t.Fatal(got, err)
				}
				result := make(chan error, 1)
				go func() { _, err := s.Recv(); result <- err }()
				synctest.Wait()
				row.end(cancel, sess, srv, s)
				want(t, <-result, row.code, OutcomeUnknown)
				if err := s.Send("x"); CodeOf(err) != row.code {
					t.Error(err)
				}
				err = <-ended
				if err == nil || errors.Is(err, io.EOF) || row.handler != 0 && CodeOf(err) != row.handler {
					t.Errorf("the handler got %v", err)
				}
				synctest.Wait()
			})
		})
	}
}

// TestStreamCancelUnread: a cancel reaches a handler that reads nothing, whose stream is full.
func TestStreamCancelUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		ended := make(chan error, 1)
		chat.Handle(srv, func(ctx context.Context, s *Stream[string, string]) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil
		})
		c, _ := start(t, srv, Options{})
		ctx, cancel := context.WithCancel(bg)
		s, _ := chat.Open(ctx, c)
		result := make(chan error, 1)
		go func() {
			for {
				if err := s.Send("more"); err != nil {
					result <- err
					return
				}
			}
		}()
		synctest.Wait()
		cancel()
		want(t, <-result, Canceled, OutcomeUnknown)
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestStreamDeadline: a deadline travels, and ends both sides.
func TestStreamDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		left := make(chan time.Duration, 1)
		chat.Handle(srv, func(ctx context.Context, s *Stream[string, string]) error {
			deadline, _ := ctx.Deadline()
			left <- time.Until(deadline)
			_, err := s.Recv()
			return err
		})
		c, _ := start(t, srv, Options{})
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		s, _ := chat.Open(ctx, c)
		_, err := s.Recv()
		if CodeOf(err) != DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) || <-left != time.Minute {
			t.Error(err)
		}
	})
}

func TestBack(t *testing.T) {
	srv, handlers := NewServer(Options{}), NewServer(Options{})
	Handle(handlers, "name", func(ctx context.Context, _ string) (string, error) {
		if _, err := Call[int](ctx, BackFrom(ctx), "double", 1); err != nil { // and back again
			return "", err
		}
		return "client", nil
	})
	Handle(srv, "double", func(_ context.Context, n int) (int, error) { return 2 * n, nil })
	Handle(srv, "greet", func(ctx context.Context, _ string) (string, error) {
		name, err := Call[string](ctx, BackFrom(ctx), "name", "")
		return "hello " + name, err
	})
	count.Handle(handlers, func(_ context.Context, n int, send func(int) error) error { return send(n) })
	Handle(srv, "stream", func(ctx context.Context, n int) (int, error) {
		for n, err := range count.Call(ctx, BackFrom(ctx), n) {
			return n, err
		}
		return 0, Internal
	})
	c, _ := start(t, srv, Options{Handlers: handlers})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got, err := Call[string](bg, c, "greet", ""); got != "hello client" || err != nil {
				t.Error(got, err)
			}
			if n, err := Call[int](bg, c, "stream", 5); n != 5 || err != nil {
				t.Error(n, err)
			}
		})
	}
	wg.Wait()

	deaf, _ := start(t, srv, Options{})
	_, err := Call[string](bg, deaf, "greet", "")
	want(t, err, Unimplemented, Executed)
	_, err = Call[string](bg, BackFrom(bg), "greet", "")
	want(t, err, FailedPrecondition, NotSent)
	if err := handlers.Shutdown(bg); err != nil { // the client may still call
		t.Error(err)
	}
	if n, err := Call[int](bg, c, "double", 4); n != 8 || err != nil {
		t.Error(n, err)
	}
	_, err = Call[string](bg, c, "greet", "")
	if !errors.Is(err, Unavailable) || OutcomeOf(err) != Executed {
		t.Error(err)
	}
}

func TestOnSession(t *testing.T) {
	got := make(chan string, 1)
	srv := NewServer(Options{OnSession: func(ctx context.Context, back Caller) {
		name, err := Call[string](ctx, back, "name", "")
		got <- fmt.Sprint(name, err, ctx.Value(peerKey{}))
	}})
	handlers := NewServer(Options{})
	Handle(handlers, "name", func(context.Context, string) (string, error) { return "client", nil })
	start(t, srv, Options{Handlers: handlers})
	if s := <-got; s != "client<nil>the peer" {
		t.Error(s)
	}
}

func TestConn(t *testing.T) {
	srv := NewServer(Options{})
	HandleConn(srv, "upper", func(ctx context.Context, conn net.Conn) error {
		b := make([]byte, 5)
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		conn.Write([]byte("got " + string(b)))
		return nil
	})
	HandleConn(srv, "refuse", func(context.Context, net.Conn) error { return Errorf(NotFound, "no such host") })
	HandleConn(srv, "idle", func(context.Context, net.Conn) error { return nil })
	HandleConn(srv, "panic", func(context.Context, net.Conn) error { panic("x") })
	c, _ := start(t, srv, Options{})
	for range 3 {
		conn, err := c.OpenConn(bg, "upper")
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("hello"))
		if got, err := io.ReadAll(conn); string(got) != "got hello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		conn.Close()
		conn.Close()
	}
	_, err := c.OpenConn(bg, "refuse")
	want(t, err, NotFound, Executed)
	_, err = c.OpenConn(bg, "none")
	want(t, err, Unimplemented, NotExecuted)
	_, err = c.OpenConn(bg, "panic")
	want(t, err, Internal, Executed)
	conn, err := c.OpenConn(bg, "idle")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inflight != 0 || len(c.streams) != 1 {
		t.Errorf("%d in flight, %d streams are left", c.inflight, len(c.streams))
	}
}
