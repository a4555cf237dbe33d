package cluster

import (
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// A record is how calls to a node have ended of late.
type record struct {
	inRow     atomic.Int64 // failures since the last answer
	good, all atomic.Int64 // since the last look
}

func (r *record) success() {
	if r.inRow.Load() != 0 {
		r.inRow.Store(0)
	}
	r.good.Add(1)
	r.all.Add(1)
}

func (r *record) failure() (inRow int64) {
	r.all.Add(1)
	return r.inRow.Add(1)
}

// look is the goroutine that ends ejections, finds outliers and asks servers that are silent.
func (c *Client) look() {
	tick := time.Second
	if c.opts.StallAfter > 0 {
		tick = max(c.opts.StallAfter/2, time.Millisecond)
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	judged := time.Now()
	for {
		select {
		case <-ticker.C:
		case <-c.ctx.Done():
			return
		}
		now := time.Now()
		if now.Sub(judged) >= c.opts.Outlier.Interval {
			judged = now
			c.outliers()
		}
		c.mu.Lock()
		changed := false
		for _, n := range c.nodes {
			readmitted := n.readmitLocked(now)
			stalled := c.askLocked(n, now)
			changed = changed || readmitted || stalled
		}
		if changed {
			c.refreshLocked()
		}
		c.mu.Unlock()
	}
}

// askLocked asks a server from which nothing was heard, once, and takes its node out if it has not answered by then.
func (c *Client) askLocked(n *Node, now time.Time) (stalled bool) {
	s, limit := n.current.Load(), c.opts.StallAfter
	switch {
	case s == nil || limit == 0 || n.keep.stalled:
	case !s.asked.IsZero():
		if now.Sub(s.asked) < limit*3/4 { // two ticks are due, which may be a little less than limit
			return false
		}
		n.keep.stalled = true
		c.log(slog.LevelWarn, "cluster: silent", "endpoint", n.Endpoint().Addr)
		return true
	case s.since.Load() != 0 && now.Sub(time.Unix(0, s.since.Load())) >= limit:
		s.asked = now
		c.wg.Go(func() { c.ask(s) })
	}
	return false
}

// ask waits for a sign of life, or the end of the session. An interceptor may give a question less time than that: it is asked again.
func (c *Client) ask(s *session) {
	for {
		_, err := rpc.Health.Call(c.ctx, s.client, "")
		if answered(err) {
			break
		}
		if errors.Is(err, transport.ErrStreamsExhausted) {
			s.spend()
		}
		select {
		case <-time.After(c.opts.StallAfter / 2):
		case <-s.client.Draining(): // its keeper knows
			return
		case <-s.spent:
			return
		case <-c.ctx.Done():
			return
		}
	}
	s.hear()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.asked = time.Time{}
	if n := s.node; n.keep.stalled && n.current.Load() == s {
		n.keep.stalled = false
		c.refreshLocked()
	}
}

// readmitLocked ends an ejection whose time is over.
func (n *Node) readmitLocked(now time.Time) bool {
	k := &n.keep
	if k.ejectedUntil.IsZero() || now.Before(k.ejectedUntil) {
		return false
	}
	k.ejectedUntil = time.Time{}
	n.record.inRow.Store(0)
	return true
}

// eject takes a node out of rotation, if that leaves enough.
func (c *Client) eject(n *Node, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ejectLocked(n, why) {
		c.refreshLocked()
	}
}

func (c *Client) ejectLocked(n *Node, why string) bool {
	ejected, others := 0, 0
	for _, m := range c.nodes {
		switch {
		case !m.keep.ejectedUntil.IsZero():
			ejected++
		case m != n && m.current.Load() != nil && !m.keep.out():
			others++
		}
	}
	k, o := &n.keep, &c.opts.Outlier
	most := max(1, int(o.MaxShare*float64(len(c.nodes))))
	if !k.ejectedUntil.IsZero() || ejected >= most || others == 0 {
		return false
	}
	k.ejections++
	long := min(time.Duration(k.ejections)*o.BaseTime, o.MaxTime)
	k.ejectedUntil = time.Now().Add(long)
	c.log(slog.LevelWarn, "cluster: ejected", "endpoint", n.Endpoint().Addr, "for", long, "because of", why)
	return true
}

// What a share of successes must rest on, to be compared.
const (
	minCalls = 100 // of one node, in an interval
	minNodes = 5
)

// outliers ejects nodes whose share of successes is far below the others', and forgives those that kept well.
func (c *Client) outliers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var nodes []*Node
	var shares []float64
	for _, n := range c.nodes {
		good, all := n.record.good.Swap(0), n.record.all.Swap(0)
		if n.keep.ejectedUntil.IsZero() && n.keep.ejections > 0 {
			n.keep.ejections--
		}
		if all >= minCalls {
			nodes, shares = append(nodes, n), append(shares, float64(good)/float64(all))
		}
	}
	if len(nodes) < minNodes {
		return
	}
	changed := false
	for _, i := range below(shares, c.opts.Outlier.Deviations) {
		changed = c.ejectLocked(nodes[i], "a low share of successes") || changed
	}
	if changed {
		c.refreshLocked()
	}
}

// below returns the indices of the shares that are more than so many standard deviations below their mean.
func below(shares []float64, deviations float64) (found []int) {
	mean, variance := 0.0, 0.0
	for _, s := range shares {
		mean += s / float64(len(shares))
	}
	for _, s := range shares {
		variance += (s - mean) * (s - mean) / float64(len(shares))
	}
	for i, s := range shares {
		if s < mean-deviations*math.Sqrt(variance) && mean-s > 0.01 {
			found = append(found, i)
		}
	}
	return found
}
