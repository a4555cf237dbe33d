package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"time"
)

// A serverStream takes calls off one stream and puts replies on it.
type serverStream struct {
	ss      *serverSession
	conn    net.Conn
	out     *outbox
	ctx     context.Context // of the stream's calls
	cancel  context.CancelCauseFunc
	flushed chan struct{} // closed when the writer has ended
	last    uint64        // the last call's id; the reader's alone
}

// errCallerGone is the cause of a handler's context when the caller closed the stream.
var errCallerGone = fmt.Errorf("rpc: the caller closed the stream: %w", context.Canceled)

const heldText = "requests and unwritten replies of this session hold too many bytes"

// A refusal is an error of this package's own in place of a reply: the method's handler did not run.
type refusal struct {
	code Code
	text string
}

func (r refusal) Error() string { return r.code.Error() + ": " + r.text }

func refuse(code Code, text string) error { return refusal{code, text} }

func newServerStream(ss *serverSession, conn net.Conn) *serverStream {
	st := &serverStream{ss: ss, conn: conn, out: newOutbox(), flushed: make(chan struct{})}
	st.ctx, st.cancel = context.WithCancelCause(ss.ctx)
	return st
}

// end cancels the stream's calls and closes it. It may be called more than once.
func (st *serverStream) end(cause error) {
	st.cancel(cause)
	st.out.fail(cause)
	st.conn.Close()
}

// goaway is queued without waiting for room: it is sent once.
func (st *serverStream) goaway() { st.out.put(appendGoaway(st.out.begin()), 0, 0) }

// write is the writer goroutine.
func (st *serverStream) write() {
	defer close(st.flushed)
	if err := st.out.run(st.conn); err != errFlushed {
		st.end(err)
	}
}

// read is the reader goroutine. A stream that ends, cleanly or not, has no caller any more (C7).
func (st *serverStream) read() {
	in := newFrameReader(st.conn, st.ss.srv.opts.MaxReceive)
	for {
		err := st.readMessage(in)
		if err == nil {
			continue
		}
		if errors.Is(err, ErrProtocol) {
			st.ss.violated(err)
		} else if err == io.EOF {
			err = errCallerGone
		}
		st.end(err)
		st.ss.forget(st)
		return
	}
}

// smallMessage is the largest payload of a call whose body is not over LargeCall.
const smallMessage = LargeCall + callOverhead - frameHeader + maxMethod

func (st *serverStream) readMessage(in *frameReader) error {
	n, err := in.header()
	if err != nil {
		return err
	}
	held := 0
	if n > smallMessage { // room for a large one is taken before it is read
		if taken, err := st.holdLarge(in, n); !taken {
			return err
		}
		held = n
	}
	p, owned, err := in.payload(n)
	var m message
	if err == nil {
		m, err = parseMessage(p)
	}
	if err == nil {
		switch m.kind {
		case kindCall:
			if !owned {
				m.body = bytes.Clone(m.body)
			}
			return st.accept(m, n, held)
		case kindCancel:
			if m.id > st.last {
				err = violation("a cancel of a call that was never made")
			} else {
				st.ss.cancelCall(st, m.id)
			}
		default:
			err = violation("kind %d from a client", m.kind)
		}
	}
	st.ss.held.release(held)
	return err
}

// patience is how long a large request waits for room. While it does nobody reads its stream, so that the server would not
// see that the caller has given up.
const patience = 2 * time.Second

// holdLarge waits for room for a large message. If none comes it throws the message away and refuses the call.
func (st *serverStream) holdLarge(in *frameReader, n int) (taken bool, err error) {
	ctx, cancel := context.WithTimeout(st.ctx, patience)
	defer cancel()
	if err := st.ss.held.acquire(ctx, n); err == nil {
		return true, nil
	} else if st.ctx.Err() != nil {
		return false, err
	}
	m, err := in.discard(n)
	switch {
	case err != nil:
		return false, err
	case m.kind != kindCall:
		return false, violation("kind %d from a client", m.kind)
	case m.id <= st.last:
		return false, violation("an id that is not above the last one")
	}
	st.last = m.id
	st.answerError(m.id, ResourceExhausted, NotExecuted, heldText)
	return false, nil
}

