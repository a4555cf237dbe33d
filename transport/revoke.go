package transport

import (
	"context"
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

// A roster is the live sessions of a Trust.
type roster struct {
	mu       sync.Mutex
	sessions map[*Session]struct{}
	timer    *time.Timer // of AuthorizedKeys, while there are sessions
	failing  time.Time   // since when the list cannot be read; zero while it can
}

// Recheck asks for each live session whether its peer is still trusted, and ends those whose peer is not: with ErrRevoked here,
// and ErrUnauthorized there. It is for a TrustFunc whose answer has changed; AuthorizedKeys looks at its folder by itself every
// five seconds. It returns ctx's error if that ended first, or what made the folder unreadable; then the sessions stay, the
// folder's for a minute at most. Any number of goroutines may call it.
func (t *Trust) Recheck(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if t.list != nil {
		return t.recheckList()
	}
	for s := range t.live.snapshot() {
		_, err := t.admits(ctx, s.peer.Key)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.wind(ErrRevoked)
		}
	}
	return nil
}

// recheckList is Recheck of AuthorizedKeys, which reads the folder once for all.
func (t *Trust) recheckList() error {
	names, err := t.list()
	if err != nil && t.live.vouches() {
		return err
	}
	for s := range t.live.snapshot() {
		if _, ok := names[s.peer.Fingerprint()]; !ok {
			s.wind(ErrRevoked)
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

func (r *roster) snapshot() map[*Session]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[*Session]struct{}, len(r.sessions))
	for s := range r.sessions {
		all[s] = struct{}{}
	}
	return all
}

// enter lists a session, if what the Trust says of it may change.
func (t *Trust) enter(s *Session) {
	if t == nil || t.anyone || t.fixed {
		return
	}
	t.live.mu.Lock()
	defer t.live.mu.Unlock()
	if s.ended() {
		return // leave has been, or will find nothing
	}
	if t.live.sessions == nil {
		t.live.sessions = make(map[*Session]struct{})
	}
	t.live.sessions[s] = struct{}{}
	if t.list != nil && t.live.timer == nil {
		t.live.timer = time.AfterFunc(recheckInterval, t.tick)
	}
}

// leave is called once, when the session has ended.
func (t *Trust) leave(s *Session) {
	if t == nil {
		return
	}
	t.live.mu.Lock()
	defer t.live.mu.Unlock()
	delete(t.live.sessions, s)
	if len(t.live.sessions) == 0 && t.live.timer != nil {
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
