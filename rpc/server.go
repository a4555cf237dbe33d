package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// A Server holds handlers and serves sessions. With nothing registered it answers every call, and every message of a stream,
// with Echo. Handlers may be registered at any time. Its methods are safe for concurrent use.
type Server struct {
	opts     Options
	nobody   bool               // nothing registered means that nobody is there: of a Client without Handlers
	built    map[string]*method // Health, WatchHealth and Methods; not changed
	handlers atomic.Pointer[registry]
	stopping context.Context // ends when Shutdown or Close is called
	stop     context.CancelFunc
	running  *room        // handlers of unary calls; closed with stopping
	admitted atomic.Int64 // calls that run or wait for their turn
	open     atomic.Int64 // streams and connections
	health   health

	mu       sync.Mutex // protects sessions and writes of handlers; nothing blocks under it
	sessions map[*serverSession]struct{}
}

// NewServer returns a server that serves nothing yet.
func NewServer(opts Options) *Server {
	s := &Server{opts: opts.withDefaults(1024), sessions: make(map[*serverSession]struct{})}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.running = newRoom(s.opts.MaxServerCalls)
	s.handlers.Store(&registry{})
	s.built = s.builtIns()
	return s
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
	if !s.keep(ss) {
		ss.cancel(ErrServerClosed)
		sess.Close()
		return ErrServerClosed
	}
	if f := s.opts.OnSession; f != nil {
		go s.onSession(f, ss)
	}
	err := ss.serve()
	ss.finish()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil // the peer, or the caller, closed the session in good order
	}
	return err
}

// onSession runs Options.OnSession. Its panic harms only itself.
func (s *Server) onSession(f func(context.Context, Caller), ss *serverSession) {
	returned := false
	defer func() {
		if !returned {
			s.opts.Logger.Error("rpc: OnSession panicked", "panic", recover(), "stack", string(debug.Stack()))
		}
	}()
	f(ss.ctx, ss.caller())
	returned = true
}

// keep lists a session, unless the server was stopped.
func (s *Server) keep(ss *serverSession) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Err() != nil {
		return false
	}
	s.sessions[ss] = struct{}{}
	return true
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
	s.running.close(errDraining)
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
	s.running.close(errDraining)
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
