package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var bg = context.Background()

func TestEcho(t *testing.T) {
	if got := fmt.Sprintf("%x", EchoPrefix); got != "e69c8de58aa1e7abafe5b7b2e694b6e588b0e695b0e68dae3a20" {
		t.Error(got)
	}
	c, _ := start(t, NewServer(Options{}), Options{})
	for _, s := range []string{"", "hello", "你好，世界", "a\x00b\x00", "#", strings.Repeat("长", 40_000), strings.Repeat("x", 300)} {
		got, err := Call[string](bg, c, "echo", s)
		if err != nil || got != EchoPrefix+s {
			t.Errorf("text %.20q: %.60q, %v", s, got, err)
		}
	}
	for _, b := range [][]byte{nil, {0xff, 0xfe, 0}, []byte("#"), bytes.Repeat([]byte{0x80}, 1<<20)} {
		got, err := Call[[]byte](bg, c, "any method", b)
		if err != nil || string(got) != EchoPrefix+string(b) {
			t.Errorf("binary %.20q: %.60q, %v", b, got, err)
		}
	}
	_, err := Call[string](bg, c, "echo", 7)
	want(t, err, InvalidArgument, Executed)
	_, err = Call[string](bg, c, "echo", "\xff")
	want(t, err, InvalidArgument, NotSent)
	if !errors.Is(err, ErrBadMessage) {
		t.Error(err)
	}
	_, err = Call[[]byte](bg, c, "echo", "text")
	want(t, err, Internal, Executed)
}

type pair struct {
	A int8
	B string `msgpack:"b"`
}

// TestOutcomes has a row for each way that a call can end.
func TestOutcomes(t *testing.T) {
	srv := NewServer(Options{})
	Handle(srv, "pair", func(_ context.Context, p *pair) (pair, error) { return pair{p.A + 1, p.B + "!"}, nil })
	Handle(srv, "fail", func(_ context.Context, code uint32) (any, error) { return nil, Errorf(Code(code), "because") })
	Handle(srv, "code", func(context.Context, Raw) (Raw, error) { return nil, NotFound })
	Handle(srv, "plain", func(context.Context, Raw) (Raw, error) { return nil, errors.New("plain text") })
	Handle(srv, "ctx", func(context.Context, Raw) (Raw, error) { return nil, context.DeadlineExceeded })
	Handle(srv, "panic", func(context.Context, Raw) (Raw, error) { panic("secret") })
	Handle(srv, "goexit", func(context.Context, Raw) (Raw, error) { runtime.Goexit(); return nil, nil })
	Handle(srv, "badraw", func(context.Context, Raw) (Raw, error) { return Raw{0xc1}, nil })
	Handle(srv, "nilraw", func(context.Context, Raw) (Raw, error) { return nil, nil })
	Handle(srv, "peer", func(ctx context.Context, _ Raw) (string, error) { return ctx.Value(peerKey{}).(string), nil })
	c, _ := start(t, srv, Options{})

	got, err := Call[*pair](bg, c, "pair", pair{1, "x"})
	if err != nil || *got != (pair{2, "x!"}) {
		t.Fatal(got, err)
	}
	if got, err = Call[*pair](bg, c, "pair", nil); err != nil || *got != (pair{1, "!"}) {
		t.Fatal(got, err)
	}
	if peer, err := Call[string](bg, c, "peer", nil); err != nil || peer != "the peer" {
		t.Fatal(peer, err)
	}
	for code := Canceled; code <= Unauthenticated; code++ {
		_, err := Call[any](bg, c, "fail", code)
		want(t, err, code, Executed)
		if e := err.(*Error); e.Message != "because" {
			t.Error(e)
		}
	}
	canceled, cancel := context.WithCancel(bg)
	cancel()
	for _, row := range []struct {
		ctx     context.Context
		method  string
		req     any
		code    Code
		outcome Outcome
		text    string
	}{
		{bg, "code", nil, NotFound, Executed, ""},
		{bg, "plain", nil, Unknown, Executed, "plain text"},
		{bg, "ctx", nil, DeadlineExceeded, Executed, ""},
		{bg, "fail", 0, Unknown, Executed, "because"},
		{bg, "fail", 99, Unknown, Executed, "because"},
		{bg, "panic", nil, Internal, Executed, "the handler failed"},
		{bg, "goexit", nil, Internal, Executed, "the handler failed"},
		{bg, "badraw", nil, Internal, Executed, ""},
		{bg, "nilraw", nil, Internal, Executed, ""},
		{bg, "none", nil, Unimplemented, NotExecuted, ""},
		{bg, "pair", map[string]any{"A": 300}, InvalidArgument, NotExecuted, "integer in range"},
		{bg, "pair", "text", InvalidArgument, NotExecuted, ""},
		{bg, "pair", Raw{0xc1}, InvalidArgument, NotSent, ""},
		{bg, "pair", Raw{}, InvalidArgument, NotSent, ""},
		{bg, "pair", make(chan int), InvalidArgument, NotSent, "cannot be carried"},
		{bg, "", nil, InvalidArgument, NotSent, ""},
		{bg, strings.Repeat("m", 256), nil, InvalidArgument, NotSent, ""},
		{canceled, "pair", nil, Canceled, NotSent, ""},
	} {
		_, err := Call[any](row.ctx, c, row.method, row.req)
		want(t, err, row.code, row.outcome)
		if !strings.Contains(err.Error(), row.text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", row.method, err)
		}
	}
	_, err = Call[int](bg, c, "pair", nil)
	want(t, err, Internal, Executed)
	c.Close()
	_, err = Call[int](bg, c, "pair", nil)
	want(t, err, Unavailable, NotSent)
	if !errors.Is(err, ErrClientClosed) {
		t.Error(err)
	}
}

