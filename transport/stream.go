package transport

import (
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// A muxStream is what a Stream needs of yamux, which session.go alone may name.
type muxStream interface {
	io.Closer
	StreamID() uint32
}

// A Stream is one logical connection within a Session: a net.Conn with deadlines, half close, and an end
// that is never mistaken. Read returns io.EOF only when the peer has closed or half-closed the stream; when
// the session ends before that, it returns why, after the data that had arrived.
//
// All methods may be called at once. Write has handed its bytes to the session when it returns; they reach
// the peer unless the session dies. After a write deadline the count is exact, and the stream still works.
type Stream struct {
	session *Session
	mux     muxStream
	flow    *flow

	writing sync.Mutex // one Write, CloseWrite or final close at a time: what follows a FIN would end the session
	writeBy deadline

	mu     sync.Mutex // protects what follows
	closed bool
	left   chan struct{} // closed with closed
}

// adopt gives a yamux stream its place in the guard's table. It returns nil if the stream is over already.
func (g *guard) adopt(s *Session, ys muxStream) *Stream {
	g.mu.Lock()
	f := g.flows[ys.StreamID()]
	if f == nil {
		g.mu.Unlock()
		return nil
	}
	f.stream = &Stream{session: s, mux: ys, flow: f, left: make(chan struct{}), writeBy: newDeadline()}
	dead := g.dead
	g.mu.Unlock()
	if dead {
		f.in.finish(s.cause)
	}
	return f.stream
}

// kill wakes whoever is blocked in a stream.
func (g *guard) kill(cause error) {
	g.mu.Lock()
	g.dead = true
	flows := slices.Collect(maps.Values(g.flows))
	g.mu.Unlock()
	for _, f := range flows {
		f.in.finish(cause)
	}
}

func (g *guard) lastID() uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lastOurs
}

// Read reads what the peer has written. See Stream for the errors; after a deadline it returns
// os.ErrDeadlineExceeded, after Close net.ErrClosed, after the peer's reset ErrStreamReset.
func (s *Stream) Read(b []byte) (int, error) {
	n, grant, err := s.flow.in.read(b)
	if grant > 0 {
		s.session.guard.grant(s.flow, grant)
	}
	return n, err
}

// Receive has f called with what arrives, in place of Read, unless there is something to Read: then it returns false. f takes
// bytes off the front of p and returns how many. If it leaves some, they and what follows are for Read, until Receive is
// called again. It is called with nil when the stream has ended, or was closed: why, Read tells; so it is
// called no more. It runs in the goroutine that reads for the whole session: it must not wait for anything, nor keep p. It is for
// those who want to save the time that a goroutine takes to wake up.
func (s *Stream) Receive(f func(p []byte) (n int)) bool { return s.flow.in.receive(f) }

// Write writes b, waiting for the peer to have read enough of what went before. After an error, the count
// tells how much was handed over. Errors as for Read.
func (s *Stream) Write(b []byte) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for {
		room, err := s.reserve(len(b) - n)
		if err != nil || n == len(b) {
			return n, err
		}
		if err := s.send(b[n:n+room], len(b) <= flushed); err != nil {
			return n, err
		}
		n += room
	}
}

// flushed is up to how many bytes a Write seals and hands to the operating system itself, if that takes them at once: so
// they are on their way sooner. More is left to the session's writer, and the caller fetches the next meanwhile.
const flushed = 8 << 10

func (s *Stream) send(b []byte, flush bool) error {
	if err := s.session.guard.send(s.flow, b); err != nil {
		s.session.wind(err)
		<-s.session.done
		return s.session.cause
	}
	if flush {
		s.session.conn.tx.flush()
	} else {
		s.session.conn.tx.kick()
	}
	return nil
}

