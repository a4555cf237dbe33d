package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// A keeper is the state of the goroutine that keeps up a node's session. Client.mu protects it.
type keeper struct {
	stop     context.CancelFunc // ends the goroutine; the session then drains
	started  bool               // sessions are wanted
	dialing  bool               // one is in the making
	sessions uint64             // made so far
	failures int                // to make one, in a row
	err      error              // why there is none

	stalled      bool      // the server is silent
	ejectedUntil time.Time // zero if it is not
	ejections    int       // how often of late
}

// out reports whether calls go elsewhere although there is a session.
func (k *keeper) out() bool { return k.stalled || !k.ejectedUntil.IsZero() }

// startLocked returns a new node and starts its keeper.
func (c *Client) startLocked(e Endpoint, delay time.Duration) *Node {
	n := newNode(e)
	ctx, cancel := context.WithCancel(c.ctx)
	n.keep.stop = cancel
	c.wg.Go(func() {
		defer cancel()
		select {
		case <-c.wanted:
			c.keepUp(ctx, n, delay)
		case <-ctx.Done():
		}
	})
	return n
}

// keepUp has one session to n, if it can, until ctx ends.
func (c *Client) keepUp(ctx context.Context, n *Node, delay time.Duration) {
	c.change(func() { n.keep.started = true })
	for failures := 0; sleep(ctx, delay); {
		began := time.Now()
		s, err := c.connect(ctx, n)
		if ctx.Err() == nil && err == nil {
			began = time.Now()
			c.log(slog.LevelInfo, "cluster: session", "endpoint", n.Endpoint().Addr)
			select {
			case <-s.client.Draining():
				err = s.ended()
			case <-s.spent:
				err = transport.ErrStreamsExhausted
			case <-ctx.Done():
			}
		}
		if s != nil {
			c.retire(n, s)
		}
		if ctx.Err() != nil {
			return
		}
		if s != nil && time.Since(began) >= c.opts.Backoff.Base {
			failures = 0
		}
		delay = c.opts.Backoff.wait(failures, rand.Float64())
		failures++
		c.change(func() {
			n.keep.err = fmt.Errorf("%s: %w", n.Endpoint().Addr, err)
			if s == nil || failures > 1 { // one that ends at once each time is no session
				n.keep.failures++
			}
		})
		c.log(slog.LevelWarn, "cluster: no session", "endpoint", n.Endpoint().Addr, "error", err, "again in", delay)
		if r, ok := c.resolver.(interface{ Refresh() }); ok {
			r.Refresh()
		}
	}
}

// change changes what Client.mu protects, and the view with it.
func (c *Client) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.refreshLocked()
}

// connect makes a session, and puts it in rotation once the server has answered a first call on it. That call
// also opens the stream on which a drain is told, so that no call meets a server which is about to go.
func (c *Client) connect(ctx context.Context, n *Node) (*session, error) {
	select {
	case c.dials <- struct{}{}:
		defer func() { <-c.dials }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.change(func() { n.keep.dialing = true })
	s, err := c.dial(ctx, n)
	c.tally.dials.Add(1)
	if err != nil {
		c.tally.dialFailures.Add(1)
	}
	c.change(func() {
		k := &n.keep
		k.dialing = false
		if err == nil {
			k.sessions++
			k.err, k.failures, k.stalled = nil, 0, false
			n.current.Store(s)
		}
	})
	return s, err
}

func (c *Client) dial(ctx context.Context, n *Node) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	sess, err := c.opts.Dial(ctx, n.Endpoint())
	if err == nil && sess == nil {
		err = errors.New("cluster: Options.Dial returned no session and no error")
	}
	if err != nil {
		return nil, err
	}
	client := rpc.NewClient(sess, c.opts.RPC)
	began := time.Now()
	_, err = rpc.Health.Call(ctx, client, "")
	if !answered(err) {
		client.Close()
		return nil, fmt.Errorf("the first call: %w", err)
	}
	n.speed.observe(time.Since(began))
	return newSession(n, sess, client), nil
}

// answered reports whether a call of Health shows that the server takes calls. One that does not allow it does, too.
func answered(err error) bool {
	outcome := rpc.OutcomeOf(err)
	return err == nil || !errors.Is(err, rpc.ErrDraining) && (outcome == rpc.Executed || outcome == rpc.NotExecuted)
}

// retire takes a session out of rotation, and closes it when its calls have ended, or at once if the Client is closed.
func (c *Client) retire(n *Node, s *session) {
	c.change(func() {
		n.current.Store(nil)
		n.keep.stalled = false
	})
	s.retire()
	c.wg.Go(func() {
		select {
		case <-s.empty:
		case <-c.ctx.Done():
		}
		s.client.Close()
	})
}
