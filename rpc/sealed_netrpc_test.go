package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	netrpc "net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// Services of net/rpc, unchanged, over the session that carries calls too.

type (
	NetArgs  struct{ A, B int }
	NetReply struct {
		C    int
		Blob []byte
	}
	netArith struct{ release chan struct{} }
)

func (*netArith) Multiply(args *NetArgs, reply *NetReply) error {
	if args.B == 0 {
		return errors.New("nothing times nothing")
	}
	reply.C = args.A * args.B
	return nil
}

func (*netArith) Blob(n int, reply *NetReply) error {
	reply.Blob = []byte(strings.Repeat("x", n))
	return nil
}

func (a *netArith) Wait(_ int, reply *int) error {
	<-a.release
	*reply = 1
	return nil
}

// netServer serves arith for net/rpc under two names, one for each codec, and as a handler of its own. stop is called once, and ends both.
func netServer(t *testing.T, srv *rpc.Server, arith *netArith) (stop func()) {
	old := netrpc.NewServer()
	if err := old.RegisterName("Arith", arith); err != nil {
		t.Fatal(err)
	}
	srv.Register("Arith", arith)
	var serving sync.WaitGroup
	gobs, texts := rpc.ListenConn(srv, "netrpc"), rpc.ListenConn(srv, "jsonrpc")
	serve := func(l net.Listener, one func(net.Conn)) { // what net/rpc's Accept does, and nothing for its log
		serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { one(conn) })
			}
		})
	}
	serve(gobs, func(c net.Conn) { old.ServeConn(c) })
	serve(texts, func(c net.Conn) { old.ServeCodec(jsonrpc.NewServerCodec(c)) })
	return func() {
		gobs.Close()
		texts.Close()
		serving.Wait()
	}
}

func netClient(t *testing.T, client *rpc.Client, name string) *netrpc.Client {
	t.Helper()
	conn, err := client.OpenConn(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	if name == "jsonrpc" {
		return jsonrpc.NewClient(conn)
	}
	return netrpc.NewClient(conn)
}

// TestSealedNetRPC: many clients of both codecs at once, with large replies, beside the same methods as calls.
func TestSealedNetRPC(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	stop := netServer(t, srv, &netArith{})
	client, _, connections := sealed(t, srv)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			old := netClient(t, client, []string{"netrpc", "jsonrpc"}[i%2])
			defer old.Close()
			var calls sync.WaitGroup
			for j := range 20 {
				calls.Go(func() {
					var got NetReply
					if err := old.Call("Arith.Multiply", &NetArgs{i + 1, j + 1}, &got); err != nil || got.C != (i+1)*(j+1) {
						t.Error(got, err)
					}
				})
			}
			var big NetReply
			if err := old.Call("Arith.Blob", 300_000+i, &big); err != nil || len(big.Blob) != 300_000+i {
				t.Error(len(big.Blob), err)
			}
			if err := old.Call("Arith.Multiply", &NetArgs{}, &big); err == nil || err.Error() != "nothing times nothing" {
				t.Error(err)
			}
			calls.Wait()
			got, err := rpc.Call[*NetReply](context.Background(), client, "Arith.Multiply", &NetArgs{i, 2})
			if err != nil || got.C != 2*i {
				t.Error(got, err)
			}
		})
	}
	wg.Wait()
	old := netClient(t, client, "netrpc")
	var big NetReply
	if err := old.Call("Arith.Blob", 16<<20, &big); err != nil || len(big.Blob) != 16<<20 { // above any limit of calls
		t.Error(len(big.Blob), err)
	}
	old.Close()
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	stop()
	if _, err := client.OpenConn(context.Background(), "netrpc"); rpc.OutcomeOf(err) != rpc.NotExecuted {
		t.Error(err)
	}
}

