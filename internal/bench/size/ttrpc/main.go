// Command ttrpc is an echo with containerd's ttrpc over TLS.
package main

import (
	"context"
	"fmt"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sealmux/sealmux/internal/bench/size/pair"
)

func main() {
	ctx := context.Background()
	srv, err := ttrpc.NewServer()
	pair.Check(err)
	srv.RegisterService("Echo", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"Echo": func(_ context.Context, decode func(any) error) (any, error) {
			m := &wrapperspb.StringValue{}
			return m, decode(m)
		},
	}})
	l, config := pair.Listen()
	go srv.Serve(ctx, l)
	reply := &wrapperspb.StringValue{}
	pair.Check(ttrpc.NewClient(pair.Dial(l, config)).Call(ctx, "Echo", "Echo", wrapperspb.String("hello"), reply))
	fmt.Println(reply.Value)
}
