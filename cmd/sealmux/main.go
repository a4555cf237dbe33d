// Command sealmux makes identities, serves the echo and talks to it over one encrypted connection, forwards TCP ports through one, and
// shows what an onlooker sees of one.
//
// Its voice: data on stdout, all else on stderr. An error is one sentence that says what happened and what to
// do, after "sealmux: "; a failure at run time prints no usage text. Colour on a terminal only, and never with NO_COLOR.
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no session or no answer in time, 4 an identity was refused, 64 and
// the code of an error of a call. The first SIGINT or SIGTERM ends a command in good order, a second one at once.
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

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/transport"
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
	if err != nil {
		hint := ""
		if exitCode(err) == exitUsage {
			hint = "; see " + cmd.CommandPath() + " --help"
		}
		if loud, ok := errors.AsType[loudError](err); ok {
			fmt.Fprint(errOut, loud.warning(newStyle(errOut)))
		}
		fmt.Fprintf(errOut, "%s %s%s\n", newStyle(errOut).red("sealmux:"), oneLine(err), hint)
	}
	return exitCode(err)
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

// oneLine keeps what a peer put into an error from moving the cursor or forging a second line.
func oneLine(err error) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || printable(r) != r {
			return ' '
		}
		return r
	}, err.Error())
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sealmux",
		Short: "One encrypted connection, many calls",
		Long: "sealmux makes RSA identities, serves the echo, and calls whatever is made with the library, over one TCP connection that\n" +
			"is encrypted with fresh keys and tied to the server's identity. It measures servers, forwards TCP ports, and shows what\n" +
			"an onlooker sees.\n\n" +
			"Exit codes: " + exitCodesHelp + ".",
		Example: "  sealmux keygen --out server\n" +
			"  sealmux serve --listen 127.0.0.1:7443 --key server/private.pem --allow-anonymous\n" +
			"  sealmux send --server-key server/public.pem 127.0.0.1:7443 hello",
		Args:                       cobra.ArbitraryArgs,
		Version:                    version(),
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd) },
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
		return usageError{plainFlagError(err)}
	})
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version and the algorithms") // and no -v, which elsewhere is for verbose
	root.SetUsageTemplate(root.UsageTemplate() + "\n" + environmentHelp)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		keygenCommand(),
		serveCommand(),
		sendCommand(),
		replCommand(),
		callCommand(),
		listCommand(),
		pingCommand(),
		benchCommand(),
		forwardCommand(),
		knownCommand(),
		inspectCommand(),
		completionCommand(),
		manCommand(),
		versionCommand(),
	)
	completeArguments(root)
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

		ValidArgsFunction: completeCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			switch {
			case len(rest) == 0:
			case about.HasParent():
				return usagef("unexpected argument %q; sealmux help %s explains all of it", rest[0], about.Name())
			default:
				return unknownCommand(cmd.Root(), rest[0])
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version and the algorithms",
		Example: "  sealmux version",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Version  string `json:"version"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
					Suite    string `json:"suite"`
				}{release(), runtime.Version(), platform(), transport.Suite})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

// version is what sealmux version and sealmux --version print.
func version() string {
	return fmt.Sprintf("sealmux %s %s %s\n%s", release(), runtime.Version(), platform(), transport.Suite)
}

func release() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}
