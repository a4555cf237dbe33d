package rpc

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// pipeWindow is how much of one direction of a stream may lie unread, in bytes.
const pipeWindow = 256 << 10

// A pipeHalf is one direction of a stream in memory. It wakes who waits by closing a channel, so that a wait can end at a
// deadline, and synctest sees it.
type pipeHalf struct {
	mu       sync.Mutex // protects all below
	buf      []byte
	changed  chan struct{} // closed and replaced at every change
	finished bool          // the writer has ended it: io.EOF behind buf
	closed   bool          // the reader is gone
	readErr  error         // why nothing more comes behind buf
	writeErr error         // why nothing more is taken
	readBy   pipeDeadline
	writeBy  pipeDeadline
}

func newPipeHalf() *pipeHalf {
	return &pipeHalf{changed: make(chan struct{}), readBy: pipeDeadline{ch: make(chan struct{})}, writeBy: pipeDeadline{ch: make(chan struct{})}}
}

// change does f and wakes who waits.
func (h *pipeHalf) change(f func(*pipeHalf)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait tries f, under the lock, until it is done.
func (h *pipeHalf) wait(by *pipeDeadline, f func() (done bool)) {
	for {
		h.mu.Lock()
		done, due, changed := f(), by.ch, h.changed
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-due:
		}
	}
}

func (h *pipeHalf) read(b []byte) (n int, err error) {
	h.wait(&h.readBy, func() bool {
		switch {
		case h.closed:
			err = errPipeStream
		case h.readBy.passed():
			err = os.ErrDeadlineExceeded
		case len(h.buf) > 0 || len(b) == 0:
			if n = copy(b, h.buf); n == len(h.buf) {
				h.buf = nil
			} else {
				h.buf = h.buf[n:]
			}
			close(h.changed)
			h.changed = make(chan struct{})
			return true
		case h.finished:
			err = io.EOF
		default:
			err = h.readErr
		}
		return err != nil
	})
	return n, err
}

func (h *pipeHalf) write(b []byte) (n int, err error) {
	h.wait(&h.writeBy, func() bool {
		switch {
		case h.writeErr != nil:
			err = h.writeErr
		case h.closed:
			err = errPipeReset
		case h.writeBy.passed():
			err = os.ErrDeadlineExceeded
		default:
			if k := min(len(b)-n, pipeWindow-len(h.buf)); k > 0 {
				h.buf = append(h.buf, b[n:n+k]...)
				n += k
				close(h.changed)
				h.changed = make(chan struct{})
			}
		}
		return err != nil || n == len(b)
	})
	return n, err
}

// A pipeDeadline is a channel that is closed when the time has come. pipeHalf.mu protects it.
type pipeDeadline struct {
	timer *time.Timer
	ch    chan struct{}
}

func (d *pipeDeadline) passed() bool {
	select {
	case <-d.ch:
		return true
	default:
		return false
	}
}

func (d *pipeDeadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (d *pipeDeadline) set(t time.Time) {
	d.stop()
	d.ch = make(chan struct{})
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		close(d.ch)
	default:
		ch := d.ch
		d.timer = time.AfterFunc(left, func() { close(ch) })
	}
}

// SetDeadline sets both deadlines.
func (st *pipeStream) SetDeadline(t time.Time) error {
	return errors.Join(st.SetReadDeadline(t), st.SetWriteDeadline(t))
}

// SetReadDeadline sets when Read gives up with os.ErrDeadlineExceeded.
func (st *pipeStream) SetReadDeadline(t time.Time) (err error) {
	st.in.change(func(h *pipeHalf) {
		if h.closed {
			err = errPipeStream
		} else {
			h.readBy.set(t)
		}
	})
	return err
}

// SetWriteDeadline sets when Write gives up with os.ErrDeadlineExceeded.
func (st *pipeStream) SetWriteDeadline(t time.Time) (err error) {
	st.out.change(func(h *pipeHalf) {
		if err = h.writeErr; err == nil {
			h.writeBy.set(t)
		}
	})
	return err
}
