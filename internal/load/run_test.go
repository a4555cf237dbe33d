package load

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A testServer serves a load over sessions in memory.
type testServer struct {
	*rpc.Server
	clients []*rpc.Client
	served  []chan struct{}
	begin   time.Time
	calls   atomic.Int64
}

// newTestServer starts a server with so many sessions whose handler takes as long as takes says, of a call that comes at that time.
func newTestServer(t *testing.T, sessions int, takes func(at time.Duration) (time.Duration, error)) *testServer {
	s := &testServer{Server: rpc.NewServer(rpc.Options{}), begin: time.Now()}
	s.HandleRaw("echo", func(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
		s.calls.Add(1)
		wait, err := takes(time.Since(s.begin))
		if pause(ctx, wait); err != nil {
			return nil, err
		}
		return rpc.Echo(ctx, req)
	})
	for range sessions {
		client, server := rpc.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); s.ServeSession(context.Background(), server) }()
		s.clients, s.served = append(s.clients, rpc.NewClient(client, rpc.Options{})), append(s.served, done)
	}
	return s
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (s *testServer) stop() {
	for i, c := range s.clients {
		c.Close()
		<-s.served[i]
	}
	s.Close()
}

func (s *testServer) load(callers int, rate float64) *Load {
	body, _ := msgpack.Marshal(make([]byte, 16))
	return &Load{Clients: s.clients, Request: rpc.Request{Method: "echo", Body: body}, Callers: callers, Rate: rate, Timeout: 5 * time.Second}
}

// runOf is a run of a load that ends after so many calls or so long.
func runOf(l *Load, calls int64, duration time.Duration) *Run {
	l.Calls, l.Duration = calls, duration
	return newRun(l)
}

// stall is a server that answers in service, but nothing that comes in its third second before that is over.
func stall(service time.Duration) func(time.Duration) (time.Duration, error) {
	return func(at time.Duration) (time.Duration, error) {
		if at >= 2*time.Second && at < 3*time.Second {
			return 3*time.Second - at, nil
		}
		return service, nil
	}
}

// within checks a figure of a histogram with three digits.
func within(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if off := (got - want).Abs(); off > want/500 {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func exactly[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestOpenLoopShowsAStall: a server stands still for a second, and every call that the schedule has in that second shows it. With naps
// that end early, as signals end them, the schedule is the same.
func TestOpenLoopShowsAStall(t *testing.T) {
	t.Run("timers", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { openLoopShowsAStall(t, nil) }) })
	t.Run("naps", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			naps := 0
			openLoopShowsAStall(t, func(d time.Duration) {
				if naps++; d <= 0 || d > napping {
					t.Errorf("a nap of %v", d)
				}
				time.Sleep((d + 2) / 3)
			})
			if naps < 2*999 {
				t.Errorf("%d naps for 999 calls", naps)
			}
		})
	})
}

func openLoopShowsAStall(t *testing.T, nap func(time.Duration)) {
	s := newTestServer(t, 2, stall(time.Millisecond))
	defer s.stop()
	r := runOf(s.load(200, 100), 0, 10*time.Second)
	r.nap = nap
	r.do(t.Context())
	// 900 calls take 1 ms. The 100 from 2 s on take 1 s, 990 ms, ..., 10 ms.
	got := r.record.total
	exactly(t, "answered", got.answered, 1000)
	exactly(t, "failed", got.failed, 0)
	exactly(t, "not begun", r.NotBegun(), 0)
	exactly(t, "min", got.min, time.Millisecond)
	exactly(t, "max", got.max, time.Second)
	exactly(t, "mean", got.mean(), (900*time.Millisecond+50_500*time.Millisecond)/1000)
	within(t, "p50", got.at(50), time.Millisecond)
	within(t, "p90", got.at(90), time.Millisecond)
	within(t, "p95", got.at(95), 500*time.Millisecond)
	within(t, "p99", got.at(99), 900*time.Millisecond)
	within(t, "p99.9", got.at(99.9), 990*time.Millisecond)
	exactly(t, "late", got.lateAt(100), 0) // there was always a caller free
	exactly(t, "took", r.took, 9990*time.Millisecond+time.Millisecond)
	exactly(t, "sent", got.sent, 1000*18)
	exactly(t, "received", got.received, 1000*(18+int64(len(rpc.EchoPrefix))))
}

