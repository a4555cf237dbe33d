package load

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// collectEvery is how often a run gathers what its callers measured.
const collectEvery = 200 * time.Millisecond

// A Run is a load that was put on a server, and what came of it. Its methods are for when Measure has returned it.
type Run struct {
	load   *Load
	nap    func(time.Duration) // waits a short time more precisely than a timer; nil: nothing does
	record *recorder
	recent *tally                 // gets what is collected; show resets it
	show   func(at time.Duration) // called after every collection; may be nil

	ctx    context.Context // of the calls: ends when the user interrupts
	halt   context.Context // ends when no more calls are to begin, before the run's time
	stop   context.CancelFunc
	begin  time.Time
	next   atomic.Int64  // how many calls were taken in a closed loop
	over   atomic.Bool   // no more calls are to begin
	shut   chan struct{} // closed when over
	dues   chan time.Duration
	lost   atomic.Int64  // 1 + the number of a client that takes no more calls
	broken bool          // the user interrupted
	noHope bool          // every call failed, and the run was given up
	cold   bool          // it is the warm-up, which was as far as it went
	took   time.Duration // all of it
	opened time.Duration // of that, the time in which calls were to begin
}

// newRun returns a run that stops when its context ends, its time is over, its calls are made, a session is lost, or all
// calls of the first second failed.
func newRun(l *Load) *Run {
	workers := l.Callers
	if l.Streams > 0 {
		workers = l.Streams
	}
	return &Run{load: l, record: newRecorder(min(workers, 4*runtime.GOMAXPROCS(0), 64), collectEvery, l.Clean)}
}

// Answered is how many calls were answered without an error.
func (r *Run) Answered() int64 { return r.record.total.answered }

// Failed is how many calls were not, besides those that were in flight when the user interrupted.
func (r *Run) Failed() int64 { return r.record.total.failed }

// FailedWith reports whether calls failed with that code and outcome.
func (r *Run) FailedWith(code rpc.Code, outcome rpc.Outcome) bool {
	return r.record.total.failures[failure{code, outcome}] != nil
}

// Lost returns the client, if there is one, whose session was lost or drained, which ended the run: its index in Load.Clients.
func (r *Run) Lost() (client int, lost bool) {
	n := r.lost.Load()
	return int(n) - 1, n > 0
}

// Interrupted reports whether the context of Measure ended it.
func (r *Run) Interrupted() bool { return r.broken }

// WarmUpOnly reports whether the run ended in its warm-up: nothing was measured.
func (r *Run) WarmUpOnly() bool { return r.cold }

// do makes the calls. Those in flight at the end are waited for, unless ctx ends: then they are abandoned.
func (r *Run) do(ctx context.Context) {
	r.ctx = ctx
	r.halt, r.stop = context.WithCancel(ctx)
	defer r.stop()
	r.begin = time.Now()
	r.shut, r.dues = make(chan struct{}), make(chan time.Duration)
	shut := sync.OnceFunc(func() { r.over.Store(true); close(r.shut) })
	unbind := context.AfterFunc(r.halt, shut)
	defer unbind()
	if r.load.Duration > 0 {
		timer := time.AfterFunc(r.load.Duration, shut)
		defer timer.Stop()
	}
	workers, watched := r.workers()
	var working, watching sync.WaitGroup
	for _, work := range workers {
		working.Go(work)
	}
	if r.load.Rate != 0 {
		working.Go(r.pace)
	}
	ended := make(chan struct{})
	for _, c := range r.load.Clients {
		watching.Go(func() { r.watchClient(c, ended) })
	}
	watching.Go(func() { r.watchTimeouts(watched, ended) })
	watching.Go(func() { r.collect(ended) })
	working.Wait()
	r.took, r.broken = time.Since(r.begin), ctx.Err() != nil
	close(ended)
	watching.Wait()
	r.opened = r.took
	if r.load.Duration > 0 {
		r.opened = min(r.took, r.load.Duration)
	}
	r.record.collect(r.took, nil)
	r.record.course.end(r.took)
}

// watchClient stops the run when a client takes no more calls.
func (r *Run) watchClient(c *rpc.Client, ended <-chan struct{}) {
	select {
	case <-c.Draining():
		r.lose(c)
	case <-ended:
	}
}

// collect gathers what was measured, and gives up a run in which nothing succeeds.
func (r *Run) collect(ended <-chan struct{}) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
		at := time.Since(r.begin)
		r.record.collect(at, r.recent)
		if r.show != nil {
			r.show(at)
		}
		if t := r.record.total; at >= time.Second && r.load.Calls == 0 && t.answered == 0 && t.failed > 0 && !r.over.Load() {
			r.noHope = true
			r.stop()
		}
	}
}

// take waits until the next call is to begin, and returns when it was to: by the schedule if there is one, whether or not the
// call could begin then. It returns false if there are no more calls.
func (r *Run) take() (due time.Duration, ok bool) {
	if r.load.Rate != 0 {
		due, ok = <-r.dues
		return due, ok
	}
	if r.over.Load() || r.load.Calls > 0 && r.next.Add(1) > r.load.Calls {
		return 0, false
	}
	return time.Since(r.begin), true
}

// workers returns what makes the calls, and what watches over them.
func (r *Run) workers() (workers []func(), all []*watched) {
	if r.load.Streams > 0 {
		for i := range r.load.Streams {
			s := &streamCaller{Run: r, client: r.load.Clients[i%len(r.load.Clients)], shard: r.record.shards[i%len(r.record.shards)]}
			s.window = r.load.Callers / r.load.Streams
			if i < r.load.Callers%r.load.Streams {
				s.window++
			}
			s.renew(r.ctx)
			workers, all = append(workers, s.work), append(all, &s.watched)
		}
		return workers, all
	}
	for i := range r.load.Callers {
		c := &unaryCaller{Run: r, client: r.load.Clients[i%len(r.load.Clients)], shard: r.record.shards[i%len(r.record.shards)], request: r.load.Request}
		c.renew(r.ctx)
		workers, all = append(workers, c.work), append(all, &c.watched)
	}
	return workers, all
}

// A unaryCaller makes one call after the other.
type unaryCaller struct {
	*Run
	watched
	client  *rpc.Client
	shard   *shard
	request rpc.Request
}

func (c *unaryCaller) work() {
	defer c.release()
	for {
		due, ok := c.take()
		if !ok {
			return
		}
		begun := due
		if c.load.Rate != 0 {
			begun = time.Since(c.begin)
		}
		c.started(begun)
		reply, err := c.client.Do(c.watched.ctx, &c.request)
		took := time.Since(c.begin) - due
		expired := c.ended(c.Run.ctx)
		switch {
		case err == nil:
			c.shard.ok(took, begun-due, len(c.request.Body), len(reply.Body))
		case c.Run.ctx.Err() != nil:
			c.shard.abandon()
			return
		case c.gone(c.client) && rpc.OutcomeOf(err) == rpc.NotSent: // it came too late, before the run has noticed
			c.shard.abandon()
			return
		default:
			c.shard.fail(err, expired, took, begun-due)
		}
	}
}

// gone reports whether a client takes no more calls. Then that is what ends the run: all callers may have seen it, and be gone, before
// watchClient does.
func (r *Run) gone(c *rpc.Client) bool {
	select {
	case <-c.Draining():
		r.lose(c)
		return true
	default:
		return false
	}
}

// lose stops the run for the loss of a client, unless it was stopped for that of another.
func (r *Run) lose(c *rpc.Client) {
	r.lost.CompareAndSwap(0, int64(slices.Index(r.load.Clients, c))+1)
	r.stop()
}
