// Command netrpc moves a service of net/rpc to an encrypted session, in two steps: as it is, and then without net/rpc.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	netrpc "net/rpc"
	"os"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Arith is a service of net/rpc. Nothing of it is changed.
type Arith int

// Args are what its method takes.
type Args struct{ A, B *big.Int }

// Divide is a method as net/rpc has them.
func (*Arith) Divide(args *Args, quotient *big.Rat) error {
	if args.B.Sign() == 0 {
		return errors.New("divide by zero")
	}
	quotient.SetFrac(args.A, args.B)
	return nil
}

// Divide is the same method as callers know it in the second step. The codec is for types that msgpack does not carry; it would carry these.
var Divide = rpc.Unary[Args, *big.Rat]{Name: "Arith.Divide", Codec: rpc.Gob}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("netrpc: ", err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	key, err := transport.GenerateKey(0) // a real one lies in a file: transport.ReadPrivateKey
	if err != nil {
		return err
	}
	listener, err := transport.Listen(ctx, "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	server, arith, old := rpc.NewServer(rpc.Options{}), new(Arith), netrpc.NewServer()
	if err := old.Register(arith); err != nil {
		return err
	}
	conns := rpc.ListenConn(server, "netrpc")
	go func() { // as old.Accept(conns) does, which would tell the log of the end
		for conn, err := conns.Accept(); err == nil; conn, err = conns.Accept() {
			go old.ServeConn(conn)
		}
	}()
	defer conns.Close()
	server.RegisterCodec("", arith, rpc.Gob) // for the second step
	defer server.Close()
	go rpc.Serve(ctx, server, listener) // until server.Close

	session, err := transport.Dial(ctx, "tcp", listener.Addr().String(), &transport.Config{
		Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	client := rpc.NewClient(session, rpc.Options{})
	defer client.Close()
	conn, err := client.OpenConn(ctx, "netrpc")
	if err != nil {
		return err
	}
	first := netrpc.NewClient(conn) // instead of netrpc.Dial
	defer first.Close()
	args, quotient := Args{big.NewInt(1), big.NewInt(3)}, new(big.Rat)
	if err := first.Call("Arith.Divide", args, quotient); err != nil {
		return err
	}
	fmt.Fprintln(out, "net/rpc over a session:", quotient)

	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // net/rpc has no deadlines
	defer cancel()
	if quotient, err = Divide.Call(ctx, client, args); err != nil {
		return err
	}
	_, err = Divide.Call(ctx, client, Args{big.NewInt(1), new(big.Int)})
	fmt.Fprintf(out, "a call: %v\nand its error: %v\n", quotient, err)
	return nil
}
