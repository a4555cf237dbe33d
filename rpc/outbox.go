package rpc

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
)

const (
	// sharedLimit bounds, in bytes, what waits to be written on the first stream of calls of a session, ownLimit on each other. One
	// larger message goes in alone. With 256 KiB for both, 1,000 callers of 1 KiB each lost a quarter of their rate waiting for room.
	sharedLimit = 1 << 20
	ownLimit    = 256 << 10
	// writeChunk is the largest single write. The sessions beneath send a write whole, so that a larger one would delay
	// the small calls of other streams.
	writeChunk = 32 << 10
)

// errFlushed ends an outbox that was asked to finish. No caller sees it.
var errFlushed = errors.New("rpc: nothing more is written on this stream")

// An outbox is the writing half of a stream: many goroutines put messages in, one at a time writes them out, as many as there
// are. That is one of those who put (flush), as long as the stream takes all without waiting, which saves the time until
// another goroutine runs; else it is run, a goroutine that is there only while there is something for it. The outbox knows of
// each call whether its last byte was handed to the stream, which decides between NotSent and OutcomeUnknown (C5).
type outbox struct {
	conn   net.Conn
	limit  int
	now    nowWriter       // conn, if it can write without waiting
	room   *room           // bytes waiting or being written
	wg     *sync.WaitGroup // of run; it counts something else too until the outbox has ended
	failed func(error)     // called by run when the stream takes no more
	done   chan struct{}   // closed when the outbox has ended

	mu        sync.Mutex // protects all below; nothing blocks under it
	batch                // messages that nobody has taken
	out       batch      // being written by whoever has set writing
	writing   bool
	yielding  bool   // a flush lets others put first
	left      bool   // flush could not write all of out; run's, while writing
	running   bool   // run does
	handed    uint64 // the last call whose last byte was handed to Write; ids grow along a stream
	finishing bool   // the outbox ends once it is empty
	err       error  // first error, sticky
	lost      bool   // messages were, with err
}

// A nowWriter is a stream that can write without waiting, as *transport.Stream can. WriteNow returns how many bytes it took;
// why not more, Write tells.
type nowWriter interface{ WriteNow(b []byte) int }

// A batch is messages, one behind the other, in borrowed buffers: an idle stream has none.
type batch struct {
	buf   []byte
	marks []mark // the calls in it that were not handed over, in order
	sent  int    // bytes of it that were written
	edge  int    // where the message ends that sent is in, or sent where one begins; chunk keeps it
	n     int    // messages
	box   *batchBox
}

// A batchBox is the memory of a batch.
type batchBox struct {
	buf   []byte
	marks []mark
}

// A mark is where a call lies in a buffer.
type mark struct {
	id         uint64
	start, end int
}

var batches = sync.Pool{New: func() any { return &batchBox{buf: make([]byte, 0, 1<<10)} }}

func newOutbox(conn net.Conn, limit int, wg *sync.WaitGroup, failed func(error)) *outbox {
	o := &outbox{conn: conn, limit: limit, room: newRoom(limit), wg: wg, failed: failed, done: make(chan struct{})}
	o.now, _ = conn.(nowWriter)
	return o
}

// reserve waits for n bytes of room; put gives back what it does not need.
func (o *outbox) reserve(ctx context.Context, n int) error {
	if o.room.full() {
		o.wake() // what is in the way may not have been flushed
	}
	return o.room.acquire(ctx, n)
}

// begin locks the outbox and returns the buffer for the caller to append one message to; put takes it back and unlocks.
// Between them nothing may block.
func (o *outbox) begin() []byte {
	o.mu.Lock()
	if o.box == nil {
		o.box = batches.Get().(*batchBox)
		o.buf, o.marks = o.box.buf[:0], o.box.marks[:0]
	}
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
		o.box.marks = o.marks
	}
	o.buf = b
	o.n++
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
		o.endLocked(err)
	}
	return o.handed
}

func (o *outbox) endLocked(err error) {
	o.err = err
	o.batch = batch{}
	o.room.close(err)
	close(o.done)
}

// lostTo reports whether it was cause that ended the outbox, before all was written.
func (o *outbox) lostTo(cause error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost && o.err == cause
}

