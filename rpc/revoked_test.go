package rpc_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// A call that runs when its client's key is revoked ends at once: the handler's context with why, the caller's error says that it
// may have run and why; the next one never runs.
func TestRevokedCalls(t *testing.T) {
	var no atomic.Bool
	trust := transport.TrustFunc(func(context.Context, *transport.PublicKey) (string, error) {
		if no.Load() {
			return "", errors.New("no more")
		}
		return "", nil
	})
	key := sealedKey()
	listener, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: trust, Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.NewServer(rpc.Options{})
	running, ended := make(chan struct{}), make(chan error, 1)
	var ran atomic.Int64
	rpc.Handle(srv, "wait", func(ctx context.Context, n int) (int, error) {
		if ran.Add(1) == 1 {
			close(running)
		}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return 0, ctx.Err()
	})
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), srv, listener) }()
	session, err := transport.Dial(t.Context(), "tcp", listener.Addr().String(), &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	client := rpc.NewClient(session, rpc.Options{})
	called := make(chan error, 1)
	go func() {
		_, err := rpc.Call[int](t.Context(), client, "wait", 1)
		called <- err
	}()
	<-running
	no.Store(true)
	if err := trust.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cause := <-ended; !errors.Is(cause, transport.ErrRevoked) {
		t.Error("the handler is not told why:", cause)
	}
	if err := <-called; !errors.Is(err, transport.ErrUnauthorized) {
		t.Error("the caller is not told why:", rpc.CodeOf(err), err)
	}
	if _, err := rpc.Call[int](t.Context(), client, "wait", 2); !errors.Is(err, transport.ErrUnauthorized) || ran.Load() != 1 {
		t.Error("the next one:", rpc.CodeOf(err), err, ran.Load())
	}
	client.Close()
	srv.Close()
	if err := <-served; !errors.Is(err, rpc.ErrServerClosed) {
		t.Error(err)
	}
}
