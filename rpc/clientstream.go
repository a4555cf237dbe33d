package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A clientStream carries calls out and their replies back: the shared one any number, one of a large call that call only.
type clientStream struct {
	client *Client
	conn   net.Conn
	own    bool
	out    *outbox
	in     *intake

	mu    sync.Mutex // protects all below; taken before out.mu and never with Client.mu
	calls map[uint64]*call
	last  uint64 // the last id sent here
	err   error  // why the stream ended; sticky
}

// A call waits for its reply. Whoever takes it out of clientStream.calls is the one to end it.
type call struct {
	id    uint64
	done  chan struct{} // one value, when reply and err are set
	parts *scratch      // what came of the reply's body; the reader's alone
	reply answer
	err   error
}

func newCall() any { return &call{done: make(chan struct{}, 1)} }

func (cl *call) finish(reply answer, err error) {
	cl.reply, cl.err = reply, err
	cl.done <- struct{}{}
}

// send queues a request. Its error means that the request was not sent.
func (cs *clientStream) send(ctx context.Context, h *callHead, pack byte, body Raw) (*call, error) {
	reserved := h.size() + len(body)
	if err := cs.out.reserve(ctx, reserved); err != nil {
		return nil, notSent(ctx, err)
	}
	var ok bool
	if h.timeout, ok = remaining(ctx); !ok {
		cs.out.room.release(reserved)
		return nil, fail(DeadlineExceeded, NotSent, "", context.DeadlineExceeded)
	}
	cl, crowd, err := cs.put(h, pack, body, reserved)
	if err != nil {
		cs.out.room.release(reserved)
		return nil, err
	}
	cs.out.flush(crowd)
	return cl, nil
}

// put queues a request for which room was reserved. crowd says that it is not the only call in flight.
func (cs *clientStream) put(h *callHead, pack byte, body Raw, reserved int) (cl *call, crowd bool, err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.err != nil {
		return nil, false, fail(Unavailable, NotSent, "", cs.err)
	}
	id := cs.client.ids.Add(1) // under mu: ids grow along the stream (C2)
	if size := callSize(id, h.method, h.timeout, body) + len(h.lead); size > cs.client.opts.MaxSend {
		return nil, false, tooLarge(size, cs.client.opts.MaxSend)
	}
	cl = cs.client.calls.Get().(*call)
	cl.id = id
	cs.last = id
	cs.calls[id] = cl
	cs.out.put(appendCall2(cs.out.begin(), id, h, pack, body), id, reserved)
	return cl, len(cs.calls) > 1, nil
}

// remaining is the time that ctx leaves, in microseconds rounded up, 0 if it sets no limit; ok is false when none is left.
func remaining(ctx context.Context) (timeout uint64, ok bool) {
	deadline, limited := ctx.Deadline()
	if !limited {
		return 0, true
	}
	left := time.Until(deadline)
	if left <= 0 {
		return 0, false
	}
	return micros(left), true
}

// wait returns the call's reply or error. A reply that is there wins over a context that has ended.
func (cs *clientStream) wait(ctx context.Context, cl *call) (answer, error) {
	if ctx.Done() == nil {
		<-cl.done
		return cs.take(cl)
	}
	select {
	case <-cl.done:
	case <-ctx.Done():
		if outcome, given := cs.abandon(cl); given {
			return answer{}, failContext(ctx, outcome)
		}
		<-cl.done // somebody is ending it now
	}
	return cs.take(cl)
}

// take returns what a call has ended with, which is then used for another.
func (cs *clientStream) take(cl *call) (answer, error) {
	reply, err := cl.reply, cl.err
	if err == nil && cl.parts != nil {
		reply.body = append(Raw{}, cl.parts.b...) // not make's memory, which would be cleared first
	}
	cl.parts.free()
	cl.reply, cl.err, cl.parts = answer{}, nil, nil
	cs.client.calls.Put(cl)
	return reply, err
}

// abandon gives a call up and returns its outcome, unless its end has come.
func (cs *clientStream) abandon(cl *call) (outcome Outcome, given bool) {
	cs.mu.Lock()
	mine := cs.calls[cl.id] == cl
	delete(cs.calls, cl.id)
	cs.mu.Unlock()
	if !mine {
		return 0, false
	}
	switch {
	case cs.out.withdraw(cl.id):
		return NotSent, true
	case cs.own: // its end cancels the call (C7), and stops a request that is half written
		if cs.out.fail(errStreamDone) < cl.id {
			return NotSent, true
		}
	default:
		cs.cancel(cl.id)
	}
	return OutcomeUnknown, true
}

