package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A serverCall is a call, a stream or a connection that a handler answers. It is the handler's context (callcontext.go).
type serverCall struct {
	callContext
	ss       *serverSession
	st       *serverStream
	id       uint64
	form     byte
	flags    byte
	packed   bool // the body is compressed
	method   *method
	req      Request
	small    [smallBody]byte // the body, if it fits
	held     int             // bytes of the session's room for requests; the call's goroutine's
	turned   bool            // the same: it counts among the handlers that run
	canceled bool            // the caller gave up: no answer is wanted. Under serverSession.mu
	runs     atomic.Int64    // how often the handler was called; answered once it can be no more

	mu              sync.Mutex // protects what is sent with the answer
	header, trailer Metadata
	headerSent      bool
}

// formUnary is the form of a call, besides those of an open (W9).
const formUnary = 0

// smallBody is up to how many bytes of a request lie in the serverCall: an allocation less.
const smallBody = 64

// newCall makes a call of a call or open message. Its time is counted from now, its arrival (C6). The request is its own,
// but the body a view of the message if that is owned.
func (st *serverStream) newCall(m *message, owned bool) *serverCall {
	sc := &serverCall{ss: st.ss, st: st, id: m.id, form: m.form, flags: m.flags}
	sc.parent = st.ctx
	if m.timeout > 0 {
		sc.limit(time.Duration(m.timeout) * time.Microsecond)
	}
	sc.req = Request{ID: string(m.request), Header: decodeMetadata(m.header), Body: m.body}
	if n := len(m.body); !owned && n <= smallBody {
		copy(sc.small[:], m.body)
		sc.req.Body = sc.small[:n:n]
	} else if !owned {
		sc.req.Body = bytes.Clone(m.body)
	}
	return sc
}

// Value makes the call known to InfoFrom and BackFrom.
func (sc *serverCall) Value(key any) any {
	if _, ok := key.(infoKey); ok {
		return sc
	}
	return sc.parent.Value(key)
}

func (sc *serverCall) requestID() string {
	if sc.req.ID != "" {
		return sc.req.ID
	}
	return sc.ss.nonce + "-" + strconv.FormatUint(sc.id, 10)
}

var errHeaderSent = errors.New("rpc: the header has been sent; set it before the first message, or set a trailer")

// answerMeta adds to the header or to the trailer of the answer.
func (sc *serverCall) answerMeta(key, value string, trailer bool) error {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	md := &sc.header
	switch {
	case trailer:
		md = &sc.trailer
	case sc.headerSent:
		return errHeaderSent
	}
	changed := md.clone()
	if changed == nil {
		changed = make(Metadata)
	}
	changed.Set(key, value)
	if err := changed.check(); err != nil {
		return Errorf(Internal, "%w", err)
	}
	*md = changed
	return nil
}

// addMeta is answerMeta for what a raw handler or an interceptor returned.
func (sc *serverCall) addMeta(header, trailer Metadata) error {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for i, from := range []Metadata{header, trailer} {
		if len(from) == 0 {
			continue
		}
		md := [...]*Metadata{&sc.header, &sc.trailer}[i]
		changed := md.clone()
		if changed == nil {
			changed = make(Metadata)
		}
		for key, values := range from {
			changed[key] = values
		}
		if err := changed.check(); err != nil {
			return Errorf(Internal, "%w", err)
		}
		*md = changed.clone()
	}
	return nil
}

// meta is what goes with the answer. After it the header counts as sent.
func (sc *serverCall) meta() (header, trailer Metadata) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	header, trailer = sc.header, sc.trailer
	if sc.headerSent {
		header = nil
	}
	sc.headerSent = true
	return header, trailer
}

// takeMeta moves what was set so far into a Response, which an interceptor may change.
func (sc *serverCall) takeMeta() (header, trailer Metadata) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	header, trailer = sc.header, sc.trailer
	sc.header, sc.trailer = nil, nil
	return header, trailer
}

// authorize asks Options.Authorize. Its error is a refusal.
func (sc *serverCall) authorize() error {
	allow := sc.ss.srv.opts.Authorize
	if allow == nil {
		return nil
	}
	if err := allow(sc, &sc.req); err != nil {
		s := statusOf(err, sc.ss.srv.opts.Errors)
		s.outcome = NotExecuted
		return &refusal{s}
	}
	return nil
}

// A refusal is an error in place of an answer: the method's handler did not run.
type refusal struct{ status *wireStatus }

func (r *refusal) Error() string { return r.status.code.Error() + ": " + r.status.text }

// Unwrap is for interceptors, which look with CodeOf and OutcomeOf.
func (r *refusal) Unwrap() error {
	return &Error{Code: r.status.code, Outcome: r.status.outcome, Message: r.status.text, Details: r.status.details}
}

func refuse(code Code, text string) error {
	return &refusal{&wireStatus{code: code, outcome: NotExecuted, text: text}}
}

// answered is serverCall.runs once it is said that the handler did not run: so it must not.
const answered = math.MinInt64

var errAnsweredCall = errors.New("rpc: the call was answered, as not executed, before an interceptor called next")

