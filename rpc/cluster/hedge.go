package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// A result is what a lane of a hedged call came to.
type result struct {
	resp *rpc.Response
	err  error
}

// hedged makes a call in several lanes: one, and another whenever there was no answer for Policy.HedgeAfter. The first answer ends
// them all, and a lane's failure only if it is the last. Each lane retries by itself. It returns when every lane has.
func (c *Client) hedged(ctx context.Context, t *tries, req *rpc.Request) (*rpc.Response, error) {
	lanes, results := 0, make(chan result, 1+t.policy.MaxHedges)
	var wg sync.WaitGroup
	defer wg.Wait()
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := func(s *session) {
		lanes++
		wg.Go(func() {
			resp, err := c.unary(ctx, t, s, req)
			results <- result{resp, err}
		})
	}
	start(nil)
	timer := time.NewTimer(t.policy.HedgeAfter)
	defer timer.Stop()
	for hedges := 0; ; {
		select {
		case r := <-results:
			lanes--
			if rpc.OutcomeOf(r.err) == rpc.Executed {
				return r.resp, r.err
			}
			if lanes == 0 || outer.Err() != nil {
				cancel()
				wg.Wait()
				for ; lanes > 0; lanes-- { // what came in the meantime may be the answer
					if late := <-results; rpc.OutcomeOf(late.err) == rpc.Executed {
						return late.resp, late.err
					}
				}
				return nil, t.settle(r.err) // by what all lanes came to
			}
		case <-timer.C:
			if s := c.second(ctx, t); s != nil {
				c.tally.hedges.Add(1)
				hedges++
				start(s)
			}
			if hedges < t.policy.MaxHedges {
				timer.Reset(t.policy.HedgeAfter)
			}
		}
	}
}

// second enters a session for a hedge, if there is one that the call does not use, and the Budget allows it.
func (c *Client) second(ctx context.Context, t *tries) *session {
	s := c.choose(ctx, t, c.current.Load())
	if s == nil {
		return nil
	}
	if !c.purse.withdraw() {
		c.tally.denied.Add(1)
		s.leave()
		return nil
	}
	return s
}
