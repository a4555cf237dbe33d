// Command mutual admits two clients by their keys, allows each method by the proven key, and refuses a stranger.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// The methods as both sides know them.
var (
	Read  = rpc.Unary[string, string]{Name: "read"}
	Write = rpc.Unary[string, string]{Name: "write"}
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("mutual: ", err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	var keys [4]*transport.PrivateKey
	var err error
	for i := range keys {
		if keys[i], err = transport.GenerateKey(0); err != nil {
			return err
		}
	}
	serverKey, alice, bob, mallory := keys[0], keys[1], keys[2], keys[3]
	listener, err := transport.Listen(ctx, "tcp", "127.0.0.1:0", &transport.Config{Protocol: rpc.Protocol,
		Keys: keys[:1], Peers: transport.Pin(alice.Public(), bob.Public())}) // or AuthorizedKeys: a folder of them
	if err != nil {
		return err
	}
	allowed := map[string][]transport.Fingerprint{ // what is not listed is refused
		Read.Name:  {alice.Fingerprint(), bob.Fingerprint()},
		Write.Name: {alice.Fingerprint()},
	}
	server := rpc.NewServer(rpc.Options{Authorize: func(ctx context.Context, req *rpc.Request) error {
		if peer, ok := transport.PeerFrom(ctx); ok && slices.Contains(allowed[req.Method], peer.Fingerprint()) {
			return nil
		}
		return rpc.Errorf(rpc.PermissionDenied, "you may not %s", req.Method)
	}})
	Read.Handle(server, func(context.Context, string) (string, error) { return "some text", nil })
	Write.Handle(server, func(context.Context, string) (string, error) { return "written", nil })
	defer server.Close()
	go rpc.Serve(ctx, server, listener) // until server.Close

	dial := func(key *transport.PrivateKey) (*transport.Session, error) {
		return transport.Dial(ctx, "tcp", listener.Addr().String(), &transport.Config{
			Keys: []*transport.PrivateKey{key}, Peers: transport.Pin(serverKey.Public()), Protocol: rpc.Protocol})
	}
	session, err := dial(bob)
	if err != nil {
		return err
	}
	client := rpc.NewClient(session, rpc.Options{})
	defer client.Close()
	text, err := Read.Call(ctx, client, "notes.txt")
	fmt.Fprintf(out, "bob reads:  %q, error %v\n", text, err)
	text, denied := Write.Call(ctx, client, "notes.txt")
	fmt.Fprintf(out, "bob writes: %q, error %v\n", text, denied)

	_, unknown := dial(mallory)
	fmt.Fprintln(out, "mallory:   ", unknown)
	if err != nil || !errors.Is(denied, rpc.PermissionDenied) || !errors.Is(unknown, transport.ErrUnauthorized) {
		return errors.New("the wrong ones were let in or refused")
	}
	return nil
}
