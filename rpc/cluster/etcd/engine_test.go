//go:build unix

package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/sealmux/sealmux/internal/faultnet"
	"github.com/sealmux/sealmux/rpc/cluster"
)

// roleEnv has the address of an etcd in a process that is to register there, and be killed.
const roleEnv = "SEALMUX_TEST_ETCD"

func TestMain(m *testing.M) {
	if addr := os.Getenv(roleEnv); addr != "" {
		registerRole(addr)
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must come. It is no measure of anything.
const patience = 60 * time.Second

// An engine is an etcd of one member, that can go and come back where it was.
type engine struct {
	dir, addr string
	etcd      *embed.Etcd
}

func start(t testing.TB) *engine {
	t.Helper()
	e := &engine{dir: t.TempDir(), addr: "127.0.0.1:0"}
	e.start(t)
	t.Cleanup(func() { e.stop() })
	return e
}

func (e *engine) start(t testing.TB) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = e.dir
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: e.addr}}
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.TickMs, cfg.ElectionMs = 20, 200 // leases may be as short as a second
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	var err error
	if e.etcd, err = embed.StartEtcd(cfg); err != nil {
		t.Fatal(err)
	}
	select {
	case <-e.etcd.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatal("etcd is not ready")
	}
	e.addr = e.etcd.Clients[0].Addr().String()
}

func (e *engine) stop() {
	if e.etcd != nil {
		e.etcd.Close()
		e.etcd = nil
	}
}

// wipe takes all data away.
func (e *engine) wipe(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(e.dir + "/member"); err != nil {
		t.Fatal(err)
	}
}

// connect makes a client of an etcd.
func connect(t testing.TB, addr string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// quick are options of tests: what is lost is noticed soon.
func quick(t testing.TB) Options {
	return Options{TTL: time.Second, Recheck: 300 * time.Millisecond, Timeout: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// A path is a proxy before an etcd, that can lose what is sent.
type path struct {
	*faultnet.Proxy
	lost atomic.Bool
}

func pathTo(t testing.TB, addr string) *path {
	t.Helper()
	p := new(path)
	var err error
	p.Proxy, err = faultnet.NewProxy(addr, func(int) (up, down faultnet.Line) {
		if p.lost.Load() {
			up.Faults = []faultnet.Fault{{Kind: faultnet.Stall}}
		}
		return up, down
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// lose has everything lost from now on, or nothing any more.
func (p *path) lose(lost bool) {
	p.lost.Store(lost)
	p.Cut()
}

// A seen is what a watch has yielded.
type seen struct {
	mu      sync.Mutex // protects all below
	sets    [][]cluster.Endpoint
	errs    []error
	changed chan struct{}
}

// observe watches until the test ends.
func observe(t testing.TB, r *Registry) *seen {
	ctx, cancel := context.WithCancel(context.Background())
	s := &seen{changed: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		for set, err := range r.Watch(ctx) {
			s.mu.Lock()
			if err != nil {
				s.errs = append(s.errs, err)
			} else {
				s.sets = append(s.sets, set)
			}
			close(s.changed)
			s.changed = make(chan struct{})
			s.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return s
}

// last is the newest set.
func (s *seen) last() (set []cluster.Endpoint, n, errs int, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sets) > 0 {
		set = s.sets[len(s.sets)-1]
	}
	return set, len(s.sets), len(s.errs), s.changed
}

// await waits until the newest set has these addresses.
func (s *seen) await(t testing.TB, addrs ...string) []cluster.Endpoint {
	t.Helper()
	late := time.After(patience)
	for {
		set, n, errs, changed := s.last()
		if n > 0 && slices.Equal(addresses(set), addrs) {
			return set
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the set is %v after %d sets and %d errors; want %v", addresses(set), n, errs, addrs)
		}
	}
}

// awaitError waits until there are more than n errors.
func (s *seen) awaitError(t testing.TB, n int) {
	t.Helper()
	late := time.After(patience)
	for {
		_, _, errs, changed := s.last()
		if errs > n {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatal("no error was yielded")
		}
	}
}

// empties counts the sets without endpoints behind the first n.
func (s *seen) empties(n int) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, set := range s.sets[n:] {
		if len(set) == 0 {
			count++
		}
	}
	return count
}

func addresses(set []cluster.Endpoint) (addrs []string) {
	for _, e := range set {
		addrs = append(addrs, e.Addr)
	}
	return addrs
}

// register announces addr until the test ends.
func register(t testing.TB, r *Registry, addr string) cluster.Lease {
	t.Helper()
	lease, err := r.Register(t.Context(), cluster.Endpoint{Addr: addr})
	for late := time.Now().Add(patience); err != nil && time.Now().Before(late); { // etcd's client may not have noticed that etcd is back
		lease, err = r.Register(t.Context(), cluster.Endpoint{Addr: addr})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lease.Deregister(within(t, time.Second)) })
	return lease
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// registerRole announces itself, says so, and waits to be killed.
func registerRole(addr string) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	if err == nil {
		_, err = New(client, "s", Options{TTL: time.Second}).Register(context.Background(), cluster.Endpoint{Addr: "mortal:1"})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("registered")
	select {}
}
