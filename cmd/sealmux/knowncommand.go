package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/transport"
)

func knownCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "known [--known-servers FILE] [--json] list | remove ADDR...",
		Short: "List the servers that are known, or forget some",
		Long: "known list shows the servers whose keys the other commands trust without --server-key, and known remove forgets those at\n" +
			"an address: the next command that connects there asks anew. It makes comments of their lines.\n\n" +
			"The file has a line HOST:PORT sealmux-rsa SHA256:... for each key; several for one address are keys any of which will do,\n" +
			"for a server whose key is about to be replaced. # begins a comment.",
		Example: "  sealmux known list\n" +
			"  sealmux known remove example.org:7443",
		ValidArgs: []string{"list", "remove"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("say what to do: list, or remove ADDR")
			case args[0] == "list" && len(args) > 1:
				return usagef("unexpected argument %q; list shows all servers", args[1])
			case args[0] == "remove" && len(args) == 1:
				return usagef("name the server to forget: remove HOST:PORT")
			case args[0] != "list" && args[0] != "remove":
				return usagef("known does not know how to %s; say list, or remove ADDR", args[0])
			}
			for _, addr := range args[1:] {
				if err := checkAddr("ADDR", addr); err != nil {
					return err
				}
			}
			if file == "" {
				return errNoKnownFile
			}
			if args[0] == "list" {
				return listKnown(file, cmd.OutOrStdout(), asJSON)
			}
			return forgetKnown(file, args[1:], cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON)
		},
	}
	addKnownServersFlag(cmd, &file)
	addJSON(cmd, &asJSON)
	return cmd
}

func listKnown(file string, out io.Writer, asJSON bool) error {
	lines, err := transport.ReadKnownServers(file)
	if err != nil {
		return knownFileError(err)
	}
	if asJSON {
		return printKnownJSON(out, lines)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		fmt.Fprintf(table, "%s\t%v\n", line.Address, line.Key)
	}
	return table.Flush()
}

func printKnownJSON(out io.Writer, lines []transport.KnownServer) error {
	for _, line := range lines {
		err := printJSON(out, struct {
			Address     string `json:"addr"`
			Fingerprint string `json:"fingerprint"`
			Line        int    `json:"line"`
		}{line.Address, line.Key.String(), line.Line})
		if err != nil {
			return err
		}
	}
	return nil
}

func forgetKnown(file string, addrs []string, out, errOut io.Writer, asJSON bool) error {
	for _, addr := range addrs {
		gone, err := transport.ForgetServer(file, addr)
		switch {
		case errors.Is(err, transport.ErrConfig):
			return usagef("ADDR must be HOST:PORT with a number for a port; it is %q", addr)
		case err != nil:
			return knownFileError(err)
		case len(gone) == 0:
			return fmt.Errorf("%s has no line for %s; sealmux known list shows those that are known", file, addr)
		case asJSON:
			err = printKnownJSON(out, gone)
		default:
			for _, line := range gone {
				fmt.Fprintf(errOut, "forgot %s %v (%v)\n", line.Address, line.Key, line)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
