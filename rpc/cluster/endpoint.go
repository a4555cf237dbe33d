package cluster

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"
)

// An Endpoint is one server of a service. Two of one set have different Addrs.
type Endpoint struct {
	Addr string // what Options.Dial connects to, such as "10.0.0.7:7443"; names the endpoint in its set
	Name string // for people, and for a Dial that keeps a key for each name; may be empty
	// Weight is the share of calls that it should get, beside the others' weights. Default 1, at most 65,535.
	Weight int
	// Pins are fingerprints of the keys that this server may have, for a Dial that looks at them (DialTransport does). They come from
	// discovery, and so may only narrow what is trusted here. Empty: no narrower.
	Pins []string
	// Attributes are for Options.Dial and for balancers of one's own: a zone, a version. They must not be changed.
	Attributes map[string]string
}

func (e Endpoint) weight() float64 { return float64(min(max(e.Weight, 1), math.MaxUint16)) }

// sameSession reports whether a session to e serves for o: they differ in weight at most.
func (e Endpoint) sameSession(o Endpoint) bool {
	return e.Addr == o.Addr && e.Name == o.Name && slices.Equal(e.Pins, o.Pins) && maps.Equal(e.Attributes, o.Attributes)
}

// A Resolver tells where the servers of a service are. A Client that has lost a session, or cannot make one, calls Refresh if its
// Resolver has that method (func Refresh()), which must not block: look again soon.
type Resolver interface {
	// Watch yields the whole set of endpoints: as it is, and then whenever it has changed, until ctx ends. With an error it
	// yields a nil set: there is no news because of that, and Watch goes on trying. A Client whose Watch returns calls it again.
	// A set without endpoints changes nothing for a Client that has one: it keeps to the last, so that a discovery
	// that has lost its data does not take down what works.
	Watch(ctx context.Context) iter.Seq2[[]Endpoint, error]
}

// A Registrar announces servers to the Resolvers of clients. A server registers when it can answer calls, and deregisters before it
// drains: then clients go elsewhere before they are sent away.
type Registrar interface {
	// Register announces e until the Lease ends. ctx bounds the call alone.
	Register(ctx context.Context, e Endpoint) (Lease, error)
}

// A Lease is an announcement that its Registrar keeps alive. A server that dies without a word loses it, after a time that is the
// Registrar's.
type Lease interface {
	// Lost is closed when the announcement ended or may have ended without Deregister, and the Registrar does not renew it by itself:
	// register again.
	Lost() <-chan struct{}
	// Deregister takes the announcement back. It may be called again, after an error for example.
	Deregister(ctx context.Context) error
}

// A List is endpoints kept by hand: a static list, or one that Set changes, or what the servers of one process register. It is a
// Resolver for any number of Clients, and a Registrar. The zero value is empty. All methods may be called by many goroutines at once.
type List struct {
	mu         sync.Mutex // protects all below
	set        []Endpoint
	registered map[*listLease]Endpoint
	changed    chan struct{} // closed at the next change; nil until somebody watches
}

// Static returns a List of these addresses.
func Static(addrs ...string) *List {
	l := new(List)
	for _, addr := range addrs {
		l.set = append(l.set, Endpoint{Addr: addr})
	}
	return l
}

// Set replaces the endpoints that were given to Static and Set. Those that are registered stay.
func (l *List) Set(endpoints ...Endpoint) {
	l.change(func() { l.set = slices.Clone(endpoints) })
}

// Register adds e until its Lease is deregistered; it is never lost. Its error is nil.
func (l *List) Register(_ context.Context, e Endpoint) (Lease, error) {
	lease := &listLease{list: l}
	l.change(func() {
		if l.registered == nil {
			l.registered = make(map[*listLease]Endpoint)
		}
		l.registered[lease] = e
	})
	return lease, nil
}

// Watch is a Resolver's.
func (l *List) Watch(ctx context.Context) iter.Seq2[[]Endpoint, error] {
	return func(yield func([]Endpoint, error) bool) {
		for ctx.Err() == nil {
			l.mu.Lock()
			if l.changed == nil {
				l.changed = make(chan struct{})
			}
			changed := l.changed
			set := slices.AppendSeq(slices.Clone(l.set), maps.Values(l.registered))
			l.mu.Unlock()
			if !yield(set, nil) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

func (l *List) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// A listLease is an endpoint registered in a List.
type listLease struct{ list *List }

// Lost is never closed: the List is of this process.
func (l *listLease) Lost() <-chan struct{} { return nil }

// Deregister removes the endpoint.
func (l *listLease) Deregister(context.Context) error {
	l.list.change(func() { delete(l.list.registered, l) })
	return nil
}

// normal returns a set sorted by address, each address once: of several the first stays.
func normal(set []Endpoint) []Endpoint {
	set = slices.Clone(set)
	slices.SortStableFunc(set, func(a, b Endpoint) int { return cmp.Compare(a.Addr, b.Addr) })
	return slices.CompactFunc(set, func(a, b Endpoint) bool { return a.Addr == b.Addr })
}
