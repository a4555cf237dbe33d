package cluster

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// TestHedge: a call that takes long gets a second chance elsewhere, and the loser is cancelled; but only if it may run twice, and
// the budget and the endpoints allow it.
func TestHedge(t *testing.T) {
	hedging := Policy{Idempotent: true, HedgeAfter: 100 * time.Millisecond}
	twice, careless := hedging, hedging
	twice.MaxHedges = 2
	careless.Idempotent = false
	for name, row := range map[string]struct {
		policy  Policy
		budget  Budget
		servers int
		slow    int64 // how many handlers, the first, take an hour
		took    time.Duration
		hedges  uint64
		denied  uint64
	}{
		"not needed":           {hedging, Budget{}, 3, 0, 0, 0, 0},
		"first is slow":        {hedging, Budget{}, 3, 1, 100 * time.Millisecond, 1, 0},
		"two are slow":         {twice, Budget{}, 3, 2, 200 * time.Millisecond, 2, 0},
		"two are slow for one": {hedging, Budget{}, 3, 2, time.Minute, 1, 0},
		"no other endpoint":    {hedging, Budget{}, 1, 1, time.Minute, 0, 0},
		"not idempotent":       {careless, Budget{}, 3, 1, time.Minute, 0, 0},
		"no budget":            {hedging, Budget{Ratio: -1, PerSecond: -1}, 3, 1, time.Minute, 0, 600},
	} {
		bubble(t, name, func(t *testing.T) {
			f := new(fleet)
			var began, cancelled, answered atomic.Int64
			var addrs []string
			for _, addr := range []string{"a", "b", "c"}[:row.servers] {
				addrs = append(addrs, addr)
				f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
					work.Handle(s, func(ctx context.Context, n int) (int, error) {
						if began.Add(1) > row.slow {
							answered.Add(1)
							return n, nil
						}
						<-ctx.Done()
						cancelled.Add(1)
						return 0, ctx.Err()
					})
				})
			}
			c := f.client(t, Static(addrs...), Options{Policy: func(string) Policy { return row.policy }, Budget: row.budget, Eager: true})
			synctest.Wait()
			start := time.Now()
			_, err := work.Call(within(t, time.Minute), c, 1)
			if took := time.Since(start); took != row.took {
				t.Errorf("took %v", took)
			}
			if row.took == time.Minute {
				// The handler's context ends at the same moment: its answer may be the quicker one.
				if o := rpc.OutcomeOf(err); rpc.CodeOf(err) != rpc.DeadlineExceeded || o != rpc.OutcomeUnknown && o != rpc.Executed {
					t.Error(err)
				}
			} else if err != nil {
				t.Error(err)
			}
			s := c.Snapshot()
			if s.Hedges != row.hedges || s.Denied > row.denied || (s.Denied == 0) != (row.denied == 0) {
				t.Errorf("%+v", s)
			}
			synctest.Wait()
			if cancelled.Load() != min(row.slow, began.Load()) || answered.Load() > 1 {
				t.Errorf("%d began, %d cancelled, %d answered", began.Load(), cancelled.Load(), answered.Load())
			}
		})
	}
}

// TestHedgeErrors: a handler's error is an answer and ends the call; an attempt that never ran is not the end while another is under way.
func TestHedgeErrors(t *testing.T) {
	policy := func(string) Policy {
		return Policy{Idempotent: true, HedgeAfter: 100 * time.Millisecond, MaxAttempts: 1}
	}
	for name, row := range map[string]struct {
		first, second error // what the handlers do after a second; refusals come at once
		code          rpc.Code
		outcome       rpc.Outcome
	}{
		"an answer":               {rpc.NotFound, nil, rpc.NotFound, rpc.Executed},
		"a refusal, then success": {nil, rpc.ResourceExhausted, rpc.OK, rpc.Executed},
	} {
		bubble(t, name, func(t *testing.T) {
			f := new(fleet)
			var asked, ran atomic.Int64
			for _, addr := range []string{"a", "b"} {
				f.start(t, addr, rpc.Options{Authorize: func(_ context.Context, req *rpc.Request) error {
					if req.Method == work.Name && asked.Add(1) == 2 {
						return row.second
					}
					return nil
				}}, func(s *rpc.Server) {
					work.Handle(s, func(ctx context.Context, n int) (int, error) {
						first := ran.Add(1) == 1
						sleep(ctx, time.Second)
						if first {
							return n, row.first
						}
						return n, nil
					})
				})
			}
			c := f.client(t, Static("a", "b"), Options{Policy: policy, Eager: true})
			synctest.Wait()
			_, err := work.Call(within(t, time.Minute), c, 1)
			want(t, err, row.code, row.outcome)
			if asked.Load() != 2 {
				t.Error(asked.Load())
			}
		})
	}
}

