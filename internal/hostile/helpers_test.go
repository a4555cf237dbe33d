//go:build unix

package hostile

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"sync"
	"testing"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// keys are made once: of 2048 bits, the smallest there may be, since the tests shake many hands.
var keys = sync.OnceValue(func() []*transport.PrivateKey {
	keys := make([]*transport.PrivateKey, 2)
	for i := range keys {
		raw, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(raw)
		if err != nil {
			panic(err)
		}
		if keys[i], err = transport.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			panic(err)
		}
	}
	return keys
})

func serverConfig() *transport.Config {
	return &transport.Config{Keys: keys()[:1], Peers: transport.AnyClient(), Protocol: rpc.Protocol}
}

func clientConfig() *transport.Config {
	return &transport.Config{Peers: transport.Pin(keys()[0].Public()), Protocol: rpc.Protocol}
}

// A place is a server that serves.
type place struct {
	*rpc.Server
	addr   string
	served chan error
}

// serve starts a server on loopback.
func serve(t testing.TB, cfg *transport.Config, srv *rpc.Server) *place {
	t.Helper()
	l, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{Server: srv, addr: l.Addr().String(), served: make(chan error, 1)}
	go func() { p.served <- rpc.Serve(context.Background(), srv, l) }()
	t.Cleanup(func() {
		srv.Close()
		<-p.served
	})
	return p
}

// dial makes a client of a server.
func dial(ctx context.Context, addr string, cfg *transport.Config) (*rpc.Client, error) {
	sess, err := transport.Dial(ctx, "tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	return rpc.NewClient(sess, rpc.Options{}), nil
}

// from dials from an address of loopback, each of which is a source of its own.
func from(source net.IP, addr string) (net.Conn, error) {
	return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: source}}).Dial("tcp", addr)
}
