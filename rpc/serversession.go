package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
)

// errDraining ends the wait of calls whose turn has not come when the server drains. Its text crosses the wire.
var errDraining = errors.New("the server is draining")

const (
	// lobby is how many streams more than Options.MaxStreams are read, so that they can be refused.
	lobby = 64
	// maxEarly is how many cancels are remembered at least whose call has not come, or is over; at most twice as many (C7).
	maxEarly = 512
)

// A serverSession answers the calls of one session: for a Server, or for the Client that it is attached to. Goroutines: the
// caller of serve, which accepts streams; a reader for each stream until that is found to be one of messages or a connection, and
// a writer for each stream of calls, while there is something for them to wait for; at the end one that closes; all in wg.
// Besides, the workers that run handlers: their calls are counted in calls.
type serverSession struct {
	srv      *Server
	sess     Session
	attached bool            // the session is a Client's
	parent   context.Context // ServeSession's
	ctx      context.Context // of every handler; its cause is why the session ended
	cancel   context.CancelCauseFunc
	held     *room // bytes of requests and replies
	running  *room // handlers of unary calls
	slots    *room // streams
	nonce    string
	wg       sync.WaitGroup
	closed   chan struct{} // closed when everything was closed, after ctx
	ended    chan struct{} // closed when ServeSession returns
	drained  drain

	mu       sync.Mutex // protects all below; nothing blocks under it
	back     *Client    // calls the other side; nil until it is asked for
	calls    map[uint64]*serverCall
	early    [2]map[uint64]struct{} // cancels that came before their call (C7): the latest, and those before
	streams  map[*serverStream]struct{}
	open     int // of the calls, streams of messages and connections
	draining bool
	shared   bool // there was a stream of calls
	over     bool // serve has returned
	cutCalls bool // this side ended the session while calls ran or answers waited
}

func newServerSession(ctx context.Context, srv *Server, sess Session) *serverSession {
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails
	ss := &serverSession{
		srv: srv, sess: sess, parent: ctx, nonce: hex.EncodeToString(nonce[:]),
		held: newRoom(srv.opts.MaxHeld), running: newRoom(srv.opts.MaxCalls), slots: newRoom(srv.opts.MaxStreams + lobby),
		calls: make(map[uint64]*serverCall), streams: make(map[*serverStream]struct{}),
		closed: make(chan struct{}), ended: make(chan struct{}), drained: newDrain(),
	}
	if d, ok := sess.(interface {
		Context(context.Context) context.Context
	}); ok {
		ctx = d.Context(ctx)
	}
	ss.ctx, ss.cancel = context.WithCancelCause(ctx)
	return ss
}

// attach makes c the Client whose session this is.
func (ss *serverSession) attach(c *Client) {
	ss.attached, ss.back = true, c
	if !ss.srv.keep(ss) { // the handlers are gone, and the client may call all the same
		ss.draining = true
		close(ss.drained.begun)
	}
}

// caller returns the Client that calls the other side.
func (ss *serverSession) caller() *Client {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.back == nil {
		opts := ss.srv.opts
		opts.MaxStreams, opts.Interceptors = 0, nil
		ss.back = newCaller(ss.sess, opts)
		ss.back.callee = ss
		if ss.ctx.Err() != nil { // close does not see it any more
			ss.back.err = lost(context.Cause(ss.ctx))
			ss.back.cancel()
		}
	}
	return ss.back
}

// serve accepts streams until the session ends, and returns why it did once all of wg has ended.
func (ss *serverSession) serve() error {
	context.AfterFunc(ss.ctx, ss.close)
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
	<-ss.closed
	ss.wg.Wait()
	return context.Cause(ss.ctx)
}

// close runs when ctx has ended, whatever brought that, and closes everything.
func (ss *serverSession) close() {
	defer close(ss.closed)
	cause := context.Cause(ss.ctx)
	ss.mu.Lock()
	streams, back := ss.streamsLocked(), ss.back
	ss.mu.Unlock()
	for _, st := range streams {
		st.end(cause)
	}
	ss.sess.Close()
	if back != nil {
		back.stop(lost(cause))
		if !ss.attached { // an attached one waits for us
			back.wg.Wait()
		}
	}
}

// violated ends the session of a peer that broke the rules.
func (ss *serverSession) violated(err error) {
	ss.srv.opts.Logger.Warn("rpc: session ended", "error", err)
	ss.mu.Lock()
	back := ss.back
	ss.mu.Unlock()
	if back != nil {
		back.stop(err) // before its streams find the session closed
	}
	ss.cancel(err)
}

