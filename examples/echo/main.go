// Command echo shows sealmux whole in one process, with no set-up: a server and a client with keys made on the
// spot, ONE TCP connection between them, and over it many calls and raw streams at once, each reply compared with
// what it must be. It prints a summary, and fails if anything was wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

const (
	callers    = 64
	callsEach  = 50
	rawStreams = 8
	rawBytes   = 1 << 20 // each way, on each raw stream
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	var sum tally
	serverKey, err1 := transport.GenerateKey(0)
	clientKey, err2 := transport.GenerateKey(0)
	tcp, err3 := net.Listen("tcp", "127.0.0.1:0")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}

	// The server admits this one client. Nothing is registered with its rpc.Server, so every call is the echo.
	listener, err := transport.NewListener(countingListener{tcp, &sum.connections}, &transport.Config{
		Keys: []*transport.PrivateKey{serverKey}, Peers: transport.Pin(clientKey.Public()), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	back := make(chan rpc.Caller, 1) // calls the client
	verified := make(chan transport.Peer, 1)
	server := rpc.NewServer(rpc.Options{OnSession: func(ctx context.Context, client rpc.Caller) {
		peer, _ := transport.PeerFrom(ctx)
		verified <- peer
		back <- client
	}})
	var serving sync.WaitGroup
	defer serving.Wait()
	defer listener.Close()
	serving.Go(func() {
		if session, err := listener.Accept(ctx); err == nil {
			server.ServeSession(ctx, session) // until the client closes the session
		}
	})

	// The client pins the server's key and dials once.
	session, err := transport.Dial(ctx, "tcp", tcp.Addr().String(), &transport.Config{
		Keys: []*transport.PrivateKey{clientKey}, Peers: transport.Pin(serverKey.Public()), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	handlers := rpc.NewServer(rpc.Options{})
	rpc.HandleConn(handlers, "raw", echoRaw)
	client := rpc.NewClient(session, rpc.Options{Handlers: handlers})
	defer client.Close()
	clientSide := <-verified
	toClient := <-back

	for _, text := range []string{"hello", "你好，世界", "a#b##", ""} {
		reply, err := call(ctx, client, text, &sum)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, reply)
	}
	failed := inParallel(callers+rawStreams, func(i int) error {
		if i >= callers {
			return exchange(ctx, toClient, &sum) // raw streams go the other way: from server to client
		}
		for n := range callsEach {
			text := fmt.Sprintf("caller %d, call %d ", i, n) + strings.Repeat("数", n)
			if _, err := call(ctx, client, text, &sum); err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Fprintf(out, "\nTCP connections: %d\nraw streams:     %d\ncalls:           %d from %d callers at once\n"+
		"bytes:           %d there and back\nmismatches:      %d\nchannel:         %s\nserver:          %v\nclient:          %v\n",
		sum.connections.Load(), sum.streams.Load(), sum.calls.Load(), callers, sum.bytes.Load(), sum.mismatches.Load(),
		transport.Suite, session.Peer().Fingerprint(), clientSide.Fingerprint()) // as the other side verified them
	if sum.mismatches.Load() > 0 || sum.connections.Load() != 1 {
		failed = errors.Join(failed, errors.New("the summary shows a fault"))
	}
	return failed
}

// call makes one call and compares its reply.
func call(ctx context.Context, client *rpc.Client, text string, sum *tally) (string, error) {
	reply, err := rpc.Call[string](ctx, client, "echo", text)
	if err == nil {
		sum.calls.Add(1)
		sum.compare([]byte(text), []byte(reply), []byte("服务端已收到数据: "+text))
	}
	return reply, err
}
