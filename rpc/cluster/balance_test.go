package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// nodes makes nodes of these weights, named 0, 1 and so on.
func nodes(weights ...int) (all []*Node) {
	for i, w := range weights {
		all = append(all, newNode(Endpoint{Addr: fmt.Sprint("server", i), Weight: w}))
	}
	return all
}

// tallyOf counts who is picked.
func tallyOf(b Balancer, all []*Node, picks int, ctx func(i int) context.Context) []int {
	counts := make([]int, len(all))
	for i := range picks {
		picked := b.Pick(ctx(i), all)
		for j, n := range all {
			if n == picked {
				counts[j]++
			}
		}
	}
	return counts
}

// TestShares: over many picks each endpoint gets its weight's share.
func TestShares(t *testing.T) {
	plain := func(int) context.Context { return bg }
	keyed := func(i int) context.Context { return WithKey(bg, fmt.Sprint("key", i)) }
	for _, row := range []struct {
		name     string
		balancer Balancer
		ctx      func(int) context.Context
		within   float64 // of the share
	}{
		{"round robin", RoundRobin(), plain, 0.01},
		{"consistent hash", ConsistentHash(), keyed, 0.1},
	} {
		for _, weights := range [][]int{{1}, {1, 1, 1}, {0, 0, 0, 0}, {1, 2, 5}, {5, 5}, {1, 100}, {-1, 1 << 30}} {
			const picks = 30_000
			all := nodes(weights...)
			total := 0.0
			for _, n := range all {
				total += n.Endpoint().weight()
			}
			for i, got := range tallyOf(row.balancer, all, picks, row.ctx) {
				share := picks * all[i].Endpoint().weight() / total
				if math.Abs(float64(got)-share) > row.within*share+30 {
					t.Errorf("%s, weights %v: %d got %d of %.0f", row.name, weights, i, got, share)
				}
			}
		}
	}
}

// TestRoundRobinTurns: without weights no endpoint is picked twice before the others.
func TestRoundRobinTurns(t *testing.T) {
	b, all := RoundRobin(), nodes(1, 1, 1, 1)
	for range 10 {
		for i, n := range tallyOf(b, all, 4, func(int) context.Context { return bg }) {
			if n != 1 {
				t.Errorf("%d was picked %d times in a turn", i, n)
			}
		}
	}
}

// TestConsistentHash: a key stays where it is when others come and go, whatever the order of the endpoints, and leaves one that has too
// much to do.
func TestConsistentHash(t *testing.T) {
	b, all := ConsistentHash(), nodes(1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	const keys = 2000
	moved := 0
	for i := range keys {
		ctx := WithKey(bg, fmt.Sprint("key", i))
		home := b.Pick(ctx, all)
		shuffled := append([]*Node(nil), all...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if b.Pick(ctx, shuffled) != home {
			t.Fatal("the order matters")
		}
		if at := b.Pick(ctx, all[1:]); at != home {
			moved++
			if home != all[0] {
				t.Fatal("a key moved whose endpoint has stayed")
			}
		}
		// 90 calls in flight: 10 for each are its share, and 12 for one.
		for _, n := range all {
			n.inflight.Store(9)
		}
		home.inflight.Store(11)
		if b.Pick(ctx, all) != home {
			t.Fatal("a key left an endpoint that had room")
		}
		home.inflight.Store(20)
		if next := b.Pick(ctx, all); next == home || b.Pick(ctx, all) != next {
			t.Fatal("a key stayed at one that had none, or has no second place")
		}
		for _, n := range all {
			n.inflight.Store(0)
		}
	}
	if moved < keys/20 || moved > keys/5 {
		t.Errorf("%d of %d keys moved; a tenth was due", moved, keys)
	}
}

// TestLeastLoaded: of two, the one with less to wait for.
func TestLeastLoaded(t *testing.T) {
	for name, row := range map[string]struct {
		latency [2]time.Duration
		waiting [2]int64
		weight  [2]int
		want    int
	}{
		"fewer calls":           {[2]time.Duration{1, 1}, [2]int64{5, 3}, [2]int{1, 1}, 1},
		"quicker":               {[2]time.Duration{10, 7}, [2]int64{4, 4}, [2]int{1, 1}, 1},
		"slow with fewer calls": {[2]time.Duration{100, 10}, [2]int64{1, 9}, [2]int{1, 1}, 1},
		"weight":                {[2]time.Duration{10, 10}, [2]int64{9, 4}, [2]int{4, 1}, 0},
		"unknown and idle":      {[2]time.Duration{0, 1}, [2]int64{0, 0}, [2]int{1, 1}, 0},
		"unknown and asked":     {[2]time.Duration{0, 1}, [2]int64{1, 1000}, [2]int{1, 1}, 1},
	} {
		bubble(t, name, func(t *testing.T) {
			all := nodes(row.weight[:]...)
			for i, n := range all {
				if row.latency[i] > 0 {
					n.speed.observe(row.latency[i] * time.Millisecond)
				}
				n.inflight.Store(row.waiting[i])
			}
			for range 20 {
				if LeastLoaded().Pick(bg, all) != all[row.want] {
					t.Fatal("the other")
				}
			}
		})
	}
}

// TestAlike: of three that are about as quick each gets its share of calls, one after the other.
func TestAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1, 1)
		counts := make([]int, 3)
		for range 9000 {
			n := LeastLoaded().Pick(bg, all)
			i := slices.Index(all, n)
			counts[i]++
			took := time.Duration(100+10*i) * time.Microsecond
			time.Sleep(took)
			n.speed.observe(took)
		}
		for i, n := range counts {
			if n < 2500 || n > 3500 {
				t.Errorf("%d got %d", i, n)
			}
		}
	})
}