// reach counts a call of the handler. An interceptor may make several, and from other goroutines. It reports whether the handler
// may run.
func (sc *serverCall) reach() bool { return sc.runs.Add(1) > 0 }

// ran returns how often the handler was called. If never, it never will be.
func (sc *serverCall) ran() int64 {
	if sc.runs.CompareAndSwap(0, answered) {
		return 0
	}
	return max(sc.runs.Load(), 0)
}

// statusFor is what the caller is told of err. It may panic, since a handler's error may.
func (sc *serverCall) statusFor(err error) *wireStatus {
	var s *wireStatus
	ran := sc.ran()
	if r, ok := errors.AsType[*refusal](err); ok {
		own := *r.status
		if s = &own; ran > 1 { // this time it was refused; the time before it may have run
			s.outcome = Executed
		}
		return s
	}
	if s = statusOf(err, sc.ss.srv.opts.Errors); ran == 0 {
		s.outcome = NotExecuted
	}
	return s
}

// panicked logs a panic and is what the caller is told of it.
func (sc *serverCall) panicked(value any) *wireStatus {
	sc.ss.srv.opts.Logger.Error("rpc: handler panicked", "method", sc.req.Method, "panic", value, "stack", string(debug.Stack()))
	s := &wireStatus{code: Internal, outcome: Executed, text: "the handler failed"}
	if sc.ran() == 0 { // it was an interceptor, or Authorize
		s.outcome = NotExecuted
	}
	return s
}

// execute runs the handler, in turn, unless there is a reason not to.
func (sc *serverCall) execute() (Raw, error) {
	m := sc.method
	if m == nil || m.name != Health.Name { // who asks whether the server is there wants to know it while it is busy, too
		if err := sc.turn(); err != nil {
			return nil, err
		}
	}
	if err := sc.authorize(); err != nil {
		return nil, err
	}
	if m == nil || m.unary == nil {
		return nil, refuse(Unimplemented, notServed(m, "unary"))
	}
	if sc.packed {
		if err := sc.unpack(); err != nil {
			return nil, err
		}
	}
	if err := Check(sc.req.Body); err != nil {
		return nil, refuse(InvalidArgument, strings.TrimPrefix(err.Error(), "rpc: "))
	}
	if err := sc.Err(); err != nil {
		return nil, refuse(CodeOf(err), "before the handler ran")
	}
	list := sc.ss.srv.opts.Interceptors
	if len(list) == 0 {
		sc.reach()
		sc.req.scratch = newScratch() // run frees it
		sc.req.scratch.split = sc.flags&flagPack == 0
		return m.unary(sc, &sc.req)
	}
	resp, err := chainUnary(list, func(ctx context.Context, req *Request) (*Response, error) {
		if !sc.reach() {
			return nil, errAnsweredCall
		}
		if err := Check(req.Body); err != nil { // an interceptor may have made it of what a peer sent
			return nil, refuse(InvalidArgument, strings.TrimPrefix(err.Error(), "rpc: "))
		}
		reply, err := m.unary(ctx, req)
		if err != nil {
			return nil, err
		}
		header, trailer := sc.takeMeta()
		return &Response{header, trailer, reply}, nil
	})(sc, &sc.req)
	if err != nil {
		return nil, err
	}
	if resp == nil {
		return nil, Errorf(Internal, "an interceptor returned neither a response nor an error")
	}
	return resp.Body, sc.addMeta(resp.Header, resp.Trailer)
}

// notServed says why a call has no handler.
func notServed(m *method, asked string) string {
	if m == nil {
		return "no such method"
	}
	return "the method is of the form " + string(m.form) + ", not " + asked
}

// turn waits until fewer than MaxCalls and MaxServerCalls handlers run. It is given back when the answer is queued: so a
// client that takes no answers does not have more and more of them made.
func (sc *serverCall) turn() error {
	for i, r := range [...]*room{sc.ss.running, sc.ss.srv.running} {
		err := r.acquireUntil(sc, 1, sc.ss.drained.begun, errDraining)
		if err == nil {
			continue
		}
		if i > 0 {
			sc.ss.running.release(1)
		}
		if err == errDraining {
			return &refusal{drainingStatus()}
		}
		return refuse(CodeOf(err), "before the handler ran")
	}
	sc.turned = true
	return nil
}

func (sc *serverCall) leave() {
	if sc.turned {
		sc.ss.srv.running.release(1)
		sc.ss.running.release(1)
	}
}

// unpack decompresses the request. What it can become is held meanwhile.
func (sc *serverCall) unpack() error {
	opts := &sc.ss.srv.opts
	most := int(min(int64(opts.MaxReceive), int64(len(sc.req.Body))*maxRatio))
	if !sc.ss.held.try(most) {
		return refuse(ResourceExhausted, heldText)
	}
	body, err := unpack(true, sc.req.Body, opts)
	sc.ss.held.release(most - len(body))
	sc.held += len(body)
	switch {
	case errors.Is(err, ErrTooLarge):
		return refuse(ResourceExhausted, fmt.Sprintf("a request of more than %d bytes", opts.MaxReceive))
	case err != nil:
		return refuse(InvalidArgument, strings.TrimPrefix(err.Error(), "rpc: "))
	}
	sc.req.Body = body
	return nil
}
