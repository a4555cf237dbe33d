//go:build unix

package fleet

import (
	"flag"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealmux/sealmux/internal/faultnet"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

var (
	rolls = flag.Int("rolls", 1, "how often TestRolling restarts each server")
	kills = flag.Int("kills", 4, "how many servers TestKilled kills")
)

const ttl = 10 * time.Second // the default

// TestRolling: each server in turn gets SIGTERM, and another takes its place. No call fails, none runs twice.
func TestRolling(t *testing.T) {
	w := newWorld(t)
	servers := w.three(t, ttl)
	c := w.client(t, transport.Config{}, cluster.Options{})
	l := begin(t, c)
	l.answers(t, 20, servers...)
	drained := time.Duration(0)
	for range *rolls {
		for i, s := range servers {
			begin := time.Now()
			s.terminate(t)
			drained = max(drained, time.Since(begin))
			servers[i] = w.start(t, ttl, nil)
			l.answers(t, 20, servers...)
		}
	}
	v := w.judge(t, l.end())
	failures(t, v)
	if v.twice > 0 {
		t.Errorf("%d calls ran twice", v.twice)
	}
	t.Logf("%d restarts: %v; %d went to another server; the longest drain took %v", *rolls*len(servers), v, c.Snapshot().Retries,
		drained.Round(time.Millisecond))
}

// TestKilled: servers are killed at random moments. What was in flight there and may not run twice may have run; all else is well.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	servers := w.three(t, 2*time.Second)
	c := w.client(t, transport.Config{}, cluster.Options{})
	l := begin(t, c)
	var moments []time.Time
	for range *kills {
		l.answers(t, 20, servers...)
		time.Sleep(rand.N(20 * time.Millisecond)) // any moment will do
		i := rand.IntN(len(servers))
		moments = append(moments, time.Now())
		servers[i].kill()
		servers[i] = w.start(t, 2*time.Second, nil)
	}
	l.answers(t, 20, servers...)
	results := l.end()
	v := w.judge(t, results)
	if v.never > 0 {
		t.Errorf("%d calls were not made again", v.never)
	}
	last := time.Duration(0) // how long behind the kill before it a call began that was lost
	for _, r := range results {
		if r.err == nil {
			continue
		}
		after := time.Hour
		for _, killed := range moments {
			if r.ended.After(killed) {
				after = r.began.Sub(killed)
			}
		}
		last = max(last, after)
	}
	if most := *kills * callers; v.unknown > most {
		t.Errorf("%d calls were lost, of %d that can have been in flight", v.unknown, most)
	}
	t.Logf("%d kills: %v; the last call that was lost began %v after its kill; %d attempts were made again", *kills, v,
		last.Round(time.Millisecond), c.Snapshot().Retries)
	if last > time.Second {
		t.Error("calls went to a server that was dead for a second")
	}
}

// TestPaused: a server is stopped with SIGSTOP. Within 2.5 x StallAfter, or when its lease ends, no new calls go there; what waits there is
// answered when it goes on, and calls go there again.
func TestPaused(t *testing.T) {
	t.Parallel() // as all tests that mostly wait
	for _, c := range []struct {
		name        string
		ttl, within time.Duration // the server's lease; when calls must go elsewhere
	}{
		{"the lease stays", time.Minute, 5 * time.Second},
		{"the lease ends", 2 * time.Second, 4 * time.Second}, // etcd looks for leases that have ended twice a second
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			servers := w.three(t, c.ttl)
			client := w.client(t, transport.Config{}, cluster.Options{})
			l := beginAt(t, client)
			l.answers(t, 20, servers...)
			servers[0].stop(t)
			stopped := time.Now()
			time.Sleep(c.within + time.Second)
			goesOn := time.Now()
			if err := servers[0].Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			l.answers(t, 20, servers...)
			back := time.Since(goesOn)
			results := l.end()
			v := w.judge(t, results)
			failures(t, v)
			left, waited, others := time.Duration(0), 0, 0
			for _, r := range results {
				switch paused := r.ended.After(stopped) && r.began.Before(goesOn); {
				case paused && r.server == servers[0].name:
					waited++
					left = max(left, r.began.Sub(stopped))
				case paused:
					others++
				}
			}
			t.Logf("%v; the last call placed there began %v after SIGSTOP (bound %v), %d waited there, %d went elsewhere; traffic is back %v after SIGCONT",
				v, left.Round(time.Millisecond), c.within, waited, others, back.Round(time.Millisecond))
			if left > c.within+500*time.Millisecond {
				t.Error("calls were placed there for too long")
			}
		})
	}
}

