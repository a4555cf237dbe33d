package transport

import (
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
	c.rx.raw, c.rx.cipher, c.rx.wait = raw, out.receive, newReadWait(raw, &c.rx)
	if c.rx.wait == nil {
		c.rx.buf = make([]byte, smallBuffer)
	}
	c.rx.last.Store(now())
	c.tx.raw, c.tx.cipher, c.tx.now = raw, out.send, newWriteNow(raw)
	c.tx.room, c.tx.bound = newBudget(txBudget), txBound
	return c
}

const (
	// smallBuffer is what an idle session keeps for reading where it must (see readWait); bigBuffer what a busy one borrows.
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
	wait   *readWait // of raw; nil if it must be read with a buffer in hand
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
		typ, data, rx.err = rx.record()
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

// drop gives the big buffer back, whatever is in it: next is called no more.
func (rx *rxHalf) drop() {
	rx.r = rx.w
	rx.release()
}

func (rx *rxHalf) record() (byte, []byte, error) {
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
		if rx.wait == nil {
			rx.shrink()
		}
	}
	if rx.r+n > len(rx.buf) && (rx.wait == nil || len(rx.buf) > 0) {
		rx.makeRoom(n)
	}
	for rx.w-rx.r < n {
		k, err := rx.read()
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

// read reads into the unused part of buf.
func (rx *rxHalf) read() (int, error) {
	if rx.wait != nil {
		return rx.wait.read()
	}
	return rx.raw.Read(rx.buf[rx.w:])
}

// borrow gets a big buffer, if there is none, and release gives it back, if nothing is in it.
func (rx *rxHalf) borrow() {
	if rx.buf == nil {
		rx.big = bigBuffers.Get().(*[]byte)
		rx.buf = *rx.big
	}
}

func (rx *rxHalf) release() {
	if rx.big != nil && rx.r == rx.w {
		bigBuffers.Put(rx.big)
		rx.big, rx.buf, rx.r, rx.w = nil, nil, 0, 0
	}
}

// makeRoom moves the unread bytes to the front, of a big buffer if they need one.
func (rx *rxHalf) makeRoom(n int) {
	from := rx.buf[rx.r:rx.w]
	if n > len(rx.buf) {
		rx.buf, rx.idle = nil, 0
		rx.borrow()
	}
	rx.w = copy(rx.buf, from)
	rx.r = 0
}

func (rx *rxHalf) shrink() {
	if rx.big != nil && rx.idle >= shrinkAfter {
		rx.release()
		rx.buf = make([]byte, smallBuffer)
	}
}

// now is a monotonic clock in nanoseconds that fits an atomic.
func now() int64 { return int64(time.Since(started)) }

var started = time.Now()
