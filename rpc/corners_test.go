package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Faults that a review found, each where two things meet that seldom do.

// over serves srv on one end of a Pipe and returns a client on the other, through wrap if that is not nil.
func over(t *testing.T, srv *Server, opts Options, wrap func(*pipeSession) Session) *Client {
	a, b := newPipe()
	served := make(chan error, 1)
	go func() { served <- srv.ServeSession(bg, b) }()
	var sess Session = a
	if wrap != nil {
		sess = wrap(a)
	}
	c := NewClient(sess, opts)
	t.Cleanup(func() { c.Close(); srv.Close(); <-served })
	return c
}

// scripted returns a client whose peer does what script says with the stream, the second that the client opens.
func scripted(t *testing.T, script func(sess *pipeSession, conn net.Conn, open message)) *Client {
	a, b := newPipe()
	c := NewClient(a, Options{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Accept() // of calls
		conn, err := b.Accept()
		if err != nil {
			return
		}
		in := newFrameReader(conn)
		n, _ := in.header()
		p, _, _ := in.payload(n)
		m, _ := parseMessage(bytes.Clone(p))
		script(b, conn, m)
	}()
	t.Cleanup(func() { c.Close(); b.Close(); <-done })
	return c
}

// A wrapped session changes the streams that are opened.
type wrapped struct {
	*pipeSession
	wrap func(net.Conn) net.Conn
}

func (s *wrapped) Open(ctx context.Context) (net.Conn, error) {
	conn, err := s.pipeSession.Open(ctx)
	if err == nil {
		conn = s.wrap(conn)
	}
	return conn, err
}

type writeFunc struct {
	net.Conn
	before func(b []byte)
}

func (c *writeFunc) Write(b []byte) (int, error) { c.before(b); return c.Conn.Write(b) }

// TestOpenConnWhileClientEnds: a connection that is just being taken when the client ends.
func TestOpenConnWhileClientEnds(t *testing.T) {
	srv := NewServer(Options{})
	HandleConn(srv, "c", func(_ context.Context, conn net.Conn) error { _, err := conn.Write([]byte("x")); return err })
	c := over(t, srv, Options{}, nil)
	s, err := c.begin(bg, &Request{Method: "c"}, formConn, nil)
	if err == nil {
		_, err = s.message()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.end(ErrClientClosed)
	_, err = s.take()
	want(t, err, Unavailable, OutcomeUnknown)
}

type deadlineHook struct {
	context.Context
	hook func()
}

func (h *deadlineHook) Deadline() (time.Time, bool) {
	if f := h.hook; f != nil {
		h.hook = nil
		f()
	}
	return h.Context.Deadline()
}

// TestOpenWhileClientEnds: a stream that is just being opened when the client ends.
func TestOpenWhileClientEnds(t *testing.T) {
	c := over(t, streams(), Options{}, nil)
	Call[string](bg, c, "nosuch", "x") // so that the stream of calls is there
	_, err := c.Open(&deadlineHook{bg, func() { c.end(ErrClientClosed) }}, &Request{Method: "x"})
	want(t, err, Unavailable, NotSent)
	if c.inflight != 0 {
		t.Error(c.inflight)
	}
}

// TestOpenConnBehindGoaway: a goaway in front of the answer is not the answer.
func TestOpenConnBehindGoaway(t *testing.T) {
	c := scripted(t, func(_ *pipeSession, conn net.Conn, open message) {
		conn.Write(appendError(appendGoaway(nil), open.id, drainingStatus()))
	})
	_, err := c.OpenConn(bg, "c")
	want(t, err, Unavailable, NotExecuted)
	if !errors.Is(err, ErrDraining) {
		t.Error(err)
	}
}

// TestOpenConnRefusedByDrain: the same with a real server, whose drain begins while the open is on its way.
func TestOpenConnRefusedByDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, hold, streams := streams(), make(chan struct{}), 0
		c := over(t, srv, Options{}, func(a *pipeSession) Session {
			return &wrapped{a, func(conn net.Conn) net.Conn {
				if streams++; streams == 1 {
					return conn
				}
				return &writeFunc{conn, func([]byte) { <-hold }}
			}}
		})
		result := make(chan error, 1)
		go func() { _, err := c.OpenConn(bg, "c"); result <- err }()
		synctest.Wait()
		down := make(chan error, 1)
		go func() { down <- srv.Shutdown(bg) }()
		synctest.Wait()
		close(hold)
		want(t, <-result, Unavailable, NotExecuted)
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

// TestDoneOnConnection: a connection has no done.
func TestDoneOnConnection(t *testing.T) {
	c := scripted(t, func(_ *pipeSession, conn net.Conn, _ message) { conn.Write(appendDone(nil, nil)) })
	_, err := c.OpenConn(bg, "c")
	want(t, err, Unavailable, OutcomeUnknown)
	if !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
}

// TestKeysWithoutValues: they are not sent, and break no rule.
func TestKeysWithoutValues(t *testing.T) {
	srv := NewServer(Options{})
	srv.HandleRaw("good", func(_ context.Context, r *Request) (*Response, error) {
		return &Response{Body: r.Body, Header: Metadata{"k": nil}, Trailer: Metadata{"k": {}}}, nil
	})
	c := over(t, srv, Options{}, nil)
	for range 2 {
		resp, err := c.Do(bg, &Request{Method: "good", Body: Raw{0xc0}, Header: Metadata{"k": nil}})
		if err != nil || len(resp.Header)+len(resp.Trailer) != 0 {
			t.Error(resp, err)
		}
	}
}

// TestGoexitOfStreamHandler: the stream ends, and nothing of it is left.
func TestGoexitOfStreamHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		srv.HandleStream("s", func(context.Context, *Request, MessageStream) error { runtime.Goexit(); return nil })
		HandleConn(srv, "c", func(context.Context, net.Conn) error { runtime.Goexit(); return nil })
		c := over(t, srv, Options{}, nil)
		s, err := c.Open(bg, &Request{Method: "s"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		want(t, err, Internal, Executed)
		_, err = c.OpenConn(bg, "c")
		want(t, err, Internal, Executed)
		if err := errors.Join(srv.Shutdown(bg), clean(c, srv)); err != nil {
			t.Error(err)
		}
	})
}

// TestReceivedDoesNotWait: whoever wants the metadata does not wait for it longer than the stream lives.
func TestReceivedDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		silent := Bidi[string, string]{Name: "silent"}
		silent.Handle(srv, func(ctx context.Context, _ *Stream[string, string]) error { <-ctx.Done(); return nil })
		sum := ClientStream[string, int]{Name: "sum"}
		sum.Handle(srv, func(_ context.Context, items iter.Seq2[string, error]) (n int, err error) {
			for _, err = range items {
				n++
			}
			return n, err
		})
		c := over(t, srv, Options{MaxSend: 1 << 16}, nil)
		var r Received
		s, err := silent.Open(WithReceived(bg, &r), c)
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			t.Error(err)
		}
		_, err = sum.Call(WithReceived(bg, &r), c, func(yield func(string) bool) { yield(strings.Repeat("x", 1<<17)) })
		if !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
	})
}

