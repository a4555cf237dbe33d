package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

const (
	// reconnectWait is how long a local connection waits for a session.
	reconnectWait = 5 * time.Second
	// The time between two attempts at a session doubles from the one to the other, which is shorter than what connections wait: each
	// sees an attempt.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 3 * time.Second
)

// An uplink is the session with a server, and another one when that is lost or drains.
type uplink struct {
	*forwarder
	log    *refusals
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex // protects what follows
	current *heldLink  // nil while there is none
	changed chan struct{}
}

// A heldLink is closed once its connections have ended. They are counted up only while it is current, under uplink.mu.
type heldLink struct {
	*link
	conns sync.WaitGroup
}

// retire closes the session once its connections have ended. It must not be current any more.
func (h *heldLink) retire() {
	h.conns.Wait()
	h.close()
}

func newUplink(f *forwarder, log *refusals) *uplink {
	return &uplink{forwarder: f, log: log, cancel: func() {}, changed: make(chan struct{})}
}

// start keeps a session, of which first is the first, until close. It sends an error that time will not mend.
func (u *uplink) start(ctx context.Context, first *link, failed chan<- error) {
	ctx, u.cancel = context.WithCancel(ctx)
	h := &heldLink{link: first}
	u.set(h)
	u.work.Go(func() {
		if err := u.keep(ctx, h); err != nil {
			failed <- err
		}
	})
}

// close ends it all. All connections must have ended.
func (u *uplink) close() {
	u.cancel()
	u.work.Wait()
}

func (u *uplink) set(h *heldLink) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.current = h
	close(u.changed)
	u.changed = make(chan struct{})
}

func (u *uplink) keep(ctx context.Context, h *heldLink) error {
	for {
		select {
		case <-h.client.Draining(): // or lost
		case <-ctx.Done():
		}
		u.set(nil)
		u.work.Go(h.retire)
		if ctx.Err() != nil {
			return nil
		}
		why := "it is shutting down"
		if err := h.session.Err(); err != nil {
			why = plain(err)
		}
		u.log.line(fmt.Sprintf("the session with %s is over: %s; connecting again", u.addr, why))
		next, err := u.redial(ctx)
		if err != nil || next == nil {
			return err
		}
		u.log.line("connected again to " + u.addr)
		h = &heldLink{link: next}
		u.set(h)
	}
}

// redial tries until there is a session, or ctx ends: then it returns none. An identity that was refused is an error; time may mend all
// else, as it does a file that cannot be read while there are too many open.
func (u *uplink) redial(ctx context.Context) (*link, error) {
	said := ""
	for wait := firstBackoff; ; wait = min(2*wait, lastBackoff) {
		l, err := u.dial(ctx)
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return nil, nil
		case exitCode(err) == exitIdentity:
			return nil, err
		}
		if text := err.Error(); text != said {
			u.log.line(text)
			said = text
		}
		if !wakeAt(ctx, time.Now().Add(wait/2+rand.N(wait/2))) {
			return nil, nil
		}
	}
}

// acquire waits for a session other than not. Its conns must be told when it is of no more use.
func (u *uplink) acquire(ctx context.Context, not *heldLink) *heldLink {
	for {
		u.mu.Lock()
		h, changed := u.current, u.changed
		if h != nil && h != not {
			h.conns.Add(1)
			u.mu.Unlock()
			return h
		}
		u.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// open opens a connection, on another session if the one there is takes no more. Who uses the connection calls conns.Done.
func (u *uplink) open(ctx context.Context, method string) (*heldLink, net.Conn, error) {
	waiting, cancel := context.WithTimeout(ctx, reconnectWait)
	defer cancel()
	var last *heldLink
	for {
		h := u.acquire(waiting, last)
		if h == nil {
			return nil, nil, fmt.Errorf("there was no session with %s for %v", u.addr, reconnectWait)
		}
		conn, err := u.openOn(ctx, h, method)
		if err == nil {
			return h, conn, nil
		}
		h.conns.Done()
		if rpc.CodeOf(err) != rpc.Unavailable || rpc.OutcomeOf(err) == rpc.Executed {
			return nil, nil, err
		}
		last = h
	}
}

func (u *uplink) openOn(ctx context.Context, h *heldLink, method string) (net.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	return h.client.OpenConn(bounded, method)
}
