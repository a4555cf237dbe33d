package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DNS finds endpoints by name. It asks again and again, since DNS does not tell of changes: this is how Kubernetes' headless
// services and Consul's appear. An answer that fails, or is empty, is no news. It is a Resolver for any number of Clients, each of
// which asks for itself; its fields must not be changed once it is used.
type DNS struct {
	// Name is "host:port", for the addresses of a host (A and AAAA), each with that port; or "_service._proto.name", for the
	// servers of a service (SRV): those of the best priority, with their weights. A numeric port is due in the former.
	Name string
	// Every is how often to ask, give or take a fifth. Default 30 s.
	Every time.Duration
	// Floor is the least time between two questions, if there were failures to connect. Default 5 s.
	Floor time.Duration
	// Timeout bounds a question. Default 5 s.
	Timeout time.Duration
	// Lookup answers. Default net.DefaultResolver.
	Lookup Lookup

	mu  sync.Mutex // protects now
	now chan struct{}
}

// A Lookup is what DNS needs of a *net.Resolver.
type Lookup interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Refresh has the question asked soon: Floor after the last at the earliest.
func (d *DNS) Refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now != nil {
		close(d.now)
		d.now = nil
	}
}

// refreshed is closed by the next Refresh.
func (d *DNS) refreshed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now == nil {
		d.now = make(chan struct{})
	}
	return d.now
}

// Watch is a Resolver's.
func (d *DNS) Watch(ctx context.Context) iter.Seq2[[]Endpoint, error] {
	every, floor, timeout := d.Every, d.Floor, d.Timeout
	fill(&every, 30*time.Second)
	fill(&floor, 5*time.Second)
	fill(&timeout, 5*time.Second)
	return func(yield func([]Endpoint, error) bool) {
		for ctx.Err() == nil {
			refreshed := d.refreshed()
			set, err := d.ask(ctx, timeout)
			if ctx.Err() != nil || !yield(set, err) || !sleep(ctx, floor) {
				return
			}
			rest := time.Duration(float64(every)*(0.8+0.4*rand.Float64())) - floor
			timer := time.NewTimer(rest)
			select {
			case <-timer.C:
			case <-refreshed:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
}

// ask asks once. It returns endpoints or an error.
func (d *DNS) ask(ctx context.Context, timeout time.Duration) (set []Endpoint, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var lookup Lookup = net.DefaultResolver
	if d.Lookup != nil {
		lookup = d.Lookup
	}
	if strings.HasPrefix(d.Name, "_") {
		set, err = d.services(ctx, lookup)
	} else {
		set, err = d.hosts(ctx, lookup)
	}
	if err == nil && len(set) == 0 {
		err = errors.New("the answer is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: DNS of %q: %w", d.Name, err)
	}
	return set, nil
}

func (d *DNS) hosts(ctx context.Context, lookup Lookup) (set []Endpoint, err error) {
	host, port, err := net.SplitHostPort(d.Name)
	if err != nil {
		return nil, err
	}
	addrs, err := lookup.LookupHost(ctx, host)
	for _, addr := range addrs {
		set = append(set, Endpoint{Addr: net.JoinHostPort(addr, port), Name: host})
	}
	return set, err
}

func (d *DNS) services(ctx context.Context, lookup Lookup) (set []Endpoint, err error) {
	// The name is asked for as it is. With an error, there may be records beside those that are not names.
	_, records, err := lookup.LookupSRV(ctx, "", "", d.Name)
	if len(records) == 0 {
		return nil, err
	}
	best := slices.MinFunc(records, func(a, b *net.SRV) int { return int(a.Priority) - int(b.Priority) }).Priority
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		if r.Priority != best || host == "" { // "." says that there is no such service
			continue
		}
		set = append(set, Endpoint{Addr: net.JoinHostPort(host, strconv.Itoa(int(r.Port))), Name: host, Weight: int(r.Weight)})
	}
	return set, nil
}