// TestBodiesOfInterceptors: what an interceptor made is checked before it is decoded, on either side.
func TestBodiesOfInterceptors(t *testing.T) {
	deep := append(bytes.Repeat([]byte{0x91}, 3<<20), 0xc0) // its decoding would overflow the stack
	ran := false
	srv := NewServer(Options{Interceptors: []Interceptor{{Unary: func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error) {
		own := *req
		own.Body = deep
		return next(ctx, &own)
	}}}})
	Handle(srv, "any", func(context.Context, any) (string, error) { ran = true; return "", nil })
	_, err := Call[string](bg, over(t, srv, Options{}, nil), "any", nil)
	want(t, err, InvalidArgument, NotExecuted)

	c := over(t, NewServer(Options{}), Options{Interceptors: []Interceptor{{Unary: func(context.Context, *Request, UnaryFunc) (*Response, error) {
		return &Response{Body: deep}, nil
	}}}}, nil)
	if _, err := Call[any](bg, c, "m", "x"); !errors.Is(err, ErrBadMessage) || ran {
		t.Error(err, ran)
	}
}

// TestOutcomesOfRetries: a call is not called unsent or not executed because its last attempt was, if one before has run.
func TestOutcomesOfRetries(t *testing.T) {
	var c *Client
	again := func(between func()) Interceptor {
		return Interceptor{Unary: func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error) {
			next(ctx, req)
			own := *req
			own.Body = Raw{0xc3} // no text
			between()
			return next(ctx, &own)
		}}
	}
	srv := NewServer(Options{})
	Handle(srv, "m", func(context.Context, string) (string, error) { return "", Unavailable })
	c = over(t, srv, Options{Interceptors: []Interceptor{again(func() { c.end(ErrClientClosed) })}}, nil)
	_, err := Call[string](bg, c, "m", "x")
	want(t, err, Unavailable, OutcomeUnknown)

	srv = NewServer(Options{Interceptors: []Interceptor{again(func() {})}})
	Handle(srv, "m", func(context.Context, string) (string, error) { return "", Unavailable })
	_, err = Call[string](bg, over(t, srv, Options{}, nil), "m", "x")
	want(t, err, InvalidArgument, Executed)
}

