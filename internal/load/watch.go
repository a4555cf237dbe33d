package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A watched is a caller whose calls a run ends when they take too long. So a call needs neither a timer nor a context of its
// own, which would cost as much as a call itself.
type watched struct {
	since atomic.Int64 // 1 + when the call in progress began, since the run did; 0: none; isExpired

	ctx context.Context // of calls; the caller's alone

	mu     sync.Mutex // protects cancel: it must not end the next call
	cancel context.CancelFunc
}

const isExpired = -1

// renew makes a context for the calls to come.
func (w *watched) renew(parent context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.cancel = context.WithCancel(parent)
}

func (w *watched) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel()
}

func (w *watched) started(at time.Duration) { w.since.Store(int64(at) + 1) }

// ended reports whether the call took too long.
func (w *watched) ended(parent context.Context) (expired bool) {
	if w.since.Swap(0) != isExpired {
		return false
	}
	w.renew(parent)
	return true
}

// expire ends a call that began before the given time.
func (w *watched) expire(before time.Duration) {
	since := w.since.Load()
	if since <= 0 || time.Duration(since-1) > before {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.CompareAndSwap(since, isExpired) {
		w.cancel()
	}
}

// watchTimeouts ends calls that take longer than the timeout, by a twentieth at most.
func (r *Run) watchTimeouts(all []*watched, ended <-chan struct{}) {
	tick := time.NewTicker(min(max(r.load.Timeout/20, time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
		before := time.Since(r.begin) - r.load.Timeout
		for _, w := range all {
			w.expire(before)
		}
	}
}
