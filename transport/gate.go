package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
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
	penaltyStall     = 500 * time.Millisecond // it made us wait so long or longer; less if somebody needed the place before that
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
	holders map[*source]struct{} // those with places, which are few beside all that are remembered
	freed   chan struct{}        // token: a place was given back, or its holder has begun to make us wait
	swept   time.Time            // when sources were last looked through
	lane    int                  // private-key operations that may begin now
	ring    []*source            // those with turns, the next one first
}

// A source is where connections come from: an address, or a group of them.
type source struct {
	name    string
	limited bool    // false for the nameless source, such as Unix sockets
	passes  []*pass // in the order in which they began to wait
	turns   []turn
	until   time.Time // when its penalty, which fades as time goes by, is 0
	barred  bool      // until then
}

// A pass is a connection's place in the gate. nil is that of a connection that has none: all its methods then do nothing.
type pass struct {
	gate   *gate
	from   *source
	evict  context.CancelCauseFunc
	came   time.Time
	since  time.Time // when it began to wait for its peer
	busy   bool      // it waits for us, not for its peer
	worked bool      // a private-key operation was spent on it
}

func newGate(cfg *Config, lane int) *gate {
	return &gate{limit: cfg.MaxHandshakes, perSource: cfg.MaxHandshakesPerSource, sourceOf: cfg.HandshakeSource,
		sources: make(map[string]*source), holders: make(map[*source]struct{}), freed: make(chan struct{}, 1), lane: lane}
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

// enter gives a connection a place. It waits until there is one: one that is free, or one whose holder makes us wait. evict is
// called, with an error that says why, if it loses it. The error matches ErrBusy, or net.ErrClosed if stop closes first.
func (g *gate) enter(addr net.Addr, evict context.CancelCauseFunc, stop <-chan struct{}) (*pass, error) {
	name := g.sourceOf(addr)
	for {
		p, err := g.tryEnter(name, evict)
		if p != nil || err != nil {
			return p, err
		}
		select {
		case <-g.freed:
		case <-stop:
			return nil, net.ErrClosed
		}
	}
}

// tryEnter returns neither a pass nor an error if there is no place now.
func (g *gate) tryEnter(name string, evict context.CancelCauseFunc) (*pass, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	from := g.sources[name]
	if from != nil && from.barredLocked(now) {
		return nil, fmt.Errorf("%w: too many failed handshakes from %s, for another %v", ErrBusy, name, from.until.Sub(now).Round(time.Second))
	}
	if from != nil && from.limited && len(from.passes) >= g.perSource && !from.giveWayLocked() {
		return nil, fmt.Errorf("%w: %d handshakes from %s are in progress", ErrBusy, len(from.passes), name)
	}
	if g.places >= g.limit && !g.slowestLocked(now).giveWayLocked() {
		return nil, nil
	}
	if from == nil {
		from = &source{name: name, limited: name != ""}
		g.makeRoomLocked(now)
		g.sources[name] = from
	}
	p := &pass{gate: g, from: from, evict: evict, came: now, since: now}
	from.passes = append(from.passes, p)
	g.holders[from] = struct{}{}
	g.places++
	return p, nil
}

// slowestLocked is, of the sources that have a place to give, the one that has held places for the longest, all of them
// together: so neither many connections from one address nor a few from each of many push out those who answer soon.
func (g *gate) slowestLocked(now time.Time) (slowest *source) {
	var most time.Duration
	for from := range g.holders {
		if from.waiterLocked() < 0 {
			continue
		}
		var held time.Duration
		for _, p := range from.passes {
			held += now.Sub(p.came)
		}
		if slowest == nil || held > most {
			slowest, most = from, held
		}
	}
	return slowest
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
	if s == nil {
		return false
	}
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
	i := slices.Index(p.from.passes, p)
	if i < 0 {
		return
	}
	p.from.passes = slices.Delete(p.from.passes, i, i+1)
	if len(p.from.passes) == 0 {
		p.from.passes = nil // a source is remembered for long, and may have had many
		delete(p.gate.holders, p.from)
	}
	p.gate.places--
	notify(p.gate.freed)
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
	now := time.Now()
	by := time.Duration(0)
	switch {
	case err == nil:
	case p.worked:
		by = penaltyOperation
	case errors.Is(err, os.ErrDeadlineExceeded) && p.busy: // it is us who took too long
	case errors.Is(err, os.ErrDeadlineExceeded):
		by = min(penaltyStall, now.Sub(p.since))
	case !errors.Is(err, ErrTruncated): // who only knocks, as a health check does, costs nothing
		by = penaltyGarbage
	}
	p.from.punishLocked(now, by)
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
	i := slices.Index(p.from.passes, p)
	if busy || i < 0 {
		return
	}
	p.since = time.Now()
	p.from.passes = append(slices.Delete(p.from.passes, i, i+1), p) // it begins to wait: last of all
	notify(p.gate.freed)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
