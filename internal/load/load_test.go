package load

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// TestMeasureWarmsUp: calls of the warm-up are made but not measured, and the load stays what it was.
func TestMeasureWarmsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, 1, func(time.Duration) (time.Duration, error) { return 10 * time.Millisecond, nil })
		defer s.stop()
		l := s.load(2, 0)
		l.Calls, l.WarmUp = 30, 95*time.Millisecond
		r := l.Measure(t.Context(), nil)
		exactly(t, "answered", r.Answered(), 30)
		exactly(t, "at the server", s.calls.Load(), 2*10+30)
		exactly(t, "took", r.took, 150*time.Millisecond)
		exactly(t, "calls", l.Calls, 30)
		exactly(t, "duration", l.Duration, 0)
		if _, lost := r.Lost(); lost || r.Failed() != 0 || r.Interrupted() || r.WarmUpOnly() {
			t.Errorf("lost %v, %d failed, interrupted %v, warm-up only %v", lost, r.Failed(), r.Interrupted(), r.WarmUpOnly())
		}
	})
}

// TestMeasureEndsInWarmUp if that goes wrong, and says how; nothing is measured, or drawn.
func TestMeasureEndsInWarmUp(t *testing.T) {
	fails := func(time.Duration) (time.Duration, error) { return time.Millisecond, rpc.Errorf(rpc.NotFound, "no") }
	works := func(time.Duration) (time.Duration, error) { return time.Millisecond, nil }
	for name, c := range map[string]struct {
		takes func(time.Duration) (time.Duration, error)
		then  func(s *testServer, interrupt func())
	}{
		"failed":      {fails, func(*testServer, func()) {}},
		"lost":        {works, func(s *testServer, _ func()) { s.clients[0].Close() }},
		"interrupted": {works, func(_ *testServer, interrupt func()) { interrupt() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, 2, c.takes)
				defer s.stop()
				ctx, interrupt := context.WithCancel(t.Context())
				defer interrupt()
				ended := make(chan struct{})
				time.AfterFunc(500*time.Millisecond, func() { defer close(ended); c.then(s, interrupt) })
				l := s.load(2, 0)
				l.Duration, l.WarmUp = time.Hour, 2*time.Second
				r := l.Measure(ctx, nil)
				<-ended
				client, lost := r.Lost()
				exactly(t, "warm-up only", r.WarmUpOnly(), true)
				exactly(t, "every call failed", r.Answered() == 0 && r.FailedWith(rpc.NotFound, rpc.Executed), name == "failed")
				exactly(t, "interrupted", r.Interrupted(), name == "interrupted")
				exactly(t, "lost", lost && client == 0, name == "lost")
				exactly(t, "picture", (&Report{Load: l, Run: r}).SVG(), "")
			})
		})
	}
}
