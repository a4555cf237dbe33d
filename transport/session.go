package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// A Peer is who is at the other end of a session, as far as it has been proven.
type Peer struct {
	Key  *PublicKey // proven; nil for a client that showed none
	Name string     // what the Trust calls it: a file's name in AuthorizedKeys; may be empty
	Addr net.Addr   // where the connection comes from
}

// Fingerprint is that of Key, or the zero Fingerprint of a client without one.
func (p Peer) Fingerprint() Fingerprint {
	if p.Key == nil {
		return Fingerprint{}
	}
	return p.Key.id
}

// A Session is one encrypted connection with any number of streams. Both sides may open streams. It is a
// net.Listener for those that the peer opens. All methods may be called by many goroutines at once.
//
// A session that nobody uses any more must be closed. It ends by itself when the peer closes it, goes
// silent, breaks the protocol, or the connection is cut; Err then tells which, and every stream too.
type Session struct {
	cfg   *Config
	conn  *conn
	guard *guard
	mux   *yamux.Session
	muxed chan struct{} // closed once mux is set

	peer     Peer
	guest    *guest
	exporter []byte
	resumed  bool

	openMu sync.Mutex // stream ids must reach the wire in order (rule S5)

	ending sync.Once
	done   chan struct{} // closed once cause is set
	cause  error
	cut    *time.Timer // ends the wait for a peer that does not take our last words; set before done
	tick   *time.Timer // keepalive

	tasks  sync.WaitGroup // writing, yamux's end, late stream closes
	txDone chan struct{}  // nothing more will be written
}

// yamux closes a stream by force so long after its Close, if the peer has not ended it too.
const streamCloseTimeout = 10 * time.Second

// newSession runs yamux over the records. It cannot fail: the configuration below is constant and valid.
func newSession(raw net.Conn, cfg *Config, out *outcome, client bool) *Session {
	s := &Session{cfg: cfg, peer: out.peer, guest: out.guest, exporter: out.exporter, resumed: out.resumed,
		muxed: make(chan struct{}), done: make(chan struct{}), txDone: make(chan struct{})}
	s.conn = newConn(raw, out)
	s.guard = newGuard(s, s.conn, client, out.maxStreams)
	s.guard.ticket = out.awaited
	s.conn.tx.start = func() { go s.write() }
	s.tasks.Add(1) // until nothing more will be written
	s.keepalive()
	if out.ticket != nil {
		s.conn.tx.record(false, recordAccept, out.ticket...)
	}
	start := yamux.Server
	if client {
		start = yamux.Client
	}
	mux, err := start(s.guard, &yamux.Config{
		AcceptBacklog:          acceptBacklog,
		KeepAliveInterval:      time.Hour, // unused, but must be positive: EnableKeepAlive is off, ours is on
		ConnectionWriteTimeout: 24 * time.Hour,
		MaxStreamWindowSize:    uint32(cfg.StreamWindow),
		StreamCloseTimeout:     streamCloseTimeout,
		Logger:                 log.New(io.Discard, "", 0),
	})
	if err != nil {
		panic(err)
	}
	s.mux = mux
	close(s.muxed)
	cfg.Peers.enter(s)
	return s
}

// Open opens a stream. It waits while the peer's MaxStreams are open, or while 256 streams wait for the
// peer to accept them, until ctx ends. The stream is a *Stream. The peer's Accept returns it at once, before
// anything is written to it.
func (s *Session) Open(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i, b := range []*budget{s.guard.opens, s.guard.unacked} {
		if b.take(1, ctx.Done(), s.done) {
			continue
		}
		if i > 0 {
			s.guard.opens.give(1)
		}
		if s.ended() {
			return nil, s.cause
		}
		return nil, fmt.Errorf("transport: open: %w", ctx.Err())
	}
	s.openMu.Lock()
	defer s.openMu.Unlock()
	if s.guard.lastID() >= math.MaxUint32-2 {
		s.guard.opens.give(1)
		s.guard.unacked.give(1)
		return nil, ErrStreamsExhausted
	}
	ys, err := s.mux.OpenStream()
	if err != nil {
		return nil, s.why(err)
	}
	if st := s.guard.adopt(s, ys); st != nil {
		return st, nil
	}
	if s.ended() {
		return nil, s.cause
	}
	return nil, ErrStreamReset // the peer has refused it already
}

