package etcd_test

import (
	"context"
	"log"
	"os/signal"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/rpc/cluster/etcd"
	"github.com/sealmux/sealmux/transport"
)

// connect makes a client of etcd. Yours sets TLS too.
func connect() *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:          []string{"etcd-1.internal:2379", "etcd-2.internal:2379", "etcd-3.internal:2379"},
		DialKeepAliveTime:  10 * time.Second, // with the timeout: an etcd that was lost without a word is noticed
		MaxCallRecvMsgSize: 16 << 20, DialKeepAliveTimeout: 5 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// A server announces itself when it serves, and takes that back before it drains.
func ExampleRegistry_Register() {
	var key *transport.PrivateKey // transport.ReadPrivateKey
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv := rpc.NewServer(rpc.Options{}) // and its methods
	l, err := transport.Listen(ctx, "tcp", ":7443", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), srv, l) }()

	discovery := connect()
	defer discovery.Close()
	lease, err := etcd.New(discovery, "services/kv", etcd.Options{}).Register(ctx, cluster.Endpoint{
		Addr: "10.0.0.7:7443", Name: "kv-7", Pins: []string{key.Fingerprint().String()}})
	if err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := lease.Deregister(drain); err != nil {
		log.Print(err) // it is gone when its lease ends
	}
	srv.Shutdown(drain)
	<-served
}

// A client finds the servers that have announced themselves, and trusts the keys it is given here.
func ExampleRegistry_Watch() {
	var trusted *transport.Trust // transport.Pin of the servers' keys, or a folder of them
	discovery := connect()
	defer discovery.Close()
	client := cluster.New(etcd.New(discovery, "services/kv", etcd.Options{}), cluster.Options{
		Dial: cluster.DialTransport("tcp", &transport.Config{Peers: trusted, Protocol: rpc.Protocol})})
	defer client.Close()
	// Get.Call(ctx, client, "a")
}
