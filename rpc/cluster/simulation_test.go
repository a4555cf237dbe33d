package cluster

import (
	"container/heap"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var simFull = flag.Bool("sim.full", false, "simulate 100,000 clients and 1,000 servers, rather than a fiftieth of them")

// A world is what is simulated: clients of servers, of which a third restarts at once.
type world struct {
	clients, servers, subset int
	down                     time.Duration // how long a restart takes
	handshake                time.Duration // of a server's time, one after the other
}

func newWorld() world {
	w := world{clients: 2_000, servers: 100, subset: 20, down: 10 * time.Second, handshake: 2 * time.Millisecond}
	if *simFull {
		w.clients, w.servers = 100_000, 1_000
	}
	return w
}

// chosen returns, for each client, the indices of its servers.
func (w world) chosen(size int) [][]int {
	hashes := make([]uint64, w.servers)
	for i := range hashes {
		hashes[i] = hashString(fmt.Sprintf("10.0.%d.%d:7443", i/256, i%256))
	}
	all := make([][]int, w.clients)
	for i := range all {
		all[i] = highest(hashes, hashString(fmt.Sprint("client-", i)), size)
	}
	return all
}

// A dial is the next attempt of a client to connect.
type dial struct {
	at       time.Duration
	failures int
}

type dialQueue []dial

func (q dialQueue) Len() int           { return len(q) }
func (q dialQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q dialQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *dialQueue) Push(x any)        { *q = append(*q, x.(dial)) }
func (q *dialQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// A storm is what the restart of one server comes to.
type storm struct {
	perSecond []int         // dials
	timeouts  int           // dials that the server did not get to in time
	back      time.Duration // until 99 of 100 sessions are there again
}

// storm simulates how many clients come back to a server, each with this backoff; without jitter each waits for as long as it may. A
// dial that has waited for 10 s gives up, and has then cost the server nothing.
func (w world) storm(rng *rand.Rand, clients int, b Backoff, jitter bool) (s storm) {
	const timeout = 10 * time.Second
	wait := func(failures int) time.Duration {
		if jitter {
			return b.wait(failures, rng.Float64())
		}
		return b.wait(failures, 1)
	}
	q := make(dialQueue, 0, clients)
	for range clients {
		q = append(q, dial{wait(0), 0})
	}
	heap.Init(&q)
	busy, left := w.down, clients/100
	for len(q) > left {
		d := heap.Pop(&q).(dial)
		for second := int(d.at / time.Second); len(s.perSecond) <= second; {
			s.perSecond = append(s.perSecond, 0)
		}
		s.perSecond[d.at/time.Second]++
		switch {
		case d.at < w.down: // refused at once
			heap.Push(&q, dial{d.at + wait(d.failures+1), d.failures + 1})
		case busy-d.at > timeout:
			s.timeouts++
			heap.Push(&q, dial{d.at + timeout + wait(d.failures+1), d.failures + 1})
		default:
			busy = max(busy, d.at) + w.handshake
			s.back = max(s.back, busy)
		}
	}
	return s
}

// peak is the most dials in a second since a time.
func (s storm) peak(since time.Duration) int {
	return slices.Max(s.perSecond[min(int(since/time.Second), len(s.perSecond)-1):])
}

// TestSimulatedStorm: a third of the servers restart at once. Backoff with jitter and subsets keep the handshakes that each has to do
// within what it can; without either they come all in one second, or are more than it can do.
func TestSimulatedStorm(t *testing.T) {
	w := newWorld()
	b := Options{Dial: new(fleet).dial}.withDefaults().Backoff
	sessions := make([]int, w.servers) // with subsets
	for _, mine := range w.chosen(w.subset) {
		for _, i := range mine {
			sessions[i]++
		}
	}
	restarted := sessions[:w.servers/3]
	everybody := []int{w.clients, w.clients, w.clients} // three servers tell about all: they are alike
	t.Logf("%d clients, %d servers, %d restart for %v; a server can do %d handshakes a second", w.clients, w.servers, len(restarted),
		w.down, time.Second/w.handshake)
	type row struct {
		name     string
		sessions []int
		backoff  Backoff
		jitter   bool
	}
	results := make(map[string]storm) // of each row the worst
	for _, r := range []row{
		{"every second, all servers", everybody, Backoff{time.Second, time.Second}, false},
		{"exponential, all servers", everybody, b, false},
		{"exponential and jitter, all servers", everybody, b, true},
		{"every second, subset", restarted, Backoff{time.Second, time.Second}, false},
		{"exponential, subset", restarted, b, false},
		{"exponential and jitter, subset", restarted, b, true},
	} {
		var worst storm
		peak, down := 0, 0
		for i, n := range r.sessions {
			s := w.storm(rand.New(rand.NewPCG(uint64(i), 7)), n, r.backoff, r.jitter)
			peak, down = max(peak, s.peak(w.down)), max(down, s.peak(0))
			worst.timeouts, worst.back = max(worst.timeouts, s.timeouts), max(worst.back, s.back)
		}
		worst.perSecond = []int{peak}
		results[r.name] = worst
		t.Logf("%-36s most dials of one server in a second: %6d (%6d while it is down); timeouts %7d; 99%% are back after %v",
			r.name+":", peak, down, worst.timeouts, worst.back.Round(100*time.Millisecond))
	}
	shipped, bare := results["exponential and jitter, subset"], results["exponential, subset"]
	capacity := int(time.Second / w.handshake)
	if shipped.perSecond[0] > capacity || shipped.timeouts > 0 {
		t.Errorf("more than a server can do: %+v", shipped)
	}
	if bare.perSecond[0] < slices.Max(restarted)*98/100 { // the simulation ends with 99 of 100
		t.Errorf("without jitter they should all come at once: %+v", bare)
	}
	if most, mean := slices.Max(sessions), w.clients*w.subset/w.servers; float64(most) > 1.25*float64(mean) {
		t.Errorf("one server has %d sessions, the mean is %d", most, mean)
	}
	w.down = 0
	at := w.storm(rand.New(rand.NewPCG(1, 7)), slices.Max(restarted), b, true)
	t.Logf("%-36s most dials of one server in a second: %6d; timeouts %d; 99%% are back after %v", "the same, a restart of no time:",
		at.peak(0), at.timeouts, at.back.Round(100*time.Millisecond))
	if at.timeouts > 0 || at.back > 10*time.Second {
		t.Errorf("a restart of no time: %+v", at)
	}
	t.Logf("sessions of a server, with subsets of %d: %d to %d", w.subset, slices.Min(sessions), slices.Max(sessions))
}

// A finish is a call that is under way.
type finish struct {
	at     time.Duration
	client *Node // the server as this client sees it
	server int
	took   time.Duration
}

type finishQueue []finish

func (q finishQueue) Len() int           { return len(q) }
func (q finishQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q finishQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *finishQueue) Push(x any)        { *q = append(*q, x.(finish)) }
func (q *finishQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// even simulates calls of all clients, each by its own balancer on its subset, with the first third of the servers gone if down,
// and returns how many each server got. A call takes 10 ms in the mean, longer where more than 8 run.
func (w world) even(t *testing.T, calls int, down bool, balancer func(*rand.Rand) Balancer) (got []int) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		endpoints := make([]Endpoint, w.servers)
		for i := range endpoints {
			endpoints[i].Addr = fmt.Sprint(i)
		}
		clients := make([][]*Node, w.clients)
		index := make([][]int, w.clients)
		balancers := make([]Balancer, w.clients)
		for i, mine := range w.chosen(w.subset) {
			balancers[i] = balancer(rng)
			for _, j := range mine {
				if !down || j >= w.servers/3 {
					n := new(Node)
					n.endpoint.Store(&endpoints[j])
					clients[i], index[i] = append(clients[i], n), append(index[i], j)
				}
			}
		}
		got = make([]int, w.servers)
		running := make([]int, w.servers)
		var q finishQueue
		began := time.Now()
		until := func(at time.Duration) { // time is the bubble's, as the code under test sees it
			if d := at - time.Since(began); d > 0 {
				time.Sleep(d)
			}
		}
		rate := 400 * float64(w.servers) // calls a second: half of what 8 at a time can do
		next := time.Duration(0)
		for range calls {
			next += time.Duration(rng.ExpFloat64() / rate * float64(time.Second))
			for len(q) > 0 && q[0].at <= next {
				f := heap.Pop(&q).(finish)
				until(f.at)
				f.client.inflight.Add(-1)
				f.client.speed.observe(f.took)
				running[f.server]--
			}
			until(next)
			c := rng.IntN(w.clients)
			if len(clients[c]) == 0 {
				continue
			}
			n := balancers[c].Pick(bg, clients[c])
			server := index[c][slices.Index(clients[c], n)]
			got[server]++
			running[server]++
			n.inflight.Add(1)
			took := time.Duration(rng.ExpFloat64() * float64(10*time.Millisecond) * max(1, float64(running[server])/8))
			heap.Push(&q, finish{next + took, n, server, took})
		}
	})
	if down {
		got = got[w.servers/3:]
	}
	return got
}

// TestSimulatedEvenness: with subsets the servers get about as many calls each, all of them and while a third is down. The bounds are
// four standard deviations of what chance alone does, above what the subsets do.
func TestSimulatedEvenness(t *testing.T) {
	w := newWorld()
	calls := 40_000
	if *simFull {
		calls = 500_000
	}
	for _, down := range []bool{false, true} {
		for name, b := range map[string]func(*rand.Rand) Balancer{
			"round robin":  func(rng *rand.Rand) Balancer { return newRoundRobin(rng.Uint64()) },
			"least loaded": func(rng *rand.Rand) Balancer { return leastLoaded{rng.IntN} },
		} {
			got := w.even(t, calls, down, b)
			mean := float64(calls) / float64(len(got))
			low, high := float64(slices.Min(got))/mean, float64(slices.Max(got))/mean
			t.Logf("a third down: %-5v %-12s a server gets %.2f to %.2f of its share of the calls", down, name, low, high)
			most := 1.25 + 4/math.Sqrt(mean)
			if high > most || low < 2-most {
				t.Errorf("outside of %.2f to %.2f", 2-most, most)
			}
		}
	}
}
