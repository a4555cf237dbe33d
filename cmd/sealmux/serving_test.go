package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// serveHere serves in this process until the test ends, and returns where, and a file with the server's public key.
func serveHere(t *testing.T, srv *rpc.Server) (addr, keyFile string) {
	t.Helper()
	key, err := transport.GenerateKey(transport.MinKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	keyFile = filepath.Join(t.TempDir(), "server.pem")
	if err := key.Public().WriteFile(keyFile); err != nil {
		t.Fatal(err)
	}
	l, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), srv, l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; !errors.Is(err, rpc.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l.Addr().String(), keyFile
}