// TestSealedNetRPCAccept: the line of doc.go. What net/rpc logs at the end is its own.
func TestSealedNetRPCAccept(t *testing.T) {
	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)
	srv, service := rpc.NewServer(rpc.Options{}), netrpc.NewServer()
	if err := service.RegisterName("Arith", &netArith{}); err != nil {
		t.Fatal(err)
	}
	l := rpc.ListenConn(srv, "arith")
	accepting := make(chan struct{})
	go func() { defer close(accepting); service.Accept(l) }()
	client, _, _ := sealed(t, srv)
	old := netClient(t, client, "arith")
	l.Close()
	<-accepting
	var got NetReply
	if err := old.Call("Arith.Multiply", &NetArgs{6, 7}, &got); err != nil || got.C != 42 { // what was accepted goes on
		t.Error(got, err)
	}
	old.Close()
}

// TestSealedNetRPCEnds: the session is lost, the client or the server closes: calls that wait end, and nothing stays behind.
func TestSealedNetRPCEnds(t *testing.T) {
	for _, name := range []string{"netrpc", "jsonrpc"} {
		for how, end := range map[string]func(client *rpc.Client, session io.Closer, srv *rpc.Server, old io.Closer){
			"session":     func(_ *rpc.Client, session io.Closer, _ *rpc.Server, _ io.Closer) { session.Close() },
			"client":      func(client *rpc.Client, _ io.Closer, _ *rpc.Server, _ io.Closer) { client.Close() },
			"server":      func(_ *rpc.Client, _ io.Closer, srv *rpc.Server, _ io.Closer) { srv.Close() },
			"its own end": func(_ *rpc.Client, _ io.Closer, _ *rpc.Server, old io.Closer) { old.Close() },
		} {
			t.Run(fmt.Sprint(name, " ", how), func(t *testing.T) {
				srv := rpc.NewServer(rpc.Options{})
				arith := &netArith{make(chan struct{})}
				stop := netServer(t, srv, arith)
				client, session, _ := sealed(t, srv)
				old := netClient(t, client, name)
				var got int
				if err := old.Call("Arith.Multiply", &NetArgs{1, 1}, &NetReply{}); err != nil {
					t.Fatal(err)
				}
				waits := old.Go("Arith.Wait", 0, &got, nil)
				end(client, session, srv, old)
				if <-waits.Done; waits.Error == nil {
					t.Error("a call that was not answered has ended well")
				}
				close(arith.release) // net/rpc waits for its handlers
				old.Close()
				stop()
			})
		}
	}
}

// TestSealedNetRPCShutdown: Shutdown waits for the connections of net/rpc's clients, and for nothing once they are closed.
func TestSealedNetRPCShutdown(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	arith := &netArith{make(chan struct{})}
	stop := netServer(t, srv, arith)
	client, _, _ := sealed(t, srv)
	old := netClient(t, client, "netrpc")
	waits := old.Go("Arith.Wait", 0, new(int), nil)
	var got NetReply
	if err := old.Call("Arith.Multiply", &NetArgs{2, 3}, &got); err != nil || got.C != 6 { // behind Wait: that has been read
		t.Fatal(got, err)
	}
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown(context.Background()) }()
	for {
		conn, err := client.OpenConn(context.Background(), "netrpc")
		if err != nil {
			if rpc.OutcomeOf(err) == rpc.OutcomeUnknown || !errors.Is(err, rpc.Unavailable) {
				t.Error(err)
			}
			break
		}
		conn.Close()
	}
	if err := old.Call("Arith.Multiply", &NetArgs{2, 4}, &got); err != nil || got.C != 8 {
		t.Error(got, err)
	}
	close(arith.release)
	if <-waits.Done; waits.Error != nil || *waits.Reply.(*int) != 1 {
		t.Error(waits.Error)
	}
	select {
	case err := <-down:
		t.Error("before the connection was closed:", err)
	default:
	}
	old.Close()
	if err := <-down; err != nil {
		t.Error(err)
	}
	stop()
}
