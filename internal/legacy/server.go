package legacy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// What Config.Refused is told, and what a client's calls may end with.
var (
	// ErrUndecryptable is all that is ever said about a request that does not decrypt to a text, whatever is wrong with it.
	ErrUndecryptable = errors.New("legacy: a request that does not decrypt")
	// ErrBusy means that a limit of connections, requests or bad requests was reached.
	ErrBusy = errors.New("legacy: busy")
	// ErrTooLong means a request, a reply or a text beyond the limits of size.
	ErrTooLong = errors.New("legacy: too long")

	errTruncated = errors.New("legacy: the connection ended in the middle of a request")
	errIdle      = errors.New("legacy: no request for too long")
	errSlow      = errors.New("legacy: a request took too long to come")
	errNoReply   = errors.New("legacy: there was no reply in time")
	errNotTaken  = errors.New("legacy: a reply was not taken in time")
	errGaveWay   = fmt.Errorf("%w: a connection with no request gave way to another", ErrBusy)
	errNoPlace   = fmt.Errorf("%w: no place for a large request", ErrBusy)
	errStopped   = errors.New("legacy: the server stopped")
)

// A Config says what a Server serves, and its limits. A zero limit stands for its default.
type Config struct {
	// Key is the server's key. It must be for this wire alone.
	Key *PrivateKey
	// Handle answers a text, in many goroutines at once. It must return when ctx ends. Its error ends the connection: the wire has
	// no way to tell one.
	Handle func(ctx context.Context, text string) (string, error)
	// Refused, if set, is told of connections that did not end well: from where (nil when accepting failed) and why. One goroutine calls
	// it. Strangers decide how often, so what it logs should be limited; what happens while it keeps 64 others waiting is not told.
	Refused func(from net.Addr, err error)
	// MaxConns is how many connections there may be, and MaxConnsPerSource how many from an IPv4 address or an IPv6 /64; one more
	// takes the place of one that has sent nothing for the longest. Defaults 512 and 256.
	MaxConns, MaxConnsPerSource int
	// IdleTimeout is how long a client may be silent between requests. Default 15 minutes.
	IdleTimeout time.Duration
	// RequestTimeout is how long a request may take to come, from its first byte, and ReplyTimeout how long its reply may take, until the
	// client has it. Default 1 minute each.
	RequestTimeout, ReplyTimeout time.Duration
}

func (c Config) withDefaults() Config {
	for limit, value := range map[*int]int{&c.MaxConns: 512, &c.MaxConnsPerSource: 256} {
		if *limit <= 0 {
			*limit = value
		}
	}
	for limit, value := range map[*time.Duration]time.Duration{
		&c.IdleTimeout: 15 * time.Minute, &c.RequestTimeout: time.Minute, &c.ReplyTimeout: time.Minute,
	} {
		if *limit <= 0 {
			*limit = value
		}
	}
	return c
}

// A Server serves the wire of the scripts. It must be ended with Shutdown or Close. All methods may be called by many goroutines at once.
type Server struct {
	cfg      Config
	lanes    chan struct{} // tokens of the private-key operations that run
	large    chan struct{} // tokens of the large requests there are
	ctx      context.Context
	cut      context.CancelCauseFunc
	work     sync.WaitGroup // the connections
	failures chan failure
	told     chan struct{} // closed when the telling goroutine has ended
	untell   context.CancelFunc
	step     func(name string, bytes int) // of tests

	mu       sync.Mutex // protects all below, every source, and what conn says; nothing blocks under it
	stopping bool
	listener net.Listener
	conns    map[*conn]struct{}
	sources  map[string]*source
	calls    int           // requests that were taken and are not answered by Handle yet
	quiet    chan struct{} // closed when stopping and no calls
}

// NewServer returns a server. cfg must have Key and Handle.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg.withDefaults(), lanes: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), large: make(chan struct{}, maxLarge),
		failures: make(chan failure, 64), told: make(chan struct{}), conns: make(map[*conn]struct{}),
		sources: make(map[string]*source), quiet: make(chan struct{})}
	s.ctx, s.cut = context.WithCancelCause(context.Background())
	telling, untell := context.WithCancel(context.Background())
	s.untell = untell
	go s.tell(telling)
	return s
}

// Serve accepts connections until the server is stopped, and then returns nil, or l fails. It owns l. Call it once. The connections go on
// until Shutdown or Close.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.listen(l) {
		return nil
	}
	var pause time.Duration
	for {
		raw, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.begin(raw)
		case s.isStopping():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of file descriptors, for example
			s.report(nil, err)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			wait, stop := context.WithTimeout(s.ctx, pause)
			<-wait.Done()
			stop()
		}
	}
}

// listen keeps l, for Stop to close it, unless that has been.
func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = l
	return !s.stopping
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// begin serves a connection, or turns it away without a word.
func (s *Server) begin(raw net.Conn) {
	c := &conn{server: s, raw: raw}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	if err := s.enter(c); err != nil {
		c.cancel(err)
		raw.Close()
		s.report(raw.RemoteAddr(), err)
	}
}

// take says that a request is there and will be answered, unless it came too late.
func (s *Server) take(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || c.ctx.Err() != nil {
		return false
	}
	c.busy = true
	s.calls++
	return true
}

// called says that Handle has returned, or will not be called.
func (s *Server) called() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	s.quietenLocked()
}

func (s *Server) quietenLocked() {
	if !s.stopping || s.calls > 0 {
		return
	}
	select {
	case <-s.quiet:
	default:
		close(s.quiet)
	}
}

// done says that a reply is written, and reports whether another request may be taken.
func (s *Server) done(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.busy, c.since = false, time.Now()
	return !s.stopping
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(c)
}

// Stop ends what waits for clients: it accepts no more connections, closes those without a request, and takes no more requests from the
// others. It returns at once. The channel closes when Handle has returned for every request that was taken: it is not called any more.
func (s *Server) Stop() (quiet <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if s.listener != nil {
		s.listener.Close()
	}
	for c := range s.conns {
		if !c.busy {
			c.cancel(errStopped)
		}
	}
	s.quietenLocked()
	return s.quiet
}

// Shutdown is Stop, and waits until the replies to all requests that were taken are written. If ctx ends first it cuts
// what is left and returns the context's error. Either way all that the server had running has ended, if Handle returns when its context ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Stop()
	ended := make(chan struct{})
	go func() { // it ends with the connections, which end by themselves or are cut
		s.work.Wait()
		close(ended)
	}()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.cut(errStopped)
	<-ended
	s.untell()
	<-s.told
	return err
}

// Close cuts everything, and waits for it.
func (s *Server) Close() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.Shutdown(now)
}

// A failure is what Config.Refused is told.
type failure struct {
	from net.Addr
	err  error
}

// report has a failure told, unless so many wait to be told that one more makes no difference.
func (s *Server) report(from net.Addr, err error) {
	select {
	case s.failures <- failure{from, err}:
	default:
	}
}

// tell is the goroutine that calls Config.Refused, so that one that blocks holds up no connection.
func (s *Server) tell(ctx context.Context) {
	defer close(s.told)
	for {
		select {
		case f := <-s.failures:
			if s.cfg.Refused != nil {
				s.cfg.Refused(f.from, f.err)
			}
		case <-ctx.Done():
			return
		}
	}
}
