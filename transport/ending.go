package transport

import (
	"errors"
	"io"
	"time"
)

// How a session ends. The first cause wins and is what everybody is told. Every way out sends what is
// queued and a last record, lets the peer take it, and closes the raw connection, within CloseTimeout.

// wind starts the end. It does not block.
func (s *Session) wind(cause error) {
	s.ending.Do(func() {
		s.cause = cause
		s.tick.Stop()
		wait := s.cfg.CloseTimeout
		if lost(cause) {
			wait = 0 // nobody is there to take leave of
		}
		s.cut = time.AfterFunc(wait, func() { s.conn.raw.Close() })
		close(s.done)
		s.cfg.Peers.leave(s)
		// yamux's Close unblocks Accept at once, and waits for yamux's two goroutines, of which the receiving
		// one waits for the peer's end. The writing task is still counted, so this may be added.
		s.tasks.Go(func() {
			<-s.muxed
			s.mux.Close()
		})
		s.guard.kill(cause)
		switch {
		case errors.Is(cause, ErrRecord), errors.Is(cause, ErrMisbehaved):
			s.conn.tx.record(true, recordAlert, byte(AlertMisbehaved))
		case cause == ErrRevoked:
			s.conn.tx.record(true, recordAlert, byte(AlertUnauthorized))
		default:
			s.conn.tx.record(true, recordClose)
		}
	})
}

// lost reports that the connection is of no more use.
func lost(cause error) bool {
	return errors.Is(cause, ErrTruncated) || errors.Is(cause, ErrPeerSilent) || errors.Is(cause, ErrWriteStalled)
}

// lastWords ends the session from its receiving side, whose last act it is: err is what ended the reading.
func (s *Session) lastWords(err error) {
	s.wind(err)
	switch {
	case errors.Is(err, ErrPeerClosed), errors.As(err, new(*AlertError)):
		<-s.txDone // our own end goes out; the peer sends nothing more, so closing cannot cut it
	case errors.Is(err, ErrRecord), errors.Is(err, ErrMisbehaved):
		// Closing with unread input would reset the connection, and the alert with it.
		io.Copy(io.Discard, s.conn.raw)
	}
	s.cut.Stop()
	s.conn.raw.Close()
}

// write is the goroutine that writes, which is there while there is something to. When all is through, TCP tells the peer so.
func (s *Session) write() {
	over, err := s.conn.tx.run()
	switch half, ok := s.conn.raw.(interface{ CloseWrite() error }); {
	case err != nil:
		// The peer's last record, which tells why it takes no more, may still be on its way to us.
		s.conn.raw.SetReadDeadline(time.Now().Add(s.cfg.CloseTimeout))
	case !over:
		return
	case ok && s.cause != ErrPeerClosed: // else the connection is closed right away
		half.CloseWrite()
	}
	close(s.txDone)
	s.tasks.Done()
}

// keepalive arms the timer that watches for a peer gone silent and a write that makes no progress. Each
// firing arms the next, for the moment at which something can be due.
func (s *Session) keepalive() {
	s.tick = time.AfterFunc(time.Hour, func() {
		if s.ended() {
			return
		}
		silent := time.Duration(now() - s.conn.rx.last.Load())
		ask, give := s.cfg.KeepaliveInterval, s.cfg.KeepaliveInterval+s.cfg.KeepaliveTimeout
		next := ask - silent
		switch {
		case silent >= give:
			s.wind(ErrPeerSilent)
			return
		case silent >= ask:
			s.conn.tx.record(false, recordPing)
			next = give - silent
		}
		if since := s.conn.tx.since.Load(); since != 0 {
			left := s.cfg.WriteTimeout - time.Duration(now()-since)
			if left <= 0 {
				s.wind(ErrWriteStalled)
				return
			}
			next = min(next, left)
		}
		s.tick.Reset(next)
	})
	s.tick.Reset(s.cfg.KeepaliveInterval)
}