// TestClosedLoopOmits is what the open loop is for: the same stall is one call of a closed loop, and its p99 does not show it.
func TestClosedLoopOmits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, 1, stall(9*time.Millisecond)) // no call begins just when the run or the stall does
		defer s.stop()
		r := runOf(s.load(1, 0), 0, 10*time.Second)
		r.do(t.Context())
		// Calls begin at 0, 9, ... 1998 ms, the stalled one at 2007, then from 3000 ms on to 9993.
		got := r.record.total
		exactly(t, "answered", got.answered, 223+1+778)
		exactly(t, "max", got.max, 993*time.Millisecond)
		within(t, "p99", got.at(99), 9*time.Millisecond)
		exactly(t, "took", r.took, 3*time.Second+778*9*time.Millisecond)
	})
}

// TestOpenLoopWaitsForItsTurn: with one call in flight at most, the others queue, and their waiting counts. A simulation says how long.
func TestOpenLoopWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes := stall(3 * time.Millisecond)
		s := newTestServer(t, 1, takes)
		defer s.stop()
		r := runOf(s.load(1, 100), 0, 10*time.Second)
		r.do(t.Context())
		var latencies, late []time.Duration
		var free, sum time.Duration
		for k := range 1000 {
			due := time.Duration(k) * 10 * time.Millisecond
			begun := max(due, free)
			wait, _ := takes(begun)
			free = begun + wait
			latencies, late = append(latencies, free-due), append(late, begun-due)
			sum += free - due
		}
		slices.Sort(latencies)
		slices.Sort(late)
		got := r.record.total
		exactly(t, "answered", got.answered, 1000)
		exactly(t, "max", got.max, latencies[999])
		exactly(t, "mean", got.mean(), sum/1000)
		for _, q := range []float64{50, 90, 95, 99, 99.9} {
			within(t, "a percentile", got.at(q), latencies[int(q*10+0.5)-1])
		}
		if off := (got.lateAt(99) - late[989]).Abs(); off > late[989]/50 {
			t.Errorf("99%% began at most %v late, want %v", got.lateAt(99), late[989])
		}
	})
}

// TestOpenLoopSaysWhatDidNotBegin: calls that the schedule had and nobody made are not silently left out.
func TestOpenLoopSaysWhatDidNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, 1, func(time.Duration) (time.Duration, error) { return 95 * time.Millisecond, nil })
		defer s.stop()
		r := runOf(s.load(1, 100), 0, time.Second)
		r.do(t.Context())
		exactly(t, "answered", r.record.total.answered, 11) // from 0, 95, ... 950 ms
		exactly(t, "not begun", r.NotBegun(), 89)
		exactly(t, "max", r.record.total.max, 1045*time.Millisecond-100*time.Millisecond)
	})
}

// TestCalls: -n makes exactly so many, by the clock or not, and all the sessions take part.
func TestCalls(t *testing.T) {
	for _, rate := range []float64{0, 500} {
		synctest.Test(t, func(t *testing.T) {
			s := newTestServer(t, 3, func(time.Duration) (time.Duration, error) { return 10 * time.Millisecond, nil })
			defer s.stop()
			r := runOf(s.load(7, rate), 100, 0)
			r.do(t.Context())
			exactly(t, "answered", r.record.total.answered, 100)
			exactly(t, "at the server", s.calls.Load(), 100)
			exactly(t, "not begun", r.NotBegun(), 0)
			want := 150 * time.Millisecond // 14 rounds of 7, and one of 2
			if rate > 0 {
				want = 208 * time.Millisecond // the last is due at 198 ms
			}
			exactly(t, "took", r.took, want)
		})
	}
}

// TestTimeouts: a call without a reply has failed, counts with its time, and harms none of the next ones of its caller.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, 1, func(at time.Duration) (time.Duration, error) {
			if at >= time.Second && at < 2*time.Second {
				return time.Hour, nil
			}
			return 30 * time.Millisecond, nil
		})
		defer s.stop()
		r := runOf(s.load(3, 0), 0, 10*time.Second)
		r.do(t.Context())
		got := r.record.total
		exactly(t, "failed", got.failed, 3)
		if f := got.failures[failure{rpc.DeadlineExceeded, rpc.OutcomeUnknown}]; f == nil || f.count != 3 || f.first != "no reply within --timeout" {
			t.Errorf("failures %+v", got.failures)
		}
		if got.max < 5*time.Second || got.max > 5250*time.Millisecond { // within a twentieth
			t.Errorf("the Longest took %v, want --timeout", got.max)
		}
		exactly(t, "latencies", got.latency.TotalCount(), got.answered+3)
		if got.answered < 300 { // 1 s and 4 s of calls
			t.Errorf("%d answered: the callers did not go on", got.answered)
		}
	})
}

