package legacy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// What a source may ask for, each second in the long run and at once. Beyond it its requests wait.
	requestsPerSecond = 100
	requestsAtOnce    = 400
	// A source is kept out once it has sent so many requests that do not decrypt, until the time is over that they cost: two a second in
	// the long run, where the attack on PKCS#1 v1.5 takes tens of thousands.
	penalty      = 500 * time.Millisecond
	penaltyLimit = 30 * penalty

	maxSources = 4096 // remembered at once; each is about 200 bytes

	// A request above smallRequest bytes takes one of maxLarge places, maxLargePerSource of a source, until its reply is written.
	// So requests take at most 48 MiB together, and no connection more than smallRequest while it waits.
	smallRequest      = 16 << 10
	maxLarge          = 16
	maxLargePerSource = 8
)

// A source is where connections come from: an IPv4 address or an IPv6 /64. Server.mu protects it.
type source struct {
	name   string // "" for what is not TCP, which has no limits of its own
	conns  int
	large  chan struct{}
	paced  time.Time // when what it asked for is used up at the pace it may have
	until  time.Time // when its penalty is over
	barred bool      // until then
}

// sourceOf names an IPv4 address itself, and an IPv6 address by the /64 that its owner has all of.
func sourceOf(addr net.Addr) string {
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

// sourceLocked finds or makes the source of an address.
func (s *Server) sourceLocked(addr net.Addr, now time.Time) *source {
	name := sourceOf(addr)
	from := s.sources[name]
	if from == nil {
		s.makeRoomLocked(now)
		from = &source{name: name, large: make(chan struct{}, maxLargePerSource)}
		s.sources[name] = from
	}
	return from
}

// makeRoomLocked forgets sources that are of no more interest, and if need be one that has no connection here.
func (s *Server) makeRoomLocked(now time.Time) {
	if len(s.sources) < maxSources {
		return
	}
	for name, from := range s.sources {
		if from.conns == 0 && !from.until.After(now) && !from.paced.After(now) {
			delete(s.sources, name)
		}
	}
	for name, from := range s.sources {
		if len(s.sources) < maxSources {
			return
		}
		if from.conns == 0 {
			delete(s.sources, name)
		}
	}
}

func (f *source) barredLocked(now time.Time) bool {
	if !f.until.After(now) {
		f.barred = false
	}
	return f.barred
}

// punish counts a request that does not decrypt.
func (s *Server) punish(from *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if from.name == "" || from.barredLocked(now) {
		return
	}
	if from.until.Before(now) {
		from.until = now
	}
	from.until = from.until.Add(penalty)
	from.barred = from.until.Sub(now) >= penaltyLimit
}

// enter gives a connection a place, a free one or that of a connection that has made us wait the longest, and begins to serve it.
func (s *Server) enter(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	from := s.sourceLocked(c.raw.RemoteAddr(), now)
	switch {
	case s.stopping:
		return net.ErrClosed
	case from.barredLocked(now):
		return fmt.Errorf("%w: too many requests from %s do not decrypt, for another %v", ErrBusy, from.name, from.until.Sub(now).Round(time.Second))
	case from.name != "" && from.conns >= s.cfg.MaxConnsPerSource && !s.giveWayLocked(from):
		return fmt.Errorf("%w: %d connections from %s", ErrBusy, from.conns, from.name)
	case len(s.conns) >= s.cfg.MaxConns && !s.giveWayLocked(s.largestLocked()):
		return fmt.Errorf("%w: %d connections", ErrBusy, len(s.conns))
	}
	c.from, c.since = from, now
	from.conns++
	s.conns[c] = struct{}{}
	s.work.Go(c.serve) // while nobody can begin to wait for all
	return nil
}

// largestLocked is the source with the most connections, of those that have one to give, nil if none has.
func (s *Server) largestLocked() (largest *source) {
	for c := range s.conns {
		if !c.busy && (largest == nil || c.from.conns > largest.conns) {
			largest = c.from
		}
	}
	return largest
}

// giveWayLocked ends the connection of a source that has made us wait the longest, and reports whether there was one.
func (s *Server) giveWayLocked(from *source) bool {
	var idle *conn
	for c := range s.conns {
		if c.from == from && !c.busy && (idle == nil || c.since.Before(idle.since)) {
			idle = c
		}
	}
	if idle == nil {
		return false
	}
	s.forgetLocked(idle)
	idle.cancel(errGaveWay)
	return true
}

// forgetLocked takes a connection's place back, once.
func (s *Server) forgetLocked(c *conn) {
	if _, there := s.conns[c]; there {
		delete(s.conns, c)
		c.from.conns--
	}
}

// pace waits until its source may ask for more.
func (c *conn) pace(ctx context.Context) error {
	s := c.server
	s.mu.Lock()
	now := time.Now()
	if c.from.barredLocked(now) {
		s.mu.Unlock()
		return fmt.Errorf("%w: too many requests from %s do not decrypt", ErrBusy, c.from.name)
	}
	if c.from.name == "" {
		s.mu.Unlock()
		return nil
	}
	if c.from.paced.Before(now) {
		c.from.paced = now
	}
	c.from.paced = c.from.paced.Add(time.Second / requestsPerSecond)
	wait := c.from.paced.Sub(now) - requestsAtOnce*time.Second/requestsPerSecond
	s.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// takeLarge waits for a place for a large request. Its source's comes first, so that who waits for that holds nothing of all.
func (c *conn) takeLarge(ctx context.Context) (release func(), err error) {
	own, all := c.from.large, c.server.large
	if c.from.name == "" {
		own = make(chan struct{}, 1)
	}
	for i, places := range []chan struct{}{own, all} {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			if i == 1 {
				<-own
			}
			return nil, context.Cause(ctx)
		}
	}
	return func() { <-all; <-own }, nil
}
