// Command streams shows the three forms of streams: messages to the caller, from the caller, and both ways.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"os"
	"slices"

	"github.com/sealmux/sealmux/rpc"
)

// The methods as both sides know them.
var (
	Count = rpc.ServerStream[int, int]{Name: "count"} // from 1 up to the number asked for
	Sum   = rpc.ClientStream[int, int]{Name: "sum"}
	Shout = rpc.Bidi[string, string]{Name: "shout"}
)

func sum(_ context.Context, numbers iter.Seq2[int, error]) (total int, broken error) {
	for n, err := range numbers {
		total, broken = total+n, err // err, if not nil, comes last: the caller broke off, and this is not the sum
	}
	return total, broken
}

func shout(_ context.Context, s *rpc.Stream[string, string]) error {
	for text, err := range s.All() {
		if err == nil {
			err = s.Send(text + "!")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("streams: ", err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	server := rpc.NewServer(rpc.Options{})
	defer server.Close()
	Count.Handle(server, func(_ context.Context, last int, send func(int) error) (err error) {
		for n := 1; n <= last && err == nil; n++ {
			err = send(n) // fails when nobody wants more
		}
		return err
	})
	Sum.Handle(server, sum)
	Shout.Handle(server, shout)
	ours, theirs := rpc.Pipe() // a session in memory, as in a test; hello makes a real one
	go server.ServeSession(ctx, theirs)
	client := rpc.NewClient(ours, rpc.Options{})
	defer client.Close()
	for n, err := range Count.Call(ctx, client, 3) { // a break would cancel the call
		fmt.Fprintln(out, "count:", n, err)
	}
	total, err := Sum.Call(ctx, client, slices.Values([]int{1, 2, 3, 4}))
	fmt.Fprintln(out, "sum:", total, err)
	s, err := Shout.Open(ctx, client)
	if err != nil {
		return err
	}
	err = errors.Join(s.Send("hello"), s.Send("goodbye"), s.CloseSend())
	for text, cut := range s.All() { // ends without an error only if the handler said that this was all
		fmt.Fprintln(out, "shout:", text)
		err = errors.Join(err, cut)
	}
	return err
}
