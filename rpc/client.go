package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// A Client makes calls on one session, from any number of goroutines at once. Small calls share one stream, which is opened
// with the first; each call with a body over LargeCall, each stream and each connection has a stream of its own. It also
// answers the calls that the other side makes over the session, with Options.Handlers.
//
// Goroutines: one that accepts the peer's streams, and what it serves; one that opens the shared stream, one that closes the
// session; for each stream of calls a reader and a writer, while there is something for them to wait for, or always if the
// session is not a *transport.Session. All end with the session or with Close, which waits for them. Streams of messages
// and connections have none.
type Client struct {
	sess   Session
	opts   Options
	callee *serverSession // answers the peer's calls; its life is the session's
	large  *room          // large calls in flight
	calls  sync.Pool      // of *call, for their channels; not global, for a channel must not leave its synctest bubble
	ids    atomic.Uint64  // the last id given to a call; ids are unique in the session

	gone   chan struct{}   // closed under mu, when draining or err is set
	ctx    context.Context // ends with the client
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine; added to under mu while err is nil, or from a goroutine it counts

	mu       sync.Mutex // protects all below; nothing blocks under it
	err      error      // why there are no more calls; sticky
	draining bool       // the server sent goaway
	inflight int        // calls and streams that were let in
	streams  map[ender]struct{}
	shared   *clientStream // of the small calls; nil until the first, and after its end
	opening  *opening      // while the shared stream is being opened
	closeErr error         // what sess.Close said
}

// An ender is a stream of any use.
type ender interface{ end(cause error) }

// An opening is the shared stream in the making. err is set before done is closed.
type opening struct {
	done chan struct{}
	cs   *clientStream
	err  error
}

// NewClient returns a client on sess, which it owns from now on: Close closes it. No other Client may use the session.
func NewClient(sess Session, opts Options) *Client {
	c := newCaller(sess, opts)
	srv := opts.Handlers
	if srv == nil {
		srv = NewServer(Options{Logger: opts.Logger, HideMethods: true})
		srv.nobody = true
	}
	c.callee = newServerSession(context.Background(), srv, sess)
	c.callee.attach(c)
	c.wg.Go(func() { c.stop(lost(c.callee.serve())); c.callee.finish() })
	return c
}

// newCaller returns a client without a callee, which must be set before it is used.
func newCaller(sess Session, opts Options) *Client {
	c := &Client{sess: sess, opts: opts.withDefaults(64), gone: make(chan struct{}), streams: make(map[ender]struct{})}
	c.calls.New = newCall
	c.large = newRoom(c.opts.MaxStreams)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends the calls in flight as Unavailable with ErrClientClosed, closes the session and waits for the client's
// goroutines. It returns what the session's Close returned. It may be called more than once.
func (c *Client) Close() error {
	c.end(ErrClientClosed)
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closeErr
}

// Draining is closed once the client takes no new calls, so that somebody who has other sessions need not find it out by a call:
// the server drains, the session has ended, or Close was called. Calls in flight go on; when the last has ended, Close it.
func (c *Client) Draining() <-chan struct{} { return c.gone }

// enter lets a call in. From then on it counts for the drain.
func (c *Client) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fail(Unavailable, NotSent, "", c.err)
	}
	if c.draining {
		return fail(Unavailable, NotSent, "", ErrDraining)
	}
	c.inflight++
	return nil
}

func (c *Client) leave() {
	c.mu.Lock()
	c.inflight--
	done := c.drainedLocked()
	c.mu.Unlock()
	done.end(ErrDraining)
}

// goaway is the server's notice that it takes no new calls (C9).
func (c *Client) goaway() {
	c.mu.Lock()
	c.draining = true
	closeOnce(c.gone)
	done := c.drainedLocked()
	c.mu.Unlock()
	done.end(ErrDraining)
}

// drainedLocked returns the shared stream once the server drains and the last call has ended. That the client closes it
// then tells the server that everything was answered and that nothing is on its way (C9).
func (c *Client) drainedLocked() *clientStream {
	if c.draining && c.inflight == 0 {
		return c.shared
	}
	return nil
}