// TestInterceptorThatGoesAhead: a call that was answered as not executed does not run afterwards.
func TestInterceptorThatGoesAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := make(chan error, 1)
		srv := NewServer(Options{Interceptors: []Interceptor{{Unary: func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error) {
			go func() { time.Sleep(time.Second); _, err := next(ctx, req); late <- err }()
			return nil, DeadlineExceeded
		}}}})
		handleRaw(srv, "m", func(context.Context, Raw) (Raw, error) { t.Error("ran"); return Raw{0xc0}, nil })
		_, err := Call[string](bg, over(t, srv, Options{}, nil), "m", "x")
		want(t, err, DeadlineExceeded, NotExecuted)
		if err := <-late; err == nil {
			t.Error("next succeeded")
		}
	})
}

// TestInterceptorInAnotherGoroutine: a call whose handler runs, which the interceptor does not wait for.
func TestInterceptorInAnotherGoroutine(t *testing.T) {
	running := make(chan struct{})
	srv := NewServer(Options{Interceptors: []Interceptor{{Unary: func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error) {
		go next(ctx, req)
		<-running
		return nil, DeadlineExceeded
	}}}})
	handleRaw(srv, "m", func(ctx context.Context, b Raw) (Raw, error) { close(running); <-ctx.Done(); return b, nil })
	_, err := Call[string](bg, over(t, srv, Options{}, nil), "m", "x")
	want(t, err, DeadlineExceeded, Executed)
}

// TestLargeRequestOfStream: it is written in chunks, and its refusal is found although it was not written whole.
func TestLargeRequestOfStream(t *testing.T) {
	var most atomic.Int64
	srv := NewServer(Options{Authorize: func(context.Context, *Request) error { return PermissionDenied }})
	c := over(t, srv, Options{}, func(a *pipeSession) Session {
		return &wrapped{a, func(conn net.Conn) net.Conn {
			return &writeFunc{conn, func(b []byte) { most.Store(max(most.Load(), int64(len(b)))) }}
		}}
	})
	for _, size := range []int{100, 3 << 20, 3 << 20} {
		for _, err := range (ServerStream[[]byte, int]{Name: "m"}).Call(bg, c, make([]byte, size)) {
			want(t, err, PermissionDenied, NotExecuted)
		}
	}
	if n := most.Load(); n > writeChunk {
		t.Error(n)
	}
}

// TestViolationOnPeersStream: it is what ends the calls and the streams in flight.
func TestViolationOnPeersStream(t *testing.T) {
	c := scripted(t, func(sess *pipeSession, _ net.Conn, _ message) {
		conn, _ := sess.Open(bg)
		conn.Write(frame("\x95\x63\x01\x01\x01"))
	})
	call := make(chan error, 1)
	go func() { _, err := Call[string](bg, c, "m", "x"); call <- err }()
	s, err := c.Open(bg, &Request{Method: "s"})
	if err == nil {
		_, err = s.Recv()
	}
	if err := errors.Join(err, <-call); !errors.Is(err, ErrProtocol) || errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestShutdownSeesLostAnswers: Shutdown does not return nil if Close lost an answer meanwhile.
func TestShutdownSeesLostAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		Handle(srv, "m", func(context.Context, Raw) ([]byte, error) { return make([]byte, 400<<10), nil })
		a, b := newPipe()
		go srv.ServeSession(bg, b)
		conn, _ := a.Open(bg) // and reads nothing
		conn.Write(appendCall(nil, 1, "m", 0, []byte{0xc0}))
		synctest.Wait()
		down := make(chan error, 1)
		go func() { down <- srv.Shutdown(bg) }()
		synctest.Wait()
		srv.Close()
		if err := <-down; err != ErrServerClosed {
			t.Error(err)
		}
	})
}

