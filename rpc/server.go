package rpc

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// A Server holds handlers and serves sessions. With nothing registered it answers every method with Echo. Handlers may be
// registered at any time. Its methods are safe for concurrent use.
type Server struct {
	opts     Options
	handlers atomic.Pointer[registry]
	stopping context.Context // ends when Shutdown or Close is called
	stop     context.CancelFunc

	mu       sync.Mutex // protects sessions and writes of handlers; nothing blocks under it
	sessions map[*serverSession]struct{}
}

// A handler answers one call. The request passed Check.
type handler func(ctx context.Context, method string, body Raw) (Raw, error)

// A registry is never changed: a registration makes another.
type registry struct {
	methods  map[string]handler
	fallback handler
}

// find returns the handler of a method, nil if there is none, and the method's name.
func (r *registry) find(method []byte) (handler, string) {
	if h, ok := r.methods[string(method)]; ok {
		return h, string(method)
	}
	if r.fallback != nil {
		return r.fallback, string(method)
	}
	if len(r.methods) == 0 {
		return echoAll, ""
	}
	return nil, ""
}

// NewServer returns a server that serves nothing yet.
func NewServer(opts Options) *Server {
	if opts.MaxStreams == 1 {
		opts.MaxStreams = 2 // small calls have one, and a large one needs another
	}
	s := &Server{opts: opts.withDefaults(256), sessions: make(map[*serverSession]struct{})}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.handlers.Store(&registry{})
	return s
}

// HandleRaw registers fn for a method, whose name has 1 to 255 bytes of UTF-8. fn runs in a goroutine of its own for every
// call. Its context ends at the call's deadline, when the caller gives up, when the session ends, and on Server.Close. The
// request is one msgpack value that passed Check and is fn's to keep; the reply must be one too. A nil error makes a
// reply, any other an error of code CodeOf(err), with outcome Executed. A panic is logged and answered with Internal.
// HandleRaw panics if the name is taken or no name.
func (s *Server) HandleRaw(method string, fn func(ctx context.Context, body Raw) (Raw, error)) {
	s.register(method, func(ctx context.Context, _ string, body Raw) (Raw, error) { return fn(ctx, body) })
}

// Fallback sets the handler of all methods that are not registered. It panics if there is one.
func (s *Server) Fallback(fn func(ctx context.Context, method string, body Raw) (Raw, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := *s.handlers.Load()
	if r.fallback != nil {
		panic("rpc: a second fallback")
	}
	r.fallback = fn
	s.handlers.Store(&r)
}

func (s *Server) register(method string, h handler) {
	if method == "" || len(method) > maxMethod || !utf8.ValidString(method) {
		panic("rpc: a method's name has 1 to 255 bytes of UTF-8")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := *s.handlers.Load()
	if _, taken := r.methods[method]; taken {
		panic("rpc: method " + method + " is registered twice")
	}
	r.methods = maps.Clone(r.methods)
	if r.methods == nil {
		r.methods = make(map[string]handler)
	}
	r.methods[method] = h
	s.handlers.Store(&r)
}

// Serve accepts sessions from l and serves each as ServeSession does, until ctx ends, the server is shut down or closed, or l
// fails. It closes l. After Shutdown or Close it returns ErrServerClosed at once; when ctx ends, the context's error after
// its sessions have ended; when l fails, l's error at once, and the sessions go on until Shutdown or Close.
func Serve[S Session](ctx context.Context, srv *Server, l Listener[S]) error {
	defer l.Close()
	accepting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(srv.stopping, cancel)()
	var sessions sync.WaitGroup
	for {
		sess, err := l.Accept(accepting)
		switch {
		case err == nil:
			sessions.Go(func() { srv.ServeSession(ctx, sess) })
		case srv.stopping.Err() != nil:
			return ErrServerClosed
		case ctx.Err() != nil:
			sessions.Wait()
			return ctx.Err()
		default:
			return err
		}
	}
}

// ServeSession serves the calls of one session, which it owns, until the session ends or ctx does, which cuts it. It returns
// nil if the peer ended the session cleanly, ErrServerClosed after Shutdown or Close, an error that matches ErrProtocol if
// the peer broke the rules, and otherwise what ended the session. Its goroutines have ended by then, except those of
// handlers that still run: their contexts are cancelled and their replies dropped.
func (s *Server) ServeSession(ctx context.Context, sess Session) error {
	ss := newServerSession(ctx, s, sess)
	s.mu.Lock()
	closed := s.stopping.Err() != nil
	if !closed {
		s.sessions[ss] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		ss.cancel(ErrServerClosed)
		sess.Close()
		return ErrServerClosed
	}
	err := ss.serve()
	ss.finish()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil // the peer, or the caller, closed the session in good order
	}
	return err
}

// Shutdown stops accepting sessions, tells every client that the server drains, refuses new calls as Unavailable and not
// executed, waits until the running handlers have ended and their replies are handed to the sessions, gives clients five
// more seconds to say that they have them all and that nothing is on its way, and closes the sessions gracefully. If ctx ends
// first it cuts what is left as Close does and returns the context's error; if somebody else cut running calls meanwhile,
// ErrServerClosed. After nil no call that a handler took was lost, but for replies that a client was slower to take.
func (s *Server) Shutdown(ctx context.Context) error {
	var drains sync.WaitGroup
	var cut atomic.Bool
	for _, ss := range s.stopAll() {
		drains.Go(func() {
			if !ss.drain(ctx) {
				cut.Store(true)
			}
		})
	}
	drains.Wait()
	if !cut.Load() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return ErrServerClosed
}

// forget is called once by every session, when it has ended and its last handler too.
func (s *Server) forget(ss *serverSession) {
	s.mu.Lock()
	delete(s.sessions, ss)
	s.mu.Unlock()
}

// Close cuts: it stops accepting, cancels the context of every handler, closes the sessions, and waits for their
// goroutines. A handler that ignores its context cannot be killed: Close does not wait for it, and its reply is dropped.
// Calls that were running end, for their callers, with OutcomeUnknown. Close always returns nil.
func (s *Server) Close() error {
	for _, ss := range s.stopAll() {
		ss.cancel(ErrServerClosed)
		defer func() { <-ss.ended }()
	}
	return nil
}

// stopAll refuses further sessions and returns those there are.
func (s *Server) stopAll() []*serverSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	all := make([]*serverSession, 0, len(s.sessions))
	for ss := range s.sessions {
		all = append(all, ss)
	}
	return all
}
