// Command drpc is an echo with storj.io/drpc over TLS, with protobuf's own message of text.
package main

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"storj.io/drpc"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmux"
	"storj.io/drpc/drpcserver"

	"github.com/sealmux/sealmux/internal/bench/size/pair"
)

// encoding is what generated code has.
type encoding struct{}

func (encoding) Marshal(m drpc.Message) ([]byte, error) { return proto.Marshal(m.(proto.Message)) }
func (encoding) Unmarshal(b []byte, m drpc.Message) error {
	return proto.Unmarshal(b, m.(proto.Message))
}

type service struct{}

func (service) Echo(_ context.Context, text *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return text, nil
}

func (service) NumMethods() int { return 1 }

func (service) Method(n int) (string, drpc.Encoding, drpc.Receiver, any, bool) {
	return "/Echo/Echo", encoding{}, func(srv any, ctx context.Context, in, _ any) (drpc.Message, error) {
		return srv.(service).Echo(ctx, in.(*wrapperspb.StringValue))
	}, service.Echo, n == 0
}

func main() {
	ctx := context.Background()
	mux := drpcmux.New()
	pair.Check(mux.Register(service{}, service{}))
	l, config := pair.Listen()
	go drpcserver.New(mux).Serve(ctx, l)
	reply := &wrapperspb.StringValue{}
	pair.Check(drpcconn.New(pair.Dial(l, config)).Invoke(ctx, "/Echo/Echo", encoding{}, wrapperspb.String("hello"), reply))
	fmt.Println(reply.Value)
}