// maxCancels is how many bytes may wait to be written before cancels are left out: a peer that takes nothing for so long does
// not get to them.
const maxCancels = sharedLimit + 256<<10

// cancel tells the server that a call or a stream was given up. It does not wait for room.
func (cs *clientStream) cancel(id uint64) {
	b := cs.out.begin()
	if len(b) < maxCancels {
		b = appendCancel(b, id)
	}
	cs.out.put(b, 0, 0)
	cs.out.flush(false)
}

// writeEnded ends a stream that takes no more requests, unless that is the session's end: then replies may still lie in the
// stream, and its reader, which comes to the end behind them, ends it.
func (cs *clientStream) writeEnded(err error) {
	if cause := sessionErr(cs.client.sess); cause != nil {
		cs.client.stop(lost(cause))
		return
	}
	cs.end(err)
}

// over tells a stream's end from the session's. A peer that closes a stream without a reply has cut it.
func (cs *clientStream) over(_ *frameReader, err error) {
	c := cs.client
	switch cause := sessionErr(c.sess); {
	case errors.Is(err, ErrProtocol):
		c.violated(err)
		cs.end(err)
	case cause != nil:
		err := c.lost(cause)
		c.stop(err)
		cs.end(err)
	case err == io.EOF:
		cs.end(fmt.Errorf("the peer closed the stream: %w", io.ErrUnexpectedEOF))
	default:
		cs.end(err)
	}
}

// large refuses what no server may send (C10).
func (cs *clientStream) large(_ *frameReader, n int) error {
	return violation("a message of %d bytes from a server", n)
}

// message takes what a server sends. It never waits.
func (cs *clientStream) message(p []byte, _, _ bool) error {
	m, err := parseMessage(p)
	if err != nil {
		return err
	}
	switch m.kind {
	case kindGoaway:
		cs.client.goaway()
		return nil
	case kindReply, kindReply2, kindError, kindError2, kindPart:
		return cs.answered(&m)
	}
	return violation("kind %d from a server", m.kind)
}

// answered gives what came to its call. m lies in the reader's buffer.
func (cs *clientStream) answered(m *message) error {
	limit := cs.client.opts.MaxReceive
	cs.mu.Lock()
	cl := cs.calls[m.id]
	over := cl != nil && cl.parts.len()+len(m.body) > limit
	if m.kind == kindPart && cl != nil && !over {
		if cl.parts == nil {
			cl.parts = newScratch()
			cl.parts.b = cl.parts.b[:0]
		}
		cl.parts.add(m.body) // under mu: a call that ends is used again
		cs.mu.Unlock()
		return nil
	}
	delete(cs.calls, m.id)
	last := cs.last
	cs.mu.Unlock()
	switch {
	case cl == nil && m.id > last:
		return violation("an answer to a call that was never made")
	case cl == nil: // given up meanwhile (C7)
	case m.kind == kindError || m.kind == kindError2:
		cl.finish(answer{}, errorOf(m, cs.client.opts.Errors))
	case over:
		cl.finish(answer{}, fail(ResourceExhausted, Executed, fmt.Sprintf("a reply of more than %d bytes", limit), ErrTooLarge))
	default:
		a := answer{packed: m.packed, header: bytes.Clone(m.header), trailer: bytes.Clone(m.trailer)}
		if cl.parts == nil {
			a.body = bytes.Clone(m.body)
		} else {
			cl.parts.add(m.body) // and take copies all of it, where it holds up nobody
		}
		cl.finish(a, nil)
	}
	return nil
}

// end ends the stream and its calls. Only the first call does anything; a nil stream has ended.
func (cs *clientStream) end(cause error) {
	if cs == nil {
		return
	}
	cs.mu.Lock()
	if cs.err != nil {
		cs.mu.Unlock()
		return
	}
	cs.err = cause
	waiting := cs.calls
	cs.calls = nil
	cs.mu.Unlock()
	handed := cs.out.fail(cause)
	cs.client.forget(cs)
	for id, cl := range waiting {
		outcome := OutcomeUnknown
		if id > handed { // C5
			outcome = NotSent
		}
		cl.finish(answer{}, fail(Unavailable, outcome, "", cause))
	}
	cs.conn.Close()
}
