package main

import (
	"context"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func sendCommand() *cobra.Command {
	var d dialer
	cmd := &cobra.Command{
		Use:   "send --server-key FILE|SHA256:... [--key FILE] [--timeout TIME] ADDR MESSAGE...",
		Short: "Send messages and print the replies",
		Long: "send opens one connection, sends each message over it and prints each reply on a line of its own.\n" +
			"It stops at the first message that gets no reply. A message that begins with - goes after --.",
		Example: "  sealmux send --server-key server/public.pem 127.0.0.1:7443 hello 你好\n" +
			"  sealmux send --server-key SHA256:... --key me/private.pem example.org:7443 -- -5",
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
			return send(cmd.Context(), &d, args[0], args[1:], cmd.OutOrStdout())
		},
	}
	d.addFlags(cmd)
	return cmd
}

func send(ctx context.Context, d *dialer, addr string, messages []string, out io.Writer) error {
	for i, message := range messages {
		if !utf8.ValidString(message) {
			return fmt.Errorf("message %d is not UTF-8 text; convert it first", i+1)
		}
	}
	link, err := d.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer link.close()
	for i, message := range messages {
		reply, err := link.echo(ctx, message)
		if err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
		if _, err := fmt.Fprintln(out, reply); err != nil {
			return err
		}
	}
	return nil
}
