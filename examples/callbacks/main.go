// Command callbacks shows a server that calls its client back: a job reports its progress and asks a question.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// The methods as both sides know them: the first is the server's, the others are the client's.
var (
	Deploy   = rpc.Unary[string, string]{Name: "deploy"}
	Progress = rpc.Unary[int, struct{}]{Name: "progress"}
	Confirm  = rpc.Unary[string, bool]{Name: "confirm"}
)

func deploy(ctx context.Context, version string) (string, error) {
	client := rpc.BackFrom(ctx) // over the session that brought this call
	for _, percent := range []int{0, 50, 100} {
		if _, err := Progress.Call(ctx, client, percent); err != nil {
			return "", err
		}
	}
	yes, err := Confirm.Call(ctx, client, "switch to "+version+"?")
	if err != nil || !yes {
		return "nothing has changed", err
	}
	return version + " is live", nil
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("callbacks: ", err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	serverKey, err1 := transport.GenerateKey(0) // real keys lie in files: transport.ReadPrivateKey
	clientKey, err2 := transport.GenerateKey(0)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	listener, err := transport.Listen(ctx, "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{serverKey}, Peers: transport.Pin(clientKey.Public()), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	server := rpc.NewServer(rpc.Options{})
	Deploy.Handle(server, deploy)
	defer server.Close()
	go rpc.Serve(ctx, server, listener) // until server.Close

	session, err := transport.Dial(ctx, "tcp", listener.Addr().String(), &transport.Config{
		Keys: []*transport.PrivateKey{clientKey}, Peers: transport.Pin(serverKey.Public()), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	handlers := rpc.NewServer(rpc.Options{}) // they run in goroutines of their own; this server calls one at a time
	Progress.Handle(handlers, func(_ context.Context, percent int) (struct{}, error) {
		fmt.Fprintf(out, "progress: %d%%\n", percent)
		return struct{}{}, nil
	})
	Confirm.Handle(handlers, func(_ context.Context, question string) (bool, error) {
		fmt.Fprintln(out, "asked:   ", question, "yes")
		return true, nil
	})
	client := rpc.NewClient(session, rpc.Options{Handlers: handlers})
	defer client.Close()
	result, err := Deploy.Call(ctx, client, "v2")
	fmt.Fprintln(out, "result:  ", result)
	return err
}
