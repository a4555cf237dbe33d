package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// smallMessage is the largest payload of a call whose body is not over LargeCall.
	smallMessage = LargeCall + maxHead
	// partSize is the largest piece of a reply, in bytes, that is sent at once (C10): with what surrounds it one write, and so one frame
	// of the session, which its receiver need not put together.
	partSize = writeChunk - replyOverhead
	// maxAnswer is the largest payload from a callee on a stream of calls (C10): a piece and any envelope.
	maxAnswer = 96 << 10
	// patience is how long a large request waits for room. While it does nobody reads its stream, so that the server would
	// not see that the caller has given up.
	patience = 2 * time.Second

	// firstPiece is how much memory a large call gets before any of it has come. There is room for all of it (MaxHeld) by then.
	firstPiece = keepBuffer

	heldText = "requests and unwritten replies of this session hold too many bytes"
)

// A serverStream is a stream that the peer opened. Its first message says what it is for: calls, any number of them, or a
// stream of messages or a connection (serveropen.go).
type serverStream struct {
	ss      *serverSession
	conn    net.Conn
	in      *intake
	ctx     context.Context // of the stream's calls
	cancel  context.CancelCauseFunc
	out     *outbox // of a stream of calls; set once, under serverSession.mu
	handed  bool    // it is its handler's; under serverSession.mu
	running int     // calls that were let in and are not over; under serverSession.mu

	last   uint64  // the last call's id; the reader's alone, as are these
	calls  bool    // a cancel has said that it is a stream of calls
	opened *opened // what it was handed over for
	due    queue   // calls that wait for a worker
}

// errCallerGone is the cause of a handler's context when the caller closed the stream.
var errCallerGone = fmt.Errorf("rpc: the caller closed the stream: %w", context.Canceled)

func newServerStream(ss *serverSession, conn net.Conn) *serverStream {
	st := &serverStream{ss: ss, conn: conn}
	st.in = newIntake(conn, smallMessage, &ss.wg, st)
	st.in.give = true
	st.ctx, st.cancel = context.WithCancelCause(ss.ctx)
	return st
}

// end cancels the stream's calls and closes it. It may be called more than once.
func (st *serverStream) end(cause error) {
	st.cancel(cause)
	out := st.ss.cancelCalls(st)
	if out != nil {
		out.fail(cause)
		if out.lostTo(cause) && cause == context.Cause(st.ss.ctx) {
			st.ss.noteCut()
		}
	} else if st.ss.ctx.Err() != nil { // a connection that is cut must not look as if that were all
		resetConn(st.conn)
	}
	st.conn.Close()
}

// goaway is queued without waiting for room: it is sent once.
func (st *serverStream) goaway() {
	st.out.put(appendGoaway(st.out.begin()), 0, 0)
	st.out.wake()
}

// over is called when there is nothing more to read. A stream that ends, cleanly or not, has no caller any more (C7).
func (st *serverStream) over(in *frameReader, err error) {
	if err == errHanded {
		if in == nil {
			in = newFrameReader(st.conn)
		}
		go st.handle(in)
		return
	}
	if errors.Is(err, ErrProtocol) {
		st.ss.violated(err)
	} else if err == io.EOF {
		err = errCallerGone
	}
	st.end(err)
	st.ss.forget(st)
}

// errAnswered is the cause of the end of a stream whose one call is over.
var errAnswered = errors.New("rpc: answered")

// message takes a message that is not large.
func (st *serverStream) message(p []byte, owned, wait bool) error {
	m, err := parseMessage(p)
	if err != nil {
		return err
	}
	switch {
	case m.kind == kindCall || m.kind == kindCall2:
		if !wait && st.out != nil && st.out.room.full() { // refusals must not pile up without bound
			return errMustWait
		}
		return st.accept(&m, len(p), 0, owned, wait)
	case m.kind == kindCancel:
		st.calls = true
		st.ss.cancelCall(m.id)
		return nil
	case m.kind == kindOpen && st.last == 0 && !st.calls:
		if st.ss.hand(st) {
			return st.answerOpen(&m)
		}
		if !wait {
			return errMustWait
		}
		st.last = m.id // a drain has made it a stream of calls
		st.answerError(m.id, drainingStatus(), true)
		return st.discardRest()
	}
	return violation("kind %d from a client", m.kind)
}

