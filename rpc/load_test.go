package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// clean reports what a client and its server still hold when nothing runs any more.
func clean(c *Client, srv *Server) error {
	var errs []error
	check := func(what string, n int) {
		if n != 0 {
			errs = append(errs, fmt.Errorf("%s: %d", what, n))
		}
	}
	c.mu.Lock()
	check("calls in flight", c.inflight)
	for s := range c.streams {
		if s != ender(c.shared) {
			check("client streams", 1)
		}
	}
	shared := c.shared
	c.mu.Unlock()
	if shared != nil {
		shared.mu.Lock()
		check("waiting calls", len(shared.calls))
		shared.mu.Unlock()
		check("client bytes", shared.out.room.used)
	}
	check("large calls", c.large.used)
	srv.mu.Lock()
	defer srv.mu.Unlock()
	check("admitted", int(srv.admitted.Load()))
	check("open", int(srv.open.Load()))
	check("running in all", srv.running.used)
	for ss := range srv.sessions {
		ss.mu.Lock()
		check("server calls", len(ss.calls))
		check("server opens", ss.open)
		if len(ss.streams) > 1 {
			check("server streams", len(ss.streams)-1)
		}
		check("held bytes", ss.held.used)
		check("running", ss.running.used)
		ss.mu.Unlock()
	}
	return errors.Join(errs...)
}

// TestCancelTenThousand: calls and streams that are cancelled at any moment leave nothing behind.
func TestCancelTenThousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{MaxStreams: 100})
		wait := func(ctx context.Context, _ Raw) (Raw, error) { <-ctx.Done(); return nil, ctx.Err() }
		handleRaw(srv, "wait", wait)
		chat.Handle(srv, func(ctx context.Context, s *Stream[string, string]) error {
			for _, err := range s.All() {
				if err != nil {
					return err
				}
				s.Send("x")
			}
			<-ctx.Done()
			return ctx.Err()
		})
		a, b := newPipe()
		done := make(chan error, 1)
		go func() { done <- srv.ServeSession(bg, b) }()
		c := NewClient(a, Options{})
		Call[any](cancelled(), c, "wait", nil)
		random := rand.New(rand.NewPCG(1, 2))
		round := func(n int) {
			var wg sync.WaitGroup
			for range n {
				kind, steps := random.IntN(10), random.IntN(20)
				wg.Go(func() {
					ctx, cancel := context.WithCancel(bg)
					defer cancel()
					if kind >= 3 {
						go func() {
							for range steps {
								runtime.Gosched()
							}
							cancel()
						}()
					}
					switch kind {
					case 0, 1, 2:
						s, err := chat.Open(ctx, c)
						for i := 0; err == nil; i++ {
							if i == steps {
								cancel()
							}
							if err = s.Send("text"); err == nil {
								_, err = s.Recv()
							}
						}
					case 3: // large
						if _, err := Call[any](ctx, c, "wait", make([]byte, LargeCall+1)); err == nil {
							t.Error("a cancelled call succeeded")
						}
					default:
						if _, err := Call[any](ctx, c, "wait", nil); err == nil {
							t.Error("a cancelled call succeeded")
						}
					}
				})
			}
			wg.Wait()
			synctest.Wait()
		}
		round(500) // what is kept for ever is there from now on
		before, goroutines := heap(), ours()
		for range 20 {
			round(500)
		}
		if err := clean(c, srv); err != nil {
			t.Error(err)
		}
		if n := ours(); n > goroutines {
			t.Errorf("%d goroutines, %d before", n, goroutines)
		}
		if after := heap(); after > before+2<<20 {
			t.Errorf("%d bytes of heap, %d before", after, before)
		}
		c.Close()
		srv.Close()
		<-done
	})
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(bg)
	cancel()
	return ctx
}

// ours is how many goroutines are in this package: the runtime has some of its own, which come and go.
func ours() (n int) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(stack, []byte("sealmux/rpc.")) {
			n++
		}
	}
	return n
}

