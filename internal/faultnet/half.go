package faultnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A half is one direction of a connection: what was written and has not been read. Who waits is woken by a channel that is
// closed, so that a wait can end at a deadline, and synctest sees it.
type half struct {
	mu      sync.Mutex // protects all below
	line    Line
	mangler mangler
	queue   []parcel
	bytes   int       // in queue
	last    time.Time // when the last parcel is due
	dead    bool      // stalled for ever: what is queued from now on is never due
	changed chan struct{}

	passed   int64
	finished bool  // no more comes: io.EOF behind the queue
	swallow  bool  // truncated: the writer does not know, and what it writes is lost
	readErr  error // at once, before the queue
	writeErr error
	readBy   deadline
	writeBy  deadline
}

type parcel struct {
	data  []byte
	due   time.Time
	never bool // due
	end   bool
}

func newHalf(line Line) *half {
	if line.Window == 0 {
		line.Window = 256 << 10
	}
	return &half{line: line, mangler: mangler{faults: line.Faults}, changed: make(chan struct{})}
}

// wakeLocked wakes everybody who waits.
func (h *half) wakeLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// change does f and wakes who waits.
func (h *half) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.wakeLocked()
}

// wait tries f, under the lock, until it is done. f may say when to try again, besides at a change.
func (h *half) wait(by *deadline, f func(now time.Time) (done bool, again time.Time)) {
	for {
		h.mu.Lock()
		done, again := f(time.Now())
		changed := h.changed
		if end := by.at; !end.IsZero() && (again.IsZero() || end.Before(again)) {
			again = end
		}
		h.mu.Unlock()
		if done {
			return
		}
		if again.IsZero() {
			<-changed
			continue
		}
		timer := time.NewTimer(time.Until(again))
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (h *half) read(b []byte) (n int, err error) {
	h.wait(&h.readBy, func(now time.Time) (bool, time.Time) {
		switch {
		case h.readErr != nil:
			err = h.readErr
		case h.readBy.over(now):
			err = os.ErrDeadlineExceeded
		case len(b) == 0:
		case len(h.queue) > 0 && h.queue[0].never:
			return false, time.Time{}
		case len(h.queue) > 0 && h.queue[0].due.After(now):
			return false, h.queue[0].due
		case len(h.queue) > 0 && h.queue[0].end:
			err = io.EOF
		case len(h.queue) > 0:
			n = h.takeLocked(b)
		case h.finished && !h.dead:
			err = io.EOF
		default:
			return false, time.Time{}
		}
		return true, time.Time{}
	})
	return n, err
}

// takeLocked moves bytes that are due to their reader.
func (h *half) takeLocked(b []byte) int {
	if h.line.Chunk > 0 && len(b) > h.line.Chunk {
		b = b[:h.line.Chunk]
	}
	p := &h.queue[0]
	n := copy(b, p.data)
	if p.data = p.data[n:]; len(p.data) == 0 {
		h.queue = h.queue[1:]
	}
	h.bytes -= n
	h.wakeLocked()
	return n
}

func (h *half) write(b []byte, cut func()) (n int, err error) {
	struck := false
	h.wait(&h.writeBy, func(now time.Time) (bool, time.Time) {
		switch {
		case h.writeErr != nil:
			err = h.writeErr
		case h.writeBy.over(now):
			err = os.ErrDeadlineExceeded
		case h.swallow:
			n = len(b)
		default:
			if room := min(len(b)-n, h.line.Window-h.bytes); room > 0 {
				struck = h.putLocked(b[n:n+room], now)
				n += room
				h.wakeLocked()
			}
			if h.swallow {
				n = len(b)
			}
			return n == len(b) || struck, time.Time{}
		}
		return true, time.Time{}
	})
	if struck {
		cut()
		return n, syscall.ECONNRESET
	}
	return n, err
}

// putLocked takes bytes through the faults. It returns true when they have cut the connection.
func (h *half) putLocked(b []byte, now time.Time) (cut bool) {
	h.passed += int64(len(b))
	for _, p := range h.mangler.take(b) {
		switch {
		case h.swallow:
			return false
		case len(p.data) > 0:
			h.queueLocked(parcel{data: p.data}, now)
		case p.then == Stall && p.wait == 0:
			h.dead = true // like a cable that was pulled: what is written from now on fills the window
		case p.then == Stall:
			h.last = later(h.last, now).Add(p.wait)
		case p.then == Truncate:
			h.swallow = true
			h.queueLocked(parcel{end: true}, now)
		case p.then == Cut:
			return true
		}
	}
	return false
}

func (h *half) queueLocked(p parcel, now time.Time) {
	due := later(h.last, now.Add(h.line.Delay))
	if h.line.Rate > 0 {
		due = due.Add(time.Duration(float64(len(p.data)) / float64(h.line.Rate) * float64(time.Second)))
	}
	h.last, p.due, p.never = due, due, h.dead
	h.bytes += len(p.data)
	h.queue = append(h.queue, p)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// finish ends what is written, as a FIN does.
func (h *half) finish() {
	h.change(func() {
		if h.writeErr != nil {
			return
		}
		if rest := h.mangler.rest(); len(rest) > 0 && !h.swallow {
			h.queueLocked(parcel{data: rest}, time.Now())
		}
		h.finished, h.writeErr = true, net.ErrClosed
	})
}

// fail ends the direction at once for both ends; nil leaves an end as it is.
func (h *half) fail(reader, writer error) {
	h.change(func() {
		if h.readErr == nil && reader != nil {
			h.readErr, h.queue, h.bytes = reader, nil, 0
		}
		if h.writeErr == nil && writer != nil {
			h.writeErr = writer
		}
	})
}

// A deadline is a time, or none.
type deadline struct{ at time.Time }

func (d deadline) over(now time.Time) bool { return !d.at.IsZero() && !d.at.After(now) }