// TestCutOff: between the client and one server everything is lost, without a word, while etcd still has it. Calls go elsewhere
// within 2.5 x StallAfter, those in flight end with the session's keepalive, and when the network is healed calls go there again.
func TestCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var proxy *faultnet.Proxy
	var healed atomic.Bool
	lost := w.start(t, ttl, func(addr string) string {
		var err error
		proxy, err = faultnet.NewProxy(addr, func(n int) (up, down faultnet.Line) {
			stall := faultnet.Fault{Kind: faultnet.Stall}
			if n == 0 {
				stall.At = 16 << 10 // some hundred calls
			}
			if !healed.Load() {
				up.Faults, down.Faults = []faultnet.Fault{stall}, []faultnet.Fault{stall}
			}
			return up, down
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Close)
		return proxy.Addr()
	})
	servers := []*server{lost, w.start(t, ttl, nil), w.start(t, ttl, nil)}
	c := w.client(t, transport.Config{KeepaliveInterval: 4 * time.Second, KeepaliveTimeout: 3 * time.Second}, cluster.Options{})
	l := beginAt(t, c)
	l.answers(t, 20, servers...)
	var cut time.Time
	for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		up, down := proxy.Stats()
		if up.Faults+down.Faults > 0 {
			cut = time.Now()
			break
		}
		if time.Now().After(late) {
			t.Fatal("nothing was lost")
		}
	}
	time.Sleep(8 * time.Second) // the session's keepalive, which ends it
	healed.Store(true)
	proxy.Cut()
	again := time.Now()
	l.answers(t, 20, servers...)
	back := time.Since(again)
	results := l.end()
	v := w.judge(t, results)
	if v.never > 0 {
		t.Errorf("%d calls were not made again", v.never)
	}
	left, ended := time.Duration(0), time.Duration(0)
	for _, r := range results {
		if r.err != nil {
			left, ended = max(left, r.began.Sub(cut)), max(ended, r.ended.Sub(cut))
		}
	}
	t.Logf("%v; the last call that was lost began %v after the cut (bound 5s) and ended %v after it "+
		"(keepalive 4s + 3s); traffic is back %v after it was healed",
		v, left.Round(time.Millisecond), ended.Round(time.Millisecond), back.Round(time.Millisecond))
	if left > 5500*time.Millisecond {
		t.Error("calls were placed there for too long")
	}
}

// TestEtcdAway: calls go on while etcd is away, servers that are drained meanwhile are left, and new ones found when it is back.
func TestEtcdAway(t *testing.T) {
	w := newWorld(t)
	servers := w.three(t, time.Minute)
	c := w.client(t, transport.Config{}, cluster.Options{})
	l := begin(t, c)
	l.answers(t, 20, servers...)
	w.engine.Close()
	gone := time.Now()
	l.answers(t, 200, servers...)
	w.startEtcd(t)
	t.Logf("etcd was away for %v", time.Since(gone).Round(time.Millisecond))
	servers[0].terminate(t)
	servers[0] = w.start(t, time.Minute, nil)
	back := time.Now()
	l.answers(t, 20, servers...)
	v := w.judge(t, l.end())
	failures(t, v)
	t.Logf("%v; a server that came later was found after %v", v, time.Since(back).Round(time.Millisecond))
}

// TestEven: how evenly calls are spread.
func TestEven(t *testing.T) {
	for _, c := range []struct {
		name      string
		balancer  cluster.Balancer
		low, high float64 // what a server may do, of an equal share
	}{
		{"RoundRobin", cluster.RoundRobin(), 0.95, 1.05},
		// It goes by the latency, and on a busy machine processes that are alike differ in that for seconds.
		{"LeastLoaded", cluster.LeastLoaded(), 0.33, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			servers := w.three(t, ttl)
			client := w.client(t, transport.Config{}, cluster.Options{Balancer: c.balancer})
			l := begin(t, client)
			l.answers(t, 20, servers...)
			from := time.Now()
			l.answers(t, 1500, servers...)
			counts, total := make(map[string]int), 0
			v := w.judge(t, l.end())
			failures(t, v)
			for _, r := range l.results {
				if r.began.After(from) {
					counts[r.server]++
					total++
				}
			}
			least, most := math.Inf(1), 0.0
			for _, s := range servers {
				share := float64(counts[s.name]) * float64(len(servers)) / float64(total)
				least, most = min(least, share), max(most, share)
			}
			t.Logf("%s: %v: each does %.3f to %.3f of an equal share (bounds %v, %v)", c.name, counts, least, most, c.low, c.high)
			if least < c.low || most > c.high {
				t.Error("uneven")
			}
		})
	}
}
