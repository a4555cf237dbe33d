package load

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// newStreamServer answers each message after 10 ms, one after the other on each stream, with the echo. A stream ends, with end,
// in place of the answer after most of them; 0: never.
func newStreamServer(t *testing.T, most int, end error) (s *testServer, opened *atomic.Int64) {
	s, opened = newTestServer(t, 1, func(time.Duration) (time.Duration, error) { return 0, nil }), new(atomic.Int64)
	s.HandleStream("stream", func(ctx context.Context, _ *rpc.Request, stream rpc.MessageStream) error {
		opened.Add(1)
		for n := 1; ; n++ {
			message, err := stream.Recv()
			if err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			s.calls.Add(1)
			if !pause(ctx, 10*time.Millisecond) {
				return ctx.Err()
			}
			if most > 0 && n > most {
				return end
			}
			if err := stream.Send(message); err != nil {
				return err
			}
		}
	})
	return s, opened
}

func streamLoad(s *testServer, streams, callers int, rate float64) *Load {
	l := s.load(callers, rate)
	l.Streams, l.Request.Method = streams, "stream"
	return l
}

// TestStreams: so many messages are in flight on the streams together, and each is measured from when it was sent.
func TestStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, opened := newStreamServer(t, 0, nil)
		defer s.stop()
		r := runOf(streamLoad(s, 2, 7, 0), 700, 0)
		r.do(t.Context())
		got := r.record.total
		exactly(t, "answered", got.answered, 700)
		exactly(t, "failed", got.failed, 0)
		exactly(t, "at the server", s.calls.Load(), 700)
		exactly(t, "streams", opened.Load(), 2)
		exactly(t, "min", got.min, 10*time.Millisecond)
		exactly(t, "max", got.max, 40*time.Millisecond) // 4 in flight on one, 3 on the other
		within(t, "p90", got.at(90), 40*time.Millisecond)
		within(t, "p25", got.at(25), 30*time.Millisecond)
		exactly(t, "sent", got.sent, 700*18)
		exactly(t, "received", got.received, 700*18)
		if r.took < 3500*time.Millisecond || r.took > 3540*time.Millisecond { // 2 streams of 100 a second
			t.Errorf("took %v", r.took)
		}
	})
}

// TestStreamsByTheClock: a message that the window holds up counts from when the schedule had it.
func TestStreamsByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newStreamServer(t, 0, nil)
		defer s.stop()
		r := runOf(streamLoad(s, 1, 1, 200), 100, 0) // twice what the server can do
		r.do(t.Context())
		got := r.record.total
		exactly(t, "answered", got.answered, 100)
		exactly(t, "min", got.min, 10*time.Millisecond)
		exactly(t, "max", got.max, 1000*time.Millisecond-99*5*time.Millisecond)
		exactly(t, "mean", got.mean(), (10*time.Millisecond+505*time.Millisecond)/2)
		if off := (got.lateAt(100) - 495*time.Millisecond).Abs(); off > 5*time.Millisecond {
			t.Errorf("began up to %v late, want 495 ms", got.lateAt(100))
		}
	})
}

// TestStreamsOpenAgain: a stream that its server ends, well or not, fails what is in flight on it, and another takes its place.
func TestStreamsOpenAgain(t *testing.T) {
	for _, c := range []struct {
		end  error
		kind failure
		text string
	}{
		{nil, failure{rpc.Unknown, rpc.OutcomeUnknown}, "the stream ended before the reply"},
		{rpc.Errorf(rpc.Aborted, "enough"), failure{rpc.Aborted, rpc.Executed}, "enough"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, opened := newStreamServer(t, 10, c.end)
			defer s.stop()
			r := runOf(streamLoad(s, 1, 3, 0), 100, 0)
			r.do(t.Context())
			got := r.record.total
			exactly(t, "all", got.answered+got.failed, 100)
			exactly(t, "answered", got.answered, 10*(opened.Load()-1)+got.answered%10)
			if opened.Load() < 7 || opened.Load() > 9 { // each answers 10 and fails 3, but the last
				t.Errorf("%d streams", opened.Load())
			}
			f := got.failures[c.kind]
			if f == nil || f.count != got.failed || f.first != c.text {
				t.Errorf("failures %v, want %v", got.failures, c.kind)
			}
		})
	}
}

// TestStreamTimeouts: a stream that falls silent is given up after the timeout.
func TestStreamTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, 1, func(time.Duration) (time.Duration, error) { return 0, nil })
		defer s.stop()
		s.HandleStream("stream", func(ctx context.Context, _ *rpc.Request, _ rpc.MessageStream) error {
			<-ctx.Done()
			return ctx.Err()
		})
		r := runOf(streamLoad(s, 1, 4, 0), 4, 0)
		r.do(t.Context())
		got := r.record.total
		exactly(t, "failed", got.failed, 4)
		exactly(t, "timed out", got.latency.TotalCount(), 1) // the others ended with its stream
		if got.max < 5*time.Second || r.took > 6*time.Second {
			t.Errorf("the Longest took %v, all %v", got.max, r.took)
		}
	})
}

// TestStreamsInterrupted ends those that wait for replies, for room and for the schedule.
func TestStreamsInterrupted(t *testing.T) {
	for _, rate := range []float64{0, 1, 1000} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := newStreamServer(t, 0, nil)
			defer s.stop()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(1505*time.Millisecond, cancel)
			r := runOf(streamLoad(s, 2, 6, rate), 0, time.Hour)
			r.do(ctx)
			exactly(t, "took", r.took, 1505*time.Millisecond)
			exactly(t, "failed", r.record.total.failed, 0)
			if a := r.record.total.abandoned; rate != 1 && (a < 4 || a > 8) || rate == 1 && a != 0 {
				t.Errorf("rate %v: %d abandoned", rate, a)
			}
		})
	}
}