// TestInterrupted: what was measured until then stays, and what was in flight is no failure.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, 1, func(time.Duration) (time.Duration, error) { return 400 * time.Millisecond, nil })
		defer s.stop()
		for _, rate := range []float64{0, 1} { // in flight; asleep until the next is due
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(1500*time.Millisecond, cancel)
			r := runOf(s.load(4, rate), 0, time.Hour)
			r.do(ctx)
			cancel()
			exactly(t, "took", r.took, 1500*time.Millisecond)
			exactly(t, "failed", r.record.total.failed, 0)
			exactly(t, "not begun", r.NotBegun(), 0)
			if rate == 0 {
				exactly(t, "answered", r.record.total.answered, 12)
				exactly(t, "abandoned", r.record.total.abandoned, 4)
			} else {
				exactly(t, "answered", r.record.total.answered, 2)
			}
		}
	})
}

// TestEndsWithItsSession, in whatever way that ends, and says which it was.
func TestEndsWithItsSession(t *testing.T) {
	for name, end := range map[string]func(s *testServer){
		"cut":   func(s *testServer) { s.clients[1].Close() },
		"drain": func(s *testServer) { s.Shutdown(context.Background()) },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newTestServer(t, 2, func(time.Duration) (time.Duration, error) { return 100 * time.Millisecond, nil })
			defer s.stop()
			ended := make(chan struct{})
			time.AfterFunc(1050*time.Millisecond, func() { defer close(ended); end(s) })
			r := runOf(s.load(2, 0), 0, time.Hour)
			r.do(t.Context())
			<-ended
			lost := r.lost.Load()
			switch {
			case name == "cut" && (lost != 2 || r.record.total.failed != 1 || r.took > 1100*time.Millisecond):
				t.Errorf("cut: client %d, %d failed, took %v", lost, r.record.total.failed, r.took)
			case name == "drain" && (lost == 0 || r.record.total.failed != 0 || r.record.total.answered != 22):
				t.Errorf("drain: client %d, %d failed, %d answered", lost, r.record.total.failed, r.record.total.answered)
			}
		})
	}
}

// TestSeesTheLoss: all callers are gone at once, for none of their calls can be sent. The run says why, whoever came to see it first.
func TestSeesTheLoss(t *testing.T) {
	for range 100 {
		for _, streams := range []int{0, 2} {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, 1, func(time.Duration) (time.Duration, error) { return time.Millisecond, nil })
				defer s.stop()
				s.clients[0].Close()
				l := s.load(2, 0)
				l.Streams = streams
				r := runOf(l, 0, time.Hour)
				r.do(t.Context())
				client, lost := r.Lost()
				exactly(t, "lost", lost && client == 0, true)
				exactly(t, "failed", r.Failed(), 0)
			})
		}
	}
}

// TestGivesUp when the first second has nothing but errors, but not with -n, nor if one call succeeds.
func TestGivesUp(t *testing.T) {
	for _, c := range []struct {
		good  time.Duration // calls that come before succeed
		calls int64
		took  time.Duration
	}{
		{0, 0, time.Second + 10*time.Millisecond},
		{5 * time.Millisecond, 0, 3 * time.Second},
		{0, 250, 2500 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newTestServer(t, 1, func(at time.Duration) (time.Duration, error) {
				if at < c.good {
					return 10 * time.Millisecond, nil
				}
				return 10 * time.Millisecond, rpc.Errorf(rpc.NotFound, "no \x1b[31msuch thing")
			})
			defer s.stop()
			duration := 3 * time.Second
			if c.calls > 0 {
				duration = 0
			}
			l := s.load(1, 0)
			l.Clean = func(text string) string { return strings.ReplaceAll(text, "\x1b", " ") }
			r := runOf(l, c.calls, duration)
			r.do(t.Context())
			if r.noHope != (c.good == 0 && c.calls == 0) || (r.took-c.took).Abs() > 10*time.Millisecond {
				t.Errorf("%+v: given up: %v, after %v", c, r.noHope, r.took)
			}
			f := r.record.total.failures[failure{rpc.NotFound, rpc.Executed}]
			if f == nil || f.count != r.record.total.failed || f.first != "no  [31msuch thing" {
				t.Errorf("failures %+v", f)
			}
		})
	}
}

