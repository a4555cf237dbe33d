package transport

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

const (
	// maxTicket bounds what a client keeps, and shows; one for a client with a key of 8192 bits has 1.3 KiB.
	maxTicket = 2 << 10
	// maxTicketLifetime bounds what a server may promise.
	maxTicketLifetime = 24 * time.Hour
	// ticketsPerOwner is how many tickets are kept for one server: as many sessions can be resumed at once.
	ticketsPerOwner = 8
)

// A TicketCache keeps the tickets that servers give to a client: with one, the handshake after the first is done without RSA
// operations, several times faster, and for pins that need one without the round trip for the server's key. Configs that share a
// cache resume each other's sessions. What is trusted does not change: a ticket is used, once, for a server key that the
// Config trusts at that time, with the same own key and protocol; a server that cannot use it asks for a full handshake,
// in the same connection. Tickets are secrets, and stay in memory. Safe for concurrent use; nil is no cache.
type TicketCache struct {
	most int

	mu    sync.Mutex // protects all below
	held  map[ticketOwner][]heldTicket
	order []ticketOwner // of held, the one that was given a ticket last at the end
}

// A ticketOwner is what a ticket may be used for.
type ticketOwner struct {
	server, client Fingerprint
	protocol       string
}

type heldTicket struct {
	server *PublicKey
	ticket []byte
	secret []byte
	end    time.Time
}

// NewTicketCache returns a cache for at most so many servers (at least 1), each with up to 8 tickets of at most 2 KiB. When there
// are more, the one is forgotten that has given no ticket for longest.
func NewTicketCache(servers int) *TicketCache {
	return &TicketCache{most: max(servers, 1), held: make(map[ticketOwner][]heldTicket)}
}

// put keeps a ticket.
func (c *TicketCache) put(owner ticketOwner, t heldTicket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := append(c.held[owner], t)
	if len(list) > ticketsPerOwner {
		clear(list[0].secret)
		list = slices.Delete(list, 0, 1)
	}
	c.held[owner] = list
	c.order = append(slices.DeleteFunc(c.order, func(o ticketOwner) bool { return o == owner }), owner)
	if len(c.order) > c.most {
		c.forgetLocked(c.order[0])
	}
}

// take returns the newest ticket that is still good, which is then the caller's alone.
func (c *TicketCache) take(owner ticketOwner) (t heldTicket, ok bool) {
	if c == nil {
		return t, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.held[owner]
	for len(list) > 0 && !ok {
		last := len(list) - 1
		t, list[last] = list[last], heldTicket{}
		list = list[:last]
		if ok = time.Now().Before(t.end); !ok {
			clear(t.secret)
		}
	}
	if c.held[owner] != nil {
		c.held[owner] = list
	}
	return t, ok
}

// forget drops all tickets of an owner.
func (c *TicketCache) forget(owner ticketOwner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(owner)
}

func (c *TicketCache) forgetLocked(owner ticketOwner) {
	for _, t := range c.held[owner] {
		clear(t.secret)
	}
	delete(c.held, owner)
	c.order = slices.DeleteFunc(c.order, func(o ticketOwner) bool { return o == owner })
}

// An awaitedTicket is what a client needs to use a ticket of the session that has just begun.
type awaitedTicket struct {
	cache  *TicketCache
	owner  ticketOwner
	server *PublicKey
	secret []byte
}

// keep takes the data of an accept record (rule H15). It is false if there should have been none, or not this.
func (a *awaitedTicket) keep(data []byte) bool {
	if a == nil || len(data) < 4+1 || len(data) > 4+maxTicket {
		return false
	}
	lifetime := time.Duration(binary.BigEndian.Uint32(data)) * time.Second
	if lifetime == 0 || lifetime > maxTicketLifetime {
		return false
	}
	a.cache.put(a.owner, heldTicket{a.server, bytes.Clone(data[4:]), a.secret, time.Now().Add(lifetime)})
	return true
}

// drop is for a session that begins without a ticket.
func (a *awaitedTicket) drop() {
	if a != nil {
		clear(a.secret)
	}
}
