package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// relayPiece is how much a relay reads at a time, each way. A stream's frame carries as much.
const relayPiece = 32 << 10

var relayPieces = sync.Pool{New: func() any { return new([relayPiece]byte) }}

// A relay copies both ways between two connections. The end of a way is passed on alone (half close), and the other goes on. What
// does not end well does not look as if it had: who lacks something has its connection reset. Nothing is kept but a piece
// each way, so that who reads slowly makes the other wait.
type relay struct {
	a, b net.Conn

	toA, toB writer
	once     sync.Once
	first    error // what failed first
}

// A writer is what a relay knows of writing to one of its connections.
type writer struct {
	busy  chan struct{} // has a value while a Write may be on its way
	reset atomic.Bool   // one has found the connection reset
}

// write writes to dst.
func (w *writer) write(dst net.Conn, piece []byte) error {
	w.busy <- struct{}{}
	defer func() { <-w.busy }()
	_, err := dst.Write(piece)
	if errors.Is(err, syscall.ECONNRESET) {
		w.reset.Store(true)
	}
	return err
}

// tellTime is how long a Write may take to tell of a reset that it has found.
const tellTime = 250 * time.Millisecond

// ended is what the end of what comes from a connection means. The system tells of a reset only once: if a Write has found it, a Read
// finds what looks like an end. A Write that has been told returns at once; one that goes on waits for the other side to
// read.
func (w *writer) ended() error {
	select {
	case w.busy <- struct{}{}:
		<-w.busy
	case <-time.After(tellTime):
	}
	if w.reset.Load() {
		return syscall.ECONNRESET
	}
	return io.EOF
}

// run returns when both ways have ended and both connections are closed, with what failed first. When ctx ends it resets both, and
// returns the cause.
func (r *relay) run(ctx context.Context) error {
	linger(r.a, 0) // if that is not done already
	linger(r.b, 0)
	stop := context.AfterFunc(ctx, func() {
		r.failed(context.Cause(ctx))
		r.reset()
	})
	defer stop()
	var toA, toB error
	var other sync.WaitGroup
	r.toA.busy, r.toB.busy = make(chan struct{}, 1), make(chan struct{}, 1)
	other.Go(func() { toA = r.way(r.a, r.b, &r.toA, &r.toB) })
	toB = r.way(r.b, r.a, &r.toB, &r.toA)
	other.Wait()
	other.Go(func() { closeRelayed(r.a, toA, toB) })
	closeRelayed(r.b, toB, toA)
	other.Wait()
	r.failed(nil)
	return r.first
}

func (r *relay) failed(err error) { r.once.Do(func() { r.first = err }) }

func (r *relay) reset() {
	reset(r.a)
	reset(r.b)
}

// way copies from src to dst up to the end of src, and passes that on. If src fails, what dst has got is not all, and nothing can be
// said to src: both are reset. If dst fails, it may have said something before, which the other way still brings to src.
func (r *relay) way(dst, src net.Conn, toDst, toSrc *writer) error {
	piece := relayPieces.Get().(*[relayPiece]byte)
	defer relayPieces.Put(piece)
	for {
		n, err := src.Read(piece[:])
		if n > 0 {
			if err := toDst.write(dst, piece[:n]); err != nil {
				r.failed(err)
				return err
			}
		}
		if err == io.EOF {
			err = toSrc.ended()
		}
		switch {
		case err == io.EOF:
			err := closeWrite(dst)
			if err != nil {
				r.failed(err)
			}
			return err
		case err != nil:
			r.failed(err)
			r.reset()
			return err
		}
	}
}

// closeRelayed closes c. to is how the way to c has ended, from how that from it has.
func closeRelayed(c net.Conn, to, from error) {
	switch {
	case to != nil: // it lacks something
		reset(c)
	case from == nil:
		linger(c, -1)
		c.Close()
	default: // it has all, and what it still sends nobody takes
		abandon(c)
	}
}

// What a TCP connection still sends that nobody takes is read for so long, and so much of it.
const (
	abandonTime  = 2 * time.Second
	abandonBytes = 1 << 20
)

// abandon closes a connection that has all that it was to get. A reset takes nothing of that back on a stream, but may on TCP, where a
// close with something unread is one.
func abandon(c net.Conn) {
	if _, stream := c.(interface{ Reset() error }); !stream {
		c.SetReadDeadline(time.Now().Add(abandonTime))
		io.CopyN(io.Discard, c, abandonBytes)
		linger(c, -1)
		c.Close()
		return
	}
	reset(c)
}

// closeWrite ends what is written to c.
func closeWrite(c net.Conn) error {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%T: half close: %w", c, errors.ErrUnsupported)
	}
	return half.CloseWrite()
}

// reset closes c so that the other side does not take what it has got for all, where c can do that.
func reset(c net.Conn) {
	switch c := c.(type) {
	case interface{ Reset() error }:
		c.Reset()
	case *net.TCPConn:
		c.SetLinger(0)
		c.Close()
	default:
		c.Close()
	}
}

// linger says how a TCP connection is closed: 0, as that of a relay until it has ended well, with a reset, even by the system after
// the death of this process; -1 with what was written and its end.
func linger(c net.Conn, seconds int) {
	if c, ok := c.(*net.TCPConn); ok {
		c.SetLinger(seconds)
	}
}