// TestLatency: it rises at once, falls and fades with time.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := nodes(1)[0]
		about := func(low, high time.Duration) {
			t.Helper()
			if got := n.Latency(); got < low || got > high {
				t.Errorf("%v, want %v to %v", got, low, high)
			}
		}
		about(0, 0)
		n.speed.observe(10 * time.Millisecond)
		about(10*time.Millisecond, 10*time.Millisecond)
		n.speed.observe(time.Second)
		about(time.Second, time.Second)
		n.speed.observe(time.Millisecond)
		about(time.Second-time.Millisecond, time.Second)
		time.Sleep(2 * time.Second)
		about(360*time.Millisecond, 375*time.Millisecond)
		n.speed.observe(time.Millisecond)
		about(100*time.Millisecond, 375*time.Millisecond)
		time.Sleep(time.Minute)
		about(0, time.Microsecond)
		n.speed.punish(0)
		about(10*time.Millisecond, 10*time.Millisecond)
		for range 20 {
			n.speed.punish(0)
		}
		about(time.Second, time.Second)
		n.speed.atLeast(time.Millisecond)
		about(time.Second, time.Second)
		n.speed.atLeast(time.Minute)
		about(time.Minute, time.Minute)
	})
}

// TestLeastLoadedWeights: endpoints that are as quick get their weights' shares, of calls that come one by one and of many at once.
func TestLeastLoadedWeights(t *testing.T) {
	for name, row := range map[string]struct {
		weights []int
		callers int
	}{
		"two, idle":      {[]int{3, 1}, 1},
		"two, busy":      {[]int{3, 1}, 40},
		"one of many":    {[]int{1, 1, 1, 1, 10, 1, 1, 1, 1, 1}, 1},
		"the same, busy": {[]int{1, 1, 1, 1, 10, 1, 1, 1, 1, 1}, 60},
		"far apart":      {[]int{1, math.MaxUint16, math.MaxUint16}, 10},
	} {
		bubble(t, name, func(t *testing.T) {
			all, total := nodes(row.weights...), 0.0
			for _, n := range all {
				total += n.Endpoint().weight()
			}
			calls, counts := 12_000, make(map[*Node]int)
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range row.callers {
				wg.Go(func() {
					for range calls / row.callers {
						mu.Lock()
						n := LeastLoaded().Pick(bg, all)
						counts[n]++
						n.inflight.Add(1)
						mu.Unlock()
						time.Sleep(time.Millisecond)
						n.inflight.Add(-1)
						n.speed.observe(time.Millisecond)
					}
				})
			}
			wg.Wait()
			for i, n := range all {
				share := float64(calls) * n.Endpoint().weight() / total
				if got := float64(counts[n]); math.Abs(got-share) > 0.2*share+30 {
					t.Errorf("%d, of weight %d, got %.0f of %.0f", i, n.Endpoint().Weight, got, share)
				}
			}
		})
	}
}