// start runs a stream, unless the session has ended: then close would not see it.
func (ss *serverSession) start(st *serverStream) {
	ss.mu.Lock()
	if ss.ctx.Err() != nil {
		ss.mu.Unlock()
		st.end(context.Cause(ss.ctx))
		return
	}
	ss.streams[st] = struct{}{}
	ss.mu.Unlock()
	st.in.start()
}

// carryLocked makes st a stream of calls, which can be written to, and tells it of a drain that has begun.
func (ss *serverSession) carryLocked(st *serverStream) {
	if st.out != nil {
		return
	}
	limit := ownLimit
	if !ss.shared { // the one that small calls share
		ss.shared, limit = true, sharedLimit
	}
	st.out = newOutbox(st.conn, limit, &ss.wg, st.end)
	if st.ctx.Err() != nil { // end has not seen the outbox
		st.out.fail(context.Cause(st.ctx))
	}
	if ss.draining {
		st.goaway()
	}
}

// hand makes st the stream of one handler, unless it is one of calls.
func (ss *serverSession) hand(st *serverStream) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	st.handed = st.out == nil
	return st.handed
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
func (ss *serverSession) admit(sc *serverCall) (*wireStatus, error) {
	opts := &ss.srv.opts
	ss.mu.Lock()
	defer ss.mu.Unlock()
	_, twice := ss.calls[sc.id]
	_, early := ss.early[0][sc.id]
	_, older := ss.early[1][sc.id]
	switch {
	case twice:
		return nil, violation("the id of a call that is running") // C2
	case early, older:
		return &wireStatus{code: Canceled, text: "cancelled before it began"}, nil
	case ss.draining:
		return drainingStatus(), nil
	case sc.form == formUnary && (len(ss.calls)-ss.open >= opts.MaxCalls+opts.MaxQueue || ss.srv.admitted.Load() >= 2*int64(opts.MaxServerCalls)):
		return &wireStatus{code: ResourceExhausted, text: "too many calls run and wait"}, nil
	case sc.form != formUnary && (ss.open >= opts.MaxStreams || ss.srv.open.Load() >= int64(opts.MaxServerStreams)):
		return &wireStatus{code: ResourceExhausted, text: "too many open streams and connections"}, nil
	}
	ss.calls[sc.id] = sc
	sc.st.running++
	ss.countLocked(sc, 1)
	if err := sc.st.ctx.Err(); err != nil { // cancelCalls has not seen it
		sc.end(err)
	}
	return nil, nil
}

// cancelCalls ends the contexts of a stream's calls, whose own context has ended. It returns the stream's outbox.
func (ss *serverSession) cancelCalls(st *serverStream) *outbox {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if st.running > 0 {
		err := st.ctx.Err()
		for _, sc := range ss.calls {
			if sc.st == st {
				sc.end(err)
			}
		}
	}
	return st.out
}

func (ss *serverSession) countLocked(sc *serverCall, n int) {
	if sc.form == formUnary {
		ss.srv.admitted.Add(int64(n))
		return
	}
	ss.open += n
	ss.srv.open.Add(int64(n))
}

// done takes a call out, whose answer is queued or dropped.
func (ss *serverSession) done(sc *serverCall) {
	sc.cancel()
	ss.mu.Lock()
	delete(ss.calls, sc.id)
	sc.st.running--
	ss.countLocked(sc, -1)
	ss.noteCutLocked()
	ss.drainedLocked()
	last := ss.over && len(ss.calls) == 0
	ss.mu.Unlock()
	if last {
		ss.srv.forget(ss)
	}
}

// noteCut notes that a call or its answer was lost, if that is because this side ended the session.
func (ss *serverSession) noteCut() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.noteCutLocked()
}

func (ss *serverSession) noteCutLocked() {
	if ss.ctx.Err() != nil && (ss.parent.Err() != nil || context.Cause(ss.ctx) == ErrServerClosed) {
		ss.cutCalls = true
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

// cancelCall ends the context of a call. One that is over needs nothing. One on a stream that was not read so far is
// remembered: its cancel comes on another stream (C7).
func (ss *serverSession) cancelCall(id uint64) {
	ss.mu.Lock()
	sc := ss.calls[id]
	if sc == nil {
		if ss.early[0] == nil || len(ss.early[0]) >= maxEarly {
			ss.early = [...]map[uint64]struct{}{make(map[uint64]struct{}), ss.early[0]}
		}
		ss.early[0][id] = struct{}{}
		ss.mu.Unlock()
		return
	}
	sc.canceled = true
	ss.mu.Unlock()
	sc.cancel()
}

// wanted reports whether the caller still waits for the call's answer.
func (ss *serverSession) wanted(sc *serverCall) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return !sc.canceled
}
