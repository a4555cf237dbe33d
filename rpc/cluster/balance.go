package cluster

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
)

// A Balancer chooses where a call goes.
type Balancer interface {
	// Pick returns one of ready, which has at least one node and must not be changed. It is called for each attempt, by many
	// goroutines at once, and must not block. Nodes that an attempt of the same call was sent to are not among ready while there are others.
	Pick(ctx context.Context, ready []*Node) *Node
}

// RoundRobin takes endpoints in turn, each as often as its weight says. It begins anywhere: many clients that make few calls each would
// otherwise make them all to the same endpoints.
func RoundRobin() Balancer { return newRoundRobin(rand.Uint64()) }

func newRoundRobin(first uint64) *roundRobin {
	b := new(roundRobin)
	b.turn.Store(first)
	return b
}

type roundRobin struct{ turn atomic.Uint64 }

// Pick places turn k at the fraction k x the golden ratio of all weights: turns spread evenly, at any length, without a state that
// a change of the set would spoil.
func (b *roundRobin) Pick(_ context.Context, ready []*Node) *Node {
	turn := b.turn.Add(1) - 1
	total, even := weightOf(ready)
	if even {
		return ready[turn%uint64(len(ready))]
	}
	const golden = 0x9e3779b97f4a7c15 // of 2^64
	at := float64(turn*golden) / (1 << 64) * total
	for _, n := range ready {
		if at -= n.endpoint.Load().weight(); at < 0 {
			return n
		}
	}
	return ready[len(ready)-1]
}

// LeastLoaded draws two endpoints, by their weights, and takes the one with less to wait for: calls in flight, by weight, times latency.
// Two choices keep the longest queue short, and do not send every client to the one server that is idle. Of two that are within a
// quarter of each other it takes either, so that the quickest of many alike does not get it all.
func LeastLoaded() Balancer { return leastLoaded{rand.IntN} }

type leastLoaded struct{ intN func(int) int }

// Pick is Balancer's.
func (b leastLoaded) Pick(_ context.Context, ready []*Node) *Node {
	if len(ready) == 1 {
		return ready[0]
	}
	total, even := weightOf(ready)
	i := b.draw(ready, total, even, -1)
	j := b.draw(ready, total, even, i)
	if 1.25*ready[j].cost() < ready[i].cost() { // i was drawn first, by chance
		i = j
	}
	return ready[i]
}

// draw returns an index other than not, which may be -1: any with the chance of its weight.
func (b leastLoaded) draw(ready []*Node, total float64, even bool, not int) (drawn int) {
	if even {
		if not < 0 {
			return b.intN(len(ready))
		}
		if drawn = b.intN(len(ready) - 1); drawn >= not {
			drawn++
		}
		return drawn
	}
	if not >= 0 {
		total -= ready[not].endpoint.Load().weight()
	}
	const fine = 1 << 30
	at := float64(b.intN(fine)) / fine * total
	for i, n := range ready {
		if i == not {
			continue
		}
		drawn = i
		if at -= n.endpoint.Load().weight(); at < 0 {
			break
		}
	}
	return drawn
}

// weightOf returns the weight of all, and whether that of each is 1.
func weightOf(ready []*Node) (total float64, even bool) {
	even = true
	for _, n := range ready {
		w := n.endpoint.Load().weight()
		total += w
		even = even && w == 1
	}
	return total, even
}

// ConsistentHash sends calls with the same key (WithKey) to the same endpoint: from any client that sees the same set, and as long
// as the endpoint is there. One that comes or goes moves its own keys only. An endpoint with more than 1.25 times its share of this client's calls
// in flight passes the next key on. Calls without a key are placed as by LeastLoaded.
func ConsistentHash() Balancer { return consistentHash{} }

type consistentHash struct{}

// Pick is Balancer's.
func (consistentHash) Pick(ctx context.Context, ready []*Node) *Node {
	key, ok := ctx.Value(keyKey{}).(string)
	if !ok {
		return leastLoaded{rand.IntN}.Pick(ctx, ready)
	}
	calls, weights := 1.0, 0.0
	for _, n := range ready {
		calls += float64(n.InFlight())
		weights += n.endpoint.Load().weight()
	}
	hashed, best, most := hashString(key), ready[0], math.Inf(-1)
	for _, n := range ready {
		w := n.endpoint.Load().weight()
		if float64(n.InFlight()) >= math.Ceil(1.25*calls*w/weights) {
			continue
		}
		if s := score(n.hash, hashed, w); s > most {
			best, most = n, s
		}
	}
	return best
}

type keyKey struct{}

// WithKey returns a context whose calls ConsistentHash places by key.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyKey{}, key)
}