// TestPanicsBesideHandlers: in OnSession it harms nobody, in Authorize its call, which was not executed.
func TestPanicsBesideHandlers(t *testing.T) {
	panicked := make(chan struct{})
	srv := NewServer(Options{
		OnSession: func(context.Context, Caller) { defer close(panicked); panic("x") },
		Authorize: func(context.Context, *Request) error { panic("y") },
	})
	c := over(t, srv, Options{}, nil)
	<-panicked
	_, err := Call[string](bg, c, "m", "x")
	want(t, err, Internal, NotExecuted)
}

// TestForeignDrain: that a server which Authorize asks drains does not make this one look so.
func TestForeignDrain(t *testing.T) {
	foreign := &Error{Code: Unavailable, Outcome: NotExecuted, Details: []Detail{{Name: drainingDetail}}}
	srv := NewServer(Options{Authorize: func(context.Context, *Request) error { return foreign }})
	_, err := Call[string](bg, over(t, srv, Options{}, nil), "m", "x")
	want(t, err, Unavailable, NotExecuted)
	if errors.Is(err, ErrDraining) {
		t.Error(err)
	}
}

// TestCancelOnNewSharedStream: a stream is cancelled on the stream of calls that there is now.
func TestCancelOnNewSharedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		ended := make(chan struct{})
		srv.HandleStream("s", func(ctx context.Context, _ *Request, _ MessageStream) error { <-ctx.Done(); close(ended); return nil })
		c := over(t, srv, Options{}, nil)
		s, err := c.Open(bg, &Request{Method: "s"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		shared, _ := c.sharedStream(bg)
		shared.conn.Close()
		synctest.Wait()
		Call[string](bg, c, "nosuch", "x") // opens another
		s.Close()
		<-ended
	})
}

// TestClientStreamReplyThatDoesNotFit: it is the server's fault, and the handler ran.
func TestClientStreamReplyThatDoesNotFit(t *testing.T) {
	srv := NewServer(Options{})
	ClientStream[string, string]{Name: "m"}.Handle(srv, func(context.Context, iter.Seq2[string, error]) (string, error) { return "text", nil })
	_, err := ClientStream[string, int]{Name: "m"}.Call(bg, over(t, srv, Options{}, nil), func(func(string) bool) {})
	want(t, err, Internal, Executed)
}

// TestDrainRefusesServerQueue: a drain refuses the calls that wait for MaxServerCalls, too.
func TestDrainRefusesServerQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{MaxServerCalls: 1})
		release := make(chan struct{})
		handleRaw(srv, "m", func(_ context.Context, b Raw) (Raw, error) { <-release; return b, nil })
		c := over(t, srv, Options{}, nil)
		results, down := make(chan error, 2), make(chan error, 1)
		for range 2 {
			go func() { _, err := c.Do(bg, &Request{Method: "m", Body: Raw{0xc0}}); results <- err }()
		}
		synctest.Wait()
		go func() { down <- srv.Shutdown(bg) }()
		want(t, <-results, Unavailable, NotExecuted)
		close(release)
		if err := errors.Join(<-results, <-down); err != nil {
			t.Error(err)
		}
	})
}

// TestOpenBehindCancel: behind a cancel a stream is one of calls (C1).
func TestOpenBehindCancel(t *testing.T) {
	h := newHostile(t, streams())
	go h.conn.Write(appendOpen(appendCancel(nil, 77), 5, &callHead{method: "chat", form: formStream}))
	if err := <-h.served; !errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
}
