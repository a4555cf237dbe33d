package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealmux/sealmux/rpc/cluster"
)

// page is how many entries are read at once.
const page = 100

// floor is the least time between two looks at what may have been missed.
const floor = 5 * time.Second

// An entry is one key's.
type entry struct {
	endpoint cluster.Endpoint
	revision int64 // that wrote it
	ok       bool  // false: it says nothing that can be used
}

// A watch is what one call of Watch knows.
type watch struct {
	*Registry
	yield    func([]cluster.Endpoint, error) bool
	entries  map[string]entry
	left     bool   // some keys are not among entries, for want of room
	revision int64  // that all this is true of
	cluster  uint64 // etcd's name for itself
}

// Watch is a cluster.Resolver's. It returns when ctx ends, or the caller has had enough.
func (r *Registry) Watch(ctx context.Context) iter.Seq2[[]cluster.Endpoint, error] {
	return func(yield func([]cluster.Endpoint, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends etcd's watch
		w := &watch{Registry: r, yield: yield}
		for failures := 0; ctx.Err() == nil; {
			err := w.list(ctx)
			if err == nil {
				failures = 0
				if !yield(w.set(), nil) {
					return
				}
				err = w.follow(ctx)
			}
			switch {
			case ctx.Err() != nil || errors.Is(err, errEnough):
				return
			case errors.Is(err, errMissed): // again, at once
			case !yield(nil, w.wrap(err)) || !pause(ctx, failures):
				return
			}
			failures++
			w.hurry()
		}
	}
}

var (
	errEnough = errors.New("the caller of Watch wants no more")
	errMissed = errors.New("something was missed")
)

func (w *watch) wrap(err error) error { return fmt.Errorf("cluster/etcd: %s: %w", w.prefix, err) }

// list reads all entries, at one revision that a majority of etcd agrees on: what was seen before is not undone by a member that lags.
func (w *watch) list(ctx context.Context) error {
	entries, left, revision := make(map[string]entry), false, int64(0)
	end := clientv3.GetPrefixRangeEnd(w.prefix)
	for from := w.prefix; ; {
		once, cancel := w.bounded(ctx)
		resp, err := w.client.Get(once, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		cancel()
		if err != nil {
			return err
		}
		if revision == 0 {
			revision, w.cluster = resp.Header.Revision, resp.Header.ClusterId
		}
		for _, kv := range resp.Kvs {
			left = !w.put(entries, kv) || left
		}
		if !resp.More || left && len(entries) >= w.opts.MaxEndpoints {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	w.entries, w.left, w.revision = entries, left, revision
	return nil
}

// put notes an entry. It returns false if there is no room for it.
func (w *watch) put(entries map[string]entry, kv *mvccpb.KeyValue) bool {
	key := string(kv.Key)
	if _, known := entries[key]; !known && (len(entries) >= w.opts.MaxEndpoints || len(key) > maxKey) {
		w.opts.Logger.Warn("cluster/etcd: an entry is left out", "key", key[:min(len(key), 256)],
			"error", "more entries, or a longer key, than are allowed")
		return false
	}
	e, err := decode(kv.Value)
	if err != nil {
		w.opts.Logger.Warn("cluster/etcd: an entry is left out", "key", key[:min(len(key), 256)], "error", err)
	}
	entries[key] = entry{e, kv.ModRevision, err == nil}
	return true
}

// set is the endpoints of all entries: of one address the one that was written last.
func (w *watch) set() []cluster.Endpoint {
	all := make([]entry, 0, len(w.entries))
	for _, e := range w.entries {
		if e.ok {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.endpoint.Addr, b.endpoint.Addr), cmp.Compare(b.revision, a.revision))
	})
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.endpoint.Addr == b.endpoint.Addr })
	set := make([]cluster.Endpoint, len(all))
	for i, e := range all {
		set[i] = e.endpoint
	}
	return set
}

// follow yields a set for each change behind the revision, until it can no more. etcd's client resumes by itself, from where it was, when a
// connection or a member is lost.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := w.client.Watch(clientv3.WithRequireLeader(ctx), w.prefix, clientv3.WithPrefix(), clientv3.WithRev(w.revision+1))
	due, earliest, refreshed := w.next()
	for {
		timer := time.NewTimer(time.Until(due))
		select {
		case resp, open := <-events:
			timer.Stop()
			if err := w.hear(resp, open); err != nil {
				return err
			}
		case <-refreshed:
			timer.Stop()
			due, refreshed = earliest, nil
		case <-timer.C:
			err := w.look(ctx)
			if errors.Is(err, errMissed) {
				return err
			}
			due, earliest, refreshed = w.next()
			if err != nil && ctx.Err() == nil {
				w.hurry()
				due = earliest
				if !w.yield(nil, w.wrap(err)) {
					return errEnough
				}
			}
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// next is when to look whether something was missed, and when at the earliest if refreshed is closed.
func (w *watch) next() (due, earliest time.Time, refreshed <-chan struct{}) {
	now := time.Now()
	due = now.Add(time.Duration(float64(w.opts.Recheck) * (0.8 + 0.4*rand.Float64())))
	if earliest = now.Add(floor); earliest.After(due) {
		earliest = due
	}
	return due, earliest, w.refreshed()
}

// hear takes what etcd's client tells: changes, or why there will be none.
func (w *watch) hear(resp clientv3.WatchResponse, open bool) error {
	switch err := resp.Err(); {
	case !open:
		return errors.New("etcd's client has ended the watch")
	case errors.Is(err, rpctypes.ErrCompacted):
		return errMissed
	case err != nil:
		return err
	}
	return w.apply(resp)
}

// apply makes changes, and yields the set.
func (w *watch) apply(resp clientv3.WatchResponse) error {
	if len(resp.Events) == 0 {
		return nil
	}
	for _, event := range resp.Events {
		if event.Type == clientv3.EventTypeDelete {
			delete(w.entries, string(event.Kv.Key))
			if w.left { // there is room for one that was left out
				return errMissed
			}
			continue
		}
		w.left = !w.put(w.entries, event.Kv) || w.left
	}
	w.revision = resp.Header.Revision
	if !w.yield(w.set(), nil) {
		return errEnough
	}
	return nil
}

// look compares with what etcd has: errMissed if that is less, or other than, what has been told. A member that lags may be the
// reason too; to read everything anew does no harm then.
func (w *watch) look(ctx context.Context) error {
	ctx, cancel := w.bounded(ctx)
	defer cancel()
	resp, err := w.client.Get(ctx, w.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithSerializable())
	if err != nil {
		return err
	}
	if resp.Header.ClusterId != w.cluster || resp.Header.Revision < w.revision || !w.left && resp.Count != int64(len(w.entries)) {
		return errMissed
	}
	return nil
}
