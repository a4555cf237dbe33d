package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// sealed is a server on TCP with a key of its own.
type sealed struct {
	key  *transport.PrivateKey
	srv  *rpc.Server
	addr string
	live atomic.Int64 // sessions
}

func newSealed(t *testing.T, wg *sync.WaitGroup, name string) *sealed {
	key, err := transport.GenerateKey(0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := transport.Listen(bg, "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	s := &sealed{key: key, addr: l.Addr().String()}
	s.srv = rpc.NewServer(rpc.Options{OnSession: func(ctx context.Context, _ rpc.Caller) {
		s.live.Add(1)
		<-ctx.Done()
		s.live.Add(-1)
	}})
	named(name)(s.srv)
	wg.Go(func() { rpc.Serve(bg, s.srv, l) })
	return s
}

// TestSealed: over TCP, to three servers with three keys: calls reach all of them, one is shut down, and no call fails; a server
// whose key the registry names wrongly is not talked to, and one that is trusted by the registry alone neither.
func TestSealed(t *testing.T) {
	var serving sync.WaitGroup
	defer serving.Wait()
	var servers []*sealed
	var list List
	for _, name := range []string{"a", "b", "c", "stranger"} {
		s := newSealed(t, &serving, name)
		defer s.srv.Close()
		servers = append(servers, s)
	}
	pin := func(i int) string { return servers[i].key.Public().Fingerprint().String() }
	cfg := &transport.Config{Protocol: rpc.Protocol, Tickets: transport.NewTicketCache(1),
		Peers: transport.Pin(servers[0].key.Public(), servers[1].key.Public(), servers[2].key.Public())}
	var set []Endpoint
	for i, s := range servers {
		set = append(set, Endpoint{Addr: s.addr, Pins: []string{pin(i), "SHA256:another"}})
	}
	list.Set(set...)
	dial := DialTransport("tcp", cfg)
	var resumed atomic.Int64
	c := New(&list, Options{Dial: func(ctx context.Context, e Endpoint) (rpc.Session, error) {
		session, err := dial(ctx, e)
		if err == nil && session.(*transport.Session).Resumed() {
			resumed.Add(1)
		}
		return session, err
	}, Balancer: RoundRobin(), Eager: true})
	defer c.Close()
	ctx := within(t, time.Minute)
	reach := func(names string) {
		t.Helper()
		missing := names
		for missing != "" {
			at, err := where.Call(ctx, c, "")
			if err != nil || !strings.Contains(names, at) {
				t.Fatalf("%q, %v, while %q is missing", at, err, missing)
			}
			missing = strings.ReplaceAll(missing, at, "")
		}
	}
	reach("abc")
	state := func(addr string, done func(EndpointStatus) bool) {
		t.Helper()
		for !done(c.Snapshot().endpoint(addr)) {
			if !sleep(ctx, time.Millisecond) {
				t.Fatalf("%+v", c.Snapshot().endpoint(addr))
			}
		}
	}
	state(servers[3].addr, func(e EndpointStatus) bool {
		_, ok := errors.AsType[*transport.ServerKeyError](e.Err)
		return ok && e.Sessions == 0 // its pin is in the registry, which does not make it trusted
	})
	var calls sync.WaitGroup
	stop, end := context.WithCancel(ctx)
	for range 8 {
		calls.Go(func() {
			for stop.Err() == nil {
				if _, err := where.Call(ctx, c, ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if err := servers[1].srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	state(servers[1].addr, func(e EndpointStatus) bool { return e.State == "waiting" })
	reach("ac")
	end()
	calls.Wait()

	set[2].Name = "another session"
	list.Set(set...)
	state(servers[2].addr, func(e EndpointStatus) bool { return e.Sessions == 1 && e.State == "ready" && e.Endpoint.Name != "" })
	if resumed.Load() == 0 {
		t.Error("the second session was not resumed")
	}
	set[0].Pins = []string{pin(2)} // trusted too, but not the one who answers there
	list.Set(set...)
	state(servers[0].addr, func(e EndpointStatus) bool {
		p, ok := errors.AsType[*PinError](e.Err)
		return ok && e.Sessions == 0 && p.Key == servers[0].key.Public().Fingerprint() && strings.Contains(p.Error(), pin(2))
	})
	for servers[0].live.Load() > 0 {
		if !sleep(ctx, time.Millisecond) {
			t.Fatal("a session is left to the server with another key")
		}
	}
	reach("c")
}

// TestCaches: an address keeps its tickets while it is among those used last.
func TestCaches(t *testing.T) {
	c := &caches{held: make(map[string]*transport.TicketCache)}
	first, second := c.of("a"), c.of("b")
	if first == second || c.of("a") != first {
		t.Error("not one for each address")
	}
	for i := range maxCaches - 1 {
		c.of(fmt.Sprint(i))
	}
	if c.of("a") != first || len(c.held) != maxCaches || len(c.order) != maxCaches {
		t.Error("forgotten, or too many", len(c.held), len(c.order))
	}
	if c.of("b") == second {
		t.Error("the one that was not used for longest is still there")
	}
}
