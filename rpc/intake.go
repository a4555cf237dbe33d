package rpc

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// A pusher is a stream that can have a function called with what arrives, in place of Read, as *transport.Stream can: see
// Receive there.
type pusher interface {
	Receive(f func(p []byte) int) bool
}

// errMustWait says that a message must be taken where one may wait.
var errMustWait = errors.New("rpc: must wait")

// An intake takes the messages off a stream of calls, one after the other. Where the stream is a pusher, small ones are
// taken in the goroutine that reads for the whole session (feed): no goroutine has to wake up for them, and an idle stream
// has none. A large one, one for which something must wait, and the end are for a goroutine (run), which is started when it is
// needed and ends when it has caught up.
type intake struct {
	conn  net.Conn
	push  pusher          // conn, if it is one
	small int             // payloads up to so many bytes are small
	give  bool            // those that came in pieces are the taker's to keep
	wg    *sync.WaitGroup // of the stream, and so of run
	take  taker

	part []byte      // the beginning of a message of which the rest has not come
	box  *[]byte     // what part came in
	from int         // how much of part run has read
	off  atomic.Bool // run has the stream, or the end
	err  error       // what feed found; for run
}

// A taker is what an intake takes messages for.
type taker interface {
	// message is called with a small message. Unless wait, it must not wait; then it may return errMustWait, and is called again.
	// p is valid until it returns, or the taker's to keep if owned.
	message(p []byte, owned, wait bool) error
	// large is called with the length of a larger message, which it reads.
	large(in *frameReader, n int) error
	// over is called once, with why there are no more messages. in is nil if nothing was read ahead.
	over(in *frameReader, err error)
}

func newIntake(conn net.Conn, small int, wg *sync.WaitGroup, take taker) *intake {
	in := &intake{conn: conn, small: small, wg: wg, take: take}
	in.push, _ = conn.(pusher)
	return in
}

// start begins to take messages. The stream counts in wg until over has returned.
func (in *intake) start() {
	in.wg.Add(1)
	if in.push == nil || !in.push.Receive(in.feed) {
		in.off.Store(true)
		go in.run()
	}
}

// feed takes what it can of p: see Receive.
func (in *intake) feed(p []byte) (n int) {
	if in.off.Load() {
		return 0
	}
	all := len(p)
	for len(p) > 0 {
		rest, err := in.one(p)
		p = rest
		if err != nil {
			in.err = err
			break
		}
	}
	if all == 0 || in.err != nil {
		in.off.Store(true)
		go in.run()
	}
	return all - len(p)
}

// one takes at most one message off p, or the beginning of one. With errMustWait it takes nothing: that f has left something is
// what lets run have the stream for itself.
func (in *intake) one(p []byte) (rest []byte, err error) {
	if len(in.part) == 0 && len(p) >= frameHeader {
		n := declared(p)
		if n > in.small {
			return p, errMustWait
		}
		if end := frameHeader + n; len(p) >= end {
			if err = in.take.message(p[frameHeader:end], false, false); err == errMustWait {
				return p, err
			}
			return p[end:], err
		}
	}
	before := len(in.part)
	if rest, err = in.gathered(p); err == errMustWait {
		in.part = in.part[:before]
		return p, err
	}
	return rest, err
}

// gathered takes what p has of a message that comes in pieces.
func (in *intake) gathered(p []byte) (rest []byte, err error) {
	if p = in.gather(p, frameHeader); len(in.part) < frameHeader {
		return p, nil
	}
	n := declared(in.part)
	if n > in.small {
		return p, errMustWait
	}
	if p = in.gather(p, frameHeader+n); len(in.part) < frameHeader+n {
		return p, nil
	}
	if err = in.take.message(in.part[frameHeader:], in.give, false); err != errMustWait {
		in.drop()
	}
	return p, err
}

// partBuffers hold messages that came in pieces.
var partBuffers = sync.Pool{New: func() any { return new([]byte) }}

// drop gives part's memory back.
func (in *intake) drop() {
	if in.box != nil {
		*in.box = in.part[:0]
		partBuffers.Put(in.box)
	}
	in.part, in.box = nil, nil
}

// gather moves bytes from p to part until it has so many. Memory grows with what has come, not with what was declared.
func (in *intake) gather(p []byte, want int) (rest []byte) {
	n := min(want-len(in.part), len(p))
	if n > 0 {
		if in.box == nil && !in.give {
			in.box = partBuffers.Get().(*[]byte)
			in.part = (*in.box)[:0]
		}
		in.part = append(slices.Grow(in.part, min(want-len(in.part), max(n, 2*len(in.part)))), p[:n]...)
		return p[n:]
	}
	return p
}

// Read reads what feed has left, and then the stream. It is run's.
func (in *intake) Read(b []byte) (int, error) {
	if in.from < len(in.part) {
		n := copy(b, in.part[in.from:])
		in.from += n
		return n, nil
	}
	return in.conn.Read(b)
}

// run takes messages until it has caught up with the stream, or the stream has ended.
func (in *intake) run() {
	var err error
	if in.err != errMustWait {
		err = in.err
	}
	in.err = nil
	if err != nil {
		in.end(nil, err)
		return
	}
	frames := newFrameReader(in)
	for {
		if err = in.next(frames); err != nil {
			in.end(frames, err)
			return
		}
		if in.push == nil || !frames.empty() {
			continue
		}
		in.drop()
		in.from = 0
		in.off.Store(false)
		if in.push.Receive(in.feed) {
			frames.free()
			return
		}
		in.off.Store(true)
	}
}

func (in *intake) end(frames *frameReader, err error) {
	in.take.over(frames, err)
	in.wg.Done()
}

// next takes one message, however long that takes.
func (in *intake) next(frames *frameReader) error {
	n, err := frames.header()
	if err != nil {
		return err
	}
	if n > in.small {
		return in.take.large(frames, n)
	}
	p, owned, err := frames.payload(n)
	if err != nil {
		return err
	}
	return in.take.message(p, owned, true)
}

var _ io.Reader = (*intake)(nil)
