package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// load is callers that call without pause, and a journal of what ran.
type load struct {
	mu     sync.Mutex // protects all below
	ran    map[int]int
	places map[string]int // calls that went well, by server
	failed []error

	ids  atomic.Int64
	stop chan struct{}
	wg   sync.WaitGroup
}

func newLoad() *load {
	return &load{ran: make(map[int]int), places: make(map[string]int), stop: make(chan struct{})}
}

// serve registers work, whose calls take 20 ms in the mean.
func (l *load) serve(addr string) func(*rpc.Server) {
	return func(s *rpc.Server) {
		named(addr)(s)
		work.Handle(s, func(ctx context.Context, id int) (int, error) {
			l.mu.Lock()
			l.ran[id]++
			l.places[addr]++
			l.mu.Unlock()
			time.Sleep(time.Duration(rand.IntN(40_000)) * time.Microsecond)
			return id, nil
		})
	}
}

// run starts callers, each of whose calls has a time.
func (l *load) run(c *Client, callers int, limit time.Duration) {
	for range callers {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(bg, limit)
				id := int(l.ids.Add(1))
				n, err := work.Call(ctx, c, id)
				cancel()
				if err == nil && n != id {
					err = fmt.Errorf("call %d got the answer of %d", id, n)
				}
				if err != nil {
					l.mu.Lock()
					l.failed = append(l.failed, err)
					l.mu.Unlock()
				}
			}
		})
	}
}

// end stops the callers and checks the journal. It returns the errors, and how many calls ran.
func (l *load) end(t *testing.T) (failed []error, ran int) {
	close(l.stop)
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, times := range l.ran {
		if times != 1 {
			t.Errorf("call %d ran %d times", id, times)
		}
	}
	return l.failed, len(l.ran)
}

func (l *load) count(addr string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.places[addr]
}

// TestRollingRestart: three servers are drained and replaced in turn, three times, under load: no call fails, none runs twice. Their
// streams move too.
func TestRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := new(fleet), newLoad()
		addrs := []string{"a", "b", "c"}
		for _, addr := range addrs {
			f.start(t, addr, rpc.Options{}, l.serve(addr))
		}
		c := f.client(t, Static(addrs...), Options{})
		l.run(c, 16, time.Minute)
		for range 3 {
			for _, addr := range addrs {
				time.Sleep(time.Second)
				f.mu.Lock()
				old := f.servers[addr]
				f.mu.Unlock()
				old.drain(t)
				time.Sleep(time.Second)
				f.start(t, addr, rpc.Options{}, l.serve(addr))
			}
		}
		time.Sleep(2 * time.Second)
		failed, ran := l.end(t)
		if len(failed) != 0 || ran < 10_000 {
			t.Errorf("%d failed, %d ran; the first: %v", len(failed), ran, failed)
		}
		for _, addr := range addrs {
			if n := l.count(addr); n < ran/6 {
				t.Errorf("%s answered %d of %d: was it never taken back?", addr, n, ran)
			}
		}
	})
}

// TestDrainTakesEffectAtOnce: no call goes to a server that drains, and those in flight there end well.
func TestDrainTakesEffectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		release, begun := make(chan struct{}), make(chan string, 2)
		for _, addr := range []string{"a", "b"} {
			f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
				named(addr)(s)
				work.Handle(s, func(context.Context, int) (int, error) { begun <- addr; <-release; return 1, nil })
			})
		}
		c := f.client(t, Static("a", "b"), Options{Balancer: RoundRobin(), Eager: true})
		synctest.Wait()
		slow := make(chan error, 1)
		go func() { _, err := work.Call(bg, c, 1); slow <- err }()
		addr := <-begun
		f.mu.Lock()
		old := f.servers[addr]
		f.mu.Unlock()
		drained := make(chan struct{})
		go func() { old.drain(t); close(drained) }()
		synctest.Wait()
		for range 100 {
			if at, err := where.Call(bg, c, ""); err != nil || at == addr {
				t.Fatal(at, err)
			}
		}
		if n := c.Snapshot().Retries; n != 0 {
			t.Errorf("%d calls went to the server that drains", n)
		}
		close(release)
		if err := <-slow; err != nil {
			t.Error(err)
		}
		<-drained
	})
}

