package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// TestKnownServers: one Trust with a file serves all endpoints, each of which is asked about once; a stranger that is refused gets no
// calls, and hinders none.
func TestKnownServers(t *testing.T) {
	var serving sync.WaitGroup
	defer serving.Wait()
	a, b, stranger := newSealed(t, &serving, "a"), newSealed(t, &serving, "b"), newSealed(t, &serving, "stranger")
	for _, s := range []*sealed{a, b, stranger} {
		defer s.srv.Close()
	}
	no := errors.New("no")
	path := filepath.Join(t.TempDir(), "known_servers")
	known := transport.KnownServers(path, func(_ context.Context, address string, _ *transport.PublicKey) error {
		if address == stranger.addr {
			return no
		}
		return nil
	})
	ctx := within(t, time.Minute)
	for _, peers := range []*transport.Trust{known, transport.KnownServers(path, nil)} { // and again, by the file alone
		c := New(Static(a.addr, b.addr, stranger.addr), Options{Balancer: RoundRobin(), Eager: true,
			Dial: DialTransport("tcp", &transport.Config{Peers: peers, Protocol: rpc.Protocol, Tickets: transport.NewTicketCache(1)})})
		seen := map[string]bool{}
		for len(seen) < 2 {
			at, err := where.Call(ctx, c, "")
			if err != nil || at == "stranger" {
				t.Fatal(at, err)
			}
			seen[at] = true
		}
		for refused := false; !refused; {
			e := c.Snapshot().endpoint(stranger.addr)
			refused = errors.Is(e.Err, transport.ErrServerKey) && errors.Is(e.Err, no) == (peers == known)
			if !refused && !sleep(ctx, time.Millisecond) {
				t.Fatalf("%+v", e)
			}
		}
		c.Close()
	}
	if lines, err := transport.ReadKnownServers(path); len(lines) != 2 || err != nil {
		t.Error(lines, err)
	}
}
