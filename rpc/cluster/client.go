package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// Sentinels, found with errors.Is in the errors of calls.
var (
	// ErrClosed: Close was called on this Client.
	ErrClosed = errors.New("cluster: the client is closed")
	// ErrNoEndpoint: no session is up, and none can be made at the moment. The error tells the last reason.
	ErrNoEndpoint = errors.New("cluster: no endpoint is ready")
)

// A Client makes calls to a service: an rpc.Caller, so that typed methods are called on it as on one session. Any number of
// goroutines may use it.
type Client struct {
	opts     Options
	resolver Resolver
	purse    *purse
	dials    chan struct{} // holds one value for each session in the making
	wanted   chan struct{} // closed by the first call, or by New
	once     sync.Once     // closes wanted
	tally    tally
	news     chan entry // for the log; nil if there is none

	ctx    context.Context // ends with the Client
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine; added to by New, or from a goroutine it counts

	current atomic.Pointer[view] // what calls look at; changed under mu

	mu      sync.Mutex // protects all below, and what of Node and session says so; nothing blocks under it
	nodes   []*Node    // sorted by address
	unknown error      // why the resolver has named no endpoint so far; nil if it has, or has said nothing
}

// A view is what calls choose from. It is not changed, but replaced.
type view struct {
	ready    []*Node
	changed  chan struct{} // closed when there is another view
	hopeless error         // why none is ready and none is on its way; nil otherwise
}

// A tally counts.
type tally struct{ calls, retries, denied, hedges, dials, dialFailures atomic.Uint64 }

// New returns a client of the service whose endpoints resolver tells. It does not wait for anything. It panics if opts.Dial is nil.
func New(resolver Resolver, opts Options) *Client {
	opts = opts.withDefaults()
	c := &Client{opts: opts, resolver: resolver, purse: newPurse(opts.Budget),
		dials: make(chan struct{}, opts.MaxDials), wanted: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.current.Store(&view{changed: make(chan struct{})})
	if opts.Eager {
		c.want()
	}
	if opts.Logger != nil {
		c.news = make(chan entry, 64)
		c.wg.Go(c.tell)
	}
	c.wg.Go(c.watch)
	c.wg.Go(c.look)
	return c
}

// Close ends the calls in flight as Unavailable, closes the sessions and waits for all goroutines of the Client. Later calls fail with
// ErrClosed. It returns nil, and may be called more than once.
func (c *Client) Close() error {
	c.cancel()
	c.wg.Wait()
	return nil
}

// An entry is one of the log.
type entry struct {
	level slog.Level
	text  string
	args  []any
}

// log has something logged, unless so much waits to be logged that one more makes no difference: a log that blocks holds up nobody.
func (c *Client) log(level slog.Level, text string, args ...any) {
	select {
	case c.news <- entry{level, text, args}: // never, if there is no log
	default:
	}
}

// tell is the goroutine that logs.
func (c *Client) tell() {
	for {
		select {
		case e := <-c.news:
			c.opts.Logger.Log(c.ctx, e.level, e.text, e.args...)
		case <-c.ctx.Done():
			return
		}
	}
}

// want has sessions made from now on.
func (c *Client) want() { c.once.Do(func() { close(c.wanted) }) }

// watch follows the resolver.
func (c *Client) watch() {
	for failures := 0; ; failures++ {
		for set, err := range c.resolver.Watch(c.ctx) {
			if c.ctx.Err() != nil {
				return
			}
			if err != nil {
				c.log(slog.LevelWarn, "cluster: no news from the resolver", "error", err)
				c.unresolved(err)
				continue
			}
			failures = 0
			c.apply(set)
		}
		if !sleep(c.ctx, max(c.opts.Backoff.wait(failures, rand.Float64()), time.Millisecond)) {
			return
		}
	}
}

// sleep reports whether it was not cut short by ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// unresolved notes that there are no endpoints, if there are none, and why.
func (c *Client) unresolved(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.nodes) == 0 {
		c.unknown = err
		c.refreshLocked()
	}
}

