package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// faulty registers work, which fails at an address as often as rate says: every nth call, or never if that is 0.
func faulty(l *load, addr string, nth func() int) func(*rpc.Server) {
	return func(s *rpc.Server) {
		calls := 0
		work.Handle(s, func(_ context.Context, n int) (int, error) {
			time.Sleep(time.Millisecond)
			l.mu.Lock()
			defer l.mu.Unlock()
			l.places[addr]++
			if calls++; nth() > 0 && calls%nth() == 0 {
				return 0, rpc.Internal
			}
			return n, nil
		})
	}
}

// TestEjection: an endpoint that fails is out of rotation after so many failures in a row, for as long as it should be, is tried again, and
// is out for longer if it goes on failing.
func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := new(fleet), newLoad()
		rate := map[string]int{"b": 1}
		addrs := []string{"a", "b", "c"}
		for _, addr := range addrs {
			f.start(t, addr, rpc.Options{}, faulty(l, addr, func() int { return rate[addr] }))
		}
		c := f.client(t, Static(addrs...), Options{Balancer: RoundRobin(), Eager: true})
		synctest.Wait()
		state := func() string { return c.Snapshot().endpoint("b").State }
		began := time.Now()
		failed := 0
		call := func() {
			if _, err := work.Call(bg, c, 1); err != nil {
				want(t, err, rpc.Internal, rpc.Executed)
				failed++
			}
		}
		for state() == "ready" {
			call()
		}
		if failed != 5 || state() != "ejected" {
			t.Error(failed, state())
		}
		for range 300 {
			call()
		}
		if failed != 5 {
			t.Errorf("%d calls reached it", failed-5)
		}
		for time.Since(began) < 29*time.Second {
			call()
		}
		if state() != "ejected" {
			t.Error(state())
		}
		time.Sleep(3 * time.Second)
		if state() != "ready" {
			t.Error(state())
		}
		for state() == "ready" { // it fails still
			call()
		}
		if failed != 10 {
			t.Error(failed)
		}
		time.Sleep(50 * time.Second)
		if state() != "ejected" {
			t.Error("the second time is no longer than the first")
		}
		time.Sleep(12 * time.Second)
		l.mu.Lock()
		rate["b"] = 0
		l.mu.Unlock()
		before := l.count("b")
		for range 300 {
			call()
		}
		if failed != 10 || l.count("b")-before != 100 {
			t.Errorf("%d failed, %d calls there", failed, l.count("b")-before)
		}
	})
}

// TestEjectionLimits: however many fail, so many are ejected at once, and the last in rotation never.
func TestEjectionLimits(t *testing.T) {
	for _, row := range []struct {
		servers int
		share   float64
		ejected int
	}{{1, 0, 0}, {2, 0, 1}, {3, 0, 1}, {10, 0, 3}, {10, 0.5, 5}, {2, 1, 1}} {
		bubble(t, fmt.Sprint(row), func(t *testing.T) {
			f, l := new(fleet), newLoad()
			var addrs []string
			for i := range row.servers {
				addrs = append(addrs, fmt.Sprint(i))
				f.start(t, addrs[i], rpc.Options{}, faulty(l, addrs[i], func() int { return 1 }))
			}
			c := f.client(t, Static(addrs...), Options{Balancer: RoundRobin(), Eager: true, Outlier: Outlier{MaxShare: row.share}})
			synctest.Wait()
			for range 200 {
				work.Call(bg, c, 1)
			}
			n := 0
			for _, e := range c.Snapshot().Endpoints {
				if e.State == "ejected" {
					n++
				}
			}
			if n != row.ejected {
				t.Errorf("%d ejected", n)
			}
		})
	}
}

// TestOutliers: an endpoint that fails now and then is found by its share of successes.
func TestOutliers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := new(fleet), newLoad()
		var addrs []string
		for i := range 6 {
			addrs = append(addrs, fmt.Sprint(i))
			f.start(t, addrs[i], rpc.Options{}, faulty(l, addrs[i], func() int { return map[int]int{3: 3}[i] }))
		}
		c := f.client(t, Static(addrs...), Options{Balancer: RoundRobin(), Eager: true})
		for range 12_000 {
			work.Call(bg, c, 1)
		}
		for _, e := range c.Snapshot().Endpoints {
			if (e.State == "ejected") != (e.Endpoint.Addr == "3") {
				t.Errorf("%+v", e)
			}
		}
	})
	for _, row := range []struct {
		shares []float64
		below  []int
	}{
		{[]float64{1, 1, 1, 1, 1}, nil},
		{[]float64{1, 1, 1, 1, 1, 0.5}, []int{5}},
		{[]float64{0.9, 0.91, 0.92, 0.9, 0.91}, nil},
		{[]float64{0.999, 1, 1, 1, 1, 1, 1, 1}, nil}, // one in a thousand is nothing
		{[]float64{0.5, 0.5, 0.5, 0.5, 0.5}, nil},    // none is worse than the others
	} {
		if got := below(row.shares, 1.9); !slices.Equal(got, row.below) {
			t.Errorf("%v: %v", row.shares, got)
		}
	}
}