func heap() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestBadHandlers: whatever a handler does harms its own call alone.
func TestBadHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{MaxSend: 64 << 10})
		release := make(chan struct{})
		srv.HandleRaw("nil", func(context.Context, *Request) (*Response, error) { return nil, nil })
		srv.HandleRaw("empty", func(context.Context, *Request) (*Response, error) { return &Response{}, nil })
		srv.HandleRaw("meta", func(context.Context, *Request) (*Response, error) {
			return &Response{Body: Raw{0xc0}, Trailer: Metadata{"BAD": {"x"}}}, nil
		})
		Handle(srv, "panic", func(context.Context, int) (int, error) { panic("x") })
		Handle(srv, "goexit", func(context.Context, int) (int, error) { runtime.Goexit(); return 0, nil })
		Handle(srv, "much", func(context.Context, int) ([]byte, error) { return make([]byte, 1<<20), nil })
		Handle(srv, "deaf", func(context.Context, int) (int, error) { <-release; return 0, nil })
		Handle(srv, "good", func(context.Context, int) (int, error) { return 1, nil })
		stream := func(name string, f func(s *Stream[[]byte, int]) error) {
			Bidi[int, []byte]{Name: name}.Handle(srv, func(_ context.Context, s *Stream[[]byte, int]) error { return f(s) })
		}
		stream("spanic", func(*Stream[[]byte, int]) error { panic("x") })
		stream("smuch", func(s *Stream[[]byte, int]) error { return s.Send(make([]byte, 1<<20)) })
		var late *Stream[[]byte, int]
		stream("slate", func(s *Stream[[]byte, int]) error { late = s; return nil })
		stream("sdeaf", func(*Stream[[]byte, int]) error { <-release; return nil })
		HandleConn(srv, "cpanic", func(context.Context, net.Conn) error { panic("x") })
		c, _ := start(t, srv, Options{})
		defer close(release)
		good := func(after string) {
			t.Helper()
			if n, err := Call[int](bg, c, "good", 0); n != 1 || err != nil {
				t.Errorf("after %s: %d, %v", after, n, err)
			}
		}
		for name, code := range map[string]Code{"nil": Internal, "empty": Internal, "meta": Internal, "panic": Internal, "goexit": Internal, "much": ResourceExhausted} {
			_, err := Call[Raw](bg, c, name, 0)
			want(t, err, code, Executed)
			good(name)
		}
		ctx, cancel := context.WithCancel(bg)
		results := make(chan error, 2)
		go func() { _, err := Call[int](ctx, c, "deaf", 0); results <- err }()
		go func() {
			s, _ := Bidi[int, []byte]{Name: "sdeaf"}.Open(ctx, c)
			_, err := s.Recv()
			results <- err
		}()
		synctest.Wait()
		good("deaf")
		cancel()
		want(t, <-results, Canceled, OutcomeUnknown)
		want(t, <-results, Canceled, OutcomeUnknown)
		good("deaf cancelled")
		for name, code := range map[string]Code{"spanic": Internal, "smuch": ResourceExhausted} {
			s, _ := Bidi[int, []byte]{Name: name}.Open(bg, c)
			_, err := s.Recv()
			want(t, err, code, Executed)
			good(name)
		}
		s, _ := Bidi[int, []byte]{Name: "slate"}.Open(bg, c)
		s.Recv()
		if err := late.Send(nil); err == nil {
			t.Error("a handler that has returned sends")
		}
		_, err := c.OpenConn(bg, "cpanic")
		want(t, err, Internal, Executed)
		good("cpanic")
	})
}

