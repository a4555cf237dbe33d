package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// DialTransport returns an Options.Dial that makes sessions of package transport: network is transport.Dial's, and cfg serves for all
// endpoints. cfg.Peers decides which servers are trusted: pin each server's key, or the one that they share. An
// Endpoint's Pins can only take away from that: whoever can write to the discovery can keep this client from a server, but not have
// it trust another. transport.KnownServers knows an endpoint by its Addr, and has Options.DialTimeout for its question: time for a program
// to answer, not for a person. With a nil one it refuses those that its file does not have.
//
// If cfg.Tickets is set, sessions are resumed, which makes reconnecting several times cheaper; the tickets are kept for each address, of the
// 4096 used last, and cfg.Tickets stays as it is: from one cache for all servers, each would be offered the others' tickets.
func DialTransport(network string, cfg *transport.Config) func(context.Context, Endpoint) (rpc.Session, error) {
	caches := &caches{held: make(map[string]*transport.TicketCache)}
	return func(ctx context.Context, e Endpoint) (rpc.Session, error) {
		own := cfg
		if cfg != nil && cfg.Tickets != nil {
			resuming := *cfg
			resuming.Tickets = caches.of(e.Addr)
			own = &resuming
		}
		session, err := transport.Dial(ctx, network, e.Addr, own)
		if err != nil {
			return nil, err
		}
		if err := pinned(e, session.Peer().Fingerprint()); err != nil {
			session.Close()
			return nil, err
		}
		return session, nil
	}
}

// maxCaches is for how many addresses tickets are kept.
const maxCaches = 4096

// caches are the tickets by address.
type caches struct {
	mu    sync.Mutex // protects all below
	held  map[string]*transport.TicketCache
	order []string // of held, the one used last at the end
}

func (c *caches) of(addr string) *transport.TicketCache {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.order, addr); at >= 0 {
		c.order = slices.Delete(c.order, at, at+1)
	}
	c.order = append(c.order, addr)
	if len(c.order) > maxCaches {
		delete(c.held, c.order[0])
		c.order = slices.Delete(c.order, 0, 1)
	}
	if c.held[addr] == nil {
		c.held[addr] = transport.NewTicketCache(1)
	}
	return c.held[addr]
}

// pinned looks at a key that the transport trusts. Nothing has been sent so far but the handshake.
func pinned(e Endpoint, key transport.Fingerprint) error {
	if len(e.Pins) > 0 && !slices.Contains(e.Pins, key.String()) {
		return &PinError{Addr: e.Addr, Pins: e.Pins, Key: key}
	}
	return nil
}

// A PinError is a server whose key is trusted here, but is not the one that its Endpoint names.
type PinError struct {
	Addr string
	Pins []string
	Key  transport.Fingerprint // the server's
}

func (e *PinError) Error() string {
	return fmt.Sprintf("cluster: the server at %s has the key %s, which is not among its pins %v; correct the registry, or see who answers there",
		e.Addr, e.Key, e.Pins)
}
