package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A conn carries records over the raw connection. Its two halves share nothing but the raw connection.
type conn struct {
	raw net.Conn
	rx  rxHalf
	tx  txHalf
}

func newConn(raw net.Conn, out *outcome) *conn {
	c := &conn{raw: raw}
	c.rx.raw, c.rx.cipher, c.rx.buf = raw, out.receive, make([]byte, smallBuffer)
	c.rx.last.Store(now())
	c.tx.raw, c.tx.cipher = raw, out.send
	c.tx.wake, c.tx.room, c.tx.bound = make(chan struct{}, 1), newBudget(txBudget), txBound
	return c
}

const (
	// smallBuffer is what an idle session keeps for reading; bigBuffer what a busy one borrows.
	smallBuffer = 4 << 10
	bigBuffer   = 128 << 10
	// shrinkAfter so many reads in a row that a small buffer could have held, the big one goes back.
	shrinkAfter = 16
	// txBudget is how much stream data may be queued for writing in one session: enough for one system call
	// to be worth its while, little enough that a small call does not wait long behind large ones.
	txBudget = 128 << 10
	// txBound is where a peer that takes nothing, yet makes us queue control frames, is cut off.
	// An honest one may have 50,000 streams accepted and ended at once, which takes 1.2 MB.
	txBound = txBudget + 4<<20
)

var bigBuffers = sync.Pool{New: func() any { b := make([]byte, bigBuffer); return &b }}

// rxHalf reads records. It is owned by the goroutine that calls next.
type rxHalf struct {
	raw    net.Conn
	cipher *cipherState
	buf    []byte
	big    *[]byte // buf, when it is borrowed from bigBuffers
	r, w   int     // unread bytes are buf[r:w]
	idle   int     // reads in a row that needed no big buffer
	last   atomic.Int64
	err    error
}

// next returns the next record, whose data stays valid until the call after. Key updates are dealt with here.
// The first error is the last word: nothing is delivered after it.
func (rx *rxHalf) next() (typ byte, data []byte, err error) {
	for rx.err == nil {
		typ, data, rx.err = rx.read()
		switch {
		case rx.err != nil:
		case typ != recordUpdate:
			return typ, data, nil
		case len(data) != 0:
			rx.err = violation("R7", "key update with data")
		case rx.cipher.updated() != nil:
			rx.err = violation("R7", errTooEarly.Error())
		}
	}
	return 0, nil, rx.err
}

func (rx *rxHalf) read() (byte, []byte, error) {
	if err := rx.fill(recordHeader); err != nil {
		return 0, nil, err
	}
	size, ok := sealedSize(rx.buf[rx.r:])
	if !ok {
		return 0, nil, fmt.Errorf("%w: impossible length", ErrRecord) // R2: before a byte is held for it
	}
	if err := rx.fill(recordHeader + size); err != nil {
		return 0, nil, err
	}
	rec := rx.buf[rx.r : rx.r+recordHeader+size]
	rx.r += len(rec)
	typ, data, err := rx.cipher.open(rec)
	switch err {
	case nil:
		return typ, data, nil
	case errOveruse:
		return 0, nil, violation("R6", errOveruse.Error())
	}
	return 0, nil, ErrRecord
}

// fill makes n unread bytes contiguous at buf[r:].
func (rx *rxHalf) fill(n int) error {
	if rx.r == rx.w {
		rx.r, rx.w = 0, 0
		rx.shrink()
	}
	if rx.r+n > len(rx.buf) {
		rx.makeRoom(n)
	}
	for rx.w-rx.r < n {
		k, err := rx.raw.Read(rx.buf[rx.w:])
		rx.w += k
		rx.last.Store(now())
		if k >= smallBuffer {
			rx.idle = 0
		} else {
			rx.idle++
		}
		if err != nil && rx.w-rx.r < n {
			if err == io.EOF {
				return ErrTruncated
			}
			return fmt.Errorf("%w: %v", ErrTruncated, err)
		}
	}
	return nil
}

// makeRoom moves the unread bytes to the front, of a big buffer if they need one.
func (rx *rxHalf) makeRoom(n int) {
	from := rx.buf[rx.r:rx.w]
	if n > len(rx.buf) {
		rx.big = bigBuffers.Get().(*[]byte)
		rx.buf = *rx.big
		rx.idle = 0
	}
	rx.w = copy(rx.buf, from)
	rx.r = 0
}

func (rx *rxHalf) shrink() {
	if rx.big != nil && rx.idle >= shrinkAfter {
		bigBuffers.Put(rx.big)
		rx.big, rx.buf = nil, make([]byte, smallBuffer)
	}
}

// now is a monotonic clock in nanoseconds that fits an atomic.
func now() int64 { return int64(time.Since(started)) }

var started = time.Now()

