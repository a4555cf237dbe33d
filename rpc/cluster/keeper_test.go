package cluster

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// TestEnterAndRetire: behind retire nobody enters, and empty means that nobody is in.
func TestEnterAndRetire(t *testing.T) {
	a, b := rpc.Pipe()
	defer b.Close()
	client := rpc.NewClient(a, rpc.Options{})
	defer client.Close()
	s := newSession(nodes(1)[0], a, client)
	for range 2 {
		if !s.enter() {
			t.Fatal("no entry")
		}
	}
	s.leave()
	s.retire()
	if s.enter() {
		t.Error("entry behind retire")
	}
	select {
	case <-s.empty:
		t.Error("empty with a call in flight")
	default:
	}
	s.leave()
	<-s.empty
	if s.node.InFlight() != 0 {
		t.Error(s.node.InFlight())
	}

	for range 200 { // together
		s := newSession(s.node, a, client)
		var inside sync.WaitGroup
		for range 4 {
			inside.Go(func() {
				if s.enter() {
					defer s.leave()
					select {
					case <-s.empty:
						t.Error("empty with somebody in")
					default:
					}
				}
			})
		}
		s.retire()
		inside.Wait()
		<-s.empty
	}
	b.Close()
	<-client.Draining()
	if newSession(s.node, a, client).enter() {
		t.Error("entry to a session that has ended")
	}
}

// TestFirstCall: a session on which nobody answers is never in rotation, and does not hold up the next attempt for ever.
func TestFirstCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var far []rpc.Session
		c := New(Static("a"), Options{Eager: true, Dial: func(context.Context, Endpoint) (rpc.Session, error) {
			a, b := rpc.Pipe()
			far = append(far, b)
			return a, nil
		}})
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if e := c.Snapshot().endpoint("a"); e.State == "ready" || e.Sessions > 0 {
				t.Fatalf("%+v", e)
			}
		}
		e := c.Snapshot().endpoint("a")
		if e.Failures < 2 || !errors.Is(e.Err, context.DeadlineExceeded) {
			t.Errorf("%+v", e)
		}
		c.Close()
		for _, b := range far {
			b.Close()
		}
	})
}

// TestFlapping: a server whose sessions end at once is not asked without pause.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		s := f.start(t, "a", rpc.Options{}, named("a"))
		c := f.client(t, Static("a"), Options{Eager: true, Backoff: Backoff{Base: time.Second, Max: 16 * time.Second}})
		for range 6000 {
			time.Sleep(100 * time.Millisecond)
			s.cut()
		}
		if n := len(f.dialled("a")); n < 60 || n > 150 { // 8 s in the mean
			t.Errorf("%d sessions in ten minutes", n)
		}
		time.Sleep(time.Minute) // this one lives
		before := len(f.dialled("a"))
		s.cut()
		time.Sleep(time.Second)
		if n := len(f.dialled("a")) - before; n != 1 || c.Snapshot().endpoint("a").State != "ready" {
			t.Errorf("a session that has lived is not made anew in time: %d dials", n)
		}
	})
}

// TestSilenceBehindAnAnswer: a server that has answered one call, and then no more, is silent for those that wait, though no new
// ones come.
func TestSilenceBehindAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		s := f.start(t, "a", rpc.Options{}, func(s *rpc.Server) {
			named("a")(s)
			work.Handle(s, func(ctx context.Context, n int) (int, error) { <-ctx.Done(); return n, nil })
		})
		c := f.client(t, Static("a"), Options{})
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(bg)
		go func() { _, err := work.Call(ctx, c, 1); ended <- err }()
		synctest.Wait()
		if _, err := where.Call(bg, c, ""); err != nil {
			t.Error(err)
		}
		s.freeze(true)
		time.Sleep(5 * time.Second)
		if e := c.Snapshot().endpoint("a"); e.State != "silent" {
			t.Errorf("%+v", e)
		}
		s.freeze(false)
		synctest.Wait()
		if e := c.Snapshot().endpoint("a"); e.State != "ready" {
			t.Errorf("%+v", e)
		}
		cancel()
		<-ended
	})
}

// TestHearAndEnter: of a call that comes as another's answer does, the silence is counted. It tries the race often enough to meet it.
func TestHearAndEnter(t *testing.T) {
	a, b := rpc.Pipe()
	defer b.Close()
	client := rpc.NewClient(a, rpc.Options{})
	defer client.Close()
	s := newSession(newNode(Endpoint{}), a, client)
	const rounds = 300_000
	var begun, entered atomic.Int64
	idle := func(n int64) { // so that the two meet at any place
		for range n {
			entered.Load()
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range int64(rounds) {
			for begun.Load() <= i {
				runtime.Gosched()
			}
			idle(i % 64)
			s.enter()
			entered.Store(i + 1)
		}
	})
	lost := 0
	for i := range int64(rounds) {
		s.enter()
		begun.Store(i + 1)
		idle(i / 64 % 64)
		s.leave()
		s.hear()
		for entered.Load() <= i {
			runtime.Gosched()
		}
		if s.since.Load() == 0 {
			lost++
		}
		s.leave()
		s.hear()
	}
	if lost > 0 {
		t.Errorf("%d times a call was in flight, and nothing waited for", lost)
	}
}

// TestFailFastAndFlapping: a server that takes sessions and ends them at once is none that is on its way.
func TestFailFastAndFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		s := f.start(t, "a", rpc.Options{}, named("a"))
		c := f.client(t, Static("a"), Options{Eager: true, Backoff: Backoff{Base: time.Minute, Max: time.Hour},
			Policy: func(string) Policy { return Policy{FailFast: true} }})
		for range 20 {
			synctest.Wait()
			s.cut()
			time.Sleep(time.Minute)
		}
		for c.Snapshot().endpoint("a").State == "ready" {
			s.cut()
			synctest.Wait()
		}
		began := time.Now()
		_, err := where.Call(within(t, time.Minute), c, "")
		want(t, err, rpc.Unavailable, rpc.NotSent)
		if time.Since(began) > 0 || !errors.Is(err, ErrNoEndpoint) {
			t.Error(err, time.Since(began))
		}
	})
}

// TestPanic: a call that ends in an interceptor's panic, which its caller survives, is not in flight for ever.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		f.start(t, "a", rpc.Options{}, named("a"))
		faulty := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			if req.Method == where.Name {
				panic("an interceptor's")
			}
			return next(ctx, req)
		}}
		c := f.client(t, Static("a"), Options{RPC: rpc.Options{Interceptors: []rpc.Interceptor{faulty}}})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is not the caller's")
				}
			}()
			where.Call(bg, c, "")
		}()
		if e := c.Snapshot().endpoint("a"); e.InFlight != 0 {
			t.Errorf("%+v", e)
		}
	})
}
