package cluster

import (
	"sync"
	"time"
)

// A Budget bounds how much load a Client adds to servers in trouble: what it repeats because a server was overloaded or because a
// call may have run, and its hedges. What went to a server that drains or to a session that was gone is repeated
// without: it never cost a server anything.
type Budget struct {
	// Ratio of retries to calls. Default 0.1; negative: none.
	Ratio float64
	// PerSecond is how many retries a second are allowed besides, so that a client with few calls may retry too. Ten seconds' worth can be
	// saved up, and as many of Ratio's. Default 10; negative: none.
	PerSecond float64
}

// A purse is a Budget in use: a token bucket.
type purse struct {
	budget Budget
	most   float64

	mu     sync.Mutex // protects all below
	tokens float64
	filled time.Time // when PerSecond was last added
}

func newPurse(b Budget) *purse {
	most := 10 * max(b.PerSecond, 1)
	return &purse{budget: b, most: most, tokens: 10 * b.PerSecond, filled: time.Now()}
}

// deposit is called once for each call.
func (p *purse) deposit() {
	p.mu.Lock()
	p.tokens = min(p.tokens+p.budget.Ratio, p.most)
	p.mu.Unlock()
}

// withdraw reports whether a retry may be made, and pays for it.
func (p *purse) withdraw() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tokens = min(p.tokens+p.budget.PerSecond*now.Sub(p.filled).Seconds(), p.most)
	p.filled = now
	if p.tokens < 1 {
		return false
	}
	p.tokens--
	return true
}