// large takes a large call, for which there must be room before it is read.
func (st *serverStream) large(in *frameReader, n int) error {
	if taken, err := st.holdLarge(in, n); !taken {
		return err
	}
	p, owned, err := in.payloadIn(n, firstPiece)
	var m message
	if err == nil {
		m, err = parseMessage(p)
	}
	if err == nil && m.kind != kindCall && m.kind != kindCall2 {
		err = violation("kind %d from a client", m.kind)
	}
	if err != nil {
		st.ss.held.release(n)
		return err
	}
	return st.accept(&m, n, n, owned, true)
}

// discardRest throws away the messages of a stream that was refused, which its caller may send until it knows (S3), and
// returns why the stream is over.
func (st *serverStream) discardRest() error {
	st.out.finish()
	if _, err := io.CopyN(io.Discard, st.conn, maxDiscard); err != io.EOF {
		return errAnswered
	}
	select {
	case <-st.out.done:
	case <-st.ctx.Done():
	}
	return errAnswered
}

// begun notes a call's id, and that the stream is one of calls.
func (st *serverStream) begun(id uint64) error {
	if id <= st.last {
		return violation("an id that is not above the last one")
	}
	if st.last == 0 {
		st.ss.mu.Lock()
		st.ss.carryLocked(st)
		st.ss.mu.Unlock()
	}
	st.last = id
	return nil
}

// holdLarge waits for room for a large message. If none comes, or it is over the limit, it throws the message away and
// refuses the call.
func (st *serverStream) holdLarge(in *frameReader, n int) (taken bool, err error) {
	text := fmt.Sprintf("a request of %d bytes, limit %d", n, st.ss.srv.opts.MaxReceive)
	if n <= st.ss.srv.opts.MaxReceive+maxHead {
		ctx, cancel := context.WithTimeout(st.ctx, patience)
		defer cancel()
		if err := st.ss.held.acquire(ctx, n); err == nil {
			return true, nil
		} else if st.ctx.Err() != nil {
			return false, err
		}
		text = heldText
	}
	m, err := in.discard(n)
	switch {
	case err != nil:
		return false, err
	case m.kind != kindCall && m.kind != kindCall2:
		return false, violation("kind %d from a client", m.kind)
	}
	if err := st.begun(m.id); err != nil {
		return false, err
	}
	st.answerError(m.id, &wireStatus{code: ResourceExhausted, outcome: NotExecuted, text: text}, true)
	return false, nil
}

// accept has a call's handler run or refuses the call. It owns the bytes held for the request. Unless owned the message is
// the reader's again when it returns. Its error is a violation.
func (st *serverStream) accept(m *message, n, held int, owned, wait bool) error {
	ss := st.ss
	if err := st.begun(m.id); err != nil {
		ss.held.release(held)
		return err
	}
	sc := st.newCall(m, owned)
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
			refused = &wireStatus{code: ResourceExhausted, text: heldText}
			ss.done(sc)
		}
	}
	if refused != nil {
		sc.cancel()
		ss.held.release(held)
		refused.outcome = NotExecuted
		st.answerError(m.id, refused, wait)
		return nil
	}
	sc.method, sc.packed = ss.srv.find(m.method), m.packed
	sc.req.Method = nameOf(sc.method, m.method)
	sc.held = held
	st.enqueue(sc)
	return nil
}

// nameOf is the name that was called, without a copy of it where one is at hand.
func nameOf(m *method, name []byte) string {
	if m != nil && m.name == string(name) {
		return m.name
	}
	return string(name)
}
