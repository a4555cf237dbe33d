package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealmux/sealmux/rpc/cluster"
)

// Register announces e, and keeps it announced until the Lease is deregistered or the etcd client is closed: then Lost is closed. Two
// registrations of one address are one entry, the last. An error is ErrEntry, etcd's, or ctx's; then nothing is announced, or for
// the TTL at most.
func (r *Registry) Register(ctx context.Context, e cluster.Endpoint) (cluster.Lease, error) {
	data, err := encode(e)
	if err != nil {
		return nil, err
	}
	l := &lease{Registry: r, key: r.prefix + e.Addr, value: data, lost: make(chan struct{}), ended: make(chan struct{})}
	once, cancel := r.bounded(ctx)
	defer cancel()
	if err := l.announce(once); err != nil {
		return nil, fmt.Errorf("cluster/etcd: announce %s: %w", l.key, err)
	}
	var keeping context.Context
	keeping, l.stop = context.WithCancel(r.client.Ctx())
	go l.keep(keeping)
	return l, nil
}

// A lease is one announcement, and the goroutine that keeps it, which ends with Deregister or with the etcd client.
type lease struct {
	*Registry
	key, value string
	stop       context.CancelFunc
	lost       chan struct{}
	ended      chan struct{} // closed when the goroutine has ended

	id clientv3.LeaseID // 0: none; keep's until ended is closed, then mu's

	mu sync.Mutex // protects what Deregister does
}

// Lost is closed when the etcd client was closed without Deregister. What etcd loses is announced again without that.
func (l *lease) Lost() <-chan struct{} { return l.lost }

// Deregister takes the announcement back. An error is ctx's or etcd's: the announcement may stay for the TTL, or until
// Deregister is called again.
func (l *lease) Deregister(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop()
	<-l.ended
	switch {
	case l.id == 0:
		return nil
	case l.client.Ctx().Err() != nil:
		return fmt.Errorf("cluster/etcd: take back %s: etcd's client is closed: %w", l.key, l.client.Ctx().Err())
	}
	// Revoked rather than deleted: an entry that another server has put there meanwhile is not ours to delete.
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	if _, err := l.client.Revoke(ctx, l.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("cluster/etcd: take back %s: %w", l.key, err)
	}
	l.id = 0
	return nil
}

// announce writes the entry under the lease that there is, or else under a new one.
func (l *lease) announce(ctx context.Context) error {
	if l.id != 0 {
		_, err := l.client.Put(ctx, l.key, l.value, clientv3.WithLease(l.id))
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		l.id = 0
	}
	granted, err := l.client.Grant(ctx, int64((l.opts.TTL+time.Second-1)/time.Second))
	if err != nil {
		return err
	}
	l.id = granted.ID
	_, err = l.client.Put(ctx, l.key, l.value, clientv3.WithLease(l.id))
	return err
}

// keep keeps the lease alive, and announces again when it was lost, until ctx ends.
func (l *lease) keep(ctx context.Context) {
	defer close(l.ended)
	defer l.stop()
	for {
		l.hold(ctx)
		for failures := 0; ; failures++ {
			if ctx.Err() != nil {
				if l.client.Ctx().Err() != nil {
					close(l.lost)
				}
				return
			}
			once, cancel := l.bounded(ctx)
			err := l.announce(once)
			cancel()
			if err == nil {
				break
			}
			if ctx.Err() == nil {
				l.opts.Logger.Warn("cluster/etcd: the announcement was lost, and cannot be made again so far", "key", l.key, "error", err)
			}
			if pause(ctx, failures) {
				l.hurry()
			}
		}
		l.opts.Logger.Info("cluster/etcd: announced again", "key", l.key)
	}
}

// hold returns when the lease may have been lost: etcd says so, or was away for all of its time.
func (l *lease) hold(ctx context.Context) {
	alive, err := l.client.KeepAlive(ctx, l.id)
	if err != nil {
		pause(ctx, 0)
		return
	}
	for range alive {
	}
	if ctx.Err() == nil {
		l.opts.Logger.Warn("cluster/etcd: the announcement may have been lost", "key", l.key)
	}
}