// sharedStream returns the stream of the small calls, waiting for it to be opened. One caller's context does not decide for
// the others: the opening has the client's.
func (c *Client) sharedStream(ctx context.Context) (*clientStream, error) {
	c.mu.Lock()
	if c.shared != nil || c.err != nil {
		defer c.mu.Unlock()
		return c.shared, c.err
	}
	op := c.opening
	if op == nil {
		op = &opening{done: make(chan struct{})}
		c.opening = op
		c.wg.Go(func() {
			op.cs, op.err = c.open(c.ctx, false)
			c.mu.Lock()
			c.opening = nil
			c.mu.Unlock()
			close(op.done)
		})
	}
	c.mu.Unlock()
	select {
	case <-op.done:
		return op.cs, op.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open opens a stream and starts its goroutines.
func (c *Client) open(ctx context.Context, own bool) (*clientStream, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	cs := &clientStream{client: c, conn: conn, own: own, calls: make(map[uint64]*call)}
	cs.out = newOutbox(conn, sharedLimit, &c.wg, cs.writeEnded)
	cs.in = newIntake(conn, maxAnswer, &c.wg, cs)
	c.mu.Lock()
	if err := c.keepLocked(cs); err != nil {
		c.mu.Unlock()
		conn.Close()
		return nil, err
	}
	if !own {
		c.shared = cs
	}
	c.wg.Add(1) // so that it may be added to when c.mu is free
	c.mu.Unlock()
	cs.in.start()
	c.wg.Done()
	return cs, nil
}

// dial opens a stream of the session.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.sess.Open(ctx)
	if err == nil {
		return conn, nil
	}
	c.mu.Lock()
	ended := c.err
	c.mu.Unlock()
	if ended != nil {
		return nil, ended
	}
	if cause := sessionErr(c.sess); cause != nil && ctx.Err() == nil {
		err = lost(cause)
	}
	return nil, err
}

// keepLocked lists a stream, so that end can end it, unless there are to be no more.
func (c *Client) keepLocked(s ender) error {
	if c.err == nil {
		c.streams[s] = struct{}{}
	}
	return c.err
}

// cancelStream tells the server that a stream was given up, on the stream of small calls as it is now.
func (c *Client) cancelStream(id uint64) {
	c.mu.Lock()
	shared := c.shared
	c.mu.Unlock()
	if shared != nil {
		shared.cancel(id)
	}
}

// forget is called once by every stream that ends.
func (c *Client) forget(s ender) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
	if c.shared == s {
		c.shared = nil
	}
}

// violated ends the session of a peer that broke the rules.
func (c *Client) violated(err error) {
	if c.end(err) {
		c.opts.Logger.Warn("rpc: session ended", "error", err)
	}
}

// lost is the error of a session that ended: because the peer broke the rules, if it did.
func (c *Client) lost(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, ErrProtocol) {
		return c.err
	}
	return lost(cause)
}

// lost is the error of a session that ended by itself.
func lost(cause error) error {
	if errors.Is(cause, ErrProtocol) {
		return cause
	}
	if cause == nil || cause == io.EOF {
		cause = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the session ended; make a new one: %w", cause)
}

// end ends the client, its session, and all calls and streams that there still are. It returns true if it is the first call of
// end or stop.
func (c *Client) end(err error) bool {
	first := c.stop(err)
	c.mu.Lock()
	streams := slices.Collect(maps.Keys(c.streams))
	c.mu.Unlock()
	for _, s := range streams {
		s.end(err)
	}
	return first
}

// stop refuses further calls with err and closes the session. The streams there are end by themselves, behind the replies
// that have come, or when somebody reads them, or with Close. Only the first call does anything; it returns true.
func (c *Client) stop(err error) bool {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return false
	}
	c.err = err
	closeOnce(c.gone)
	c.wg.Go(func() { // Close may wait for the peer, and stop may be called by a reader
		err := c.sess.Close()
		c.mu.Lock()
		c.closeErr = err
		c.mu.Unlock()
	})
	c.mu.Unlock()
	c.cancel()
	c.large.close(err)
	c.callee.cancel(err)
	return true
}

// notSent is the error of a call that ended while it waited for its turn or its stream.
func notSent(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return failContext(ctx, NotSent)
	}
	return fail(Unavailable, NotSent, "", err)
}

var _ Caller = (*Client)(nil)

// errStreamDone ends the stream of a large call that was answered. No caller sees it.
var errStreamDone = fmt.Errorf("rpc: the call is over: %w", net.ErrClosed)