// WriteNow writes as much of b as needs no waiting at all, neither for the peer nor for another Write, and returns how much
// that was; why not more, Write tells. It is for callers that must not wait and have somebody else for the rest.
func (s *Stream) WriteNow(b []byte) (n int) {
	if !s.writing.TryLock() {
		return 0
	}
	defer s.writing.Unlock()
	for n < len(b) {
		window, err := s.window(s.writeBy.passed())
		room := min(len(b)-n, window, maxPayload)
		if err != nil || room == 0 || !s.session.conn.tx.room.takeNow(room) {
			break
		}
		if s.send(b[n:n+room], true) != nil {
			break
		}
		n += room
	}
	return n
}

// reserve waits until the peer's window and the session's queue have room for some of want, and takes it.
// So yamux, which honours no deadline while it writes, never has to wait.
func (s *Stream) reserve(want int) (int, error) {
	for {
		due := s.writeBy.passed()
		window, err := s.window(due)
		window = min(want, window, maxPayload)
		switch {
		case err != nil || want == 0:
			return 0, err
		case window > 0:
			if s.session.conn.tx.room.take(window, s.left, due, s.session.done) {
				return window, nil
			}
		default:
			select {
			case <-s.flow.writable:
			case <-s.left:
			case <-due:
			case <-s.session.done:
			}
		}
	}
}

// window returns how much the peer's window takes, or why nothing may be written any more.
func (s *Stream) window(due <-chan struct{}) (int, error) {
	select {
	case <-s.left:
		return 0, ErrStreamClosed
	default:
	}
	if s.session.ended() {
		return 0, s.session.cause
	}
	select {
	case <-due:
		return 0, os.ErrDeadlineExceeded
	default:
	}
	g := s.session.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	switch f := s.flow; {
	case f.reset:
		return 0, ErrStreamReset
	case f.wantFIN || f.over:
		return 0, ErrStreamClosed
	}
	return s.flow.sendWindow, nil
}

// CloseWrite ends what this side writes: the peer reads io.EOF behind it, and may go on writing for as long
// as it likes. It waits for a Write in progress. A stream must still be closed.
func (s *Stream) CloseWrite() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.window(nil)
	if err != nil {
		return err
	}
	g := s.session.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.flow.over || s.flow.sentFIN { // by a Close or a Reset that came between
		return ErrStreamClosed
	}
	s.flow.wantFIN = true
	if s.flow.acked || !s.flow.ours {
		g.finLocked(s.flow)
	}
	return nil // else ackedLocked sends it (rule S7)
}

// Close ends the stream both ways and unblocks Read and Write. What was written before reaches the peer, with
// its end; what the peer still writes is answered with a reset. It returns nil, however often it is called.
func (s *Stream) Close() error { return s.close(false) }

// Reset is Close for a stream on which not all was said: behind what was written before, the peer reads ErrStreamReset in
// place of io.EOF (but for what CloseWrite had ended), and what it writes fails at once. After Close it does nothing.
func (s *Stream) Reset() error { return s.close(true) }

func (s *Stream) close(reset bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.left)
	s.mu.Unlock()
	s.writeBy.set(time.Time{})
	s.flow.in.close()

	g := s.session.guard
	g.mu.Lock()
	s.flow.closed = true
	s.flow.cut = reset
	g.nudgeLocked(s.flow)
	ready := s.flow.acked || !s.flow.ours || g.dead
	g.mu.Unlock()
	if ready {
		s.finish()
	}
	return nil // else ackedLocked has it finished: before the ACK, yamux would leak the stream
}

// finish has yamux end the stream and forget it.
func (s *Stream) finish() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.session.guard.reset(s.flow)
	s.mux.Close()
}

// SetDeadline sets both deadlines, of calls in progress too. A zero time means none.
func (s *Stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline sets when Read gives up with os.ErrDeadlineExceeded.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.flow.in.setDeadline(t) }

// SetWriteDeadline sets when Write gives up with os.ErrDeadlineExceeded.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrStreamClosed
	}
	s.writeBy.set(t)
	return nil
}

// Session returns the session that the stream belongs to.
func (s *Stream) Session() *Session { return s.session }

// LocalAddr is the session's.
func (s *Stream) LocalAddr() net.Addr { return s.session.LocalAddr() }

// RemoteAddr is the session's.
func (s *Stream) RemoteAddr() net.Addr { return s.session.RemoteAddr() }
