package cluster

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Pauses between attempts at one call: of this Backoff, so that callers who were refused together do not come back together. It paces
// attempts that the Budget pays for, and rounds in which every endpoint has been tried.
var attemptPause = Backoff{Base: 20 * time.Millisecond, Max: time.Second}

// Do makes a unary call: see rpc.Caller. Its error's outcome is true of all attempts together.
func (c *Client) Do(ctx context.Context, req *rpc.Request) (*rpc.Response, error) {
	t := c.begin(req.Method)
	if t.policy.MaxHedges > 0 {
		return c.hedged(ctx, t, req)
	}
	return c.unary(ctx, t, nil, req)
}

// begin counts a call.
func (c *Client) begin(method string) *tries {
	c.want()
	c.tally.calls.Add(1)
	c.purse.deposit()
	return &tries{policy: c.opts.Policy(method).withDefaults()}
}

// unary makes a call, on s first if that is not nil.
func (c *Client) unary(ctx context.Context, t *tries, s *session, req *rpc.Request) (resp *rpc.Response, err error) {
	err = c.run(ctx, t, s, func(s *session) (err error) {
		began := time.Now()
		resp, err = s.do(ctx, c.fresh(req))
		c.learn(s, time.Since(began), err)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// fresh is req for one attempt: what its interceptors add must not show in the next.
func (c *Client) fresh(req *rpc.Request) *rpc.Request {
	if len(c.opts.RPC.Interceptors) == 0 {
		return req
	}
	own := *req
	own.Header = cloned(req.Header)
	return &own
}

// cloned is a copy that shares nothing.
func cloned(header rpc.Metadata) rpc.Metadata {
	own := maps.Clone(header)
	for key, values := range own {
		own[key] = slices.Clone(values)
	}
	return own
}

// learn notes what an attempt's end tells about its endpoint.
func (c *Client) learn(s *session, took time.Duration, err error) {
	n := s.node
	switch judge(err) {
	case good:
		s.hear()
		n.speed.observe(took)
		n.record.success()
	case refused:
		s.hear()
		n.speed.punish(took)
	case silent: // given up by the caller: it would have taken longer than that
		n.speed.atLeast(took)
	case bad:
		if rpc.OutcomeOf(err) == rpc.Executed {
			s.hear()
		}
		// A session that ends is one failure, however many calls it takes with it: its keeper sees it. What was never sent is none.
		if s.drains() || rpc.OutcomeOf(err) == rpc.NotSent {
			return
		}
		n.speed.punish(took)
		if n.record.failure() >= int64(c.opts.Outlier.Consecutive) {
			c.eject(n, "failures in a row")
		}
	}
}

// run makes attempts until one is well, or its error stands. once must leave the session that it is given.
func (c *Client) run(ctx context.Context, t *tries, s *session, once func(*session) error) (err error) {
	for {
		if s == nil {
			if s, err = c.pick(ctx, t); err != nil {
				return t.settle(err)
			}
		}
		if err = once(s); err == nil {
			return nil
		}
		if errors.Is(err, transport.ErrStreamsExhausted) && rpc.OutcomeOf(err) == rpc.NotSent {
			s.spend()
		}
		s = nil
		t.note(err)
		switch v := verdictOf(err); {
		case v == final, v == perhaps && !t.policy.Idempotent:
			return t.settle(err)
		case v != elsewhere && !c.again(ctx, t, err):
			return t.settle(err)
		}
		c.tally.retries.Add(1)
	}
}

// again reports whether an attempt that costs a server something may follow err, and waits until it may be made.
func (c *Client) again(ctx context.Context, t *tries, err error) bool {
	t.mu.Lock()
	t.paid++
	paid := t.paid
	t.mu.Unlock()
	if ctx.Err() != nil || c.ctx.Err() != nil || paid >= t.policy.MaxAttempts {
		return false
	}
	pause := attemptPause.wait(paid-1, rand.Float64())
	if e, _ := errors.AsType[*rpc.Error](err); e != nil && e.RetryAfter > 0 {
		pause += min(e.RetryAfter, math.MaxInt64-pause)
	} else if verdictOf(err) == perhaps && paid == 1 {
		pause = 0 // the session is gone, and the others are not the worse for it
	}
	if deadline, ok := ctx.Deadline(); pause > c.opts.Backoff.Max || ok && time.Until(deadline) <= pause {
		return false // nobody would be there for the answer
	}
	if !c.purse.withdraw() {
		c.tally.denied.Add(1)
		return false
	}
	return c.wait(ctx, pause, nil)
}

// wait reports whether neither the call nor the Client has ended in the meantime. It ends early when changed is closed.
func (c *Client) wait(ctx context.Context, pause time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
	return ctx.Err() == nil && c.ctx.Err() == nil
}

// pick enters a session, and waits for one. Its error says that the attempt was not made.
func (c *Client) pick(ctx context.Context, t *tries) (*session, error) {
	for {
		v := c.current.Load()
		switch {
		case ctx.Err() != nil:
			return nil, failContext(ctx, c.reason(t, v))
		case c.ctx.Err() != nil:
			return nil, fail(rpc.Unavailable, ErrClosed)
		}
		if s := c.choose(ctx, t, v); s != nil {
			return s, nil
		}
		if len(v.ready) == 0 {
			if v.hopeless != nil && t.policy.FailFast {
				return nil, fail(rpc.Unavailable, v.hopeless)
			}
			select {
			case <-v.changed:
			case <-ctx.Done():
			case <-c.ctx.Done():
			}
			continue
		}
		// All that are there have been tried. Most often one of them is about to go out of view.
		c.wait(ctx, attemptPause.wait(t.again(), rand.Float64()), v.changed)
	}
}

// choose enters one of the sessions in view that were not used; nil if there is none.
func (c *Client) choose(ctx context.Context, t *tries, v *view) *session {
	for {
		ready := t.unused(v.ready)
		if len(ready) == 0 {
			return nil
		}
		n := ready[0]
		if len(ready) > 1 {
			n = c.opts.Balancer.Pick(ctx, ready)
		}
		at := n.current.Load()
		if at == nil {
			return nil // the view is out of date
		}
		t.use(at)
		if at.enter() {
			return at
		}
	}
}

// unused are the nodes whose sessions were not used.
func (t *tries) unused(ready []*Node) []*Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.used) == 0 {
		return ready
	}
	return slices.DeleteFunc(slices.Clone(ready), func(n *Node) bool { return slices.Contains(t.used, n.current.Load()) })
}

// again lets all sessions be used again, and returns how often that was done before.
func (t *tries) again() (rounds int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = nil
	t.rounds++
	return t.rounds - 1
}

// reason is why a call had to wait.
func (c *Client) reason(t *tries, v *view) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.last != nil:
		return t.last
	case v.hopeless != nil:
		return v.hopeless
	case len(v.ready) == 0:
		return ErrNoEndpoint
	}
	return nil
}
