package rpc

import (
	"context"
	"errors"
	"io"
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

// An outbox is the writing half of a stream: many goroutines put messages in, one goroutine (run) writes them out, as many
// at a time as there are. It knows of each call whether its last byte was handed to the stream, which decides between
// NotSent and OutcomeUnknown (C5).
type outbox struct {
	room *room // bytes waiting or being written

	mu        sync.Mutex // protects all below; nothing blocks under it
	cond      sync.Cond  // wakes run; on mu
	buf       []byte     // messages that run has not taken
	marks     []mark     // the calls in buf, in order
	spare     []byte     // the other buffer, while run does not hold it
	handed    uint64     // the last call whose last byte was handed to Write; ids grow along a stream
	finishing bool       // run ends once buf is empty
	err       error      // first error, sticky
}

// A mark is where a call lies in a buffer.
type mark struct {
	id         uint64
	start, end int
}

func newOutbox() *outbox {
	o := &outbox{room: newRoom(outboxLimit)}
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
// has an outcome, or 0; reserved is what was reserved for the message.
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
	o.cond.Signal()
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
		o.err = err
		o.buf, o.marks, o.spare = nil, nil, nil
		o.room.close(err)
		o.cond.Signal()
	}
	return o.handed
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

// run writes to w until the outbox ends, and returns why: errFlushed after finish.
func (o *outbox) run(w io.Writer) error {
	var marks []mark
	for {
		batch, taken, err := o.take(marks)
		if err != nil {
			return err
		}
		marks = taken
		for off := 0; off < len(batch); {
			end := min(off+writeChunk, len(batch))
			if marks, err = o.hand(marks, end); err != nil {
				return err
			}
			if _, err := w.Write(batch[off:end]); err != nil {
				o.fail(err)
				return err
			}
			off = end
		}
		o.written(batch)
		marks = taken[:0]
	}
}

// take waits for messages and swaps the buffers. marks is an empty slice to keep the next ones in.
func (o *outbox) take(marks []mark) ([]byte, []mark, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.buf) == 0 && !o.finishing && o.err == nil {
		o.cond.Wait()
	}
	if o.err == nil && len(o.buf) == 0 {
		o.err = errFlushed
		o.room.close(errFlushed)
	}
	if o.err != nil {
		return nil, nil, o.err
	}
	batch, taken := o.buf, o.marks
	o.buf, o.marks, o.spare = o.spare, marks, nil
	return batch, taken, nil
}

// hand notes that the batch up to end goes to Write now, and returns the marks after it.
func (o *outbox) hand(marks []mark, end int) ([]mark, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return nil, o.err
	}
	for len(marks) > 0 && marks[0].end <= end {
		o.handed = marks[0].id
		marks = marks[1:]
	}
	return marks, nil
}

// written gives back the batch's room, and its buffer unless a large message made it grow.
func (o *outbox) written(batch []byte) {
	o.mu.Lock()
	if cap(batch) <= keepBuffer && o.spare == nil {
		o.spare = batch[:0]
	}
	o.mu.Unlock()
	o.room.release(len(batch))
}