func TestPanicIsLogged(t *testing.T) {
	var log bytes.Buffer
	srv := NewServer(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	handleRaw(srv, "m", func(context.Context, Raw) (Raw, error) { panic("the reason") })
	c, _ := start(t, srv, Options{})
	_, err := Call[any](bg, c, "m", nil)
	want(t, err, Internal, Executed)
	if s := log.String(); !strings.Contains(s, "the reason") || !strings.Contains(s, "call_test.go") {
		t.Error(s)
	}
}

func TestRegistering(t *testing.T) {
	srv := NewServer(Options{})
	c, _ := start(t, srv, Options{})
	if _, err := Call[string](bg, c, "x", "echo by default"); err != nil {
		t.Fatal(err)
	}
	srv.HandleRaw("echo", Echo)
	_, err := Call[string](bg, c, "x", "")
	want(t, err, Unimplemented, NotExecuted)
	srv.Fallback(func(_ context.Context, req *Request) (*Response, error) {
		reply, err := encode(req.Method)
		return &Response{Body: reply}, err
	})
	if got, err := Call[string](bg, c, "x", ""); err != nil || got != "x" {
		t.Fatal(got, err)
	}
	for name, register := range map[string]func(){
		"twice":    func() { srv.HandleRaw("echo", Echo) },
		"empty":    func() { srv.HandleRaw("", Echo) },
		"fallback": func() { srv.Fallback(Echo) },
		"type":     func() { Handle(srv, "t", func(context.Context, chan int) (int, error) { return 0, nil }) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			register()
		}()
	}
}

func TestManyCallers(t *testing.T) {
	srv := NewServer(Options{})
	Handle(srv, "square", func(_ context.Context, n uint64) (uint64, error) { return n * n, nil })
	c, _ := start(t, srv, Options{})
	var wg sync.WaitGroup
	for i := range uint64(1000) {
		wg.Go(func() {
			for j := range uint64(5) {
				if got, err := Call[uint64](bg, c, "square", i+j); err != nil || got != (i+j)*(i+j) {
					t.Errorf("%d: %d, %v", i, got, err)
				}
			}
		})
	}
	for i := range 20 {
		wg.Go(func() { // large ones beside them
			body := bytes.Repeat([]byte{byte(i)}, 300_000)
			_, err := Call[Raw](bg, c, "square", body)
			want(t, err, InvalidArgument, NotExecuted)
		})
	}
	wg.Wait()
}

func TestLimits(t *testing.T) {
	const limit = 100_000
	srv := NewServer(Options{MaxSend: limit})
	handleRaw(srv, "len", func(_ context.Context, b Raw) (Raw, error) { return encode(len(b)) })
	Handle(srv, "make", func(_ context.Context, n int) (Raw, error) { return make(Raw, n), nil })
	Handle(srv, "bin", func(_ context.Context, n int) ([]byte, error) { return make([]byte, n), nil })
	c, _ := start(t, srv, Options{MaxSend: limit})

	_, err := Call[Raw](bg, c, "make", 5) // warms the ids up to 1
	want(t, err, Internal, Executed)
	envelope := callSize(2, "len", 0, nil) + 5 // and the head of a bin32
	n, err := Call[int](bg, c, "len", make([]byte, limit-envelope))
	if err != nil || n != limit-envelope+5 {
		t.Fatal(n, err)
	}
	_, err = Call[int](bg, c, "len", make([]byte, limit-envelope+1))
	want(t, err, ResourceExhausted, NotSent)
	if !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	envelope = replySize(4, nil) + 5
	b, err := Call[[]byte](bg, c, "bin", limit-envelope)
	if err != nil || len(b) != limit-envelope {
		t.Fatal(len(b), err)
	}
	_, err = Call[[]byte](bg, c, "bin", limit-envelope+1)
	want(t, err, ResourceExhausted, Executed)
}

func TestMaxCallsAndMaxHeld(t *testing.T) {
	srv := NewServer(Options{MaxCalls: 2, MaxQueue: -1, MaxHeld: 100})
	running, release := make(chan struct{}), make(chan struct{})
	handleRaw(srv, "wait", func(context.Context, Raw) (Raw, error) {
		running <- struct{}{}
		<-release
		return Raw{0xc0}, nil
	})
	c, _ := start(t, srv, Options{})
	var wg sync.WaitGroup
	wg.Go(func() { Call[any](bg, c, "wait", nil) })
	<-running
	_, err := Call[any](bg, c, "wait", make([]byte, 100))
	want(t, err, ResourceExhausted, NotExecuted)
	wg.Go(func() { Call[any](bg, c, "wait", nil) })
	<-running
	_, err = Call[any](bg, c, "wait", nil)
	want(t, err, ResourceExhausted, NotExecuted)
	close(release)
	wg.Wait()
	go func() { <-running }()
	if _, err = Call[any](bg, c, "wait", make([]byte, 90_000)); err != nil { // large ones wait, and one is always let in
		t.Fatal(err)
	}
}

func TestCancelReachesHandler(t *testing.T) {
	for _, size := range []int{1, LargeCall + 1} {
		srv := NewServer(Options{})
		running, ended := make(chan struct{}), make(chan error)
		handleRaw(srv, "wait", func(ctx context.Context, _ Raw) (Raw, error) {
			close(running)
			<-ctx.Done()
			ended <- ctx.Err()
			return Raw{0xc0}, nil // a reply after the cancel
		})
		c, _ := start(t, srv, Options{})
		ctx, cancel := context.WithCancelCause(bg)
		reason := errors.New("reason")
		go func() { <-running; cancel(reason) }()
		_, err := Call[any](ctx, c, "wait", make([]byte, size))
		want(t, err, Canceled, OutcomeUnknown)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
			t.Error(err)
		}
		if err := <-ended; err != context.Canceled {
			t.Error(err)
		}
	}
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		Handle(srv, "left", func(ctx context.Context, _ Raw) (time.Duration, error) {
			deadline, ok := ctx.Deadline()
			if !ok {
				return 0, nil
			}
			return time.Until(deadline), nil
		})
		handleRaw(srv, "wait", func(ctx context.Context, _ Raw) (Raw, error) { <-ctx.Done(); return nil, ctx.Err() })
		c, _ := start(t, srv, Options{})
		if left, err := Call[time.Duration](bg, c, "left", nil); err != nil || left != 0 {
			t.Fatal(left, err)
		}
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		if left, err := Call[time.Duration](ctx, c, "left", nil); err != nil || left != time.Minute {
			t.Fatal(left, err)
		}
		begin := time.Now()
		_, err := Call[any](ctx, c, "wait", nil)
		if CodeOf(err) != DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Error(err, time.Since(begin))
		}
	})
}

func TestSessionCut(t *testing.T) {
	for _, cause := range []error{io.ErrUnexpectedEOF, fmt.Errorf("transport: cut: %w", io.ErrUnexpectedEOF)} {
		srv := NewServer(Options{})
		ended := make(chan error, 1)
		running := make(chan struct{})
		handleRaw(srv, "wait", func(ctx context.Context, _ Raw) (Raw, error) {
			close(running)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil, ctx.Err()
		})
		c, sess := start(t, srv, Options{})
		go func() { <-running; sess.end(cause) }()
		_, err := Call[any](bg, c, "wait", nil)
		want(t, err, Unavailable, OutcomeUnknown)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		if err := <-ended; err == nil {
			t.Error("no cause")
		}
		_, err = Call[any](bg, c, "wait", nil)
		want(t, err, Unavailable, NotSent)
	}
}
