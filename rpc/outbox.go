package rpc

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
)

const (
	// outboxLimit bounds, in bytes, what waits to be written on one stream. One larger message goes in alone.
	outboxLimit = 256 << 10
	// writeChunk is the largest single write. The sessions beneath send a write whole, so that a larger one would delay
	// the small calls of other streams.
	writeChunk = 32 << 10
)

// errFlushed ends an outbox that was asked to finish. No caller sees it.
var errFlushed = errors.New("rpc: nothing more is written on this stream")

// An outbox is the writing half of a stream: many goroutines put messages in, one at a time writes them out, as many as there
// are. That is one of those who put (flush), as long as the stream takes all without waiting, which saves the time until
// another goroutine runs; else it is run, which waits. The outbox knows of each call whether its last byte was handed to the
// stream, which decides between NotSent and OutcomeUnknown (C5).
type outbox struct {
	conn net.Conn
	now  nowWriter // conn, if it can write without waiting
	room *room     // bytes waiting or being written

	mu        sync.Mutex // protects all below; nothing blocks under it
	cond      sync.Cond  // wakes run; on mu
	buf       []byte     // messages that nobody has taken
	marks     []mark     // the calls in buf, in order
	spare     batch      // buffers for the next, while nobody holds them
	out       batch      // being written by whoever has set writing
	writing   bool
	left      bool   // flush could not write all of out; run's, while writing
	handed    uint64 // the last call whose last byte was handed to Write; ids grow along a stream
	finishing bool   // run ends once buf is empty
	err       error  // first error, sticky
	lost      bool   // messages were, with err
}

// A nowWriter is a stream that can write without waiting, as *transport.Stream can. WriteNow returns how many bytes it took;
// why not more, Write tells.
type nowWriter interface{ WriteNow(b []byte) int }

// A batch is what is written at a time.
type batch struct {
	b     []byte
	sent  int    // bytes of it that were written
	marks []mark // the calls in it that were not handed over
	all   []mark
}

// A mark is where a call lies in a buffer.
type mark struct {
	id         uint64
	start, end int
}

func newOutbox(conn net.Conn) *outbox {
	o := &outbox{conn: conn, room: newRoom(outboxLimit)}
	o.now, _ = conn.(nowWriter)
	o.cond.L = &o.mu
	return o
}

// reserve waits for n bytes of room; put gives back what it does not need.
func (o *outbox) reserve(ctx context.Context, n int) error { return o.room.acquire(ctx, n) }

// begin locks the outbox and returns the buffer for the caller to append one message to; put takes it back and unlocks.
// Between them nothing may block.
func (o *outbox) begin() []byte {
	o.mu.Lock()
	return o.buf
}

// put queues what was appended since begin, unless the outbox has ended. id is that of a call, which can be withdrawn and
// has an outcome, or 0; reserved is what was reserved for the message. Behind it comes flush, or wake.
func (o *outbox) put(b []byte, id uint64, reserved int) {
	start := len(o.buf)
	if o.err != nil || o.finishing {
		o.mu.Unlock()
		o.room.release(reserved)
		return
	}
	if id != 0 {
		o.marks = append(o.marks, mark{id, start, len(b)})
	}
	o.buf = b
	n := len(b) - start
	o.mu.Unlock()
	if n != reserved {
		o.room.release(reserved - n)
	}
}

// withdraw takes the call back if run has not taken it, and reports whether it did.
func (o *outbox) withdraw(id uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, m := range o.marks {
		if m.id != id {
			continue
		}
		n := m.end - m.start
		o.buf = append(o.buf[:m.start], o.buf[m.end:]...)
		o.marks = append(o.marks[:i], o.marks[i+1:]...)
		for j := i; j < len(o.marks); j++ {
			o.marks[j].start -= n
			o.marks[j].end -= n
		}
		o.room.release(n)
		return true
	}
	return false
}

// fail ends the outbox with err, unless it has ended, and returns the last call that was handed over. Nothing is handed to
// Write after it returns.
func (o *outbox) fail(err error) (handed uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.lost = len(o.buf) > 0 || o.writing
		o.err = err
		o.buf, o.marks, o.spare = nil, nil, batch{}
		o.room.close(err)
		o.cond.Signal()
	}
	return o.handed
}

