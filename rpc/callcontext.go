package rpc

import (
	"context"
	"sync"
	"time"
)

// A callContext is the context of a call: it ends with its stream (serverSession.cancelCalls), at the deadline, or on cancel.
// It does what context.WithTimeout would, and costs a call that nobody waits for no allocation. Contexts made of it
// need no goroutine, since it has AfterFunc.
type callContext struct {
	parent   context.Context // the stream's, for values and for the cause of its end
	deadline time.Time
	timer    *time.Timer

	state sync.Mutex // protects all below
	err   error
	done  chan struct{} // made when it is first asked for
	after map[*func()]struct{}
}

// limit sets the deadline. It is called before anybody else has the context.
func (c *callContext) limit(d time.Duration) {
	c.state.Lock() // the timer may fire at once
	defer c.state.Unlock()
	c.deadline = time.Now().Add(d)
	c.timer = time.AfterFunc(d, func() { c.end(context.DeadlineExceeded) })
}

// Deadline is part of context.Context.
func (c *callContext) Deadline() (time.Time, bool) {
	if d, ok := c.parent.Deadline(); ok && (c.deadline.IsZero() || d.Before(c.deadline)) {
		return d, true
	}
	return c.deadline, !c.deadline.IsZero()
}

// Done is part of context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.state.Lock()
	defer c.state.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err is part of context.Context.
func (c *callContext) Err() error {
	c.state.Lock()
	defer c.state.Unlock()
	return c.err
}

// AfterFunc has f called when the context has ended: package context looks for it.
func (c *callContext) AfterFunc(f func()) (stop func() bool) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	if c.after == nil {
		c.after = make(map[*func()]struct{})
	}
	c.after[&f] = struct{}{}
	return func() bool {
		c.state.Lock()
		defer c.state.Unlock()
		_, ok := c.after[&f]
		delete(c.after, &f)
		return ok
	}
}

// cancel ends the context.
func (c *callContext) cancel() { c.end(context.Canceled) }

// end ends the context with err, unless it has ended. It takes no time, and so may be called under locks.
func (c *callContext) end(err error) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	for f := range c.after {
		go (*f)()
	}
	c.after = nil
}
