package rpc

import (
	"bytes"
	"context"
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

	mu    sync.Mutex // protects all below; taken before out.mu and never with Client.mu
	calls map[uint64]*call
	last  uint64 // the last id sent here
	err   error  // why the stream ended; sticky
}

// A call waits for its reply. Whoever takes it out of clientStream.calls is the one to end it.
type call struct {
	id   uint64
	done chan struct{} // one value, when body and err are set
	body Raw
	err  error
}

func newCall() any { return &call{done: make(chan struct{}, 1)} }

func (cl *call) finish(body Raw, err error) {
	cl.body, cl.err = body, err
	cl.done <- struct{}{}
}

// send queues a request. Its error means that the request was not sent.
func (cs *clientStream) send(ctx context.Context, method string, body Raw) (*call, error) {
	reserved := callOverhead + len(method) + len(body)
	if err := cs.out.reserve(ctx, reserved); err != nil {
		return nil, notSent(ctx, err)
	}
	timeout, ok := remaining(ctx)
	if !ok {
		cs.out.room.release(reserved)
		return nil, fail(DeadlineExceeded, NotSent, "", context.DeadlineExceeded)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.err != nil {
		cs.out.room.release(reserved)
		return nil, fail(Unavailable, NotSent, "", cs.err)
	}
	id := cs.client.ids.Add(1) // under mu: ids grow along the stream (C2)
	if size := callSize(id, method, timeout, body); size > cs.client.opts.MaxSend {
		cs.out.room.release(reserved)
		return nil, tooLarge(size, cs.client.opts.MaxSend)
	}
	cl := cs.client.calls.Get().(*call)
	cl.id = id
	cs.last = id
	cs.calls[id] = cl
	cs.out.put(appendCall(cs.out.begin(), id, method, timeout, body), id, reserved)
	return cl, nil
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
	return min((uint64(left)+999)/1000, maxTimeout), true
}

// wait returns the call's reply or error. A reply that is there wins over a context that has ended.
func (cs *clientStream) wait(ctx context.Context, cl *call) (Raw, error) {
	select {
	case <-cl.done:
	case <-ctx.Done():
		if outcome, given := cs.abandon(cl); given {
			return nil, failContext(ctx, outcome)
		}
		<-cl.done // somebody is ending it now
	}
	body, err := cl.body, cl.err
	cl.body, cl.err = nil, nil
	cs.client.calls.Put(cl)
	return body, err
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
		// A cancel does not wait for room: there is at most one, of 15 bytes, for each call that was sent.
		cs.out.put(appendCancel(cs.out.begin(), cl.id), 0, 0)
	}
	return OutcomeUnknown, true
}

// write is the writer goroutine.
func (cs *clientStream) write() {
	cs.client.writeEnded(cs, cs.out.run(cs.conn))
}

// read is the reader goroutine.
func (cs *clientStream) read() {
	in := newFrameReader(cs.conn, cs.client.opts.MaxReceive)
	for {
		if err := cs.readMessage(in); err != nil {
			cs.client.readEnded(cs, err)
			return
		}
	}
}

func (cs *clientStream) readMessage(in *frameReader) error {
	n, err := in.header()
	if err != nil {
		return err
	}
	p, owned, err := in.payload(n)
	if err != nil {
		return err
	}
	m, err := parseMessage(p)
	if err != nil {
		return err
	}
	switch m.kind {
	case kindGoaway:
		cs.client.goaway()
		return nil
	case kindReply, kindError:
	default:
		return violation("kind %d from a server", m.kind)
	}
	cs.mu.Lock()
	cl := cs.calls[m.id]
	delete(cs.calls, m.id)
	last := cs.last
	cs.mu.Unlock()
	switch {
	case cl == nil && m.id > last:
		return violation("an answer to a call that was never made")
	case cl == nil: // given up meanwhile (C7)
	case m.kind == kindError:
		e := &Error{Code: m.code, Outcome: m.outcome, Message: string(m.text)}
		if m.code == Unavailable && m.outcome == NotExecuted {
			e.cause = ErrDraining // C9
		}
		cl.finish(nil, e)
	case owned:
		cl.finish(m.body, nil)
	default:
		cl.finish(bytes.Clone(m.body), nil)
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
		cl.finish(nil, fail(Unavailable, outcome, "", cause))
	}
	cs.conn.Close()
}
