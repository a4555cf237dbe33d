package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Pipe returns the two ends of a session in memory, so that handlers and clients are tested without sockets or keys: serve
// one with Server.ServeSession, and give the other to NewClient. It behaves as a session over a network does: streams have
// a window (256 KiB each way) and deadlines, Close ends in good order, and nothing of it is left behind. All methods may be
// called by many goroutines at once, and inside a testing/synctest bubble.
func Pipe() (a, b Session) { return newPipe() }

// pipeBacklog is how many streams may wait to be accepted in each direction.
const pipeBacklog = 256

// A pipeSession is one end of a Pipe.
type pipeSession struct {
	*pipeLink
	incoming, outgoing chan *pipeStream
	side               int // 0 or 1: which of pipeLink.errs is this end's
}

// A pipeLink is what both ends share.
type pipeLink struct {
	done chan struct{}

	mu      sync.Mutex // protects all below
	errs    [2]error   // why it ended, to each end; set before done is closed
	streams map[*pipeStream]struct{}
}

var (
	errPipeClosed = fmt.Errorf("rpc: the session was closed: %w", net.ErrClosed)
	errPipeEnded  = fmt.Errorf("rpc: the peer closed the session: %w", net.ErrClosed)
	errPipeStream = fmt.Errorf("rpc: the stream was closed on this side: %w", net.ErrClosed)
	errPipeReset  = errors.New("rpc: the peer closed the stream")
)

func newPipe() (a, b *pipeSession) {
	link := &pipeLink{done: make(chan struct{}), streams: make(map[*pipeStream]struct{})}
	one, two := make(chan *pipeStream, pipeBacklog), make(chan *pipeStream, pipeBacklog)
	return &pipeSession{link, one, two, 0}, &pipeSession{link, two, one, 1}
}

// Open opens a stream. It waits while 256 wait to be accepted.
func (s *pipeSession) Open(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	forth, back := newPipeHalf(), newPipeHalf()
	ours := &pipeStream{link: s.pipeLink, side: s.side, in: back, out: forth}
	theirs := &pipeStream{link: s.pipeLink, side: 1 - s.side, in: forth, out: back}
	s.mu.Lock()
	if err := s.errs[s.side]; err != nil {
		s.mu.Unlock()
		return nil, err
	}
	s.streams[ours], s.streams[theirs] = struct{}{}, struct{}{}
	s.mu.Unlock()
	select {
	case s.outgoing <- theirs:
		return ours, nil
	case <-ctx.Done():
		ours.Close()
		theirs.Close()
		return nil, ctx.Err()
	case <-s.done:
		return nil, s.Err()
	}
}

// Accept returns the next stream that the other end opens.
func (s *pipeSession) Accept() (net.Conn, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	select {
	case st := <-s.incoming:
		return st, nil
	case <-s.done:
		return nil, s.Err()
	}
}

// Close ends the session in good order.
func (s *pipeSession) Close() error {
	errs := [2]error{errPipeEnded, errPipeEnded}
	errs[s.side] = errPipeClosed
	s.endWith(errs)
	return nil
}

// Done is closed when the session has ended.
func (s *pipeSession) Done() <-chan struct{} { return s.done }

// Err is why it ended, nil before.
func (s *pipeSession) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errs[s.side]
}

// end cuts the session with err.
func (s *pipeSession) end(err error) { s.endWith([2]error{err, err}) }

func (l *pipeLink) endWith(errs [2]error) {
	l.mu.Lock()
	if l.errs[0] != nil {
		l.mu.Unlock()
		return
	}
	l.errs = errs
	all := l.streams
	l.streams = nil
	l.mu.Unlock()
	for st := range all {
		st.out.change(func(h *pipeHalf) { setOnce(&h.writeErr, errs[st.side]) })
		st.in.change(func(h *pipeHalf) { setOnce(&h.readErr, errs[st.side]) })
	}
	close(l.done)
}

func setOnce(to *error, err error) {
	if *to == nil {
		*to = err
	}
}

// A pipeStream is one end of a stream. It has no goroutine.
type pipeStream struct {
	link    *pipeLink
	side    int
	in, out *pipeHalf
}

func (st *pipeStream) Read(b []byte) (int, error)  { return st.in.read(b) }
func (st *pipeStream) Write(b []byte) (int, error) { return st.out.write(b) }

// CloseWrite ends what this side writes: io.EOF behind it.
func (st *pipeStream) CloseWrite() (err error) {
	st.out.change(func(h *pipeHalf) {
		if err = h.writeErr; err == nil {
			h.finished, h.writeErr = true, errPipeStream
		}
	})
	return err
}

// Reset is Close, but behind what was written the peer reads an error.
func (st *pipeStream) Reset() error {
	st.out.change(func(h *pipeHalf) {
		if h.writeErr == nil {
			setOnce(&h.readErr, errPipeReset)
			h.writeErr = errPipeStream
		}
	})
	return st.Close()
}

// Close ends the stream both ways. What was written can still be read; what the peer writes from now on fails.
func (st *pipeStream) Close() error {
	st.CloseWrite()
	st.out.change(func(h *pipeHalf) { h.writeBy.stop() })
	st.in.change(func(h *pipeHalf) {
		h.closed, h.buf = true, nil
		h.readBy.stop()
	})
	st.link.mu.Lock()
	delete(st.link.streams, st)
	st.link.mu.Unlock()
	return nil
}

func (st *pipeStream) LocalAddr() net.Addr  { return pipeAddr{} }
func (st *pipeStream) RemoteAddr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