// txHalf queues records and writes them. Appending never blocks, so whatever must not block may send: yamux's
// one sending goroutine, and the receiving one. Writers of stream data wait beforehand, for room.
type txHalf struct {
	raw    net.Conn
	cipher *cipherState // owned by run
	room   *budget      // of stream data
	bound  int          // of what may be queued: txBound
	wake   chan struct{}
	since  atomic.Int64 // when the write in progress began, 0 when there is none

	flooded atomic.Bool // more is queued than an honest peer makes us queue

	mu       sync.Mutex // protects what follows
	queue    txBuffer
	finished bool // the last record has been queued
	broken   bool // the raw connection takes nothing any more
}

// txBuffer holds records that are not sealed yet, one behind the other.
type txBuffer struct {
	b      []byte
	box    *[]byte // where b came from
	ends   []int   // where each finished record ends
	start  int     // where the open record of frames begins, if len(b) > start
	credit int     // stream data in it, to give back to the budget
	ponged bool    // it holds a pong already
}

var errTxOver = errors.New("transport: no more records")

// frame queues one whole yamux frame (rule S1). credit is how much of it was taken from room.
func (tx *txHalf) frame(header, body []byte, credit int) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.finished || tx.broken {
		tx.room.give(credit)
		return errTxOver
	}
	q := &tx.queue
	if len(q.b) > tx.bound {
		tx.flooded.Store(true)
		return ErrWriteStalled
	}
	if open := len(q.b) - q.start; open > 0 && open+len(header)+len(body) > recordPrefix+maxData {
		q.closeRecord()
	}
	if len(q.b) == q.start {
		q.begin(recordData)
	}
	q.b = append(append(q.b, header...), body...)
	q.credit += credit
	tx.kick()
	return nil
}

// begin starts a record, on a borrowed buffer if it is the first. An idle session holds none.
func (q *txBuffer) begin(typ byte) {
	if q.box == nil {
		q.box = txBuffers.Get().(*[]byte)
		q.b = (*q.box)[:0]
	}
	q.b = append(q.b, 0, 0, typ)
}

// release gives the buffer back, unless it has grown beyond what others should hold.
func (q *txBuffer) release() {
	if cap(q.b) <= 2*txBudget {
		*q.box = q.b
		txBuffers.Put(q.box)
	}
}

var txBuffers = sync.Pool{New: func() any { b := make([]byte, 0, smallBuffer); return &b }}

func (q *txBuffer) closeRecord() {
	if len(q.b) > q.start {
		var tag [tagSize]byte
		q.b = append(q.b, tag[:]...)
		q.start = len(q.b)
		q.ends = append(q.ends, q.start)
	}
}

// record queues a record of its own. After last, nothing more is taken.
func (tx *txHalf) record(last bool, typ byte, data ...byte) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	q := &tx.queue
	if tx.finished || tx.broken || typ == recordPong && q.ponged {
		return
	}
	q.ponged = q.ponged || typ == recordPong
	q.closeRecord()
	q.begin(typ)
	q.b = append(q.b, data...)
	q.closeRecord()
	tx.finished = last
	tx.kick()
}

func (tx *txHalf) kick() {
	select {
	case tx.wake <- struct{}{}:
	default:
	}
}

// run seals and writes what is queued until the last record is out or the connection breaks.
func (tx *txHalf) run() error {
	for range tx.wake {
		for {
			tx.mu.Lock()
			q := tx.queue
			q.closeRecord()
			tx.queue = txBuffer{}
			last := tx.finished
			tx.mu.Unlock()
			if len(q.b) == 0 {
				if last {
					return nil
				}
				break
			}
			err := tx.write(&q)
			q.release()
			tx.room.give(q.credit)
			if err != nil {
				tx.mu.Lock()
				tx.broken = true
				tx.mu.Unlock()
				return err
			}
		}
	}
	return nil
}

func (tx *txHalf) write(q *txBuffer) error {
	start, written := 0, 0
	for _, end := range q.ends {
		if tx.cipher.due() {
			if err := tx.put(q.b[written:start]); err != nil {
				return err
			}
			written = start
			if err := tx.rekey(); err != nil {
				return err
			}
		}
		tx.cipher.seal(q.b[start:end])
		start = end
	}
	return tx.put(q.b[written:])
}

// rekey announces the next key and moves to it (rule R7).
func (tx *txHalf) rekey() error {
	var rec [recordPrefix + tagSize]byte
	rec[recordHeader] = recordUpdate
	tx.cipher.seal(rec[:])
	tx.cipher.update()
	return tx.put(rec[:])
}

func (tx *txHalf) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	tx.since.Store(now() | 1) // odd, since 0 says that nothing is being written
	_, err := tx.raw.Write(b)
	tx.since.Store(0)
	return err
}
