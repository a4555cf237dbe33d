package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// The gate decides which connections of a Listener may shake hands, and when. It lets nobody wait for strangers: whoever makes
// us wait loses his place first, private-key operations go round the sources in turn, and a source that costs work without
// coming in is kept out for a while. The models are OpenSSH's MaxStartups and PerSourcePenalties (sshd_config(5)).

const (
	// What a failed handshake adds to its source's penalty. A source is kept out once it has penaltyLimit: 30 failures in a
	// burst, after which it may try as much again. So it costs two private-key operations a second in the long run.
	penaltyOperation = 500 * time.Millisecond // a private-key operation was spent on it
	penaltyStall     = 500 * time.Millisecond // it held a place until its deadline, or until somebody else needed the place
	penaltyGarbage   = 100 * time.Millisecond // it was refused for what it sent
	penaltyLimit     = 15 * time.Second       // OpenSSH's "min"

	maxSources = 16384 // remembered at once; each is about 200 bytes
)

var errGiveWay = fmt.Errorf("%w: it gave way to others while the peer sent nothing", ErrHandshakeTimeout)

type gate struct {
	limit     int
	perSource int
	sourceOf  func(net.Addr) string

	mu      sync.Mutex // protects all below, and each pass and source
	places  int        // in use
	sources map[string]*source
	freed   chan struct{} // token: a place was given back
	swept   time.Time     // when sources were last looked through
	lane    int           // private-key operations that may begin now
	ring    []*source     // those with turns, the next one first
}

// A source is where connections come from: an address, or a group of them.
type source struct {
	name    string
	limited bool    // false for the nameless source, such as Unix sockets
	passes  []*pass // in the order in which they began to wait
	turns   []*turn
	until   time.Time // when its penalty, which fades as time goes by, is 0
	barred  bool      // until then
}

// A pass is a connection's place in the gate. nil is that of a connection that has none: all its methods then do nothing.
type pass struct {
	gate   *gate
	from   *source
	evict  context.CancelCauseFunc
	busy   bool // it waits for us, not for its peer
	worked bool // a private-key operation was spent on it
}

// A turn is a place in the queue for private-key operations.
type turn struct {
	ready chan struct{} // closed when it has come
	gone  bool
}

func newGate(cfg *Config, lane int) *gate {
	return &gate{limit: cfg.MaxHandshakes, perSource: cfg.MaxHandshakesPerSource, sourceOf: cfg.HandshakeSource,
		sources: make(map[string]*source), freed: make(chan struct{}, 1), lane: lane}
}

// defaultSource names an IPv4 address itself, and an IPv6 address by the /64 that its owner has all of.
func defaultSource(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	if ip = ip.Unmap(); ip.Is6() {
		block, _ := ip.Prefix(64)
		return block.String()
	}
	return ip.String()
}

