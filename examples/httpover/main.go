// Command httpover runs net/http and RPC over ONE encrypted session: each of HTTP's connections is a stream in it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("httpover: ", err)
	}
}

func hello(w http.ResponseWriter, r *http.Request) {
	peer, _ := transport.PeerFrom(r.Context()) // its key is proven
	fmt.Fprintf(w, "hello %s, your key is known: %t", r.PathValue("name"), peer.Key != nil)
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
	rpc.Handle(server, "add", func(_ context.Context, n [2]int) (int, error) { return n[0] + n[1], nil })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", hello)
	web := &http.Server{Handler: mux, ConnContext: rpc.ConnContext, ReadHeaderTimeout: 10 * time.Second}
	defer web.Close()
	go web.Serve(rpc.ListenConn(server, "http"))
	defer server.Close()
	go rpc.Serve(ctx, server, listener) // until server.Close

	session, err := transport.Dial(ctx, "tcp", listener.Addr().String(), &transport.Config{
		Keys: []*transport.PrivateKey{clientKey}, Peers: transport.Pin(serverKey.Public()), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	client := rpc.NewClient(session, rpc.Options{})
	defer client.Close()
	over := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return client.OpenConn(ctx, "http")
	}}
	defer over.CloseIdleConnections()
	resp, err := (&http.Client{Transport: over}).Get("http://any/hello/world")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err1 := io.ReadAll(resp.Body)
	three, err2 := rpc.Call[int](ctx, client, "add", [2]int{1, 2}) // beside it
	fmt.Fprintf(out, "HTTP: %s: %s\ncall: 1 + 2 = %d\n", resp.Status, body, three)
	return errors.Join(err1, err2)
}
