//go:build unix

package hostile

import (
	"flag"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmux/sealmux/internal/faultnet"
)

var soak = flag.Duration("soak", 3*time.Second, "how long TestSoak runs")

// proxied is a connection through a proxy of its own.
type proxied struct {
	net.Conn
	proxy *faultnet.Proxy
}

func (c *proxied) Cut() { c.proxy.Cut() }

func (c *proxied) Faults() int {
	up, down := c.proxy.Stats()
	return up.Faults + down.Faults
}

// TestSoak is the simulation's work in real time: over TCP, through proxies that fail, until the time is over.
func TestSoak(t *testing.T) {
	var mu sync.Mutex // protects the next two
	var sum tally
	var violations []string
	var seeds atomic.Uint64
	seeds.Store(*simSeed - 1)
	end := time.Now().Add(*soak)
	round := func() {
		w := newWorld(seeds.Add(1))
		w.speed = 50
		var proxies []*faultnet.Proxy
		var target atomic.Value
		w.listen = func() (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				target.Store(l.Addr().String())
			}
			return l, err
		}
		w.connect = func(up, down faultnet.Line) (faulty, error) {
			addr, ok := target.Load().(string)
			if !ok {
				return nil, net.ErrClosed // no server yet
			}
			p, err := faultnet.NewProxy(addr, func(int) (faultnet.Line, faultnet.Line) { return up, down })
			if err != nil {
				return nil, err
			}
			mu.Lock()
			proxies = append(proxies, p)
			mu.Unlock()
			c, err := net.Dial("tcp", p.Addr())
			return &proxied{c, p}, err
		}
		w.run()
		for _, p := range proxies {
			p.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		sum.add(&w.tally)
		violations = append(violations, w.violations...)
		for _, v := range w.violations {
			t.Errorf("seed %d: %s", w.seed, v)
		}
	}
	many := func(until func() bool) {
		var worlds sync.WaitGroup
		for range 4 {
			worlds.Go(func() {
				for !until() {
					round()
				}
			})
		}
		worlds.Wait()
	}
	once := seeds.Load() + 8
	many(func() bool { return seeds.Load() >= once }) // what is kept for ever is there from now on
	bytes, goroutines := use()
	many(func() bool { return time.Now().After(end) })
	var grown uint64
	var left int
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // timers may still hold some
		after, now := use()
		grown, left = max(after, bytes)-bytes, now-goroutines
		if left <= 0 && grown < 16<<20 || time.Now().After(limit) {
			break
		}
	}
	t.Logf("%v, seeds %d to %d: %d calls and streams (%d well, %d failed in a handler, %d never ran, %d may have run), %d sessions, %d handshakes failed, %d faults, %d drains; violations: %d; %d KiB and %d goroutines grown",
		*soak, *simSeed, seeds.Load(), sum.calls, sum.ok, sum.executed, sum.never, sum.unknown, sum.sessions, sum.refused, sum.faults, sum.drains, len(violations), grown>>10, max(left, 0))
	if left > 0 || grown >= 16<<20 {
		stacks := make([]byte, 1<<16)
		t.Errorf("something was left behind\n%s", stacks[:runtime.Stack(stacks, true)])
	}
}