// enter gives a connection a place. evict is called, with an error that says why, if it loses it. The error matches ErrBusy.
func (g *gate) enter(addr net.Addr, evict context.CancelCauseFunc) (*pass, error) {
	name := g.sourceOf(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	from := g.sources[name]
	if from != nil && from.barredLocked(now) {
		return nil, fmt.Errorf("%w: too many failed handshakes from %s, for another %v", ErrBusy, name, from.until.Sub(now).Round(time.Second))
	}
	if from == nil {
		from = &source{name: name, limited: name != ""}
		g.makeRoomLocked(now)
		g.sources[name] = from
	}
	if from.limited && len(from.passes) >= g.perSource && !from.giveWayLocked() {
		return nil, fmt.Errorf("%w: %d handshakes from %s are in progress", ErrBusy, len(from.passes), name)
	}
	if g.places >= g.limit {
		if largest := g.largestLocked(); largest != nil {
			largest.giveWayLocked()
		}
	}
	p := &pass{gate: g, from: from, evict: evict}
	from.passes = append(from.passes, p)
	g.places++
	return p, nil
}

// open waits until there is a place: one that is free, or one whose holder makes us wait. It returns false if stop closes first.
func (g *gate) open(stop <-chan struct{}) bool {
	for {
		g.mu.Lock()
		room := g.places < g.limit || g.largestLocked() != nil
		g.mu.Unlock()
		if room {
			return true
		}
		select {
		case <-g.freed:
		case <-stop:
			return false
		}
	}
}

// largestLocked is the source with the most places of those that have one to give.
func (g *gate) largestLocked() (largest *source) {
	for _, from := range g.sources {
		if (largest == nil || len(from.passes) > len(largest.passes)) && from.waiterLocked() >= 0 {
			largest = from
		}
	}
	return largest
}

// waiterLocked finds the pass that has waited for its peer for the longest, -1 if none does.
func (s *source) waiterLocked() int {
	for i, p := range s.passes {
		if !p.busy {
			return i
		}
	}
	return -1
}

// giveWayLocked takes a place from a connection whose peer makes us wait, and reports whether there was one.
func (s *source) giveWayLocked() bool {
	i := s.waiterLocked()
	if i < 0 {
		return false
	}
	p := s.passes[i]
	p.removeLocked()
	p.evict(errGiveWay)
	return true
}

// removeLocked gives a place back, once.
func (p *pass) removeLocked() {
	for i, other := range p.from.passes {
		if other == p {
			p.from.passes = append(p.from.passes[:i], p.from.passes[i+1:]...)
			p.gate.places--
			notify(p.gate.freed)
			return
		}
	}
}

// makeRoomLocked forgets sources that are of no more interest, and if need be any that have no connection here.
func (g *gate) makeRoomLocked(now time.Time) {
	sweep := len(g.sources) >= maxSources && now.Sub(g.swept) >= time.Second
	if sweep {
		g.swept = now
	}
	for name, from := range g.sources {
		if len(g.sources) < maxSources && !sweep {
			return
		}
		if len(from.passes) == 0 && (!sweep || !from.until.After(now)) {
			delete(g.sources, name)
		}
	}
	if sweep {
		g.makeRoomLocked(now) // it may not have been enough
	}
}

func (s *source) barredLocked(now time.Time) bool {
	if !s.until.After(now) {
		s.barred = false
	}
	return s.barred
}

// punishLocked adds to the penalty.
func (s *source) punishLocked(now time.Time, by time.Duration) {
	if !s.limited || by == 0 || s.barredLocked(now) {
		return
	}
	s.until = later(s.until, now).Add(by)
	s.barred = s.until.Sub(now) >= penaltyLimit
}

// leave gives the place back, if it still has it, and counts against its source how the handshake ended.
func (p *pass) leave(err error) {
	if p == nil {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.removeLocked()
	by := time.Duration(0)
	switch {
	case err == nil:
	case p.worked:
		by = penaltyOperation
	case errors.Is(err, os.ErrDeadlineExceeded):
		by = penaltyStall
	case !errors.Is(err, ErrTruncated): // who only knocks, as a health check does, costs nothing
		by = penaltyGarbage
	}
	p.from.punishLocked(time.Now(), by)
	if len(p.from.passes) == 0 && p.from.until.IsZero() && p.gate.sources[p.from.name] == p.from { // not forgotten, and there anew
		delete(p.gate.sources, p.from.name)
	}
}

// works says that the peer waits for us from now on, or that we wait for it.
func (p *pass) works(busy bool) {
	if p == nil {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.worksLocked(busy)
}

func (p *pass) worksLocked(busy bool) {
	p.busy = busy
	passes := p.from.passes
	for i, other := range passes {
		if !busy && other == p { // it begins to wait: last of all
			copy(passes[i:], passes[i+1:])
			passes[len(passes)-1] = p
			return
		}
	}
}

// operate runs a private-key operation when its turn has come: sources take turns, so that one with many connections does not
// hold up the others.
func (p *pass) operate(ctx context.Context, operation func()) error {
	if p == nil {
		operation()
		return nil
	}
	t := p.gate.queue(p)
	select {
	case <-t.ready:
	case <-ctx.Done():
		if p.gate.abandon(t) {
			return context.Cause(ctx)
		}
	}
	defer p.gate.done(p)
	operation()
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (g *gate) queue(p *pass) *turn {
	t := &turn{ready: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.worksLocked(true)
	p.worked = true
	if p.from.turns = append(p.from.turns, t); len(p.from.turns) == 1 {
		g.ring = append(g.ring, p.from)
	}
	g.serveLocked()
	return t
}

// abandon gives a turn up, unless it has come.
func (g *gate) abandon(t *turn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-t.ready:
		return false
	default:
		t.gone = true
		return true
	}
}

func (g *gate) done(p *pass) {
	g.mu.Lock()
	defer g.mu.Unlock()
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
		}
		if !t.gone {
			g.lane--
			close(t.ready)
		}
	}
}