// TestKilled: of a server that is gone without a word only the calls in flight fail, and say that they may have run.
func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := new(fleet), newLoad()
		addrs := []string{"a", "b", "c"}
		servers := make(map[string]*server)
		for _, addr := range addrs {
			servers[addr] = f.start(t, addr, rpc.Options{}, l.serve(addr))
		}
		c := f.client(t, Static(addrs...), Options{})
		l.run(c, 16, time.Minute)
		const kills = 12
		for i := range kills {
			time.Sleep(time.Second + time.Duration(i)*time.Millisecond)
			addr := addrs[i%3]
			servers[addr].kill()
			time.Sleep(time.Second)
			servers[addr] = f.start(t, addr, rpc.Options{}, l.serve(addr))
		}
		failed, ran := l.end(t)
		for _, err := range failed {
			want(t, err, rpc.Unavailable, rpc.OutcomeUnknown)
		}
		if len(failed) > kills*16 || len(failed) == 0 || ran < 10_000 {
			t.Errorf("%d failed, %d ran", len(failed), ran)
		}
	})
}

// TestFrozen: a server that is frozen gets no new calls from 2.5 x StallAfter behind the first that it does not answer, whether or not its callers have deadlines, and gets
// them again when it goes on.
func TestFrozen(t *testing.T) {
	for name, limit := range map[string]time.Duration{"short deadlines": time.Second, "long deadlines": time.Hour} {
		bubble(t, name, func(t *testing.T) {
			f, l := new(fleet), newLoad()
			addrs := []string{"a", "b", "c"}
			servers := make(map[string]*server)
			for _, addr := range addrs {
				servers[addr] = f.start(t, addr, rpc.Options{}, l.serve(addr))
			}
			// Nothing but silence is to take it out.
			c := f.client(t, Static(addrs...), Options{Balancer: RoundRobin(), Outlier: Outlier{Consecutive: -1}})
			l.run(c, 6, limit)
			time.Sleep(5 * time.Second)
			servers["b"].freeze(true)
			time.Sleep(5*time.Second + 100*time.Millisecond) // a call comes within a tenth of a second
			if s := c.Snapshot().endpoint("b"); s.State != "silent" {
				t.Errorf("after 2.5 x StallAfter: %+v", s)
			}
			stuck, all := c.Snapshot().endpoint("b").InFlight, c.Snapshot().Calls
			time.Sleep(20 * time.Second)
			if n := c.Snapshot().endpoint("b").InFlight; n > stuck {
				t.Errorf("%d calls there, %d before", n, stuck)
			}
			if limit < time.Minute && c.Snapshot().Calls-all < 2_000 {
				t.Errorf("only %d calls went on", c.Snapshot().Calls-all)
			}
			before := l.count("b")
			servers["b"].freeze(false)
			time.Sleep(20 * time.Second)
			if n := l.count("b") - before; n < 500 {
				t.Errorf("%d calls since it goes on", n)
			}
			failed, _ := l.end(t)
			for _, err := range failed {
				want(t, err, rpc.DeadlineExceeded, rpc.OutcomeUnknown)
			}
		})
	}
}

