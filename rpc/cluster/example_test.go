package cluster_test

import (
	"context"
	"fmt"
	"log"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

// Greet is the method as both sides know it.
var Greet = rpc.Unary[string, string]{Name: "greet"}

// serve starts a server that registers itself, and returns its key and what a rolling deploy does with it: deregister, then drain.
func serve(ctx context.Context, registrar cluster.Registrar) (*transport.PublicKey, func()) {
	key, err := transport.GenerateKey(0)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := transport.Listen(ctx, "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		log.Fatal(err)
	}
	server := rpc.NewServer(rpc.Options{})
	Greet.Handle(server, func(_ context.Context, name string) (string, error) { return "hello " + name, nil })
	done := make(chan error, 1)
	go func() { done <- rpc.Serve(ctx, server, listener) }()
	lease, err := registrar.Register(ctx, cluster.Endpoint{
		Addr: listener.Addr().String(), Pins: []string{key.Public().Fingerprint().String()}})
	if err != nil {
		log.Fatal(err)
	}
	return key.Public(), func() {
		if err := lease.Deregister(ctx); err != nil {
			log.Fatal(err)
		}
		if err := server.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
		<-done
	}
}

// Three servers with three keys, one client: calls go on while two of the servers are taken away.
func Example() {
	ctx := context.Background()
	var directory cluster.List // or an etcd, a DNS, ...
	var keys []*transport.PublicKey
	var stop []func()
	for range 3 {
		key, end := serve(ctx, &directory)
		keys, stop = append(keys, key), append(stop, end)
	}
	client := cluster.New(&directory, cluster.Options{
		Dial: cluster.DialTransport("tcp", &transport.Config{
			Peers: transport.Pin(keys...), Protocol: rpc.Protocol, Tickets: transport.NewTicketCache(1)}),
		Policy: func(method string) cluster.Policy { return cluster.Policy{Idempotent: method == Greet.Name} },
	})
	defer client.Close()
	for i := range 300 {
		if i == 100 || i == 200 {
			stop[i/100]()
		}
		if _, err := Greet.Call(ctx, client, "world"); err != nil {
			fmt.Println(err)
		}
	}
	answer, err := Greet.Call(ctx, client, "world")
	fmt.Println(answer, err)
	fmt.Println(client.Snapshot().Calls, "calls")
	stop[0]()
	// Output:
	// hello world <nil>
	// 301 calls
}