// TestEven: of ten servers alike, each does its share of a client's calls, within the stated bound; and of a slow one the others take
// the load over.
func TestEven(t *testing.T) {
	for name, row := range map[string]struct {
		balancer Balancer
		within   float64
	}{
		"least loaded": {LeastLoaded(), 0.1},
		"round robin":  {RoundRobin(), 0.01},
	} {
		bubble(t, name, func(t *testing.T) {
			f, l := new(fleet), newLoad()
			var addrs []string
			for i := range 10 {
				addrs = append(addrs, fmt.Sprint("server", i))
				f.start(t, addrs[i], rpc.Options{}, l.serve(addrs[i]))
			}
			c := f.client(t, Static(addrs...), Options{Balancer: row.balancer, Eager: true})
			synctest.Wait()
			l.run(c, 40, time.Minute)
			time.Sleep(6 * time.Second)
			failed, ran := l.end(t)
			if len(failed) > 0 || ran < 10_000 {
				t.Error(failed, ran)
			}
			for _, addr := range addrs {
				if share := float64(l.count(addr)) / float64(ran) * 10; math.Abs(share-1) > row.within {
					t.Errorf("%s did %.3f of its share", addr, share)
				}
			}
		})
	}
	bubble(t, "one is ten times as slow", func(t *testing.T) {
		f, l := new(fleet), newLoad()
		addrs := []string{"a", "b", "c"}
		for _, addr := range addrs {
			f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
				work.Handle(s, func(_ context.Context, n int) (int, error) {
					l.mu.Lock()
					l.places[addr]++
					l.mu.Unlock()
					time.Sleep(10 * time.Millisecond)
					if addr == "b" {
						time.Sleep(90 * time.Millisecond)
					}
					return n, nil
				})
			})
		}
		c := f.client(t, Static(addrs...), Options{})
		l.run(c, 12, time.Minute)
		time.Sleep(8 * time.Second)
		l.end(t)
		all := l.count("a") + l.count("b") + l.count("c")
		if share := float64(l.count("b")) / float64(all); share > 0.1 || l.count("b") == 0 {
			t.Errorf("the slow one did %.2f of all", share)
		}
	})
}

// TestSubset: each client chooses as many as it should, the same each time; together they choose each endpoint about as often; and
// one that goes changes the choice of those alone that had it.
func TestSubset(t *testing.T) {
	var set []Endpoint
	for i := range 100 {
		set = append(set, Endpoint{Addr: fmt.Sprintf("10.0.0.%d:7443", i)})
	}
	chosen := make(map[string]int)
	const clients, size = 2000, 10
	for i := range clients {
		id := fmt.Sprint("client", i)
		mine := subset(set, id, size)
		if len(mine) != size {
			t.Fatal(len(mine))
		}
		has := make(map[string]bool)
		for _, e := range mine {
			chosen[e.Addr]++
			has[e.Addr] = true
		}
		lost := 0
		for _, e := range subset(set[1:], id, size) {
			if !has[e.Addr] {
				lost++
			}
		}
		if most := map[bool]int{true: 1, false: 0}[has[set[0].Addr]]; lost != most {
			t.Errorf("%d of the choice have changed", lost)
		}
	}
	for _, e := range set { // 200 each in the mean, 13.4 the standard deviation
		if n := chosen[e.Addr]; n < 140 || n > 260 {
			t.Errorf("%s was chosen by %d", e.Addr, n)
		}
	}
	for _, n := range []int{0, -1, 100, 1000} {
		if len(subset(set, "x", n)) != 100 {
			t.Error(n)
		}
	}
}

// TestBackoff: waits lie within bounds that double up to the limit.
func TestBackoff(t *testing.T) {
	b := Backoff{Base: time.Second, Max: time.Minute}
	for failures, bound := range map[int]time.Duration{-1: 1, 0: 1, 1: 2, 2: 4, 5: 32, 6: 60, 61: 60, 62: 60, 1 << 40: 60} {
		bound *= time.Second
		if got := b.wait(failures, 0.5); got != bound/2 {
			t.Errorf("%d: %v, want %v", failures, got, bound/2)
		}
		if b.wait(failures, 0) != 0 || b.wait(failures, 0.999999) >= bound {
			t.Error(failures)
		}
	}
}
