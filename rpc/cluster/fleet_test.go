package cluster

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var bg = context.Background()

// A fleet is servers in memory, by address. Its zero value is one without servers.
type fleet struct {
	mu      sync.Mutex // protects all below
	servers map[string]*server
	dials   []dialled
}

// A dialled is an attempt to connect.
type dialled struct {
	addr string
	at   time.Time
}

var errRefused = errors.New("connection refused")

// dial is an Options.Dial.
func (f *fleet) dial(ctx context.Context, e Endpoint) (rpc.Session, error) {
	f.mu.Lock()
	s := f.servers[e.Addr]
	f.dials = append(f.dials, dialled{e.Addr, time.Now()})
	f.mu.Unlock()
	if s == nil {
		return nil, errRefused
	}
	return s.connect(ctx)
}

func (f *fleet) dialled(addr string) (at []time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.dials {
		if d.addr == addr {
			at = append(at, d.at)
		}
	}
	return at
}

// start puts a server at an address, in place of the one that was there.
func (f *fleet) start(t testing.TB, addr string, opts rpc.Options, register func(*rpc.Server)) *server {
	s := &server{fleet: f, addr: addr, srv: rpc.NewServer(opts)}
	if register != nil {
		register(s.srv)
	}
	f.mu.Lock()
	if f.servers == nil {
		f.servers = make(map[string]*server)
	}
	f.servers[addr] = s
	f.mu.Unlock()
	t.Cleanup(s.kill)
	return s
}

// leave takes a server off its address.
func (f *fleet) leave(s *server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.servers[s.addr] == s {
		delete(f.servers, s.addr)
	}
}

// A server is one in memory, that can be drained, killed and frozen.
type server struct {
	fleet *fleet
	addr  string
	srv   *rpc.Server

	mu       sync.Mutex // protects all below
	sessions []rpc.Session
	thawed   chan struct{} // not nil while it is frozen; closed when it is not any more
	wg       sync.WaitGroup
}

func (s *server) connect(ctx context.Context) (rpc.Session, error) {
	if err := s.thaw(ctx.Done()); err != nil {
		return nil, ctx.Err()
	}
	a, b := rpc.Pipe()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = append(s.sessions, b)
	s.wg.Go(func() { s.srv.ServeSession(bg, &icy{b, s}) })
	return a, nil
}

// drain is a rolling restart's first half: nobody can connect, and what runs ends well.
func (s *server) drain(t testing.TB) {
	s.fleet.leave(s)
	if err := s.srv.Shutdown(bg); err != nil {
		t.Error(err)
	}
}

// kill ends the server without a word.
func (s *server) kill() {
	s.fleet.leave(s)
	s.cut()
	s.srv.Close()
	s.freeze(false)
	s.wg.Wait()
}

// cut ends its sessions.
func (s *server) cut() {
	s.mu.Lock()
	all := slices.Clone(s.sessions)
	s.mu.Unlock()
	for _, session := range all {
		session.Close()
	}
}

func (s *server) freeze(frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case frozen && s.thawed == nil:
		s.thawed = make(chan struct{})
	case !frozen && s.thawed != nil:
		close(s.thawed)
		s.thawed = nil
	}
}

// thaw waits until the server is not frozen, or done is closed.
func (s *server) thaw(done <-chan struct{}) error {
	s.mu.Lock()
	thawed := s.thawed
	s.mu.Unlock()
	if thawed == nil {
		return nil
	}
	select {
	case <-thawed:
		return nil
	case <-done:
		return net.ErrClosed
	}
}

// An icy session does nothing while its server is frozen: what comes and goes stays in its pipe.
type icy struct {
	rpc.Session
	server *server
}

func (s *icy) Done() <-chan struct{} { return s.Session.(interface{ Done() <-chan struct{} }).Done() }
func (s *icy) Err() error            { return s.Session.(interface{ Err() error }).Err() }

func (s *icy) Accept() (net.Conn, error) {
	conn, err := s.Session.Accept()
	if err != nil {
		return nil, err
	}
	if err := s.server.thaw(s.Done()); err != nil {
		return nil, err
	}
	return &icyConn{conn, s}, nil
}

type icyConn struct {
	net.Conn
	session *icy
}

func (c *icyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err := c.session.server.thaw(c.session.Done()); err != nil {
		return 0, err
	}
	return n, err
}

func (c *icyConn) Write(b []byte) (int, error) {
	if err := c.session.server.thaw(c.session.Done()); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *icyConn) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// Methods of the servers in the tests.
var (
	where = rpc.Unary[string, string]{Name: "where"} // answers with the server's address
	work  = rpc.Unary[int, int]{Name: "work"}
)

// named registers where.
func named(addr string) func(*rpc.Server) {
	return func(s *rpc.Server) {
		where.Handle(s, func(context.Context, string) (string, error) { return addr, nil })
	}
}

// client makes a Client that the test closes.
func (f *fleet) client(t testing.TB, r Resolver, opts Options) *Client {
	opts.Dial = f.dial
	c := New(r, opts)
	t.Cleanup(func() { c.Close() })
	return c
}

// bubble is a test in a synctest bubble.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// want checks code and outcome of err.
func want(t testing.TB, err error, code rpc.Code, outcome rpc.Outcome) {
	t.Helper()
	if rpc.CodeOf(err) != code || rpc.OutcomeOf(err) != outcome {
		t.Errorf("got %v, want %v, %v", err, code, outcome)
	}
}

// within returns a context that ends with the test, and after d.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(bg, d)
	t.Cleanup(cancel)
	return ctx
}

// endpoint is what a Snapshot says of an address.
func (s Snapshot) endpoint(addr string) EndpointStatus {
	for _, e := range s.Endpoints {
		if e.Endpoint.Addr == addr {
			return e
		}
	}
	return EndpointStatus{State: "none"}
}
