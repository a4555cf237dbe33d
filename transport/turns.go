package transport

import (
	"context"
	"slices"
)

// A turn is a place in the queue for private-key operations. It is closed when it has come.
type turn chan struct{}

// operate runs a private-key operation when its turn has come: sources take turns, so that one with many connections does not
// hold up the others.
func (p *pass) operate(ctx context.Context, operation func()) error {
	if p == nil {
		operation()
		return nil
	}
	t := p.gate.queue(p)
	select {
	case <-t:
	case <-ctx.Done():
		if p.gate.abandon(p.from, t) {
			return context.Cause(ctx)
		}
	}
	defer p.gate.done(p)
	operation()
	return nil
}

func (g *gate) queue(p *pass) turn {
	t := make(turn)
	g.mu.Lock()
	defer g.mu.Unlock()
	p.worksLocked(true)
	if p.from.turns = append(p.from.turns, t); len(p.from.turns) == 1 {
		g.ring = append(g.ring, p.from)
	}
	g.serveLocked()
	return t
}

// abandon gives a turn up, unless it has come.
func (g *gate) abandon(from *source, t turn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(from.turns, t)
	if i < 0 {
		return false
	}
	from.turns = slices.Delete(from.turns, i, i+1)
	if len(from.turns) == 0 {
		from.turns = nil
		g.ring = slices.DeleteFunc(g.ring, func(s *source) bool { return s == from })
	}
	return true
}

func (g *gate) done(p *pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.worked = true
	p.worksLocked(false)
	g.lane++
	g.serveLocked()
}

// serveLocked begins as many operations as may run.
func (g *gate) serveLocked() {
	for g.lane > 0 && len(g.ring) > 0 {
		from := g.ring[0]
		g.ring = g.ring[1:]
		t := from.turns[0]
		if from.turns = from.turns[1:]; len(from.turns) > 0 {
			g.ring = append(g.ring, from)
		} else {
			from.turns = nil
		}
		g.lane--
		close(t)
	}
}