// accept starts a call's handler or refuses the call. It owns the bytes held for the request. Its error is a violation.
func (st *serverStream) accept(m message, n, held int) error {
	ss := st.ss
	if m.id <= st.last {
		ss.held.release(held)
		return violation("an id that is not above the last one")
	}
	st.last = m.id
	sc := &serverCall{id: m.id, stream: st}
	if m.timeout > 0 { // counted from the arrival (C6)
		sc.ctx, sc.cancel = context.WithTimeout(st.ctx, time.Duration(m.timeout)*time.Microsecond)
	} else {
		sc.ctx, sc.cancel = context.WithCancel(st.ctx)
	}
	refused, err := ss.admit(sc)
	if err != nil {
		sc.cancel()
		ss.held.release(held)
		return err
	}
	if refused == nil && held == 0 {
		if ss.held.try(n) {
			held = n
		} else {
			refused = &Error{Code: ResourceExhausted, Message: heldText}
			ss.done(sc)
		}
	}
	if refused != nil {
		sc.cancel()
		ss.held.release(held)
		st.answerError(m.id, refused.Code, NotExecuted, refused.Message)
		return nil
	}
	h, method := ss.srv.handlers.Load().find(m.method)
	go st.run(sc, h, method, m.body, held)
	return nil
}

// run is the goroutine of one call.
func (st *serverStream) run(sc *serverCall, h handler, method string, body Raw, held int) {
	var reply Raw
	var err error
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit, which recover does not see
			st.ss.srv.opts.Logger.Error("rpc: handler panicked", "method", method, "panic", recover(), "stack", string(debug.Stack()))
			err = &Error{Code: Internal, Message: "the handler failed"}
		}
		st.ss.held.release(held)
		if st.ss.wanted(sc) {
			st.answer(sc.id, reply, err)
		}
		st.ss.done(sc)
	}()
	if st.ss.held.crowded(held) { // replies have piled up since the call was let in
		err = refuse(ResourceExhausted, heldText)
	} else {
		reply, err = execute(sc.ctx, h, method, body)
	}
	if _, own := err.(refusal); err != nil && !own { // here, since the handler's error may panic too
		code, text := statusOf(err)
		err = &Error{Code: code, Message: text}
	}
	returned = true
}

// execute runs the handler, unless there is a reason not to.
func execute(ctx context.Context, h handler, method string, body Raw) (Raw, error) {
	if h == nil {
		return nil, refuse(Unimplemented, "no such method")
	}
	if err := Check(body); err != nil {
		return nil, refuse(InvalidArgument, strings.TrimPrefix(err.Error(), "rpc: "))
	}
	if err := ctx.Err(); err != nil {
		return nil, refuse(CodeOf(err), "before the handler ran")
	}
	return h(ctx, method, body)
}

// answer queues a reply or an error, a refusal or an *Error. It waits for room, which bounds what a slow reader costs, until the stream ends.
func (st *serverStream) answer(id uint64, reply Raw, err error) {
	if err == nil {
		if bad := Check(reply); bad != nil {
			err = &Error{Code: Internal, Message: "the reply: " + bad.Error()}
		} else if size := replySize(id, reply); size > st.ss.srv.opts.MaxSend {
			err = &Error{Code: ResourceExhausted, Message: fmt.Sprintf("a reply of %d bytes, limit %d", size, st.ss.srv.opts.MaxSend)}
		}
	}
	if err != nil {
		if r, ok := err.(refusal); ok {
			st.answerError(id, r.code, NotExecuted, r.text)
			return
		}
		e := err.(*Error)
		st.answerError(id, e.Code, Executed, e.Message)
		return
	}
	n := replyOverhead + len(reply)
	st.ss.held.force(n) // so that further calls are refused while replies pile up
	if st.out.reserve(st.ctx, n) == nil {
		st.out.put(appendReply(st.out.begin(), id, reply), 0, n)
	}
	st.ss.held.release(n)
}

func (st *serverStream) answerError(id uint64, code Code, outcome Outcome, text string) {
	text = clip(text)
	n := errorOverhead + len(text)
	if st.out.reserve(st.ctx, n) == nil {
		st.out.put(appendError(st.out.begin(), id, code, outcome, text), 0, n)
	}
}

// clip makes of an error's text what W8 allows.
func clip(text string) string {
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	return strings.ToValidUTF8(text, "") // a cut rune and the handler's own faults go
}
