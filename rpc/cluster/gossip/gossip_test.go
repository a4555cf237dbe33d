package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = bytes.Repeat([]byte{7}, 32)

// quick has the times for one machine; a test waits for what happens, not for these.
func quick(c *memberlist.Config) {
	local := memberlist.DefaultLocalConfig()
	c.GossipInterval, c.ProbeInterval, c.ProbeTimeout, c.TCPTimeout = local.GossipInterval, 200*time.Millisecond, local.ProbeTimeout, local.TCPTimeout
	c.SuspicionMult = 2
}

func join(t *testing.T, seeds ...*Group) *Group {
	t.Helper()
	opts := Options{Bind: "127.0.0.1:0", Key: testKey, Tune: quick}
	for _, s := range seeds {
		opts.Seeds = append(opts.Seeds, s.Addr())
	}
	g, err := Join(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// sees waits until a service has these endpoints.
func sees(t *testing.T, s *Service, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	slices.Sort(want)
	var last []string
	for set, err := range s.Watch(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		last = []string{}
		for _, e := range set {
			last = append(last, e.Addr)
		}
		if slices.Sort(last); slices.Equal(last, want) {
			return
		}
	}
	t.Fatalf("it sees %q, not %q", last, want)
}

func register(t *testing.T, s *Service, addr string) cluster.Lease {
	t.Helper()
	lease, err := s.Register(t.Context(), cluster.Endpoint{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func TestRegister(t *testing.T) {
	a := join(t)
	b := join(t, a)
	c := join(t, a)
	kv := c.Service("kv")
	sees(t, kv)
	whole := cluster.Endpoint{Addr: "10.0.0.1:1", Name: "one", Weight: 3, Pins: []string{"SHA256:x"}, Attributes: map[string]string{"zone": "a"}}
	one, err := a.Service("kv").Register(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	sees(t, kv, "10.0.0.1:1")
	for set := range kv.Watch(t.Context()) {
		if got := set[0]; got.Name != "one" || got.Weight != 3 || got.Pins[0] != "SHA256:x" || got.Attributes["zone"] != "a" {
			t.Errorf("%+v", got)
		}
		break
	}
	register(t, b.Service("kv"), "10.0.0.2:1")
	register(t, b.Service("mail"), "10.0.0.2:2") // another's, and a second of this member
	sees(t, kv, "10.0.0.1:1", "10.0.0.2:1")
	sees(t, a.Service("mail"), "10.0.0.2:2")
	sees(t, b.Service("mail"), "10.0.0.2:2") // its own
	if err := one.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	if err := one.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	sees(t, kv, "10.0.0.2:1")
	b.Close() // leaves
	sees(t, kv)
}

// A member that dies without a word is noticed.
func TestDeath(t *testing.T) {
	a := join(t)
	b := join(t, a)
	register(t, b.Service("kv"), "10.0.0.2:1")
	sees(t, a.Service("kv"), "10.0.0.2:1")
	b.once.Do(func() { // Close, but that it does not leave
		b.cancel()
		b.list.Shutdown()
		b.wg.Wait()
	})
	sees(t, a.Service("kv"))
}

// A member that has lost all others finds them again.
func TestRejoin(t *testing.T) {
	a := join(t)
	b := join(t, a)
	register(t, a.Service("kv"), "10.0.0.1:1")
	sees(t, b.Service("kv"), "10.0.0.1:1")
	addr := a.Addr()
	a.Close()
	sees(t, b.Service("kv"))
	again, err := Join(t.Context(), Options{Bind: addr, Key: testKey, Tune: quick}) // the first of all, anew
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	register(t, again.Service("kv"), "10.0.0.3:1")
	sees(t, b.Service("kv"), "10.0.0.3:1")
}

func TestStrangers(t *testing.T) {
	a := join(t)
	register(t, a.Service("kv"), "10.0.0.1:1")
	for name, opts := range map[string]Options{"another key": {Key: bytes.Repeat([]byte{8}, 32)}, "no key": {Plaintext: true}} {
		opts.Bind, opts.Tune, opts.Seeds = "127.0.0.1:0", quick, []string{a.Addr()}
		if g, err := Join(t.Context(), opts); err == nil {
			t.Errorf("a member with %s", name)
			g.Close()
		}
	}
	raw, err := net.Dial("tcp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(raw, "GET / HTTP/1.1\r\n\r\n")
	raw.Close()
	sees(t, a.Service("kv"), "10.0.0.1:1")
}

func TestOptions(t *testing.T) {
	for want, opts := range map[string]Options{"Key": {}, "which?": {Key: testKey, Plaintext: true}, "24 or 32": {Key: testKey[:5]},
		"HOST:PORT": {Bind: "nowhere", Key: testKey}, "no port": {Bind: "127.0.0.1:x", Key: testKey}, `"there"`: {Advertise: "there", Key: testKey}} {
		if _, err := Join(t.Context(), opts); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := Join(ctx, Options{Bind: "127.0.0.1:0", Key: testKey, Tune: quick, Seeds: []string{silent.Addr().String()}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTooMuch(t *testing.T) {
	g := join(t)
	kv := g.Service("kv")
	kept := register(t, kv, "10.0.0.1:1")
	_, err := kv.Register(t.Context(), cluster.Endpoint{Addr: "10.0.0.1:2", Name: strings.Repeat("n", 500)})
	if !errors.Is(err, ErrTooMuch) {
		t.Error(err)
	}
	if _, err := kv.Register(t.Context(), cluster.Endpoint{}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
	sees(t, kv, "10.0.0.1:1")
	g.Close()
	if err := kept.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-kept.Lost():
	default:
		t.Error("a lease of a group that is closed")
	}
	if _, err := kv.Register(t.Context(), cluster.Endpoint{Addr: "x"}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	for _, err := range kv.Watch(t.Context()) {
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

// What a member says may be anything; what this one is told of is bounded.
func TestOtherMembers(t *testing.T) {
	g := join(t)
	g.opts.MaxEndpoints = 2
	for i, meta := range []string{"not JSON", `{"s":"kv"}`, `[{"s":"kv"}]`, `[{"s":"kv","a":"10.0.0.1:1"},{"s":"kv","a":"10.0.0.1:2"},{"s":"kv","a":"10.0.0.1:3"}]`} {
		cfg, err := (&Options{Bind: "127.0.0.1:0", Key: testKey, Name: fmt.Sprint("other", i), Tune: quick}).config()
		if err != nil {
			t.Fatal(err)
		}
		cfg.LogOutput, cfg.Delegate = io.Discard, &odd{meta: meta}
		list, err := memberlist.Create(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer list.Shutdown()
		if _, err := list.Join([]string{g.Addr()}); err != nil {
			t.Fatal(err)
		}
	}
	sees(t, g.Service("kv"), "10.0.0.1:1", "10.0.0.1:2")
}

type odd struct {
	delegate
	meta string
}

func (o *odd) NodeMeta(int) []byte { return []byte(o.meta) }

// A client of a service finds its servers, and goes on when one leaves.
func TestCluster(t *testing.T) {
	key, err := transport.GenerateKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	seed := join(t)
	var serving sync.WaitGroup
	type server struct {
		srv   *rpc.Server
		lease cluster.Lease
	}
	var servers []server
	for range 2 {
		member := join(t, seed)
		l, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", &transport.Config{Keys: []*transport.PrivateKey{key},
			Peers: transport.AnyClient(), Protocol: rpc.Protocol})
		if err != nil {
			t.Fatal(err)
		}
		s := server{srv: rpc.NewServer(rpc.Options{})}
		serving.Go(func() { rpc.Serve(context.Background(), s.srv, l) })
		s.lease = register(t, member.Service("echo"), l.Addr().String())
		servers = append(servers, s)
	}
	client := cluster.New(join(t, seed).Service("echo"), cluster.Options{
		Dial: cluster.DialTransport("tcp", &transport.Config{Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol})})
	call := func() {
		t.Helper()
		if _, err := rpc.Call[string](t.Context(), client, "echo", "x"); err != nil {
			t.Error(err)
		}
	}
	for range 50 {
		call()
	}
	if err := servers[0].lease.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	stopping := make(chan error, 1)
	go func() { stopping <- servers[0].srv.Shutdown(context.Background()) }()
	for range 50 {
		call()
	}
	if err := <-stopping; err != nil {
		t.Error(err)
	}
	for range 50 {
		call()
	}
	client.Close()
	servers[1].srv.Shutdown(context.Background())
	serving.Wait()
}
