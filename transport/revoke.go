package transport

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// A session lives as long as its peer is trusted: a Trust knows the sessions that it has let in, and asks for them anew.

const (
	// recheckInterval is how often AuthorizedKeys looks at its folder while there are sessions, unless that takes more than a
	// twentieth of the time.
	recheckInterval = 5 * time.Second
	// recheckPatience is how long the folder may be unreadable before the sessions that it let in are ended: somebody may be
	// writing a file, but a list that is gone vouches for nobody.
	recheckPatience = time.Minute
)

// A roster is the guests of a Trust.
type roster struct {
	mu      sync.Mutex // protects all below, and each guest
	guests  map[*guest]struct{}
	inside  int         // those with a session
	timer   *time.Timer // of AuthorizedKeys, while there are sessions
	failing time.Time   // since when the list cannot be read; zero while it can
}

// A guest is a peer about which a Trust was asked: from before it answers, so that no change of the answer is missed, until its
// session has ended, or its handshake has failed.
type guest struct {
	key     *PublicKey
	session *Session // nil in the handshake
	revoked bool     // since it was asked about
}

// ask is admits for a handshake. What comes of the guest is told by enter, or by dismiss.
func (t *Trust) ask(ctx context.Context, key *PublicKey) (name string, g *guest, err error) {
	if t != nil && !t.anyone && !t.fixed {
		g = &guest{key: key}
		t.live.mu.Lock()
		if t.live.guests == nil {
			t.live.guests = make(map[*guest]struct{})
		}
		t.live.guests[g] = struct{}{}
		t.live.mu.Unlock()
	}
	if name, err = t.admits(ctx, key); err != nil {
		t.dismiss(g)
		return "", nil, err
	}
	return name, g, nil
}

// Recheck asks for each live session whether its peer is still trusted, and ends those whose peer is not: with ErrRevoked here,
// and ErrUnauthorized there. It is for a TrustFunc whose answer has changed; AuthorizedKeys looks at its folder by itself every
// five seconds. Peers whose handshake is under way are asked for too, so that nobody is let in by an old answer. It returns
// ctx's error if that ended first, or what made the folder unreadable; then the sessions stay, the folder's for a minute at
// most. Any number of goroutines may call it.
func (t *Trust) Recheck(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if t.list != nil {
		return t.recheckList()
	}
	for _, g := range t.live.snapshot() {
		_, err := t.admits(ctx, g.key)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			t.live.revoke(g)
		}
	}
	return nil
}

// recheckList is Recheck of AuthorizedKeys, which reads the folder once for all.
func (t *Trust) recheckList() error {
	guests := t.live.snapshot() // first: of who comes later, a later reading has told
	names, err := t.list()
	if err != nil && t.live.vouches() {
		return err
	}
	for _, g := range guests {
		if _, ok := names[g.key.id]; !ok {
			t.live.revoke(g)
		}
	}
	if err == nil {
		t.live.mu.Lock()
		t.live.failing = time.Time{}
		t.live.mu.Unlock()
	}
	return err
}

// vouches reports whether the list that was read last still counts.
func (r *roster) vouches() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing.IsZero() {
		r.failing = time.Now()
	}
	return time.Since(r.failing) < recheckPatience
}

func (r *roster) snapshot() []*guest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.guests))
}

// revoke ends the session of a guest, or the one that it is about to have.
func (r *roster) revoke(g *guest) {
	r.mu.Lock()
	g.revoked = true
	s := g.session
	r.mu.Unlock()
	if s != nil {
		s.wind(ErrRevoked)
	}
}

// enter is called once for each session, when it has begun.
func (t *Trust) enter(s *Session) {
	if s.guest == nil {
		return
	}
	t.live.mu.Lock()
	revoked := s.guest.revoked
	if !s.ended() { // else leave has been, or will find nothing
		s.guest.session = s
		if t.live.inside++; t.live.inside == 1 {
			t.live.failing = time.Time{} // it has been read just now
		}
		if t.list != nil && t.live.timer == nil {
			t.live.timer = time.AfterFunc(recheckInterval, t.tick)
		}
	}
	t.live.mu.Unlock()
	if revoked {
		s.wind(ErrRevoked)
	}
}

// leave is called once, when the session has ended.
func (t *Trust) leave(s *Session) { t.dismiss(s.guest) }

// dismiss forgets a guest, nil or one that is forgotten already too.
func (t *Trust) dismiss(g *guest) {
	if g == nil {
		return
	}
	t.live.mu.Lock()
	defer t.live.mu.Unlock()
	delete(t.live.guests, g)
	if g.session == nil {
		return
	}
	g.session = nil
	if t.live.inside--; t.live.inside == 0 && t.live.timer != nil {
		t.live.timer.Stop()
		t.live.timer = nil
	}
}

// tick looks at the folder, and arms the next look.
func (t *Trust) tick() {
	begin := time.Now()
	t.recheckList() // an error shows in the next handshake too
	took := time.Since(begin)
	t.live.mu.Lock()
	defer t.live.mu.Unlock()
	if t.live.timer != nil {
		t.live.timer.Reset(max(recheckInterval, 20*took))
	}
}
