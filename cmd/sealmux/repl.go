package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/rpc"
)

func replCommand() *cobra.Command {
	var d dialer
	var history string
	cmd := &cobra.Command{
		Use:   "repl [--server-key FILE|SHA256:...] [--key FILE] [--legacy] [--timeout TIME] [--history FILE|none] ADDR",
		Short: "Talk to a server line by line",
		Long: "repl opens one connection and keeps it: each line of input is sent, and its reply printed. The line\n" +
			"quit, or the end of the input, leaves. A line that gets no reply is reported and the next is read, unless the\n" +
			"connection is lost: then the exit code is 3, else at the end 1.\n\n" +
			"What is typed at a terminal and begins with : is a command:\n\n" +
			indent(replHelp()) +
			"\nThere a text that begins with : is written with two of them. From a file or a pipe the lines\n" +
			":help, :stats and :quit are commands, as quit is, and every other line is sent as it is.\n\n" +
			"On a terminal lines are edited as in a shell, Tab completes commands and methods, each line of a paste is sent, and lines are kept for\n" +
			"the next time in a file that only you can read, except those that begin with a space: put one before a secret. Ctrl-C drops the\n" +
			"line; while a reply is awaited it leaves. What a server sends is shown there without control characters.\n\n" +
			"With --legacy it speaks the wire of the Python scripts, to a server that was not moved yet. That is insecure.",
		Example: "  sealmux repl --server-key server/public.pem 127.0.0.1:7443\n" +
			"  sealmux repl --server-key server/public.pem 127.0.0.1:7443 < lines.txt",
		Args: oneAddress("repl reads what to send from its input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			link, err := d.connect(cmd.Context(), args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer link.close()
			r := &repl{link: link, out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr(), human: isTerminal(cmd.OutOrStdout()), since: time.Now()}
			source, err := r.source(cmd.Context(), cmd.InOrStdin(), history)
			if err != nil {
				return err
			}
			defer source.close()
			return r.run(cmd.Context(), source)
		},
	}
	d.addFlags(cmd)
	d.addLegacyFlag(cmd)
	cmd.Flags().StringVar(&history, "history", defaultHistory(), "`FILE` that keeps the lines typed at a terminal; none keeps no file")
	cmd.Flags().Lookup("history").DefValue = "~/.local/state/sealmux/history"
	return cmd
}

// A lineSource is where a repl's lines come from.
type lineSource interface {
	// next yields the next line. Whoever does not wait for it leaves a goroutine behind that ends with the input, or with the process: nothing
	// can interrupt the read of a terminal.
	next() <-chan read
	// broken ends the line of a prompt that no line came from.
	broken()
	close()
}

// source reads lines with an editor if there is a person at both ends, and plainly otherwise.
func (r *repl) source(ctx context.Context, in io.Reader, history string) (lineSource, error) {
	if !isTerminal(in) {
		return plainLines{lines: readLines(in), out: io.Discard}, nil
	}
	r.commands = true
	fmt.Fprintf(r.errOut, "connected to %s; :help lists commands, :quit or end of input leaves\n", r.link.where())
	if in == os.Stdin && r.human && editable() {
		return newEditor(r.completer(ctx), history, r.errOut)
	}
	return plainLines{lines: readLines(in), out: r.errOut}, nil
}

const replPrompt = "sealmux> "

// plainLines are lines that are read as they come.
type plainLines struct {
	lines <-chan read
	out   io.Writer // for prompts
}

func (p plainLines) next() <-chan read {
	io.WriteString(p.out, replPrompt)
	return p.lines
}

func (p plainLines) broken() { io.WriteString(p.out, "\n") }
func (p plainLines) close()  {}

// A repl is one conversation.
type repl struct {
	link        talker
	out, errOut io.Writer
	human       bool // a person reads out
	commands    bool // a person writes: in a file a line that begins with : is one of data
	since       time.Time
	lines       int // that were to be sent, or commands that failed
	failed      int
	trips       roundTrips
}

// run talks until the input ends, or nothing can be said any more.
func (r *repl) run(ctx context.Context, source lineSource) error {
	for {
		line, err := wait(ctx, r.link, source.next())
		text := string(line)
		if err != nil && err != errLongLine {
			source.broken()
		}
		switch {
		case err == io.EOF || err == nil && strings.TrimSpace(text) == "quit":
			return r.leave()
		case err != nil && err != errLongLine:
			return err
		case err == nil && !utf8.ValidString(text):
			err = errNotText
		}
		if err == nil {
			err = r.line(ctx, text)
		} else {
			r.lines++
		}
		switch {
		case err == nil:
		case err == errQuit:
			return r.leave()
		case isEnd(ctx, err):
			return err
		default:
			r.failed++
			fmt.Fprintf(r.errOut, "%s line %d: %s\n", newStyle(r.errOut).red("sealmux:"), r.lines, oneLine(err))
		}
	}
}

func (r *repl) leave() error {
	if r.failed > 0 {
		return fmt.Errorf("%d of %d lines got no reply", r.failed, r.lines)
	}
	return nil
}

// line sends a line, or does what it commands.
func (r *repl) line(ctx context.Context, text string) error {
	r.lines++
	rest, colon := strings.CutPrefix(text, ":")
	switch {
	case !colon:
	case r.commands && strings.HasPrefix(rest, ":"):
		text = rest
	case r.commands, isLineOfItsOwn(text):
		return r.command(ctx, rest)
	}
	var reply string
	err := r.trip(func() (err error) {
		reply, err = r.link.echo(ctx, text)
		return err
	})
	if err != nil {
		return err
	}
	return r.print(reply)
}

// trip makes a call that :stats tells of.
func (r *repl) trip(call func() error) error {
	begun := time.Now()
	r.trips.sent++
	err := call()
	if err == nil {
		r.trips.add(time.Since(begun))
	}
	return err
}

// isLineOfItsOwn reports whether a line that nobody typed is a command all the same, as quit is: such as act on this side alone. Data must not
// be able to call what its writer may not, nor to be taken for a command by its beginning.
func isLineOfItsOwn(text string) bool {
	switch strings.TrimSpace(text) {
	case ":help", ":stats", ":quit":
		return true
	}
	return false
}

// print prints what came from the server: to a person, what cannot do anything to the terminal.
func (r *repl) print(text string) error {
	if r.human {
		text = strings.Map(printable, text)
	}
	_, err := fmt.Fprintln(r.out, text)
	return err
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