// TestPurse: retries stay within their share of the calls, and what was saved up.
func TestPurse(t *testing.T) {
	for name, row := range map[string]struct {
		budget     Budget
		calls      int // at once
		wait       time.Duration
		least, top int
	}{
		"saved up":         {Budget{0.1, 10}, 0, 0, 100, 100},
		"a share of calls": {Budget{0.1, -1}, 95, 0, 9, 10},
		"no more than ten": {Budget{0.5, -1}, 1000, 0, 10, 10},
		"by the second":    {Budget{-1, 2}, 0, time.Second, 20, 20},
		"none":             {Budget{-1, -1}, 1000, time.Hour, 0, 0},
	} {
		bubble(t, name, func(t *testing.T) {
			b := row.budget
			tune(&b.Ratio, 0.1, 0)
			tune(&b.PerSecond, 10, 0)
			p := newPurse(b)
			for range row.calls {
				p.deposit()
			}
			time.Sleep(row.wait)
			n := 0
			for p.withdraw() {
				n++
			}
			if n < row.least || n > row.top {
				t.Error(n)
			}
			if b.PerSecond > 0 {
				time.Sleep(time.Second)
				for range int(b.PerSecond) {
					if !p.withdraw() {
						t.Error("a second later there is nothing")
					}
				}
				if p.withdraw() {
					t.Error("more than a second's worth")
				}
			}
		})
	}
}

// TestHedgeEndsWithItsContext: a lane that was never sent does not speak for the other, which ran and was answered while the call waited
// for all lanes.
func TestHedgeEndsWithItsContext(t *testing.T) {
	for name, fault := range map[string]error{"success": nil, "failure": rpc.NotFound} {
		bubble(t, name, func(t *testing.T) {
			f := new(fleet)
			stuck := f.start(t, "stuck", rpc.Options{}, nil)
			started, ran := make(chan struct{}, 1), new(atomic.Int64)
			f.start(t, "good", rpc.Options{}, func(s *rpc.Server) {
				work.Handle(s, func(context.Context, int) (int, error) {
					started <- struct{}{}
					time.Sleep(time.Second)
					ran.Add(1)
					return 7, fault
				})
			})
			// The first attempt is never sent, the second is not to be stopped.
			var attempts atomic.Int64
			late := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
				if req.Method != work.Name {
					return next(ctx, req)
				}
				if attempts.Add(1) == 1 {
					<-ctx.Done()
					return nil, fail(rpc.Canceled, ctx.Err())
				}
				return next(context.WithoutCancel(ctx), req)
			}}
			c := f.client(t, Static("good", "stuck"), Options{Eager: true, Balancer: first("stuck"),
				RPC: rpc.Options{Interceptors: []rpc.Interceptor{late}},
				Policy: func(string) Policy {
					return Policy{Idempotent: true, HedgeAfter: 100 * time.Millisecond}
				}})
			synctest.Wait()
			ctx, cancel := context.WithCancel(bg)
			defer cancel()
			go func() { <-started; cancel() }()
			got, err := work.Call(ctx, c, 1)
			if ran.Load() != 1 || rpc.OutcomeOf(err) != rpc.Executed || rpc.CodeOf(err) != rpc.CodeOf(fault) || fault == nil && got != 7 {
				t.Errorf("it ran %d times and was answered; the caller is told %d, %v", ran.Load(), got, err)
			}
			stuck.kill()
		})
	}
}

// first is a Balancer that prefers an address.
type first string

func (f first) Pick(_ context.Context, ready []*Node) *Node {
	for _, n := range ready {
		if n.Endpoint().Addr == string(f) {
			return n
		}
	}
	return ready[0]
}
