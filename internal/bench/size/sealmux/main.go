// Command sealmux is an echo with sealmux.
package main

import (
	"context"
	"fmt"

	"github.com/sealmux/sealmux/internal/bench/size/pair"
	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

func main() {
	ctx := context.Background()
	key, err := transport.GenerateKey(2048)
	pair.Check(err)
	l, err := transport.Listen(ctx, "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	pair.Check(err)
	srv := rpc.NewServer(rpc.Options{})
	rpc.Handle(srv, "echo", func(_ context.Context, text string) (string, error) { return text, nil })
	go rpc.Serve(ctx, srv, l)
	session, err := transport.Dial(ctx, "tcp", l.Addr().String(), &transport.Config{Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol})
	pair.Check(err)
	reply, err := rpc.Call[string](ctx, rpc.NewClient(session, rpc.Options{}), "echo", "hello")
	pair.Check(err)
	fmt.Println(reply)
}
