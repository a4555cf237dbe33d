package transport

import (
	"os"
	"sync"
	"time"
)

// An inbox has what the peer has sent on a stream until somebody takes it: a Read that waits, which gets it put where it wants
// it; a function (Stream.Receive), which is called with it; or a Read that comes later. yamux has no part in it: there every
// byte would be copied once more, and wake a goroutine more. What it holds is bounded by the window that the guard enforces.
type inbox struct {
	mu     sync.Mutex // protects what follows; nothing else is locked under it
	cond   sync.Cond  // on mu: data, an end, or the deadline
	head   *chunk     // what nobody has taken, oldest first
	tail   *chunk
	into   []byte             // of the Read that waits first
	got    int                // what it has got
	f      func(p []byte) int // Receive's
	busy   bool               // f is running
	window int                // the most that the peer may send ahead
	taken  int                // of that, what was taken and not granted again
	end    error              // what comes behind the data
	closed bool               // nothing is wanted any more
	by     time.Time          // the deadline
	timer  *time.Timer        // wakes who waits for it
}

// A chunk is a piece of memory in an inbox.
type chunk struct {
	next *chunk
	r, w int // unread bytes are b[r:w]
	b    []byte
}

const (
	smallChunk = 2 << 10
	bigChunk   = 32 << 10
)

var (
	smallChunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, smallChunk)} }}
	bigChunks   = sync.Pool{New: func() any { return &chunk{b: make([]byte, bigChunk)} }}
)

// put takes data, which is the receiving goroutine's again when it returns. It reports how much the peer may be granted.
func (in *inbox) put(data []byte) (grant int) {
	in.mu.Lock()
	if f := in.f; f != nil {
		in.busy = true
		in.mu.Unlock()
		n := f(data)
		in.mu.Lock()
		in.busy = false
		in.taken += n
		if data = data[n:]; len(data) == 0 && in.f == nil { // ended meanwhile, by another goroutine
			in.mu.Unlock()
			f(nil)
			return 0
		} else if len(data) > 0 {
			in.f = nil
		}
	}
	defer in.mu.Unlock()
	if in.closed {
		return 0
	}
	if in.into != nil && in.head == nil {
		n := copy(in.into[in.got:], data)
		in.got += n
		in.taken += n
		data = data[n:]
	}
	in.keepLocked(data)
	in.cond.Broadcast()
	return in.grantLocked()
}

// keepLocked copies data into chunks.
func (in *inbox) keepLocked(data []byte) {
	for len(data) > 0 {
		c := in.tail
		if c == nil || c.w == len(c.b) {
			pool := &smallChunks
			if c != nil || len(data) > smallChunk {
				pool = &bigChunks
			}
			c = pool.Get().(*chunk)
			c.next, c.r, c.w = nil, 0, 0
			if in.tail == nil {
				in.head = c
			} else {
				in.tail.next = c
			}
			in.tail = c
		}
		n := copy(c.b[c.w:], data)
		c.w += n
		data = data[n:]
	}
}

// grantLocked takes what was taken off, once it is worth a window update.
func (in *inbox) grantLocked() (grant int) {
	if in.taken >= in.window/2 {
		grant, in.taken = in.taken, 0
	}
	return grant
}

// read waits for data or for the reason that there is none. It returns an end as finish was told it.
func (in *inbox) read(b []byte) (n, grant int, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for {
		switch {
		case in.closed:
			return 0, 0, ErrStreamClosed
		case in.lateLocked():
			return 0, 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, 0, nil
		case in.head != nil:
			n = in.copyLocked(b)
			return n, in.grantLocked(), nil
		case in.end != nil:
			return 0, 0, in.end
		}
		if n = in.waitLocked(b); n > 0 {
			return n, in.grantLocked(), nil
		}
	}
}

// waitLocked waits for anything to happen. What comes is put into b, unless another Read was first.
func (in *inbox) waitLocked(b []byte) (n int) {
	if in.into != nil {
		in.cond.Wait()
		return 0
	}
	in.into = b
	in.cond.Wait()
	n, in.into, in.got = in.got, nil, 0
	if in.head != nil {
		in.cond.Broadcast() // for the others
	}
	return n
}

func (in *inbox) copyLocked(b []byte) (n int) {
	for n < len(b) && in.head != nil {
		c := in.head
		k := copy(b[n:], c.b[c.r:c.w])
		n += k
		if c.r += k; c.r == c.w {
			in.dropLocked()
		}
	}
	in.taken += n
	return n
}

// dropLocked gives the first chunk back.
func (in *inbox) dropLocked() {
	c := in.head
	if in.head = c.next; in.head == nil {
		in.tail = nil
	}
	if c.next = nil; len(c.b) == smallChunk {
		smallChunks.Put(c)
	} else {
		bigChunks.Put(c)
	}
}

// receive sets f, unless there is something to read first.
func (in *inbox) receive(f func(p []byte) int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed || in.end != nil || in.head != nil || in.busy {
		return false
	}
	in.f = f
	return true
}

// finish tells what comes behind the data: of several ends the first counts. Like close it calls what receive was given, and so
// must not be called under locks.
func (in *inbox) finish(end error) {
	in.mu.Lock()
	if in.end != nil {
		in.mu.Unlock()
		return
	}
	in.end = end
	in.unlockEnded()
}

// close throws away what nobody has taken, and all that comes.
func (in *inbox) close() {
	in.mu.Lock()
	in.closed = true
	for in.head != nil {
		in.dropLocked()
	}
	if in.timer != nil {
		in.timer.Stop()
	}
	in.unlockEnded()
}

func (in *inbox) unlockEnded() {
	f := in.f
	if in.busy {
		f = nil // put calls it
	}
	in.f = nil
	in.cond.Broadcast()
	in.mu.Unlock()
	if f != nil {
		f(nil)
	}
}

func (in *inbox) lateLocked() bool { return !in.by.IsZero() && !time.Now().Before(in.by) }

// setDeadline sets when read gives up.
func (in *inbox) setDeadline(t time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return ErrStreamClosed
	}
	in.by = t
	if in.timer != nil {
		in.timer.Stop()
		in.timer = nil
	}
	if left := time.Until(t); !t.IsZero() && left > 0 {
		in.timer = time.AfterFunc(left, in.wake)
	} else {
		in.cond.Broadcast()
	}
	return nil
}

func (in *inbox) wake() {
	in.mu.Lock()
	in.cond.Broadcast()
	in.mu.Unlock()
}