// TestTallyMerges: many shards that are collected again and again say what one would.
func TestTallyMerges(t *testing.T) {
	r, one := newRecorder(7, time.Second, nil), newTally()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		took := time.Duration(random.ExpFloat64() * 1e6)
		if i == 777 {
			took = 2 * Longest // beyond what the histogram holds
		}
		one.took(took, took/3)
		r.shards[random.IntN(7)].ok(took, took/3, 2, 3)
		if i%300 == 299 { // across the stretches
			r.collect(time.Duration(i+1)*time.Millisecond, nil)
		}
	}
	r.collect(20*time.Second, nil)
	got := r.total
	exactly(t, "answered", got.answered, 20_000)
	exactly(t, "sent", got.sent, 40_000)
	exactly(t, "received", got.received, 60_000)
	exactly(t, "min", got.min, one.min)
	exactly(t, "max", got.max, 2*Longest)
	within(t, "mean", got.mean(), one.mean())
	if !got.latency.Equals(one.latency) || !got.late.Equals(one.late) {
		t.Error("the merged histograms are not the one of all values")
	}
	sum := 0.0
	for i, n := range r.course.counts {
		if sum += n; n < 999 || n > 1001 {
			t.Errorf("%v calls in second %d, want 1000", n, i)
		}
	}
	if math.Abs(sum-20_000) > 0.001 {
		t.Errorf("%v calls in the course", sum)
	}
}

// TestCourseEnds: what is left of the last stretch has a rate of its own only if it is long enough for one.
func TestCourseEnds(t *testing.T) {
	for took, want := range map[time.Duration][]float64{
		50 * time.Millisecond:   {1000},
		1010 * time.Millisecond: {1000, 1000, 1000, 1000, 1000},
		1100 * time.Millisecond: {1000, 1000, 1000, 1000, 1000, 1000},
	} {
		c := course{width: 200 * time.Millisecond}
		c.add(took, took.Milliseconds())
		c.end(took)
		exactly(t, "stretches", len(c.counts), len(want))
		for i := range want {
			if got := c.rate(i, took); math.Abs(got-want[i]) > 0.001 {
				t.Errorf("of %v, stretch %d: %v calls a second, want %v", took, i, got, want[i])
			}
		}
	}
}

// TestRecorderIsBounded, whatever the server answers and however long it takes.
func TestRecorderIsBounded(t *testing.T) {
	r := newRecorder(2, collectEvery, nil)
	for i := range 10_000 {
		r.shards[i%2].fail(rpc.Errorf(rpc.Code(i), "%01000d", i), false, 0, 0)
		if i%100 == 0 {
			r.collect(time.Duration(i)*time.Hour, nil)
		}
	}
	r.collect(10_000*time.Hour, nil)
	exactly(t, "failed", r.total.failed, 10_000)
	sum := int64(0)
	for kind, f := range r.total.failures {
		sum += f.count
		if len(f.first) > maxSampleText {
			t.Errorf("%v: %d bytes of text", kind, len(f.first))
		}
	}
	exactly(t, "failures", sum, 10_000)
	if n := len(r.total.failures); n > maxFailures+1 {
		t.Errorf("%d kinds of failures", n)
	}
	if n := len(r.course.counts); n > maxSeries {
		t.Errorf("%d points", n)
	}
	exactly(t, "latencies of failures", r.total.latency.TotalCount(), 0)
}

// TestMeasuringAllocatesNothing for a call.
func TestMeasuringAllocatesNothing(t *testing.T) {
	r := runOf(&Load{Callers: 1, Timeout: time.Hour}, 0, time.Hour)
	r.begin = time.Now()
	var w watched
	w.renew(t.Context())
	defer w.release()
	if n := testing.AllocsPerRun(1000, func() {
		due, _ := r.take()
		w.started(due)
		w.expire(due - time.Second)
		w.ended(t.Context())
		r.record.shards[0].ok(time.Since(r.begin)-due, 0, 16, 16)
	}); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}
