package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func sendCommand() *cobra.Command {
	var d dialer
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "send [--server-key FILE|SHA256:...] [--key FILE] [--legacy] [--timeout TIME] [--json] ADDR MESSAGE...",
		Short: "Send messages and print the replies",
		Long: "send opens one connection, sends each message over it and prints each reply on a line of its own.\n" +
			"It stops at the first message that gets no reply. A message that begins with - goes after --.\n\n" +
			"With --legacy it speaks the wire of the Python scripts, to a server that was not moved yet. That is insecure.",
		Example: "  sealmux send --server-key server/public.pem 127.0.0.1:7443 hello 你好\n" +
			"  sealmux send --server-key SHA256:... --key me/private.pem example.org:7443 -- -5\n" +
			"  sealmux send --legacy --server-key old/public.pem 127.0.0.1:9999 hello",
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("name the server's address, HOST:PORT, and what to send")
			case 1:
				return usagef("say what to send: give at least one message after the address")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			print := printReply(cmd.OutOrStdout(), asJSON)
			return send(cmd.Context(), &d, args[0], args[1:], print, cmd.ErrOrStderr())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if _, ok := errors.AsType[*pflag.NotExistError](err); ok {
			return usagef("%v; a message that begins with - goes after --", err)
		}
		return usageError{plainFlagError(err)}
	})
	d.addFlags(cmd)
	d.addLegacyFlag(cmd)
	addJSON(cmd, &asJSON)
	return cmd
}

func printReply(out io.Writer, asJSON bool) func(message, reply string) error {
	if !asJSON {
		human := isTerminal(out)
		return func(_, reply string) error {
			if human {
				reply = strings.Map(printable, reply)
			}
			_, err := fmt.Fprintln(out, reply)
			return err
		}
	}
	return func(message, reply string) error {
		return printJSON(out, struct {
			Message string `json:"message"`
			Reply   string `json:"reply"`
		}{message, reply})
	}
}

func send(ctx context.Context, d *dialer, addr string, messages []string, print func(message, reply string) error, errOut io.Writer) error {
	for i, message := range messages {
		if !utf8.ValidString(message) {
			return fmt.Errorf("message %d is not UTF-8 text; convert it first", i+1)
		}
	}
	link, err := d.connect(ctx, addr, errOut)
	if err != nil {
		return err
	}
	defer link.close()
	for i, message := range messages {
		reply, err := link.echo(ctx, message)
		if err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
		if err := print(message, reply); err != nil {
			return err
		}
	}
	return nil
}
