package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

// A server is one of the service.
type server struct {
	name  string
	lease cluster.Lease
	srv   *rpc.Server
	calls atomic.Uint64
}

// start serves, and then says so.
func start(ctx context.Context, registry cluster.Registrar, key *transport.PrivateKey, name string) (*server, error) {
	s := &server{name: name, srv: rpc.NewServer(rpc.Options{})}
	Where.Handle(s.srv, func(context.Context, string) (string, error) { s.calls.Add(1); return name, nil })
	l, err := transport.Listen(ctx, "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		return nil, err
	}
	go rpc.Serve(ctx, s.srv, l) // until stop
	if s.lease, err = registry.Register(ctx, cluster.Endpoint{Addr: l.Addr().String(), Name: name}); err != nil {
		s.srv.Close()
		return nil, err
	}
	return s, nil
}

// stop has clients go elsewhere first. It may be called again.
func (s *server) stop(ctx context.Context) error {
	return errors.Join(s.lease.Deregister(ctx), s.srv.Shutdown(ctx))
}

// await returns when the server has had so many calls, or ctx has ended.
func (s *server) await(ctx context.Context, calls uint64) {
	for s.calls.Load() < calls && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}