// apply makes the nodes those of a set.
func (c *Client) apply(set []Endpoint) {
	if len(set) == 0 {
		c.unresolved(errors.New("the resolver knows of none"))
		return
	}
	set = subset(normal(set), c.opts.ID, c.opts.Subset)
	c.mu.Lock()
	defer c.mu.Unlock()
	first := len(c.nodes) == 0
	gone := make(map[string]*Node)
	for _, n := range c.nodes {
		gone[n.Endpoint().Addr] = n
	}
	nodes := make([]*Node, 0, len(set))
	for _, e := range set {
		n := gone[e.Addr]
		if n != nil && e.sameSession(n.Endpoint()) {
			n.endpoint.Store(&e)
			delete(gone, e.Addr)
		} else {
			// All clients learn of a new server at about the same time. They need not all be there at once.
			delay := time.Duration(0)
			if !first && n == nil {
				delay = c.opts.Backoff.wait(0, rand.Float64())
			}
			n = c.startLocked(e, delay)
		}
		nodes = append(nodes, n)
	}
	for n := range maps.Values(gone) {
		n.keep.stop()
	}
	c.nodes, c.unknown = nodes, nil
	c.refreshLocked()
}

// refreshLocked replaces the view, and wakes who waits for that.
func (c *Client) refreshLocked() {
	v := &view{changed: make(chan struct{})}
	var ejected []*Node
	var why error
	trying := len(c.nodes) == 0 && c.unknown == nil
	for _, n := range c.nodes {
		switch {
		case n.keep.out():
			why = errors.New(n.Endpoint().Addr + " is " + n.stateLocked())
			if !n.keep.stalled && n.current.Load() != nil {
				ejected = append(ejected, n)
			}
		case n.current.Load() != nil:
			v.ready = append(v.ready, n)
		case n.keep.failures == 0:
			trying = true
		case n.keep.err != nil:
			why = n.keep.err
		}
	}
	if len(v.ready) == 0 { // one that answers badly is better than none
		v.ready = ejected
	}
	if len(v.ready) == 0 && !trying {
		if why == nil {
			why = c.unknown
		}
		v.hopeless = fmt.Errorf("%w: %w", ErrNoEndpoint, why)
	}
	close(c.current.Swap(v).changed)
}

// An EndpointStatus is how things are with an endpoint.
type EndpointStatus struct {
	Endpoint Endpoint
	// State is "idle" (no call has been made so far), "connecting", "waiting" (until it is tried again), "ready", "silent" or "ejected".
	State    string
	InFlight int
	Latency  time.Duration
	Sessions uint64 // made so far
	Failures int    // to connect, in a row
	Err      error  // why there is no session; nil if there is one, or none was wanted
}

// A Snapshot is how things are with a Client, for people and for metrics. What it counts it counts since New.
type Snapshot struct {
	Endpoints                      []EndpointStatus // sorted by address; those of the subset
	Calls, Retries, Hedges, Denied uint64           // Denied are retries and hedges that the Budget did not allow
	Dials, DialFailures            uint64
}

// Snapshot tells how things are.
func (c *Client) Snapshot() Snapshot {
	t := &c.tally
	s := Snapshot{Calls: t.calls.Load(), Retries: t.retries.Load(), Hedges: t.hedges.Load(), Denied: t.denied.Load(),
		Dials: t.dials.Load(), DialFailures: t.dialFailures.Load()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		s.Endpoints = append(s.Endpoints, EndpointStatus{Endpoint: n.Endpoint(), State: n.stateLocked(), InFlight: n.InFlight(),
			Latency: n.Latency(), Sessions: n.keep.sessions, Failures: n.keep.failures, Err: n.keep.err})
	}
	return s
}

func (n *Node) stateLocked() string {
	k := &n.keep
	switch {
	case k.stalled:
		return "silent"
	case !k.ejectedUntil.IsZero():
		return "ejected"
	case n.current.Load() != nil:
		return "ready"
	case k.dialing:
		return "connecting"
	case k.started:
		return "waiting"
	}
	return "idle"
}

var _ rpc.Caller = (*Client)(nil)
