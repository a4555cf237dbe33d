// Command hello is a service and its client in one process: one method, a call that succeeds and one that fails.
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

// Greet is the method as both sides know it. Put such values where the server and its clients can import them.
var Greet = rpc.Unary[string, string]{Name: "greet"}

func greet(_ context.Context, name string) (string, error) {
	if name == "" {
		return "", rpc.Errorf(rpc.InvalidArgument, "whom shall I greet?")
	}
	return "hello " + name, nil
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("hello: ", err)
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
	Greet.Handle(server, greet)
	defer server.Close() // at once; Shutdown would wait for the calls that run
	go func() {
		if err := rpc.Serve(ctx, server, listener); !errors.Is(err, rpc.ErrServerClosed) {
			log.Print("hello: serving ended: ", err)
		}
	}()

	session, err := transport.Dial(ctx, "tcp", listener.Addr().String(), &transport.Config{
		Keys: []*transport.PrivateKey{clientKey}, Peers: transport.Pin(serverKey.Public()), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	client := rpc.NewClient(session, rpc.Options{})
	defer client.Close()

	answer, err := Greet.Call(ctx, client, "world")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "answer: ", answer)

	_, err = Greet.Call(ctx, client, "")
	if !errors.Is(err, rpc.InvalidArgument) {
		return fmt.Errorf("greeting nobody: got %v", err)
	}
	fmt.Fprintln(out, "error:  ", err)
	fmt.Fprintln(out, "code:   ", rpc.CodeOf(err).String())
	fmt.Fprintln(out, "outcome:", rpc.OutcomeOf(err))
	return nil
}
