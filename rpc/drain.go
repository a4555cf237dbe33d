package rpc

import (
	"context"
	"slices"
	"time"
)

// linger is how long a drained session waits for its client to close its streams, which says that no call is on its way.
const linger = 5 * time.Second

// drainingDetail tells a refusal by a drain, behind which a call goes to another server, from any other (C9).
const drainingDetail = builtIn + "draining"

func drainingStatus() *wireStatus {
	return &wireStatus{code: Unavailable, outcome: NotExecuted, text: errDraining.Error(), details: []Detail{{Name: drainingDetail}}}
}

// A drain is how far a session's drain has come: channels that are closed under serverSession.mu.
type drain struct {
	begun chan struct{} // with serverSession.draining
	quiet chan struct{} // when, besides, no call runs
	empty chan struct{} // when, besides, no stream is open
}

func newDrain() drain { return drain{make(chan struct{}), make(chan struct{}), make(chan struct{})} }

func (ss *serverSession) drainedLocked() {
	if !ss.draining || len(ss.calls) > 0 {
		return
	}
	closeOnce(ss.drained.quiet)
	if len(ss.streams) == 0 {
		closeOnce(ss.drained.empty)
	}
}

// closeOnce closes c unless it is closed. Its callers hold one lock.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// drain is Shutdown for this session: goaway, wait for handlers, wait for the client to close its streams (C9), write what
// is queued, close. When ctx ends first it cuts what is left, and returns false. It returns when ServeSession has. Of an
// attached session it drains the calls alone: the session is the Client's.
func (ss *serverSession) drain(ctx context.Context) (whole bool) {
	whole = true
	ss.beginDrain()
	wait := func(c <-chan struct{}) {
		select {
		case <-c:
			return // even if ctx has ended too
		default:
		}
		select {
		case <-c:
		case <-ctx.Done():
			whole = false
		}
	}
	wait(ss.drained.quiet) // the handlers, whether or not the session is still there
	for _, st := range ss.snapshot() {
		st.out.drained(ctx)
	}
	if ss.attached {
		if !whole {
			ss.cancelAll()
		}
		return whole
	}
	grace, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	select {
	case <-ss.drained.empty:
	case <-ss.ended:
	case <-grace.Done():
	}
	for _, st := range ss.snapshot() {
		st.out.finish()
		wait(st.out.done)
	}
	ss.cancel(ErrServerClosed)
	<-ss.ended
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return whole && !ss.cutCalls
}

// beginDrain refuses calls from now on, and those whose turn has not come.
func (ss *serverSession) beginDrain() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.draining = true
	closeOnce(ss.drained.begun)
	for st := range ss.streams {
		switch {
		case st.out != nil:
			st.goaway()
		case !st.handed: // nobody knows yet what it is for
			ss.carryLocked(st)
		}
	}
	ss.drainedLocked()
	ss.running.close(errDraining)
}

// cancelAll ends the context of every call.
func (ss *serverSession) cancelAll() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, sc := range ss.calls {
		sc.cancel()
	}
}

// snapshot returns the streams of calls that there are.
func (ss *serverSession) snapshot() []*serverStream {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return slices.DeleteFunc(ss.streamsLocked(), func(st *serverStream) bool { return st.out == nil })
}
