package transport

import "sync"

// A budget hands out a bounded amount to waiters in the order they came, so that a crowd of large takers
// cannot starve a small one.
type budget struct {
	mu      sync.Mutex
	free    int
	waiters []*budgetWaiter
}

type budgetWaiter struct {
	want  int
	ready chan struct{} // closed, under mu, when the amount has been given
}

func newBudget(amount int) *budget { return &budget{free: amount} }

// tryTake takes n if that needs no waiting, and otherwise returns a place in the queue.
func (b *budget) tryTake(n int) (w *budgetWaiter) {
	if b.takeNow(n) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiters) == 0 && b.free >= n { // given back since
		b.free -= n
		return nil
	}
	w = &budgetWaiter{want: n, ready: make(chan struct{})}
	b.waiters = append(b.waiters, w)
	return w
}

// takeNow takes n if that needs no waiting.
func (b *budget) takeNow(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiters) > 0 || b.free < n {
		return false
	}
	b.free -= n
	return true
}

// take waits for n until one of the stop channels closes, and reports whether it got it.
func (b *budget) take(n int, stop ...<-chan struct{}) bool {
	w := b.tryTake(n)
	if w == nil {
		return true
	}
	var stops [3]<-chan struct{} // a nil channel never stops anybody
	copy(stops[:], stop)
	select {
	case <-w.ready:
		return true
	case <-stops[0]:
	case <-stops[1]:
	case <-stops[2]:
	}
	b.abandon(w)
	return false
}

// abandon gives up a place in the queue, or what has just been given.
func (b *budget) abandon(w *budgetWaiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiters {
		if other == w {
			b.waiters = append(b.waiters[:i], b.waiters[i+1:]...)
			b.serveLocked() // it may have been in the way of a smaller one
			return
		}
	}
	b.free += w.want
	b.serveLocked()
}

// give returns n to the budget.
func (b *budget) give(n int) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	b.free += n
	b.serveLocked()
	b.mu.Unlock()
}

func (b *budget) serveLocked() {
	for len(b.waiters) > 0 && b.waiters[0].want <= b.free {
		w := b.waiters[0]
		b.waiters[0] = nil
		b.waiters = b.waiters[1:]
		b.free -= w.want
		close(w.ready)
	}
}
