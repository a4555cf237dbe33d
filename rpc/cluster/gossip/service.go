package gossip

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/sealmux/sealmux/rpc/cluster"
)

// A Service is one by its name in a Group: a cluster.Resolver of its endpoints, and a cluster.Registrar.
type Service struct {
	g    *Group
	name string
}

// Service returns the service of that name. It costs nothing, and may be asked for again.
func (g *Group) Service(name string) *Service { return &Service{g, name} }

// settle is how long Watch waits for more changes after one, so that a hundred that join at once are not a hundred sets.
const settle = 50 * time.Millisecond

// Watch is a cluster.Resolver's. It ends when ctx or the Group does.
func (s *Service) Watch(ctx context.Context) iter.Seq2[[]cluster.Endpoint, error] {
	return func(yield func([]cluster.Endpoint, error) bool) {
		for {
			s.g.mu.Lock()
			changed := s.g.changed
			s.g.mu.Unlock()
			if s.g.ctx.Err() != nil {
				yield(nil, ErrClosed)
				return
			}
			if !yield(s.endpoints(), nil) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			timer := time.NewTimer(settle)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
	}
}

// endpoints are those that the members announce now.
func (s *Service) endpoints() []cluster.Endpoint {
	s.g.mu.Lock()
	others := maps.Clone(s.g.others)
	all := slices.Collect(maps.Values(s.g.own))
	s.g.mu.Unlock()
	for name, meta := range others {
		var list []announced
		if err := json.Unmarshal(meta, &list); err != nil {
			s.g.opts.Logger.Warn("gossip: a member announces what cannot be read", "member", name, "error", err)
			continue
		}
		all = append(all, list...)
	}
	set := []cluster.Endpoint{}
	for _, a := range all {
		if a.Service != s.name || a.Addr == "" {
			continue
		}
		if len(set) == s.g.opts.MaxEndpoints {
			s.g.opts.Logger.Warn("gossip: more endpoints than MaxEndpoints", "service", s.name)
			break
		}
		set = append(set, cluster.Endpoint{Addr: a.Addr, Name: a.Name, Weight: a.Weight, Pins: a.Pins, Attributes: a.Attributes})
	}
	return set
}

// Register is a cluster.Registrar's: it announces e to all members. It waits until the announcement is on its way or ctx ends, then with
// its error and nothing announced. An announcement that does not fit fails with ErrTooMuch.
func (s *Service) Register(ctx context.Context, e cluster.Endpoint) (cluster.Lease, error) {
	l := &lease{g: s.g}
	if e.Addr == "" {
		return nil, fmt.Errorf("%w: an endpoint without an Addr", ErrOptions)
	}
	a := announced{s.name, e.Addr, e.Name, e.Weight, e.Pins, e.Attributes}
	if err := s.g.announce(ctx, l, &a); err != nil {
		return nil, err
	}
	return l, nil
}

// announce changes what this member says of a lease, or with nil takes it back, and tells the others.
func (g *Group) announce(ctx context.Context, l *lease, a *announced) error {
	g.updating.Lock()
	defer g.updating.Unlock()
	if g.ctx.Err() != nil {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	before, had := g.own[l]
	put := func(a announced, have bool) {
		delete(g.own, l)
		if have {
			g.own[l] = a
		}
	}
	if a == nil {
		put(announced{}, false)
	} else {
		put(*a, true)
	}
	if len(encode(g.own)) > memberlist.MetaMaxSize {
		put(before, had)
		g.mu.Unlock()
		return ErrTooMuch
	}
	g.mu.Unlock()
	patience := 10 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(time.Until(deadline), time.Millisecond)
	}
	err := g.list.UpdateNode(patience)
	if err != nil && a != nil { // what memberlist has begun to say, it must say no more
		g.mu.Lock()
		put(before, had)
		g.mu.Unlock()
		g.list.UpdateNode(time.Millisecond)
	}
	g.notify() // memberlist tells of the others alone
	if err != nil {
		return fmt.Errorf("gossip: announce: %w", err)
	}
	return nil
}

// A lease is an announcement of this member.
type lease struct{ g *Group }

// Lost is closed when the Group is.
func (l *lease) Lost() <-chan struct{} { return l.g.ctx.Done() }

// Deregister takes the announcement back. Of one that is gone with its Group it returns nil.
func (l *lease) Deregister(ctx context.Context) error {
	if l.g.ctx.Err() != nil {
		return nil
	}
	return l.g.announce(ctx, l, nil)
}

var (
	_ cluster.Resolver  = (*Service)(nil)
	_ cluster.Registrar = (*Service)(nil)
)
