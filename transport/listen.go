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
// net.Dial's ("tcp", "unix"). Errors: net's, or the handshake's. With KnownServers somebody may be asked meanwhile.
func Dial(ctx context.Context, network, address string, cfg *Config) (*Session, error) {
	full, err := cfg.forClient()
	if err != nil {
		return nil, err
	}
	if known := full.Peers.servers; known != nil {
		return known.dial(ctx, network, address, full)
	}
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return client(ctx, raw, full)
}

// Client makes a session of any connection, such as a Unix socket, a net.Pipe or a tls.Conn. The session owns
// the connection from now on; after an error it is closed.
func Client(ctx context.Context, raw net.Conn, cfg *Config) (*Session, error) {
	full, err := cfg.forClient()
	if err != nil {
		raw.Close()
		return nil, err
	}
	if known := full.Peers.servers; known != nil {
		return known.client(ctx, raw, full)
	}
	return client(ctx, raw, full)
}

func client(ctx context.Context, raw net.Conn, full *Config) (*Session, error) {
	var out *outcome
	err := withDeadline(ctx, raw, full.HandshakeTimeout, func(ctx context.Context) (err error) {
		out, err = clientHandshake(ctx, raw, full)
		return err
	})
	if err != nil {
		full.Peers.dismiss(out.from())
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

func serve(ctx context.Context, raw net.Conn, full *Config, place *pass) (*Session, error) {
	var out *outcome
	err := withDeadline(ctx, raw, full.HandshakeTimeout, func(ctx context.Context) (err error) {
		out, err = serverHandshake(ctx, raw, full, place)
		return err
	})
	if err != nil {
		full.Peers.dismiss(out.from())
		return nil, err
	}
	return newSession(raw, full, out, false), nil
}

// A Listener accepts sessions. Handshakes run beside each other, so that a slow or hostile client delays nobody. Who may
// shake hands is limited: in all, and for each source (Config.MaxHandshakes); a source whose handshakes keep failing is kept
// out for 15 seconds; private-key operations run at most GOMAXPROCS/2 at once, sources in turn, so that strangers cannot take
// the processor from the sessions there are. All methods may be called by many goroutines at once.
type Listener struct {
	inner    net.Listener
	cfg      *Config
	gate     *gate
	ready    chan *Session
	failures chan failure
	ctx      context.Context // ends the handshakes in progress
	cancel   context.CancelFunc
	work     sync.WaitGroup // the accepting goroutine, the reporting one, and the handshakes
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
	l := &Listener{inner: inner, cfg: full, gate: newGate(full, max(1, runtime.GOMAXPROCS(0)/2)),
		ready: make(chan *Session), failures: make(chan failure, 64)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.work.Go(l.run)
	if full.HandshakeFailed != nil {
		l.work.Go(l.tell)
	}
	return l, nil
}

// run accepts connections until the Listener is closed. Running out of file descriptors is waited out.
func (l *Listener) run() {
	var pause time.Duration
	for l.ctx.Err() == nil {
		raw, err := l.inner.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				l.cancel()
			}
			if l.ctx.Err() != nil {
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
		ctx, evict := context.WithCancelCause(l.ctx)
		place, err := l.gate.enter(raw.RemoteAddr(), evict, l.ctx.Done())
		if err != nil {
			evict(nil)
			l.report(raw.RemoteAddr(), err)
			turnAway(raw, err)
			continue
		}
		l.work.Go(func() {
			defer evict(nil)
			l.greet(ctx, raw, place)
		})
	}
}

// turnAway tells a connection that it gets no place, if that needs no waiting.
func turnAway(raw net.Conn, err error) {
	raw.SetDeadline(time.Now().Add(time.Millisecond)) // for reading too: a tls.Conn reads before it writes
	rejectWith(raw, alertMessage{code: AlertBusy}, err)
	raw.Close()
}

// greet runs one handshake and hands the session over.
func (l *Listener) greet(ctx context.Context, raw net.Conn, place *pass) {
	session, err := serve(ctx, raw, l.cfg, place)
	if err == nil {
		select {
		case l.ready <- session:
		case <-session.done:
		case <-l.ctx.Done():
			session.Close()
		}
	}
	place.leave(err)
	if err != nil {
		l.report(raw.RemoteAddr(), err)
	}
}

// A failure is what Config.HandshakeFailed is told.
type failure struct {
	from net.Addr
	err  error
}

// report has a failure told, unless so many wait to be told that one more makes no difference.
func (l *Listener) report(from net.Addr, err error) {
	if l.cfg.HandshakeFailed == nil || l.ctx.Err() != nil {
		return
	}
	select {
	case l.failures <- failure{from, err}:
	default:
	}
}

// tell is the goroutine that calls Config.HandshakeFailed, so that one that blocks holds up no handshake.
func (l *Listener) tell() {
	for {
		select {
		case f := <-l.failures:
			l.cfg.HandshakeFailed(f.from, f.err)
		case <-l.ctx.Done():
			return
		}
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
