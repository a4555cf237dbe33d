package rpc

import (
	"bytes"
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
	// partSize is the largest piece of a reply, in bytes, that is sent at once (C10).
	partSize = 32 << 10
	// maxAnswer is the largest payload from a callee on a stream of calls (C10): a piece and any envelope.
	maxAnswer = 96 << 10
	// patience is how long a large request waits for room. While it does nobody reads its stream, so that the server would
	// not see that the caller has given up.
	patience = 2 * time.Second

	heldText = "requests and unwritten replies of this session hold too many bytes"
)

// A serverStream is a stream that the peer opened. Its first message says what it is for: calls, any number of them, or a
// stream of messages or a connection (serveropen.go).
type serverStream struct {
	ss      *serverSession
	conn    net.Conn
	in      *frameReader
	ctx     context.Context // of the stream's calls
	cancel  context.CancelCauseFunc
	out     *outbox       // of a stream of calls; set once, under serverSession.mu
	handed  bool          // it is its handler's; under serverSession.mu
	flushed chan struct{} // closed when the writer has ended
	last    uint64        // the last call's id; the reader's alone
	calls   bool          // a cancel has said that it is a stream of calls; the reader's alone
}

// errCallerGone is the cause of a handler's context when the caller closed the stream.
var errCallerGone = fmt.Errorf("rpc: the caller closed the stream: %w", context.Canceled)

func newServerStream(ss *serverSession, conn net.Conn) *serverStream {
	st := &serverStream{ss: ss, conn: conn, flushed: make(chan struct{})}
	st.ctx, st.cancel = context.WithCancelCause(ss.ctx)
	return st
}

// end cancels the stream's calls and closes it. It may be called more than once.
func (st *serverStream) end(cause error) {
	st.cancel(cause)
	st.ss.mu.Lock()
	out := st.out
	st.ss.mu.Unlock()
	if out != nil {
		out.fail(cause)
		if out.lostTo(cause) && cause == context.Cause(st.ss.ctx) {
			st.ss.noteCut()
		}
	}
	st.conn.Close()
}

// goaway is queued without waiting for room: it is sent once.
func (st *serverStream) goaway() {
	st.out.put(appendGoaway(st.out.begin()), 0, 0)
	st.out.wake()
}

// write is the writer goroutine of a stream of calls.
func (st *serverStream) write() {
	defer close(st.flushed)
	if err := st.out.run(); err != errFlushed {
		st.end(err)
	}
}

// read is the reader goroutine. A stream that ends, cleanly or not, has no caller any more (C7).
func (st *serverStream) read() {
	st.in = newFrameReader(st.conn)
	for {
		err := st.readMessage()
		if err == nil {
			continue
		}
		if err == errHanded {
			return
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

// errAnswered is the cause of the end of a stream whose one call is over.
var errAnswered = errors.New("rpc: answered")

func (st *serverStream) readMessage() error {
	n, err := st.in.header()
	if err != nil {
		return err
	}
	held := 0
	if n > smallMessage { // room for a large one is taken before it is read
		if taken, err := st.holdLarge(n); !taken {
			return err
		}
		held = n
	}
	p, owned, err := st.in.payload(n)
	var m message
	if err == nil {
		m, err = parseMessage(p)
	}
	if err == nil {
		switch {
		case m.kind == kindCall || m.kind == kindCall2:
			if !owned {
				m.body = bytes.Clone(m.body)
			}
			return st.accept(&m, n, held)
		case m.kind == kindCancel:
			st.calls = true
			st.ss.cancelCall(m.id)
		case m.kind == kindOpen && st.last == 0 && !st.calls:
			if st.ss.hand(st) {
				return st.answerOpen(&m)
			}
			st.last = m.id // a drain has made it a stream of calls
			st.answerError(m.id, drainingStatus())
			return st.discardRest()
		default:
			err = violation("kind %d from a client", m.kind)
		}
	}
	st.ss.held.release(held)
	return err
}

// discardRest throws away the messages of a stream that was refused, which its caller may send until it knows (S3), and
// returns why the stream is over.
func (st *serverStream) discardRest() error {
	st.out.finish()
	if _, err := io.CopyN(io.Discard, st.conn, maxDiscard); err != io.EOF {
		return errAnswered
	}
	select {
	case <-st.flushed:
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
func (st *serverStream) holdLarge(n int) (taken bool, err error) {
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
	m, err := st.in.discard(n)
	switch {
	case err != nil:
		return false, err
	case m.kind != kindCall && m.kind != kindCall2:
		return false, violation("kind %d from a client", m.kind)
	}
	if err := st.begun(m.id); err != nil {
		return false, err
	}
	st.answerError(m.id, &wireStatus{code: ResourceExhausted, outcome: NotExecuted, text: text})
	return false, nil
}

// accept starts a call's handler or refuses the call. It owns the bytes held for the request. Its error is a violation.
func (st *serverStream) accept(m *message, n, held int) error {
	ss := st.ss
	if err := st.begun(m.id); err != nil {
		ss.held.release(held)
		return err
	}
	sc := st.newCall(m)
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
		st.answerError(m.id, refused)
		return nil
	}
	method := ss.srv.find(m.method)
	sc.req.Method = nameOf(method, m.method)
	sc.held = held
	go st.run(sc, method, m.packed)
	return nil
}

// nameOf is the name that was called, without a copy of it where one is at hand.
func nameOf(m *method, name []byte) string {
	if m != nil && m.name == string(name) {
		return m.name
	}
	return string(name)
}

// run is the goroutine of one call.
func (st *serverStream) run(sc *serverCall, m *method, packed bool) {
	var reply Raw
	var bad *wireStatus
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit, which recover does not see
			bad = sc.panicked(recover())
		}
		st.ss.held.release(sc.held)
		if st.ss.wanted(sc) {
			st.answer(sc, reply, bad)
		}
		sc.leave()
		st.ss.done(sc)
	}()
	var err error
	if st.ss.held.crowded(sc.held) { // replies have piled up since the call was let in
		err = refuse(ResourceExhausted, heldText)
	} else {
		reply, err = sc.execute(m, packed)
	}
	if err != nil {
		bad = sc.statusFor(err) // here, since the handler's error may panic too
	}
	returned = true
}

// answer queues a reply, or what stands in its place. It waits for room, which bounds what a slow reader costs, until the
// stream ends.
func (st *serverStream) answer(sc *serverCall, reply Raw, bad *wireStatus) {
	opts := &st.ss.srv.opts
	header, trailer := sc.meta()
	if bad == nil {
		if err := Check(reply); err != nil {
			bad = &wireStatus{code: Internal, outcome: Executed, text: "the reply: " + err.Error()}
		} else if size := replySize(sc.id, reply); size > opts.MaxSend {
			bad = &wireStatus{code: ResourceExhausted, outcome: Executed, text: fmt.Sprintf("a reply of %d bytes, limit %d", size, opts.MaxSend)}
		}
	}
	if bad != nil {
		if bad.outcome == Executed {
			bad.header, bad.trailer = header, trailer
		}
		st.answerError(sc.id, bad)
		return
	}
	pack := byte(0)
	if sc.flags&flagPack != 0 {
		reply, pack = packer{opts.CompressOver}.pack(reply)
	}
	n := len(reply)
	st.ss.held.force(n) // so that further calls are refused while replies pile up
	defer st.ss.held.release(n)
	for len(reply) > partSize { // C10
		if !st.ss.wanted(sc) || st.out.reserve(st.ctx, replyOverhead+partSize) != nil {
			return
		}
		st.out.put(appendPart(st.out.begin(), sc.id, reply[:partSize]), 0, replyOverhead+partSize)
		st.out.wake()
		reply = reply[partSize:]
	}
	room := replyOverhead + metadataSize(header) + metadataSize(trailer) + len(reply)
	if st.out.reserve(st.ctx, room) == nil {
		st.out.put(appendReply2(st.out.begin(), sc.id, header, trailer, pack, reply), 0, room)
		st.out.flush(st.ss.srv.admitted.Load() > 1)
	}
}

func (st *serverStream) answerError(id uint64, s *wireStatus) {
	room := maxEnvelope
	if len(s.details)+len(s.header)+len(s.trailer) == 0 {
		room = replyOverhead + 2 + 3 + len(s.text) + 9 + 3
	}
	if st.out.reserve(st.ctx, room) == nil {
		st.out.put(appendError(st.out.begin(), id, s), 0, room)
		st.out.flush(st.ss.srv.admitted.Load() > 1)
	}
}
