// Package load puts calls on a server and measures how it bears them: all of sealmux bench but its flags and its sessions. A Load says
// what to call, how often and for how long; Measure does it, warm-up first, and returns a Run; a Report tells what came of that, as text
// (Header, Text), for programs (JSON) and as a picture (SVG). What the texts advise is in flags of sealmux bench.
//
// # What is measured
//
// In a closed loop each caller makes one call after the other, and latency is from the call to its reply. In an open loop calls are due
// by a schedule, and latency is from when a call was due, whatever kept it from beginning: a stall of the server counts for every call
// that came during it (no coordinated omission). Calls of the schedule that found no free caller by its end are counted, not left out.
// Latencies are those of calls that were answered without an error, and of those that timed out. A Run's memory depends neither on
// how long it takes nor on what the server answers.
//
// # Goroutines and locks
//
//	Run       a goroutine a caller, or two a stream; one that keeps the schedule; one that watches each client, one the timeouts, one
//	          that collects and draws progress. Measure starts them all and waits for all of them.
//	locks     shard.mu and watched.mu, under which nothing blocks.
//
// Reading order: load.go, run.go, pace.go, record.go; watch.go, stream.go; report.go, json.go, svg.go.
package load

import (
	"context"
	"io"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// Longest is the longest that a run may take, and the longest latency that is told apart from longer ones.
const Longest = 24 * time.Hour

// A Load is calls of one kind, again and again, over one or several sessions. It must not be changed while it is measured.
type Load struct {
	// Clients are where the calls go, in turn; at least one. Whoever made them closes them.
	Clients []*rpc.Client

	// Request is what is called, the same each time. With Streams its Body is each message.
	Request rpc.Request

	// Callers is how many calls are in flight at once: in a closed loop always, in an open one at most. At least one, and at least
	// Streams.
	Callers int

	// Streams is over how many long-lived streams the messages go, to a method that answers each message with one. 0: unary calls.
	Streams int

	// Rate is how many calls begin in a second, by the clock: an open loop. 0: each when the one before has ended, a closed loop.
	Rate float64

	// Calls is after how many calls a run ends, and Duration the time after which it begins no more, at most Longest. 0: no such end;
	// one of them must be there.
	Calls    int64
	Duration time.Duration

	// WarmUp is for how long the same load is put on before anything is measured. 0: not at all.
	WarmUp time.Duration

	// Timeout is how long a call, or a message of a stream, may wait for its reply before it has failed: by a twentieth longer at most.
	Timeout time.Duration

	// Clean makes the text of an error fit for one line of a report: it may be the server's. nil leaves it as it is.
	Clean func(string) string
}

// Measure warms up, measures, and returns what it found once all its calls have ended. The end of ctx ends it at once, and abandons
// the calls in flight; the loss of a session and a first second without one success end it, too. If it ends in the warm-up, that is
// what it returns.
//
// On progress, a terminal, it draws a bar meanwhile, which it takes away. nil: none.
func (l *Load) Measure(ctx context.Context, progress io.Writer) *Run {
	nap, free := newNap()
	defer free()
	if l.WarmUp > 0 {
		warmUp := *l
		warmUp.Calls, warmUp.Duration = 0, l.WarmUp
		r := newRun(&warmUp)
		r.nap = nap
		r.doAndShow(ctx, progress, "warming up")
		if ctx.Err() != nil || r.lost.Load() > 0 || r.Answered() == 0 && r.Failed() > 0 {
			r.cold = true
			return r
		}
	}
	r := newRun(l)
	r.nap = nap
	r.doAndShow(ctx, progress, "measuring")
	return r
}

// doAndShow is do with a bar, if progress is not nil.
func (r *Run) doAndShow(ctx context.Context, progress io.Writer, what string) {
	if progress != nil {
		defer r.showProgress(progress, what)()
	}
	r.do(ctx)
}
