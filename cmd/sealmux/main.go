// Command sealmux makes identities, serves the echo and talks to it over one encrypted connection, and shows what an onlooker
// sees of one.
//
// Its voice: data on stdout, all else on stderr. An error is one sentence that says what happened and what to
// do, after "sealmux: "; a failure at run time prints no usage text. Exit codes: 0 done, 1 failed, 2 not
// understood. The first SIGINT or SIGTERM ends a command in good order, a second one at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/transport"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := untilSignal()
	defer stop()

	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(errOut, "sealmux: %s; see %s --help\n", oneLine(err), cmd.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(errOut, "sealmux: %s\n", oneLine(err))
	return exitFailed
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends. By then the second has its usual effect again, which
// signal.NotifyContext would swallow for a moment more. stop ends it all, and waits.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(ended)
		defer cancel()
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
	}()
	return ctx, func() {
		cancel()
		<-ended
	}
}

// A usageError is a command line that cannot be carried out, whatever the state of the world.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// oneLine keeps what a peer put into an error from moving the cursor or forging a second line.
func oneLine(err error) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, err.Error())
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sealmux",
		Short: "One encrypted connection, many calls",
		Long: "sealmux makes RSA identities, serves the echo and talks to it over one TCP connection\n" +
			"that is encrypted with fresh keys and tied to the server's identity.",
		Example: "  sealmux keygen --out server\n" +
			"  sealmux serve --listen 127.0.0.1:7443 --key server/private.pem --allow-anonymous\n" +
			"  sealmux send --server-key server/public.pem 127.0.0.1:7443 hello",
		Args:                       cobra.ArbitraryArgs,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no command given")
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if !cmd.HasParent() && cmd.Flags().NArg() > 0 { // the command was wrong, not its flag
			return unknownCommand(cmd, cmd.Flags().Arg(0))
		}
		return usageError{err.Error()}
	})
	root.SetHelpCommand(helpCommand())
	root.AddCommand(keygenCommand(), serveCommand(), sendCommand(), replCommand(), callCommand(), listCommand(), inspectCommand(), versionCommand())
	return root
}

func unknownCommand(root *cobra.Command, name string) error {
	if near := root.SuggestionsFor(name); len(near) > 0 {
		return usagef("unknown command %q; did you mean %s?", name, strings.Join(near, " or "))
	}
	return usagef("unknown command %q", name)
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Explain a command",
		Example: "  sealmux help serve",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(cmd.Root(), rest[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version and the algorithms",
		Example: "  sealmux version",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "(devel)"
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				version = info.Main.Version
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "sealmux %s %s %s/%s\n%s\n",
				version, runtime.Version(), runtime.GOOS, runtime.GOARCH, transport.Suite)
			return err
		},
	}
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}
