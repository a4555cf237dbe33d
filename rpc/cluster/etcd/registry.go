package etcd

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealmux/sealmux/rpc/cluster"
)

// Options are the habits of a Registry. The zero value of each, or a negative one, stands for its default.
type Options struct {
	// TTL is how long the announcement of a server stays that has died without a word: whole seconds, rounded up. etcd makes it
	// 1.5 times its election timeout at least. It is renewed three times in that time. Default 10 s.
	TTL time.Duration
	// MaxEndpoints bounds how many entries of the service are read; further ones are left out, and logged. Default 10,000.
	MaxEndpoints int
	// Recheck is how often a watch compares what it knows with what etcd has, give or take a fifth. It costs etcd
	// a count of the service's keys, on one member. Default 60 s.
	Recheck time.Duration
	// Timeout bounds a request to etcd. Default 5 s.
	Timeout time.Duration
	// Logger gets entries that are left out, and announcements that were lost (Warn) and made again (Info). Default: nothing is logged.
	Logger *slog.Logger
}

// A Registry is one service in etcd: a cluster.Resolver for any number of Clients, each of which watches for itself, and a cluster.Registrar for
// any number of servers. All methods may be called by many goroutines at once.
type Registry struct {
	client *clientv3.Client
	prefix string
	opts   Options

	mu  sync.Mutex // protects now
	now chan struct{}
}

var (
	_ cluster.Resolver  = (*Registry)(nil)
	_ cluster.Registrar = (*Registry)(nil)
)

// New returns the Registry of a service, such as "services/users". The etcd client stays the caller's, who closes it when all watches
// have ended and all leases are deregistered. New talks to nobody. It panics if client is nil, or service is empty or ends in a slash.
func New(client *clientv3.Client, service string, opts Options) *Registry {
	if client == nil || service == "" || strings.HasSuffix(service, "/") {
		panic("cluster/etcd: New needs a client, and a service without a slash at its end")
	}
	fill(&opts.TTL, 10*time.Second)
	fill(&opts.MaxEndpoints, 10_000)
	fill(&opts.Recheck, time.Minute)
	fill(&opts.Timeout, 5*time.Second)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Registry{client: client, prefix: service + "/", opts: opts}
}

func fill[N int | time.Duration](v *N, def N) {
	if *v <= 0 {
		*v = def
	}
}

// Refresh has the watches look soon whether they have missed something: 5 s after they last looked at the earliest. A cluster.Client calls
// it when it cannot connect.
func (r *Registry) Refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != nil {
		close(r.now)
		r.now = nil
	}
}

// refreshed is closed by the next Refresh.
func (r *Registry) refreshed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		r.now = make(chan struct{})
	}
	return r.now
}

// bounded is ctx for one request.
func (r *Registry) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.opts.Timeout)
}

// hurry has etcd's client connect now, if it waits to do so: after an outage gRPC may wait for two minutes.
func (r *Registry) hurry() { r.client.ActiveConnection().ResetConnectBackoff() }

// Pauses between requests that fail: of a random length, as many servers and clients lose the same etcd at the same time.
const firstPause, longestPause = 200 * time.Millisecond, 5 * time.Second

// pause waits after so many failures in a row, and reports whether it was not cut short by ctx.
func pause(ctx context.Context, failures int) bool {
	long := min(firstPause<<min(failures, 10), longestPause)
	timer := time.NewTimer(long/2 + rand.N(long/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