// lostTo reports whether it was cause that ended the outbox, before all was written.
func (o *outbox) lostTo(cause error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost && o.err == cause
}

// drained waits until all that was put in is written, or the outbox or ctx has ended.
func (o *outbox) drained(ctx context.Context) {
	if o.room.acquire(ctx, outboxLimit) == nil {
		o.room.release(outboxLimit)
	}
}

// finish lets run write what is queued and then end.
func (o *outbox) finish() {
	o.mu.Lock()
	o.finishing = true
	o.cond.Signal()
	o.mu.Unlock()
}

// wake has run write what was put. It takes no time, and so may be called under locks.
func (o *outbox) wake() { o.cond.Signal() }

// flushRounds is how many batches one flush writes at most: the messages of others must not keep its caller for ever.
const flushRounds = 4

// flush writes what was put, without waiting, unless somebody writes already, who then takes it along. crowd says that more
// goroutines are likely to put something: they get their chance first, so that one write does for all.
func (o *outbox) flush(crowd bool) {
	if o.now == nil {
		o.wake()
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing || o.err != nil {
		return
	}
	o.writing = true
	if crowd {
		o.mu.Unlock()
		runtime.Gosched()
		o.mu.Lock()
	}
	for range flushRounds {
		if o.err != nil || len(o.buf) == 0 {
			break
		}
		o.takeLocked()
		if t := &o.out; len(t.b) <= writeChunk { // more is better written while others go on
			o.handLocked(len(t.b))
			o.mu.Unlock()
			t.sent = o.now.WriteNow(t.b)
			o.mu.Lock()
		}
		if o.out.sent < len(o.out.b) {
			o.left = true // and writing stays
			o.cond.Signal()
			return
		}
		o.writtenLocked()
	}
	o.writing = false
	if len(o.buf) > 0 || o.finishing || o.err != nil {
		o.cond.Signal()
	}
}

// run writes until the outbox ends, and returns why: errFlushed after finish.
func (o *outbox) run() error {
	for {
		if err := o.take(); err != nil {
			return err
		}
		for t := &o.out; t.sent < len(t.b); {
			end := min(t.sent+writeChunk, len(t.b))
			if err := o.hand(end); err != nil {
				return err
			}
			if _, err := o.conn.Write(t.b[t.sent:end]); err != nil {
				o.fail(err)
				return err
			}
			t.sent = end
		}
		o.mu.Lock()
		o.writtenLocked()
		o.writing = false
		o.mu.Unlock()
	}
}

// take waits for messages, or for what flush has left, and makes the caller the one who writes out.
func (o *outbox) take() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && !o.left && (o.writing || len(o.buf) == 0 && !o.finishing) {
		o.cond.Wait()
	}
	switch {
	case o.err != nil:
		return o.err
	case o.left:
		o.left = false
		return nil
	case len(o.buf) == 0:
		o.err = errFlushed
		o.room.close(errFlushed)
		return errFlushed
	}
	o.writing = true
	o.takeLocked()
	return nil
}

// takeLocked moves all messages to out.
func (o *outbox) takeLocked() {
	o.out = batch{b: o.buf, marks: o.marks, all: o.marks}
	o.buf, o.marks, o.spare = o.spare.b, o.spare.marks, batch{}
}

// hand notes that out, up to end, goes to the stream now.
func (o *outbox) hand(end int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.handLocked(end)
	return nil
}

func (o *outbox) handLocked(end int) {
	t := &o.out
	for len(t.marks) > 0 && t.marks[0].end <= end {
		o.handed = t.marks[0].id
		t.marks = t.marks[1:]
	}
}

// writtenLocked gives back out's room, and its buffers unless a large message made them grow.
func (o *outbox) writtenLocked() {
	t := &o.out
	if cap(t.b) <= keepBuffer && o.spare.b == nil {
		o.spare = batch{b: t.b[:0], marks: t.all[:0]}
	}
	o.room.release(len(t.b))
	*t = batch{}
}
