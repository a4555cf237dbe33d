// Command plugin is a host and its plug-in in one program: it starts itself as the plug-in, calls it, is called back, and
// lives on when the plug-in crashes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/plugin"
)

// The methods as both sides know them: the first two are the plug-in's, the last is the host's.
var (
	Shout  = rpc.Unary[string, string]{Name: "shout"}
	Crash  = rpc.Unary[string, struct{}]{Name: "crash"}
	Lookup = rpc.Unary[string, string]{Name: "lookup"}
)

func main() {
	if plugin.IsPlugin() {
		if err := serve(context.Background()); err != nil {
			log.Fatal("plug-in: ", err)
		}
		return
	}
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal("host: ", err)
	}
}

// serve is the plug-in.
func serve(ctx context.Context) error {
	srv := rpc.NewServer(rpc.Options{})
	Shout.Handle(srv, func(ctx context.Context, key string) (string, error) {
		word, err := Lookup.Call(ctx, rpc.BackFrom(ctx), key) // over the session that brought this call
		return word + "!", err
	})
	Crash.Handle(srv, func(_ context.Context, last string) (struct{}, error) {
		fmt.Fprintln(os.Stderr, last)
		os.Exit(7)
		return struct{}{}, nil
	})
	return plugin.Serve(ctx, srv, plugin.Options{Name: "the plugin example"})
}

// run is the host.
func run(ctx context.Context, out io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	handlers := rpc.NewServer(rpc.Options{})
	Lookup.Handle(handlers, func(_ context.Context, key string) (string, error) { return "the word for " + key, nil })
	p, err := plugin.Start(ctx, exec.Command(program), plugin.Options{
		Name: "shouter", Restarts: 1, RPC: rpc.Options{Handlers: handlers}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer p.Kill() // does nothing after Stop

	word, err := Shout.Call(ctx, p.Client(), "a")
	fmt.Fprintln(out, "called:   ", word, err)

	_, err = Crash.Call(ctx, p.Client(), "out of luck")
	var exit *plugin.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("a crash that was none: %w", err)
	}
	fmt.Fprintln(out, "crashed:  ", exit.State, "after saying", exit.Stderr, "- the call's outcome:", rpc.OutcomeOf(err))

	word, err = Shout.Call(ctx, p.Client(), "b") // waits for the restart
	fmt.Fprintln(out, "restarted:", word, err)
	return p.Stop(ctx)
}
