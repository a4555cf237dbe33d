package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/rpc"
)

func replCommand() *cobra.Command {
	var d dialer
	cmd := &cobra.Command{
		Use:   "repl --server-key FILE|SHA256:... [--key FILE] [--legacy] [--timeout TIME] ADDR",
		Short: "Talk to a server line by line",
		Long: "repl opens one connection and keeps it: each line of input is sent, and its reply printed. The line\n" +
			"quit, or the end of the input, leaves. A prompt is shown on a terminal only. A line that gets no reply is\n" +
			"reported and the next is read, unless the connection is lost: then the exit code is 3, else at the end 1.\n\n" +
			"With --legacy it speaks the wire of the Python scripts, to a server that was not moved yet. That is insecure.",
		Example: "  sealmux repl --server-key server/public.pem 127.0.0.1:7443\n" +
			"  sealmux repl --server-key server/public.pem 127.0.0.1:7443 < lines.txt",
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("name the server's address, HOST:PORT")
			case 1:
				return nil
			}
			return usagef("unexpected argument %q; repl reads what to send from its input", args[1])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			link, err := d.connect(cmd.Context(), args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer link.close()
			return repl(cmd.Context(), link, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	d.addFlags(cmd)
	d.addLegacyFlag(cmd)
	return cmd
}

func repl(ctx context.Context, link talker, in io.Reader, out, errOut io.Writer) error {
	prompt := func() {}
	if isTerminal(in) {
		fmt.Fprintf(errOut, "connected to %s; quit or end of input leaves\n", link.where())
		prompt = func() { fmt.Fprint(errOut, "sealmux> ") }
	}
	lines, failed := 0, 0
	next := readLines(in)
	for {
		prompt()
		line, err := wait(ctx, link, next)
		switch {
		case err == io.EOF || err == nil && string(bytes.TrimSpace(line)) == "quit":
			if failed > 0 {
				return fmt.Errorf("%d of %d lines got no reply", failed, lines)
			}
			return nil
		case err != nil && err != errLongLine:
			return err
		}
		lines++
		var reply string
		if err == nil && !utf8.Valid(line) {
			err = errNotText
		}
		if err == nil {
			reply, err = link.echo(ctx, string(line))
		}
		switch {
		case err == nil:
			if _, err := fmt.Fprintln(out, reply); err != nil {
				return err
			}
		case isEnd(ctx, err):
			return err
		default:
			failed++
			fmt.Fprintf(errOut, "sealmux: line %d: %s\n", lines, oneLine(err))
		}
	}
}

// isEnd reports whether err, of a call, leaves nothing to go on with.
func isEnd(ctx context.Context, err error) bool {
	_, lost := errors.AsType[lostError](err)
	return lost || ctx.Err() != nil
}

var (
	errLongLine = fmt.Errorf("the line is longer than a call carries (%d bytes); send it in pieces", rpc.DefaultMaxMessage)
	errNotText  = errors.New("the line is not UTF-8 text; convert it first")
)

// A read is one line without its end, or why there is none.
type read struct {
	line []byte
	err  error
}

// wait returns the next line, unless the user or the server ends the session first.
func wait(ctx context.Context, link talker, next <-chan read) ([]byte, error) {
	select {
	case r := <-next:
		return r.line, r.err
	case <-ctx.Done():
		return nil, errInterrupted
	case <-link.done():
		return nil, link.ended()
	}
}

// readLines reads on a goroutine of its own, since nothing can interrupt the read of a terminal. It ends with the
// input; where the command ends first, it ends with the process.
func readLines(in io.Reader) <-chan read {
	next := make(chan read)
	go func() {
		buffered := bufio.NewReaderSize(in, 64<<10)
		for {
			line, err := readLine(buffered)
			next <- read{line, err}
			if err != nil && err != errLongLine {
				return
			}
		}
	}()
	return next
}

// readLine returns a line without \n or \r\n, or errLongLine for one that no call can carry, which it skips whole.
// The last line may lack its end.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > rpc.DefaultMaxMessage; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && (len(line) > 0 || long):
		case err == io.EOF:
			return nil, io.EOF
		case err != nil:
			return nil, fmt.Errorf("cannot read the input: %w", err)
		}
		if long {
			return nil, errLongLine
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
}