// TestSessionLossIsOneFailure: a server that restarts is not ejected for the calls that its session took with it.
func TestSessionLossIsOneFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		register := func(s *rpc.Server) {
			work.Handle(s, func(ctx context.Context, n int) (int, error) { <-ctx.Done(); return n, nil })
		}
		first := f.start(t, "a", rpc.Options{}, register)
		f.start(t, "b", rpc.Options{}, register)
		c := f.client(t, Static("a", "b"), Options{Balancer: RoundRobin(), Eager: true, StallAfter: -1})
		synctest.Wait()
		ctx, cancel := context.WithCancel(bg)
		ended := make(chan error, 100)
		for range 100 {
			go func() { _, err := work.Call(ctx, c, 1); ended <- err }()
		}
		synctest.Wait()
		first.kill()
		f.start(t, "a", rpc.Options{}, register)
		for range 50 {
			want(t, <-ended, rpc.Unavailable, rpc.OutcomeUnknown)
		}
		time.Sleep(time.Second)
		if e := c.Snapshot().endpoint("a"); e.State != "ready" || e.Sessions != 2 {
			t.Errorf("%+v", e)
		}
		cancel()
		for range 50 {
			<-ended
		}
	})
}

// TestBusyIsNotSilent: a server all of whose turns are taken by long calls is there.
func TestBusyIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		f.start(t, "a", rpc.Options{MaxCalls: 1}, func(s *rpc.Server) {
			work.Handle(s, func(context.Context, int) (int, error) { time.Sleep(time.Minute); return 1, nil })
		})
		c := f.client(t, Static("a"), Options{})
		ended := make(chan error, 1)
		go func() { _, err := work.Call(bg, c, 1); ended <- err }()
		time.Sleep(30 * time.Second)
		if s := c.Snapshot().endpoint("a"); s.State != "ready" {
			t.Errorf("%+v", s)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestSilenceWithImpatience: a silent server comes back when it answers, though an interceptor gives each attempt little time.
func TestSilenceWithImpatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		s := f.start(t, "a", rpc.Options{}, named("a"))
		impatient := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return next(ctx, req)
		}}
		c := f.client(t, Static("a"), Options{Eager: true, RPC: rpc.Options{Interceptors: []rpc.Interceptor{impatient}},
			Outlier: Outlier{Consecutive: -1}})
		synctest.Wait()
		s.freeze(true)
		if _, err := where.Call(bg, c, ""); !errors.Is(err, rpc.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if e := c.Snapshot().endpoint("a"); e.State != "silent" {
			t.Errorf("frozen: %+v", e)
		}
		s.freeze(false)
		if _, err := where.Call(within(t, time.Minute), c, ""); err != nil {
			t.Errorf("it answers again: %v, %+v", err, c.Snapshot().endpoint("a"))
		}
	})
}

// TestSpentWhileAsked: a session that cannot even ask, since its streams are used up, is replaced.
func TestSpentWhileAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		f.start(t, "a", rpc.Options{}, named("a"))
		var asked atomic.Int64
		spent := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			if req.Method == rpc.Health.Name && asked.Add(1) == 2 {
				return nil, fail(rpc.Unavailable, transport.ErrStreamsExhausted)
			}
			if req.Method == where.Name && asked.Load() < 2 {
				<-ctx.Done()
				return nil, fail(rpc.DeadlineExceeded, ctx.Err())
			}
			return next(ctx, req)
		}}
		c := f.client(t, Static("a"), Options{RPC: rpc.Options{Interceptors: []rpc.Interceptor{spent}}})
		where.Call(within(t, 10*time.Second), c, "")
		if _, err := where.Call(within(t, time.Minute), c, ""); err != nil {
			t.Errorf("%v, %+v", err, c.Snapshot().endpoint("a"))
		}
	})
}

// TestEjectedServesAlone: what is ejected serves while nothing else does.
func TestEjectedServesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, faults := new(fleet), new(atomic.Int64)
		faults.Store(5)
		f.start(t, "a", rpc.Options{}, func(s *rpc.Server) {
			where.Handle(s, func(context.Context, string) (string, error) {
				if faults.Add(-1) >= 0 {
					return "", rpc.Internal
				}
				return "a", nil
			})
		})
		b := f.start(t, "b", rpc.Options{}, named("b"))
		c := f.client(t, Static("a", "b"), Options{Eager: true, Balancer: first("a")})
		synctest.Wait()
		for range 5 {
			where.Call(bg, c, "")
		}
		if s := c.Snapshot().endpoint("a"); s.State != "ejected" {
			t.Fatalf("%+v", s)
		}
		if got, err := where.Call(bg, c, ""); err != nil || got != "b" {
			t.Error(got, err)
		}
		b.drain(t)
		if got, err := where.Call(within(t, time.Second), c, ""); err != nil || got != "a" {
			t.Error(got, err)
		}
		f.start(t, "b", rpc.Options{}, named("b"))
		time.Sleep(5 * time.Second)
		if got, err := where.Call(within(t, time.Second), c, ""); err != nil || got != "b" {
			t.Error(got, err)
		}
	})
}

// TestNotSentIsNoFailure: what never left this side says nothing about a server: calls on a session whose streams are used up, say.
func TestNotSentIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		f.start(t, "a", rpc.Options{}, named("a"))
		f.start(t, "b", rpc.Options{}, named("b"))
		var attempts atomic.Int64
		unsent := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			if req.Method == where.Name && attempts.Add(1) <= 20 {
				return nil, fail(rpc.Unavailable, errors.New("no stream to be had"))
			}
			return next(ctx, req)
		}}
		c := f.client(t, Static("a", "b"), Options{Eager: true, RPC: rpc.Options{Interceptors: []rpc.Interceptor{unsent}}})
		synctest.Wait()
		if _, err := where.Call(within(t, time.Minute), c, ""); err != nil || attempts.Load() != 21 {
			t.Error(err, attempts.Load())
		}
		for _, e := range c.Snapshot().Endpoints {
			if e.State != "ready" {
				t.Errorf("%+v", e)
			}
		}
	})
}