// Accept returns the next stream that the peer opens. Once the session is over it returns what Err does:
// ErrSessionClosed and ErrPeerClosed match net.ErrClosed. The stream is a *Stream.
func (s *Session) Accept() (net.Conn, error) { return s.AcceptContext(context.Background()) }

// AcceptContext is Accept until ctx ends.
func (s *Session) AcceptContext(ctx context.Context) (net.Conn, error) {
	for {
		ys, err := s.mux.AcceptStreamWithContext(ctx)
		if err != nil {
			if ctx.Err() != nil && !s.ended() {
				return nil, ctx.Err()
			}
			return nil, s.why(err)
		}
		if st := s.guard.adopt(s, ys); st != nil {
			return st, nil
		}
		ys.Close() // it was over before anybody took it
	}
}

// Listener returns a listener for the streams that the peer opens. Its Close ends its Accept alone, with net.ErrClosed, and keeps the
// session and what was accepted: http.Server.Shutdown closes what it was given, and then waits for what is under way. A stream that
// comes later waits for another Accept. All methods may be called by many goroutines at once.
func (s *Session) Listener() net.Listener {
	open, end := context.WithCancel(context.Background())
	return &sessionListener{s, open, end}
}

type sessionListener struct {
	session *Session
	open    context.Context
	end     context.CancelFunc
}

func (l *sessionListener) Accept() (net.Conn, error) {
	if l.open.Err() != nil {
		return nil, net.ErrClosed
	}
	conn, err := l.session.AcceptContext(l.open)
	if err != nil && errors.Is(err, context.Canceled) {
		err = net.ErrClosed
	}
	return conn, err
}

func (l *sessionListener) Close() error   { l.end(); return nil }
func (l *sessionListener) Addr() net.Addr { return l.session.Addr() }

// Close ends the session in good order: what was written before goes out, then an authenticated end, and
// then it waits for the peer to have taken it, at most for Config.CloseTimeout. Streams end with
// ErrSessionClosed here and ErrPeerClosed there. It returns nil, however often it is called.
func (s *Session) Close() error {
	s.wind(ErrSessionClosed)
	s.tasks.Wait()
	return nil
}

// Done is closed when the session is over, for whatever reason.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session is over: one of this package's session errors, or nil while it is not.
func (s *Session) Err() error {
	if s.ended() {
		return s.cause
	}
	return nil
}

func (s *Session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// why turns yamux's word for an end, which is always the same, into the session's.
func (s *Session) why(err error) error {
	switch {
	case errors.Is(err, yamux.ErrStreamsExhausted):
		return ErrStreamsExhausted
	case errors.Is(err, yamux.ErrConnectionReset):
		return ErrStreamReset
	case errors.Is(err, yamux.ErrStreamClosed) && !s.ended():
		return ErrStreamClosed
	}
	<-s.done // yamux only ends when the guard has told it to, and that sets the cause first
	return s.cause
}

// Peer says who is at the other end.
func (s *Session) Peer() Peer { return s.peer }

// Resumed says that the handshake was done with a ticket: no RSA operation, the same assurance of who the peer is.
func (s *Session) Resumed() bool { return s.resumed }

// Protocol is the application protocol that both sides named.
func (s *Session) Protocol() string { return s.cfg.Protocol }

// LocalAddr is the connection's address on this side.
func (s *Session) LocalAddr() net.Addr { return s.conn.raw.LocalAddr() }

// RemoteAddr is the connection's address on the peer's side.
func (s *Session) RemoteAddr() net.Addr { return s.conn.raw.RemoteAddr() }

// Addr is LocalAddr; it makes a Session a net.Listener.
func (s *Session) Addr() net.Addr { return s.LocalAddr() }

// ExportKeyingMaterial derives n bytes (at most 8160) that only the two ends of this session can know, for
// binding another protocol to it, as in RFC 5705. Both sides get the same for the same label (at most 255
// bytes) and context. Errors match ErrConfig.
func (s *Session) ExportKeyingMaterial(label string, context []byte, n int) ([]byte, error) {
	if len(label) > 255 || n < 0 || n > maxExport {
		return nil, fmt.Errorf("%w: exported keying material has a label of at most 255 bytes and at most %d bytes", ErrConfig, maxExport)
	}
	return export(s.exporter, label, context, n), nil
}

type peerKey struct{}

// Context returns ctx with the session's peer in it, for PeerFrom. rpc gives handlers such a context.
func (s *Session) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, peerKey{}, s.peer)
}

// PeerFrom returns the peer whose request a context belongs to, and whether there is one.
func PeerFrom(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}
