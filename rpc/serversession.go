package rpc

import (
	"context"
	"sync"
	"time"
)

// linger is how long a drained session waits for its client to close its streams, which says that no call is on its way.
const linger = 5 * time.Second

// A serverSession serves the calls of one session. Goroutines: the caller of serve, which accepts streams; a reader and a
// writer a stream; one that cuts when ctx ends; all in wg. Besides, one a running handler, counted in calls.
type serverSession struct {
	srv    *Server
	sess   Session
	parent context.Context // ServeSession's
	ctx    context.Context // of every handler; its cause is why the session ended
	cancel context.CancelCauseFunc
	held   *room // bytes of requests and replies
	slots  *room // streams
	wg     sync.WaitGroup
	ended  chan struct{} // closed when ServeSession returns

	mu       sync.Mutex // protects all below; nothing blocks under it
	calls    map[uint64]*serverCall
	streams  map[*serverStream]struct{}
	draining bool
	over     bool          // serve has returned
	cutCalls bool          // this side ended the session while calls ran
	quiet    chan struct{} // closed when the session drains and no call runs
	empty    chan struct{} // closed when, besides, no stream is open
}

// A serverCall is a running handler.
type serverCall struct {
	id       uint64
	stream   *serverStream
	ctx      context.Context
	cancel   context.CancelFunc
	canceled bool // the caller gave up: no reply is wanted. Under serverSession.mu
}

func newServerSession(ctx context.Context, srv *Server, sess Session) *serverSession {
	ss := &serverSession{
		srv: srv, sess: sess, parent: ctx, held: newRoom(srv.opts.MaxHeld), slots: newRoom(srv.opts.MaxStreams),
		calls: make(map[uint64]*serverCall), streams: make(map[*serverStream]struct{}),
		ended: make(chan struct{}), quiet: make(chan struct{}), empty: make(chan struct{}),
	}
	if d, ok := sess.(interface {
		Context(context.Context) context.Context
	}); ok {
		ctx = d.Context(ctx)
	}
	ss.ctx, ss.cancel = context.WithCancelCause(ctx)
	return ss
}

// serve accepts streams until the session ends, and returns why it did once all of wg has ended.
func (ss *serverSession) serve() error {
	ss.wg.Go(ss.cut)
	for {
		err := ss.slots.acquire(ss.ctx, 1)
		if err != nil {
			break
		}
		conn, err := ss.sess.Accept()
		if err != nil {
			if cause := sessionErr(ss.sess); cause != nil {
				err = cause
			}
			ss.cancel(err)
			break
		}
		ss.start(newServerStream(ss, conn))
	}
	ss.wg.Wait()
	return context.Cause(ss.ctx)
}

// cut waits for the end, whatever brings it, and closes everything.
func (ss *serverSession) cut() {
	<-ss.ctx.Done()
	ss.mu.Lock()
	streams := ss.streamsLocked()
	ss.mu.Unlock()
	for _, st := range streams {
		st.end(context.Cause(ss.ctx))
	}
	ss.sess.Close()
}

// violated ends the session of a peer that broke the rules.
func (ss *serverSession) violated(err error) {
	ss.srv.opts.Logger.Warn("rpc: session ended", "error", err)
	ss.cancel(err)
}

// start runs a stream, unless the session has ended: then cut would not see it.
func (ss *serverSession) start(st *serverStream) {
	ss.mu.Lock()
	if ss.ctx.Err() != nil {
		ss.mu.Unlock()
		st.end(context.Cause(ss.ctx))
		return
	}
	ss.streams[st] = struct{}{}
	if ss.draining {
		st.goaway()
	}
	ss.mu.Unlock()
	ss.wg.Go(st.read)
	ss.wg.Go(st.write)
}

// forget is called by a stream's reader when it ends.
func (ss *serverSession) forget(st *serverStream) {
	ss.slots.release(1)
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.streams, st)
	ss.drainedLocked()
}

func (ss *serverSession) streamsLocked() []*serverStream {
	all := make([]*serverStream, 0, len(ss.streams))
	for st := range ss.streams {
		all = append(all, st)
	}
	return all
}

// admit lets a call in or returns its refusal. An error is a violation.
func (ss *serverSession) admit(sc *serverCall) (*Error, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch _, twice := ss.calls[sc.id]; {
	case twice:
		return nil, violation("the id of a call that is running") // C2
	case ss.draining:
		return &Error{Code: Unavailable, Message: "the server is draining"}, nil
	case len(ss.calls) >= ss.srv.opts.MaxCalls:
		return &Error{Code: ResourceExhausted, Message: "too many running calls in this session"}, nil
	}
	ss.calls[sc.id] = sc
	return nil, nil
}

// done takes a call out, whose reply is queued or dropped.
func (ss *serverSession) done(sc *serverCall) {
	sc.cancel()
	ss.mu.Lock()
	delete(ss.calls, sc.id)
	if ss.ctx.Err() != nil && (ss.parent.Err() != nil || context.Cause(ss.ctx) == ErrServerClosed) {
		ss.cutCalls = true
	}
	ss.drainedLocked()
	last := ss.over && len(ss.calls) == 0
	ss.mu.Unlock()
	if last {
		ss.srv.forget(ss)
	}
}

// finish is called when serve has returned. The server keeps a session whose handlers still run, for Shutdown to wait.
func (ss *serverSession) finish() {
	ss.mu.Lock()
	ss.over = true
	last := len(ss.calls) == 0
	ss.mu.Unlock()
	if last {
		ss.srv.forget(ss)
	}
	close(ss.ended)
}

// cancelCall ends the context of a call of that stream. A call that is over needs nothing (C7).
func (ss *serverSession) cancelCall(st *serverStream, id uint64) {
	ss.mu.Lock()
	sc := ss.calls[id]
	if sc == nil || sc.stream != st {
		ss.mu.Unlock()
		return
	}
	sc.canceled = true
	ss.mu.Unlock()
	sc.cancel()
}

// wanted reports whether the caller still waits for the call's reply.
func (ss *serverSession) wanted(sc *serverCall) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return !sc.canceled
}

func (ss *serverSession) drainedLocked() {
	if !ss.draining || len(ss.calls) > 0 {
		return
	}
	closeOnce(ss.quiet)
	if len(ss.streams) == 0 {
		closeOnce(ss.empty)
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
// is queued, close. When ctx ends first it cuts what is left, and returns false. It returns when ServeSession has.
func (ss *serverSession) drain(ctx context.Context) (whole bool) {
	whole = true
	ss.mu.Lock()
	ss.draining = true
	for st := range ss.streams {
		st.goaway()
	}
	ss.drainedLocked()
	ss.mu.Unlock()

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
	wait(ss.quiet) // the handlers, whether or not the session is still there
	for _, st := range ss.snapshot() {
		st.out.drained(ctx)
	}
	grace, cancel := context.WithTimeout(ctx, linger)
	defer cancel()
	select {
	case <-ss.empty:
	case <-ss.ended:
	case <-grace.Done():
	}
	for _, st := range ss.snapshot() {
		st.out.finish()
		wait(st.flushed)
	}
	ss.cancel(ErrServerClosed)
	<-ss.ended
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return whole && !ss.cutCalls
}

// snapshot returns the streams there are.
func (ss *serverSession) snapshot() []*serverStream {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.streamsLocked()
}
