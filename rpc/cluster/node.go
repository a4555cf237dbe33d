package cluster

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// A Node is an endpoint as a Balancer sees it: with the load that this client puts on it, and how it answers. All methods may be
// called by many goroutines at once.
type Node struct {
	hash     uint64 // of the address
	endpoint atomic.Pointer[Endpoint]
	current  atomic.Pointer[session] // calls go there; nil while there is none
	inflight atomic.Int64
	speed    ewma
	record   record
	keep     keeper
}

func newNode(e Endpoint) *Node {
	n := &Node{hash: hashString(e.Addr)}
	n.endpoint.Store(&e)
	return n
}

// Endpoint is what the resolver says of it.
func (n *Node) Endpoint() Endpoint { return *n.endpoint.Load() }

// InFlight counts this client's calls, streams and connections there, those on a session that drains included.
func (n *Node) InFlight() int { return int(n.inflight.Load()) }

// Latency is how long calls take there: a moving average over two seconds, that rises to a slow answer at once and forgets it
// slowly, without further calls too, so that a slow endpoint is tried again. A failure counts as slow. 0: not known yet.
func (n *Node) Latency() time.Duration { return time.Duration(n.speed.at(time.Now())) }

// cost is what a further call would have to wait for, by all that this client knows.
func (n *Node) cost() float64 {
	waiting := float64(n.inflight.Load())
	latency := n.speed.at(time.Now())
	if latency == 0 && waiting > 0 { // one call at a time until one has come back
		return math.MaxFloat64/2 + waiting
	}
	return latency * (waiting/n.endpoint.Load().weight() + 1) // a call of one's own is no shorter for the weight
}

// A session is one session of a node.
type session struct {
	node     *Node
	sess     rpc.Session
	client   *rpc.Client // on sess
	inflight atomic.Int64
	retired  atomic.Bool   // takes no new calls
	empty    chan struct{} // closed when it is retired and no call is in flight
	once     sync.Once     // closes empty
	spent    chan struct{} // closed when it can open no more streams, and another is due
	spend    func()        // closes spent; may be called again
	since    atomic.Int64  // in Unix nanoseconds: how long there are calls and no answer to any; 0 if there is nothing to wait for
	asked    time.Time     // Client.mu: when the server was asked whether it is there; zero if that is answered
}

func newSession(n *Node, sess rpc.Session, client *rpc.Client) *session {
	s := &session{node: n, sess: sess, client: client, empty: make(chan struct{}), spent: make(chan struct{})}
	s.spend = sync.OnceFunc(func() { close(s.spent) })
	return s
}

// hear notes that the server has answered.
func (s *session) hear() {
	s.since.Store(0)
	s.wait()
}

// wait notes from when on an answer is waited for, if it was not noted. Calls that were given up do not make it younger. It comes
// behind the count of a call, or its own reset: so that of hear and an enter at the same time the later one notes it.
func (s *session) wait() {
	if s.since.Load() == 0 && s.inflight.Load() > 0 {
		s.since.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// enter lets a call in, unless there are to be no more; leave must follow.
func (s *session) enter() bool {
	if s.drains() {
		return false
	}
	s.inflight.Add(1)
	s.node.inflight.Add(1)
	s.wait()
	if s.retired.Load() {
		s.leave()
		return false
	}
	return true
}

func (s *session) leave() {
	s.node.inflight.Add(-1)
	if s.inflight.Add(-1) == 0 && s.retired.Load() {
		s.once.Do(func() { close(s.empty) })
	}
}

// do makes an attempt at a unary call, and leaves: even if an interceptor panics.
func (s *session) do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	defer s.leave()
	return s.client.Do(ctx, req)
}

// retire refuses calls from now on. Of enter and retire at least one sees the other, so that no call is in flight behind empty.
func (s *session) retire() {
	s.retired.Store(true)
	if s.inflight.Load() == 0 {
		s.once.Do(func() { close(s.empty) })
	}
}

// drains reports whether the session takes no calls any more, which its keeper may not have seen yet.
func (s *session) drains() bool {
	select {
	case <-s.client.Draining():
		return true
	default:
		return false
	}
}

// ended is why the session takes no calls any more.
func (s *session) ended() error {
	if e, ok := s.sess.(interface{ Err() error }); ok && e.Err() != nil {
		return fmt.Errorf("the session ended: %w", e.Err())
	}
	return rpc.ErrDraining
}
