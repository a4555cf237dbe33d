package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/internal/inspect"
	"github.com/sealmux/sealmux/internal/termtext"
)

func inspectCommand() *cobra.Command {
	var asJSON, all bool
	var port int
	cmd := &cobra.Command{
		Use:   "inspect [--json] [--all] [--port N] FILE...",
		Short: "Show what an onlooker sees of captured connections",
		Long: "inspect shows the public parts of captured sealmux connections: messages and records, their offsets, lengths and\n" +
			"times, the ids of keys. It decrypts nothing: of a record it shows how long it is, and nobody without the keys can say\n" +
			"what is in it. FILE, or - for the standard input, is a capture of tcpdump or Wireshark (pcap or pcapng: Ethernet,\n" +
			"Linux cooked, loopback or raw IP), or the bytes of one direction of a connection from its beginning; gzip is undone.\n\n" +
			"A line is a part: number of the connection, seconds since its first packet, direction (-> to the server), offset in\n" +
			"the direction, kind, size, and what it says. Of each direction the first " + fmt.Sprint(inspect.FirstRecords) + " records are shown and the rest summed up,\n" +
			"unless --all. --json prints every record, an object a line.\n\n" +
			"Of a capture it follows " + termtext.Count(inspect.MaxConnections) + " connections at a time, and holds up to 64 MiB of what came out of order.",
		Example: "  tcpdump -i any -w dump.pcap tcp port 7443\n" +
			"  sealmux inspect dump.pcap\n" +
			"  tcpdump -i any -U -w - tcp port 7443 | sealmux inspect -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name a capture, or - for the standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("port") && (port < 1 || port > 65535) {
				return usagef("--port must be from 1 to 65535")
			}
			return inspect.Files(cmd.Context(), args, inspect.Options{
				Stdin: cmd.InOrStdin(),
				Out:   cmd.OutOrStdout(),
				Note:  func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "sealmux: %s\n", text) },
				JSON:  asJSON,
				All:   all,
				Port:  port,
			})
		},
	}
	flags := cmd.Flags()
	addJSON(cmd, &asJSON)
	flags.BoolVar(&all, "all", false, "show every record")
	flags.IntVar(&port, "port", 0, "of captures, look only at TCP connections with port `N` on either side")
	return cmd
}