// TestSilenceOfOneCall: a slow call is no silence.
func TestSilenceOfOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		f.start(t, "a", rpc.Options{}, func(s *rpc.Server) {
			work.Handle(s, func(context.Context, int) (int, error) { time.Sleep(time.Hour); return 1, nil })
		})
		c := f.client(t, Static("a"), Options{})
		ended := make(chan error, 1)
		go func() { _, err := work.Call(bg, c, 1); ended <- err }()
		for range 100 {
			time.Sleep(10 * time.Second)
			if s := c.Snapshot().endpoint("a"); s.State != "ready" {
				t.Fatalf("%+v", s)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestReconnects: sessions are made anew at times within the backoff's bounds, one at a time, and no more often than that while
// there is no server.
func TestReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		s := f.start(t, "a", rpc.Options{}, named("a"))
		c := f.client(t, Static("a"), Options{Eager: true, Backoff: Backoff{Base: time.Second, Max: 10 * time.Second}})
		time.Sleep(time.Minute)
		s.kill()
		began := time.Now()
		time.Sleep(10 * time.Minute)
		at := f.dialled("a")[1:]
		for i, when := range at {
			bound := min(time.Second<<min(i, 10), 10*time.Second)
			if since := when.Sub(began); since > bound {
				t.Errorf("dial %d after %v, bound %v", i, since, bound)
			}
			began = when
		}
		if len(at) < 60 || len(at) > 240 { // 5 s each in the mean
			t.Errorf("%d dials", len(at))
		}
		if e := c.Snapshot().endpoint("a"); e.State != "waiting" || e.Failures != len(at) || !errors.Is(e.Err, errRefused) {
			t.Errorf("%+v", e)
		}
		f.start(t, "a", rpc.Options{}, named("a"))
		time.Sleep(10 * time.Second)
		if e := c.Snapshot().endpoint("a"); e.State != "ready" || e.Failures != 0 || e.Sessions != 2 || e.Err != nil {
			t.Errorf("%+v", e)
		}
	})
}

// A slab is a log handler that keeps what it gets, or blocks until it is released.
type slab struct {
	slog.Handler
	mu      sync.Mutex // protects texts
	texts   []string
	release chan struct{}
}

func (s *slab) Handle(_ context.Context, r slog.Record) error {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, r.Message)
	return nil
}

func (s *slab) Enabled(context.Context, slog.Level) bool { return true }

// TestLog: what is told; and a log that blocks holds up neither calls nor sessions.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, log := new(fleet), &slab{release: make(chan struct{})}
		for _, addr := range []string{"a", "b"} {
			f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
				work.Handle(s, func(context.Context, int) (int, error) { return 0, rpc.Internal })
				named(addr)(s)
			})
		}
		c := f.client(t, Static("a", "b"), Options{Balancer: RoundRobin(), Logger: slog.New(log)})
		for i := range 100 {
			f.servers["a"].cut()
			time.Sleep(time.Second)
			if _, err := where.Call(within(t, time.Second), c, ""); err != nil {
				t.Error(i, err)
			}
			if _, err := work.Call(within(t, time.Second), c, 1); err == nil {
				t.Error("no error")
			}
		}
		if n := c.Snapshot().endpoint("a").Sessions; n < 50 {
			t.Errorf("%d sessions", n)
		}
		close(log.release)
		time.Sleep(time.Second)
		f.servers["b"].kill()
		for c.Snapshot().endpoint("a").State != "ready" {
			time.Sleep(time.Second)
		}
		for range 20 {
			work.Call(within(t, time.Second), c, 1)
		}
		synctest.Wait()
		log.mu.Lock()
		defer log.mu.Unlock()
		for _, text := range []string{"cluster: session", "cluster: no session", "cluster: ejected"} {
			if !slices.Contains(log.texts, text) {
				t.Errorf("nobody was told %q", text)
			}
		}
	})
}

// TestMaxDials: no more sessions are in the making at once than allowed, one to an endpoint.
func TestMaxDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		making, most, each := 0, 0, make(map[string]int)
		list := new(List)
		var set []Endpoint
		for i := range 50 {
			set = append(set, Endpoint{Addr: fmt.Sprint(i)})
		}
		list.Set(set...)
		c := New(list, Options{Eager: true, MaxDials: 3, Dial: func(ctx context.Context, e Endpoint) (rpc.Session, error) {
			mu.Lock()
			making++
			most = max(most, making)
			each[e.Addr]++
			if each[e.Addr] > 1 {
				t.Error("two at once to", e.Addr)
			}
			mu.Unlock()
			err := errRefused
			if !sleep(ctx, time.Second) {
				err = ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			making--
			each[e.Addr]--
			return nil, err
		}})
		time.Sleep(time.Minute)
		c.Close()
		if most != 3 {
			t.Error(most)
		}
	})
}
