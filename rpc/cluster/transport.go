package cluster

import (
	"context"
	"fmt"
	"slices"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// DialTransport returns an Options.Dial that makes sessions of package transport: network is transport.Dial's, and cfg serves for all
// endpoints. cfg.Peers decides which servers are trusted: pin each server's key, or the one that they share. An
// Endpoint's Pins can only take away from that: whoever can write to the discovery can keep this client from a server, but not have
// it trust another. Set cfg.Tickets, for a place for each endpoint, so that reconnecting is cheap.
func DialTransport(network string, cfg *transport.Config) func(context.Context, Endpoint) (rpc.Session, error) {
	return func(ctx context.Context, e Endpoint) (rpc.Session, error) {
		session, err := transport.Dial(ctx, network, e.Addr, cfg)
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
