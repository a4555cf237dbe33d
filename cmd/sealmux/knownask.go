package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sealmux/sealmux/transport"
)

// A terminal is where a person is asked.
type terminal struct {
	in    *os.File
	out   *os.File
	close func()
}

// openTerminal opens the one that the command was started from, as ssh does, whatever its input and output are. Where there is
// no such thing, input and errors will do, if a person is at both.
func openTerminal(in io.Reader, errOut io.Writer) (*terminal, bool) {
	if t, err := openTTY(); err == nil {
		return t, true
	}
	if isTerminal(in) && isTerminal(errOut) {
		return &terminal{in.(*os.File), errOut.(*os.File), func() {}}, true
	}
	return nil, false
}

// openTTY opens it twice: to look whether one is a terminal makes its reads block for good, which here must end with the context.
func openTTY() (*terminal, error) {
	in, err := os.Open("/dev/tty")
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
	if err != nil {
		in.Close()
		return nil, err
	}
	return &terminal{in, out, func() { in.Close(); out.Close() }}, nil
}

func (k *knownServers) ask(ctx context.Context, address string, key *transport.PublicKey) error {
	t, ok := openTerminal(k.cmd.InOrStdin(), k.cmd.ErrOrStderr())
	if !ok {
		return unknownError{fmt.Sprintf("the server at %s is not in %s, and there is no terminal to ask on; %s, or --trust %s to believe it unseen",
			address, k.file, howToConfirm(key.Fingerprint()), trustNew)}
	}
	defer t.close()
	return t.confirm(ctx, address, k.file, key)
}

// confirm shows a server's key and asks whether it is the right one, until there is an answer.
func (t *terminal) confirm(ctx context.Context, address, file string, key *transport.PublicKey) error {
	s := newStyle(t.out)
	fmt.Fprintf(t.out, "The server at %s is not known here. It offers this key:\n  %s\n", s.bold(address), s.bold(key.String()))
	identityOf(key, "").describe(t.out)
	dropTyped(t.out) // before there was a question, nothing was an answer to it
	fmt.Fprintf(t.out, "Its owner sees the same with sealmux keygen -l. If it is another key there, somebody else answers here.\n"+
		"Connect, and remember the key in %s? (yes, no, or the fingerprint from its owner) ", file)
	for {
		answer, err := t.line(ctx)
		if err != nil {
			fmt.Fprintln(t.out)
		}
		switch given, bad := transport.ParseFingerprint(answer); {
		case err == io.EOF || strings.EqualFold(answer, "no"):
			return unknownError{fmt.Sprintf("you did not accept the key %v of the server at %s", key, address)}
		case err != nil && ctx.Err() != nil:
			return err
		case err != nil:
			return unknownError{fmt.Sprintf("the server at %s is not in %s, and there is no answer: %v", address, file, err)}
		case strings.EqualFold(answer, "yes") || bad == nil && given == key.Fingerprint():
			return nil
		case bad == nil:
			fmt.Fprintf(t.out, "That is %s than the server offers. ", s.red("another key"))
		}
		fmt.Fprint(t.out, "Type yes, no, or the fingerprint: ")
	}
}

// maxAnswer is far more than any answer.
const maxAnswer = 4096

var errLongAnswer = errors.New("the line is too long")

// line reads a line without the space around it. Where nothing can interrupt the read of a terminal, it ends with the process.
func (t *terminal) line(ctx context.Context) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := readAnswer(t.in)
		done <- read{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		if t.in.SetReadDeadline(time.Unix(1, 0)) == nil {
			<-done
		}
		return "", ctx.Err()
	}
}

// readAnswer reads not a byte beyond the line, which is the command's.
func readAnswer(in io.Reader) (string, error) {
	var line []byte
	for one := make([]byte, 1); len(line) < maxAnswer; {
		n, err := in.Read(one)
		switch {
		case n == 1 && one[0] == '\n':
			return strings.TrimSpace(string(line)), nil
		case n == 1:
			line = append(line, one[0])
		case err != nil:
			return "", err
		}
	}
	return "", errLongAnswer
}
