package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/transport"
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
			"the direction, kind, size, and what it says. Of each direction the first " + fmt.Sprint(firstRecords) + " records are shown and the rest summed up,\n" +
			"unless --all. --json prints every record, an object a line.\n\n" +
			"Of a capture it follows " + count(maxConnections) + " connections at a time, and holds up to 64 MiB of what came out of order.",
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
			i := &inspector{in: cmd.InOrStdin(), notes: cmd.ErrOrStderr(), port: port,
				show: &shower{out: cmd.OutOrStdout(), json: asJSON, all: all || asJSON}}
			for _, name := range args {
				if err := i.file(cmd.Context(), name); err != nil || cmd.Context().Err() != nil {
					return err
				}
			}
			return i.show.err
		},
	}
	flags := cmd.Flags()
	addJSON(cmd, &asJSON)
	flags.BoolVar(&all, "all", false, "show every record")
	flags.IntVar(&port, "port", 0, "of captures, look only at TCP connections with port `N` on either side")
	return cmd
}

// An inspector shows what files hold.
type inspector struct {
	in    io.Reader
	notes io.Writer
	port  int
	show  *shower
}

// file shows one, of whatever kind it is. The end of ctx ends it in good order, as the file's end would.
func (i *inspector) file(ctx context.Context, name string) error {
	file, err := i.open(ctx, name)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 64<<10)
	start, err := in.Peek(4)
	if len(start) >= 2 && start[0] == 0x1f && start[1] == 0x8b { // gzip
		unzipped, zipErr := gzip.NewReader(in)
		if zipErr != nil {
			return fmt.Errorf("%s begins as gzip does, but is damaged: %w; capture anew", name, zipErr)
		}
		in = bufio.NewReaderSize(unzipped, 64<<10)
		start, err = in.Peek(4)
	}
	switch {
	case len(start) == 0 && err == io.EOF:
		return fmt.Errorf("%s is empty; capture with tcpdump -w FILE", name)
	case err != nil && err != io.EOF:
		return unreadable(name, err)
	}
	source, err := openCapture(start, in)
	switch {
	case err != nil:
		return fmt.Errorf("the capture %s is damaged: %w; capture anew", name, cutShort(err))
	case source != nil:
		return i.capture(ctx, name, source)
	}
	return i.direction(name, in)
}

func (i *inspector) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == "-" {
		return interruptible(ctx, i.in), nil
	}
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s; name a capture, or - for the standard input", name)
	}
	if err != nil {
		return nil, unreadable(name, err)
	}
	return file, nil
}

// interruptible ends with ctx, though nothing can interrupt the read of a pipe: a goroutine of its own does that. It ends with the
// input; where the command ends first, it ends with the process.
func interruptible(ctx context.Context, in io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { w.Close() })
	return r
}

func unreadable(name string, err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		err = path.Err
	}
	return fmt.Errorf("cannot read %s: %w; name a capture, or - for the standard input", name, err)
}

// direction shows a file of the bytes of one.
func (i *inspector) direction(name string, in io.Reader) error {
	var side *shownSide
	for part, err := range transport.Dissect(in) {
		if side == nil && !isSealmux(part, err) {
			return fmt.Errorf("%s is neither a capture (pcap or pcapng) nor begins with a message of sealmux; "+
				"capture with tcpdump -w FILE, or give the bytes of one direction from its beginning", name)
		}
		if side == nil {
			side = &shownSide{show: i.show, number: i.show.file(name)}
		}
		if part.Kind != "" {
			side.from = sender(part.FromClient)
		}
		side.see(part, err, time.Time{})
		if err != nil && !isDissected(err) {
			return unreadable(name, err)
		}
	}
	side.end("file", time.Time{})
	return nil
}

func sender(client bool) string {
	if client {
		return "client"
	}
	return "server"
}

// isSealmux judges by the first thing that Dissect tells of a direction.
func isSealmux(part transport.Part, err error) bool {
	const magic = 4 // bytes by which sealmux is known
	return err == nil || !errors.Is(err, transport.ErrNotSealmux) && part.Size >= magic
}

// isDissected tells what Dissect finds wrong from what reading finds.
func isDissected(err error) bool {
	for _, known := range []error{transport.ErrNotSealmux, transport.ErrVersion, transport.ErrTruncated, transport.ErrHandshake, transport.ErrRecord} {
		if errors.Is(err, known) {
			return true
		}
	}
	return errors.Is(err, errGap)
}

// isCapture knows the files of tcpdump and Wireshark by how they begin.
func isCapture(start []byte) (pcap, pcapng bool) {
	for _, magic := range []string{"\xa1\xb2\xc3\xd4", "\xd4\xc3\xb2\xa1", "\xa1\xb2\x3c\x4d", "\x4d\x3c\xb2\xa1"} {
		pcap = pcap || bytes.Equal(start, []byte(magic))
	}
	return pcap, bytes.Equal(start, []byte("\n\r\r\n"))
}
