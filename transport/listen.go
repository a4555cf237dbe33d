package transport

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"
)

// Dial connects to a server and returns the session once the server has proven its key and, if it wants to
// know who the client is, has admitted it. The context bounds connecting and the handshake. network is
// net.Dial's ("tcp", "unix"). Errors: net's, or the handshake's.
func Dial(ctx context.Context, network, address string, cfg *Config) (*Session, error) {
	if _, err := cfg.forClient(); err != nil {
		return nil, err
	}
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return Client(ctx, raw, cfg)
}

// Client makes a session of any connection, such as a Unix socket, a net.Pipe or a tls.Conn. The session owns
// the connection from now on; after an error it is closed.
func Client(ctx context.Context, raw net.Conn, cfg *Config) (*Session, error) {
	full, err := cfg.forClient()
	if err != nil {
		raw.Close()
		return nil, err
	}
	var out *outcome
	err = withDeadline(ctx, raw, full.HandshakeTimeout, func(ctx context.Context) (err error) {
		out, err = clientHandshake(ctx, raw, full)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newSession(raw, full, out, true), nil
}

// Server is Client for the other side.
func Server(ctx context.Context, raw net.Conn, cfg *Config) (*Session, error) {
	full, err := cfg.forServer()
	if err != nil {
		raw.Close()
		return nil, err
	}
	return serve(ctx, raw, full, nil)
}

func serve(ctx context.Context, raw net.Conn, full *Config, rsaGate chan struct{}) (*Session, error) {
	var out *outcome
	err := withDeadline(ctx, raw, full.HandshakeTimeout, func(ctx context.Context) (err error) {
		out, err = serverHandshake(ctx, raw, full, rsaGate)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newSession(raw, full, out, false), nil
}

// maxHandshakes bounds the connections of one Listener that are in their handshake; more wait in the
// kernel's queue. Each holds one goroutine and at most one 4 KiB message.
const maxHandshakes = 1024

// A Listener accepts sessions. Handshakes run beside each other, so that a slow or hostile client delays
// nobody; RSA operations run at most GOMAXPROCS at once, so that strangers cannot take the processor from
// the sessions there are. All methods may be called by many goroutines at once.
type Listener struct {
	inner   net.Listener
	cfg     *Config
	rsaGate chan struct{}
	slots   chan struct{}
	ready   chan *Session
	ctx     context.Context // ends the handshakes in progress
	cancel  context.CancelFunc
	work    sync.WaitGroup // the accepting goroutine and the handshakes
}

// Listen listens for sessions. network and address are net.Listen's; the context bounds only the call.
func Listen(ctx context.Context, network, address string, cfg *Config) (*Listener, error) {
	if _, err := cfg.forServer(); err != nil {
		return nil, err
	}
	inner, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return NewListener(inner, cfg)
}

// NewListener makes a Listener of any net.Listener, which it owns from now on. Errors match ErrConfig.
func NewListener(inner net.Listener, cfg *Config) (*Listener, error) {
	full, err := cfg.forServer()
	if err != nil {
		inner.Close()
		return nil, err
	}
	if full.TicketKeys == nil && !full.NoTickets {
		full.TicketKeys = NewTicketKeys()
	}
	l := &Listener{inner: inner, cfg: full, rsaGate: make(chan struct{}, runtime.GOMAXPROCS(0)),
		slots: make(chan struct{}, maxHandshakes), ready: make(chan *Session)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.work.Go(l.run)
	return l, nil
}

// run accepts connections until the Listener is closed. Running out of file descriptors is waited out.
func (l *Listener) run() {
	var pause time.Duration
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		raw, err := l.inner.Accept()
		if err != nil {
			<-l.slots
			if l.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				l.cancel()
				return
			}
			l.report(nil, err)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			wait, stop := context.WithTimeout(l.ctx, pause)
			<-wait.Done()
			stop()
			continue
		}
		pause = 0
		l.work.Go(func() {
			defer func() { <-l.slots }()
			l.greet(raw)
		})
	}
}

// greet runs one handshake and hands the session over.
func (l *Listener) greet(raw net.Conn) {
	session, err := serve(l.ctx, raw, l.cfg, l.rsaGate)
	if err != nil {
		l.report(raw.RemoteAddr(), err)
		return
	}
	select {
	case l.ready <- session:
	case <-session.done:
	case <-l.ctx.Done():
		session.Close()
	}
}

func (l *Listener) report(from net.Addr, err error) {
	if l.cfg.HandshakeFailed != nil && l.ctx.Err() == nil {
		l.cfg.HandshakeFailed(from, err)
	}
}

// Accept returns the next client's session. After Close it returns an error that matches net.ErrClosed.
// A failed handshake is no error of Accept: Config.HandshakeFailed hears of it.
func (l *Listener) Accept(ctx context.Context) (*Session, error) {
	select {
	case session := <-l.ready:
		return session, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close stops listening and ends the handshakes in progress. Sessions that were accepted live on.
func (l *Listener) Close() error {
	l.cancel()
	err := l.inner.Close()
	l.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Addr is the address listened on.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }
