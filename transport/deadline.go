package transport

import (
	"sync"
	"time"
)

// A deadline is a point in time to select on, which may be moved. net.Pipe has the same.
type deadline struct {
	mu    *sync.Mutex
	state *deadlineState
}

type deadlineState struct {
	timer *time.Timer
	ch    chan struct{} // closed when the time has come
}

func newDeadline() deadline {
	return deadline{new(sync.Mutex), &deadlineState{ch: make(chan struct{})}}
}

func (d deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state.ch
}

func (d deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.state
	if st.timer != nil && !st.timer.Stop() {
		<-st.ch // it is firing; let it
	}
	st.timer = nil
	gone := false
	select {
	case <-st.ch:
		gone = true
	default:
	}
	switch left := time.Until(t); {
	case t.IsZero() || left > 0:
		if gone {
			st.ch = make(chan struct{})
		}
		if !t.IsZero() {
			ch := st.ch
			st.timer = time.AfterFunc(left, func() { close(ch) })
		}
	case !gone:
		close(st.ch)
	}
}