// drained waits until all that was put in is written, or the outbox or ctx has ended.
func (o *outbox) drained(ctx context.Context) {
	if o.room.acquire(ctx, o.limit) == nil {
		o.room.release(o.limit)
	}
}

// finish lets what is queued be written, and ends the outbox then.
func (o *outbox) finish() {
	o.mu.Lock()
	o.finishing = true
	o.runLocked()
	o.mu.Unlock()
}

// wake has run write what was put. It takes no time, and so may be called under locks.
func (o *outbox) wake() {
	o.mu.Lock()
	o.runLocked()
	o.mu.Unlock()
}

// runLocked starts run if there is something for it.
func (o *outbox) runLocked() {
	if o.err == nil && !o.running && (o.left || !o.writing && (len(o.buf) > 0 || o.finishing)) {
		o.running = true
		o.wg.Go(o.run)
	}
}

// enough messages for one write: more would let the other side wait for what it could work at already. Measured between 8 and 128.
const enough = 32

// flushIfEnough is flush if so many messages wait that others should not wait for more.
func (o *outbox) flushIfEnough() {
	o.mu.Lock()
	n := o.n
	o.mu.Unlock()
	if n >= enough {
		o.flush(false)
	}
}

// flushRounds is how many batches one flush writes at most: the messages of others must not keep its caller for ever.
const flushRounds = 4

// flush writes what was put, without waiting, unless somebody writes already, who then takes it along. crowd says that more
// goroutines are likely to put something: they get their chance first, so that one write does for all.
func (o *outbox) flush(crowd bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing || o.err != nil || o.yielding && o.n < enough {
		return
	}
	if o.now == nil {
		o.runLocked()
		return
	}
	if crowd && o.n < enough {
		o.yielding = true
		o.mu.Unlock()
		runtime.Gosched()
		o.mu.Lock()
		o.yielding = false
		if o.writing || o.err != nil {
			return
		}
	}
	o.writing = true
	for range flushRounds {
		if o.err != nil || len(o.buf) == 0 {
			break
		}
		o.takeLocked()
		if t := &o.out; len(t.buf) <= writeChunk { // more is better written while others go on
			o.handLocked(len(t.buf))
			o.mu.Unlock()
			t.sent = o.now.WriteNow(t.buf)
			o.mu.Lock()
		}
		if o.left = o.out.sent < len(o.out.buf); o.left { // and writing stays
			break
		}
		o.writtenLocked()
	}
	o.writing = o.left
	o.runLocked()
}

// run writes until there is nothing left.
func (o *outbox) run() {
	for o.take() {
		for t := &o.out; t.sent < len(t.buf); {
			end := t.chunk()
			if !o.hand(end) {
				return
			}
			if _, err := o.conn.Write(t.buf[t.sent:end]); err != nil {
				o.fail(err)
				o.failed(err)
				return
			}
			t.sent = end
		}
		o.mu.Lock()
		o.writtenLocked()
		o.writing = false
		o.mu.Unlock()
	}
}

// chunk returns where the next write ends: whole messages, or what there is of one that is longer than a write may be.
func (t *batch) chunk() int {
	most := t.sent + writeChunk
	for t.edge < t.sent {
		t.edge = messageEnd(t.buf, t.edge)
	}
	for t.edge < len(t.buf) {
		end := messageEnd(t.buf, t.edge)
		if end > most && t.edge > t.sent {
			return min(t.edge, most)
		}
		t.edge = end
	}
	return min(t.edge, most)
}

// take makes run the one who writes out: what flush has left, or all messages. If there is neither, run ends.
func (o *outbox) take() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.err != nil:
	case o.left:
		o.left = false
		return true
	case o.writing: // by a flush, which will see what there is for run
	case len(o.buf) > 0:
		o.writing = true
		o.takeLocked()
		return true
	case o.finishing:
		o.endLocked(errFlushed)
	}
	o.running = false
	return false
}

// takeLocked moves all messages to out.
func (o *outbox) takeLocked() { o.out, o.batch = o.batch, batch{} }

// hand notes that out, up to end, goes to the stream now. It returns false if the outbox has ended.
func (o *outbox) hand(end int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.handLocked(end)
	}
	return o.err == nil
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
	o.room.release(len(t.buf))
	if cap(t.buf) <= keepBuffer {
		t.box.buf = t.buf
		batches.Put(t.box)
	}
	*t = batch{}
}