// TestHostileBodiesCostLittle measures what refusing costs, in all that was ever allocated: the message as it grew in the
// pipe and in the reader, and a few buffers. What a message declares costs nothing.
func TestHostileBodiesCostLittle(t *testing.T) {
	const limit = 1 << 20
	deep := bytes.Repeat([]byte{0x91}, 100_000)
	var keys []byte
	for range 30_000 {
		keys = append(keys, 0xa1, 'k', 0xc0)
	}
	for name, body := range map[string][]byte{
		"array of 2^32-1":    append([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, make([]byte, 1000)...),
		"map of 2^32-1":      append([]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, make([]byte, 1000)...),
		"binary of 2^32-1":   {0xc6, 0xff, 0xff, 0xff, 0xff},
		"text of 2^32-1":     {0xdb, 0xff, 0xff, 0xff, 0xff},
		"nested 100,000":     append(deep, 0xc0),
		"a key 30,000 times": append([]byte{0xde, 0x75, 0x30}, keys...),
		"extension":          append([]byte{0xc9, 0, 1, 0, 0, 5}, make([]byte, 1<<16)...),
		"trailing bytes":     make([]byte, limit),
		"text not UTF-8":     append([]byte{0xdb, 0, 8, 0, 0}, bytes.Repeat([]byte{0xff}, 1<<19)...),
		"nils":               append([]byte{0xdd, 0, 8, 0, 0}, bytes.Repeat([]byte{0xc0}, 1<<19)...),
	} {
		t.Run(name, func(t *testing.T) {
			srv := NewServer(Options{MaxReceive: limit})
			Handle(srv, "any", func(context.Context, any) (any, error) { t.Error("ran"); return nil, nil })
			h := newHostile(t, srv)
			call := appendCall(nil, 1, "any", 0, body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			go h.conn.Write(call)
			m := h.expect(kindError)
			runtime.ReadMemStats(&after)
			if m.code != InvalidArgument || m.outcome != NotExecuted {
				t.Errorf("%+v", m)
			}
			cost := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d bytes cost %d", len(body), cost)
			if cost > uint64(4*len(body)+64<<10) {
				t.Errorf("refusing %d bytes cost %d", len(body), cost)
			}
		})
	}
}

// TestEveryLimit: at the limit it works, one more is refused at once and as not executed, and room that is given back is used.
func TestEveryLimit(t *testing.T) {
	type use func(c *Client) (release func(), err error)
	call := func(running, release chan struct{}) use {
		return func(c *Client) (func(), error) {
			result := make(chan error, 1)
			go func() { _, err := Call[any](bg, c, "wait", nil); result <- err }()
			select {
			case <-running:
				return func() { release <- struct{}{}; <-result }, nil
			case err := <-result:
				return nil, err
			}
		}
	}
	stream := func(c *Client) (func(), error) {
		s, err := chat.Open(bg, c)
		if err == nil {
			_, err = s.Recv()
		}
		return func() { s.CloseSend(); s.Recv() }, err
	}
	for name, row := range map[string]struct {
		opts     Options
		clients  int // that use it in turn
		limit    int
		isStream bool
	}{
		"MaxCalls":         {Options{MaxCalls: 3, MaxQueue: -1}, 1, 3, false},
		"MaxStreams":       {Options{MaxStreams: 3}, 1, 3, true},
		"MaxServerStreams": {Options{MaxServerStreams: 4}, 2, 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := NewServer(row.opts)
				running, release := make(chan struct{}), make(chan struct{})
				handleRaw(srv, "wait", func(context.Context, Raw) (Raw, error) {
					running <- struct{}{}
					<-release
					return Raw{0xc0}, nil
				})
				chat.Handle(srv, func(_ context.Context, s *Stream[string, string]) error {
					s.Send("here")
					s.Recv()
					return nil
				})
				var clients []*Client
				for range row.clients {
					c, _ := start(t, srv, Options{})
					clients = append(clients, c)
				}
				take := call(running, release)
				if row.isStream {
					take = stream
				}
				var held []func()
				for i := range row.limit {
					give, err := take(clients[i%len(clients)])
					if err != nil {
						t.Fatal(i, err)
					}
					held = append(held, give)
				}
				for _, c := range clients {
					_, err := take(c)
					want(t, err, ResourceExhausted, NotExecuted)
				}
				held[0]()
				synctest.Wait()
				give, err := take(clients[0])
				if err != nil {
					t.Fatal(err)
				}
				for _, give := range append(held[1:], give) {
					give()
				}
				synctest.Wait()
				for _, c := range clients {
					if err := clean(c, srv); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestQueue: calls beyond MaxCalls wait in turn, as many as MaxQueue; their time runs meanwhile, and a drain sends them away.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{MaxCalls: 1, MaxQueue: 2})
		release, ran := make(chan struct{}), 0
		handleRaw(srv, "wait", func(context.Context, Raw) (Raw, error) { ran++; <-release; return Raw{0xc0}, nil })
		c, _ := start(t, srv, Options{})
		call := func(ctx context.Context) chan error {
			result := make(chan error, 1)
			go func() { _, err := Call[any](ctx, c, "wait", nil); result <- err }()
			synctest.Wait()
			return result
		}
		ctx, cancel := context.WithCancel(bg)
		first, second, third := call(bg), call(ctx), call(bg)
		want(t, <-call(bg), ResourceExhausted, NotExecuted)
		cancel()
		want(t, <-second, Canceled, OutcomeUnknown)
		synctest.Wait()
		fourth := call(bg) // the place in the queue is free again
		release <- struct{}{}
		if err := <-first; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		down := make(chan error, 1)
		go func() { down <- srv.Shutdown(bg) }()
		synctest.Wait()
		err := <-fourth
		want(t, err, Unavailable, NotExecuted)
		if !errors.Is(err, ErrDraining) {
			t.Error(err)
		}
		release <- struct{}{}
		if err := errors.Join(<-third, <-down); err != nil || ran != 2 {
			t.Error(err, ran)
		}
	})
}

// TestMetadataLimits: at the limit it passes, over it the sender refuses.
func TestMetadataLimits(t *testing.T) {
	srv := NewServer(Options{})
	Handle(srv, "n", func(ctx context.Context, _ int) (n int, err error) {
		for _, values := range InfoFrom(ctx).Header() {
			n += len(values)
		}
		return n, nil
	})
	c, _ := start(t, srv, Options{})
	send := func(pairs, size int) error {
		ctx := WithHeader(bg, "k", strings.Repeat("v", size-pairs))
		for range pairs - 1 {
			ctx = WithHeader(ctx, "k", "")
		}
		n, err := Call[int](ctx, c, "n", 0)
		if err == nil && n != pairs {
			t.Error(n, pairs)
		}
		return err
	}
	for _, row := range []struct {
		pairs, size int
		ok          bool
	}{{64, 64, true}, {65, 65, false}, {1, 8192, true}, {1, 8193, false}, {64, 8192, true}, {2, 8193, false}} {
		if err := send(row.pairs, row.size); row.ok && err != nil {
			t.Error(row, err)
		} else if !row.ok {
			want(t, err, InvalidArgument, NotSent)
		}
	}
}
