package rpc

import (
	"context"
	"sync"
)

// A room is a bounded number of bytes (or of anything counted) that many goroutines share, first come first served. One
// taker larger than the limit is let in when the room is empty, so that no size waits for ever.
type room struct {
	mu     sync.Mutex // protects all below; nothing blocks under it
	limit  int
	used   int
	queue  []*waiter
	err    error         // why the room is closed
	closed chan struct{} // closed with it
}

type waiter struct {
	n     int
	ready chan struct{} // closed when n is taken on the waiter's behalf
}

func newRoom(limit int) *room { return &room{limit: limit, closed: make(chan struct{})} }

// acquire takes n, waiting in turn. It fails with the context's error, or with the one that the room was closed with.
func (r *room) acquire(ctx context.Context, n int) error { return r.acquireUntil(ctx, n, nil, nil) }

// acquireUntil is acquire that waits no longer than until stop is closed, and then fails with stopped.
func (r *room) acquireUntil(ctx context.Context, n int, stop <-chan struct{}, stopped error) error {
	r.mu.Lock()
	if r.err != nil {
		defer r.mu.Unlock()
		return r.err
	}
	if len(r.queue) == 0 && r.fitsLocked(n) {
		r.used += n
		r.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	r.queue = append(r.queue, w)
	r.mu.Unlock()

	var err error
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-r.closed:
		err = r.err
	case <-stop:
		err = stopped
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, q := range r.queue {
		if q == w {
			r.queue = append(r.queue[:i], r.queue[i+1:]...)
			r.admitLocked() // the next one may be smaller
			return err
		}
	}
	r.releaseLocked(n) // let in at the same moment
	return err
}

// try takes n if there is room, even before those who wait for more than there is.
func (r *room) try(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || !r.fitsLocked(n) {
		return false
	}
	r.used += n
	return true
}

// force takes n even over the limit, for what exists already.
func (r *room) force(n int) {
	r.mu.Lock()
	r.used += n
	r.mu.Unlock()
}

// crowded reports whether the others alone, without own, hold more than the limit.
func (r *room) crowded(own int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used-own > r.limit
}

// full reports whether an acquire, of however little, would have to wait.
func (r *room) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) > 0 || r.used > r.limit-roomMargin
}

// roomMargin is what full keeps free: more than a refusal takes.
const roomMargin = maxEnvelope

// release gives n back and lets in those whose turn it is.
func (r *room) release(n int) {
	r.mu.Lock()
	r.releaseLocked(n)
	r.mu.Unlock()
}

// close makes every acquire fail with err, now and later.
func (r *room) close(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.closed)
	}
}

func (r *room) fitsLocked(n int) bool { return r.used+n <= r.limit || r.used <= 0 }

func (r *room) releaseLocked(n int) {
	r.used -= n
	r.admitLocked()
}

func (r *room) admitLocked() {
	for len(r.queue) > 0 && r.fitsLocked(r.queue[0].n) {
		w := r.queue[0]
		r.queue[0] = nil
		r.queue = r.queue[1:]
		r.used += w.n
		close(w.ready)
	}
}
