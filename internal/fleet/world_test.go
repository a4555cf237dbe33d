//go:build unix

package fleet

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/rpc/cluster/etcd"
	"github.com/sealmux/sealmux/transport"
)

const service = "services/work"

// patience is how long a test waits for what must come. It is no measure of anything.
const patience = time.Minute

// keys is one key, as PEM and as the client's pin: of 2048 bits, the smallest there may be.
var keys = sync.OnceValues(func() ([]byte, *transport.Trust) {
	raw, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(raw)
	if err != nil {
		panic(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	key, err := transport.ParsePrivateKey(data)
	if err != nil {
		panic(err)
	}
	return data, transport.Pin(key.Public())
})

// A world is an etcd, servers that are processes, and a client of them under load.
type world struct {
	dir      string
	engine   *embed.Etcd
	addr     string // etcd's
	servers  int    // started so far
	registry *etcd.Registry
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), addr: "127.0.0.1:0"}
	pemKey, _ := keys()
	if err := os.WriteFile(w.dir+"/key", pemKey, 0o600); err != nil {
		t.Fatal(err)
	}
	w.startEtcd(t)
	t.Cleanup(func() { w.engine.Close() })
	discovery, err := clientv3.New(clientv3.Config{Endpoints: []string{w.addr}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { discovery.Close() })
	w.registry = etcd.New(discovery, service, etcd.Options{})
	return w
}

func (w *world) startEtcd(t testing.TB) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = w.dir + "/etcd"
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: w.addr}}
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.TickMs, cfg.ElectionMs = 50, 500
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	engine, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-engine.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatal("etcd is not ready")
	}
	w.engine, w.addr = engine, engine.Clients[0].Addr().String()
}

// A server is a process that is announced.
type server struct {
	*process
	name, addr string // where it listens
}

// start starts a server that is announced at its address, or the one that public makes of it.
func (w *world) start(t testing.TB, ttl time.Duration, public func(addr string) string) *server {
	t.Helper()
	w.servers++
	name := fmt.Sprintf("server %d", w.servers)
	s := &server{process: run(t, "server", w.dir+"/key", fmt.Sprintf("%s/journal-%d", w.dir, w.servers), name, w.addr, ttl.String()), name: name}
	s.addr = s.line(t)
	addr := s.addr
	if public != nil {
		addr = public(addr)
	}
	fmt.Fprintln(s.in, addr)
	s.line(t)
	return s
}

func (w *world) three(t testing.TB, ttl time.Duration) []*server {
	return []*server{w.start(t, ttl, nil), w.start(t, ttl, nil), w.start(t, ttl, nil)}
}

// client makes a client of the service.
func (w *world) client(t testing.TB, cfg transport.Config, opts cluster.Options) *cluster.Client {
	_, cfg.Peers = keys()
	cfg.Protocol, cfg.Tickets = rpc.Protocol, transport.NewTicketCache(1)
	opts.Dial = cluster.DialTransport("tcp", &cfg)
	opts.Policy = func(method string) cluster.Policy { return cluster.Policy{Idempotent: method == Read.Name} }
	c := cluster.New(w.registry, opts)
	t.Cleanup(func() { c.Close() })
	return c
}

// A result is what became of a call.
type result struct {
	id           uint64
	read         bool
	began, ended time.Time
	server       string // that answered
	err          error
}

// A load is calls without end: by callers, each of which makes one at a time, or at a rate, whether or not they are answered.
type load struct {
	stop   context.CancelFunc
	wg     sync.WaitGroup
	nextID atomic.Uint64

	mu      sync.Mutex // protects all below
	results []result
	changed chan struct{}
}

// callers is how many callers a load has. Every fourth calls Read.
const callers = 16

func begin(t testing.TB, c rpc.Caller) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop, changed: make(chan struct{})}
	for n := range callers {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				l.call(c, n%4 == 0)
			}
		})
	}
	t.Cleanup(func() { l.end() })
	return l
}

// rate is how often a load of beginAt calls: every so long.
const rate = 2500 * time.Microsecond

// beginAt makes a load of one call every rate, so that calls which wait for a server do not make the load less.
func beginAt(t testing.TB, c rpc.Caller) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop, changed: make(chan struct{})}
	l.wg.Go(func() {
		ticker := time.NewTicker(rate)
		defer ticker.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			l.wg.Go(func() { l.call(c, n%4 == 0) })
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() { l.end() })
	return l
}

func (l *load) call(c rpc.Caller, read bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := result{id: l.nextID.Add(1), read: read, began: time.Now()}
	method := Work
	if read {
		method = Read
	}
	r.server, r.err = method.Call(ctx, c, r.id)
	r.ended = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results = append(l.results, r)
	close(l.changed)
	l.changed = make(chan struct{})
}

// end waits for the calls that there are, and returns all results.
func (l *load) end() []result {
	l.stop()
	l.wg.Wait()
	return l.results
}

// answers waits until each server has answered so many more calls that began from now on.
func (l *load) answers(t testing.TB, calls int, servers ...*server) {
	t.Helper()
	from, late := time.Now(), time.After(patience)
	counts, at := make(map[string]int), 0
	for {
		l.mu.Lock()
		for ; at < len(l.results); at++ {
			if r := l.results[at]; r.err == nil && r.began.After(from) {
				counts[r.server]++
			}
		}
		changed := l.changed
		l.mu.Unlock()
		enough := true
		for _, s := range servers {
			enough = enough && counts[s.name] >= calls
		}
		if enough {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("calls were answered by %v only", counts)
		}
	}
}

// A verdict counts results that agree with the journals.
type verdict struct{ well, unknown, never, twice int }

func (v verdict) String() string {
	return fmt.Sprintf("%d calls well, %d may have run, %d never ran, %d that may run twice did", v.well, v.unknown, v.never, v.twice)
}

// judge compares what the callers were told with what the servers did.
func (w *world) judge(t testing.TB, results []result) (v verdict) {
	t.Helper()
	ran := w.journals(t)
	for _, r := range results {
		times, wrong := ran[r.id], false
		delete(ran, r.id)
		if times > 1 && r.read {
			v.twice++
			times = 1
		}
		switch o := rpc.OutcomeOf(r.err); {
		case r.err == nil:
			v.well++
			wrong = times != 1
		case o == rpc.OutcomeUnknown:
			v.unknown++
			wrong = times > 1 || r.read
		case o == rpc.NotSent || o == rpc.NotExecuted:
			v.never++
			wrong = times != 0
		default:
			wrong = true
		}
		if wrong {
			t.Errorf("call %d (may run twice: %v) ran %d times and ended: %v", r.id, r.read, times, r.err)
		}
	}
	if len(ran) > 0 {
		t.Errorf("%d calls ran that nobody made", len(ran))
	}
	return v
}

// failures reports the calls that failed.
func failures(t testing.TB, v verdict) {
	t.Helper()
	if n := v.unknown + v.never; n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

// journals counts the ids that all servers have written. The last line of one that was killed may be cut.
func (w *world) journals(t testing.TB) map[uint64]int {
	t.Helper()
	files, err := filepath.Glob(w.dir + "/journal-*")
	if err != nil || len(files) != w.servers {
		t.Fatalf("%d journals of %d servers: %v", len(files), w.servers, err)
	}
	ran := make(map[uint64]int)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var id uint64
			if _, err := fmt.Sscanf(line, "%d\n", &id); err == nil && strings.HasSuffix(line, "\n") {
				ran[id]++
			}
		}
	}
	return ran
}
