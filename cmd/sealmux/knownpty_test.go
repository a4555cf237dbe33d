//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/transport"
)

// knownHome is a home without known servers.
func knownHome(t *testing.T) (env []string, file string) {
	dir := t.TempDir()
	return []string{"XDG_CONFIG_HOME=" + dir}, filepath.Join(dir, "sealmux", "known_servers")
}

func knownLines(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

func knownKey(t *testing.T, public string) *transport.PublicKey {
	t.Helper()
	key, err := transport.ReadPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const knownQuestion = "(yes, no, or the fingerprint from its owner) "

// TestKnownAsk: a person is shown the key in all its forms, and asked until there is an answer; the next time nobody is asked.
func TestKnownAsk(t *testing.T) {
	_, addr, public := newServer(t)
	key := knownKey(t, public)
	env, file := knownHome(t)
	p := sit(t, append(env, "NO_COLOR=1"), "send", addr, "hello")
	shown := p.sees("The server at "+addr+" is not known here. It offers this key:\r\n  "+key.String()+"\r\n", file+"? "+knownQuestion)
	for _, form := range []string{fingerprintArt(key.Fingerprint(), "RSA 2048"), strings.Split(fingerprintWords(key.Fingerprint()), "\n")[0]} {
		if !strings.Contains(strings.ReplaceAll(shown, "\r", ""), form) {
			t.Errorf("no %q in %q", form, shown)
		}
	}
	for _, not := range []string{"", "y", "yes!", "SHA256:short"} {
		p.types(not, keyEnter)
		if shown := p.sees("Type yes, no, or the fingerprint: "); strings.Contains(shown, "another") {
			t.Errorf("%q", shown)
		}
	}
	p.types(transport.Fingerprint{}.String(), keyEnter)
	p.sees("That is ", "another key", " than the server offers. Type yes, no, or the fingerprint: ")
	if knownLines(t, file) != "" {
		t.Error("remembered before there was an answer")
	}
	p.types(" Yes ", keyEnter)
	p.sees(echoed + "hello\r\n")
	p.leaves(0)
	if want := addr + " sealmux-rsa " + key.String() + "\n"; knownLines(t, file) != want {
		t.Errorf("remembered %q, want %q", knownLines(t, file), want)
	}
	p = sit(t, env, "send", addr, "again")
	if shown := p.sees(echoed + "again\r\n"); strings.Contains(shown, "known") {
		t.Errorf("%q", shown)
	}
	p.leaves(0)
}

func TestKnownAnswers(t *testing.T) {
	_, addr, public := newServer(t)
	key := knownKey(t, public)
	for name, c := range map[string]struct {
		keys []string
		sees []string
		code int
	}{
		"the fingerprint": {[]string{key.String(), keyEnter}, []string{echoed + "hello\r\n"}, 0},
		"no": {[]string{"NO", keyEnter}, []string{"sealmux:", " you did not accept the key " + key.String() + " of the server at " + addr + "\r\n"},
			exitIdentity},
		"end of input": {[]string{keyCtrlD}, []string{"\r\nsealmux:", " you did not accept the key "}, exitIdentity},
		"interrupt":    {[]string{keyCtrlC}, []string{"\r\nsealmux:", " interrupted\r\n"}, exitFailed},
		"half an answer and interrupt": {[]string{"ye", keyCtrlC}, []string{"\r\nsealmux:", " interrupted\r\n"},
			exitFailed},
		"a long line": {[]string{strings.Repeat("x", 2*maxAnswer), keyEnter}, []string{": "}, exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			env, file := knownHome(t)
			p := sit(t, append(env, "NO_COLOR=1"), "send", addr, "hello")
			p.sees(knownQuestion)
			p.types(c.keys...)
			if name == "a long line" { // a terminal keeps less of a line than that
				p.sees("Type yes, no, or the fingerprint: ")
				p.types(keyCtrlC)
			}
			p.sees(c.sees...)
			p.leaves(c.code)
			if remembered := knownLines(t, file) != ""; remembered != (c.code == 0) {
				t.Errorf("remembered: %v", remembered)
			}
		})
	}
}

// TestKnownAskAside: with data coming in and going out, the person is asked on the terminal all the same, and neither has a
// byte of it.
func TestKnownAskAside(t *testing.T) {
	_, addr, _ := newServer(t)
	env, file := knownHome(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("yes\nno\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `sealmux repl "$1" <in >out 2>err`, "sh", addr)
	cmd.Dir = dir
	p := sitAt(t, env, cmd)
	p.sees(knownQuestion)
	p.types("yes", keyEnter)
	p.leaves(0)
	for name, want := range map[string]string{"out": echoed + "yes\n" + echoed + "no\n", "err": ""} {
		if got := knownLines(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if knownLines(t, file) == "" {
		t.Error("not remembered")
	}
}

// TestKnownAskThenRepl: the line editor finds the terminal as it should be.
func TestKnownAskThenRepl(t *testing.T) {
	_, addr, _ := newServer(t)
	env, _ := knownHome(t)
	p := sit(t, env, "repl", addr)
	p.sees(knownQuestion)
	p.types("yes", keyEnter)
	p.sees("connected to "+addr, replPrompt)
	p.types("helo", keyLeft, "l", keyEnter)
	p.sees(echoed+"hello\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(0)
}

// TestKnownChangedOnTerminal: another key than the known one is refused in red, and not asked about.
func TestKnownChangedOnTerminal(t *testing.T) {
	_, addr, public := newServer(t)
	env, file := knownHome(t)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	old := transport.Fingerprint{1}.String()
	if err := os.WriteFile(file, []byte("\n"+addr+" sealmux-rsa "+old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := sit(t, env, "repl", addr)
	shown := p.sees("\x1b[31m", "THE SERVER AT "+addr, "\x1b[0m\r\n  known    "+old+" ("+file+":2)\r\n  offered  "+knownKey(t, public).String()+"\r\n",
		"sealmux known remove "+addr, "it was not talked to\r\n")
	if strings.Contains(shown, "fingerprint: ") || strings.Contains(shown, knownQuestion) {
		t.Errorf("%q", shown)
	}
	p.leaves(exitIdentity)
}

// TestKnownAskGivesUp: an interrupted question leaves nothing behind that reads.
func TestKnownAskGivesUp(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	_, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err = (&terminal{in: screen, out: screen}).line(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestKnownAnswerIsALine: not a byte beyond it is read, none that is too long is kept, and what cannot be read is no answer.
func TestKnownAnswerIsALine(t *testing.T) {
	in, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Close()
	ask := &terminal{in: in}
	ask.out, err = os.Create(filepath.Join(t.TempDir(), "shown"))
	if err != nil {
		t.Fatal(err)
	}
	defer ask.out.Close()
	for answer, want := range map[string]string{"yes\n": "yes", " a b \r\n": "a b", "\n": ""} {
		answers.WriteString(answer)
		if got, err := ask.line(t.Context()); got != want || err != nil {
			t.Errorf("%q: %q, %v", answer, got, err)
		}
	}
	answers.WriteString("yes\nrest")
	ask.line(t.Context())
	rest := make([]byte, 10)
	if n, err := in.Read(rest); string(rest[:n]) != "rest" {
		t.Errorf("left %q, %v", rest[:n], err)
	}
	answers.WriteString(strings.Repeat("x", maxAnswer))
	if _, err := ask.line(t.Context()); err != errLongAnswer {
		t.Error(err)
	}
	answers.WriteString("maybe\n") // an end that comes with it is no yes
	ended, end := context.WithCancel(t.Context())
	end()
	_, _, public := newServer(t)
	if err := ask.confirm(ended, "example.org:1", "file", knownKey(t, public)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	in.Close() // as a terminal that hangs up
	err = ask.confirm(t.Context(), "example.org:1", "file", knownKey(t, public))
	if _, ok := errors.AsType[unknownError](err); !ok || !strings.HasPrefix(err.Error(), "the server at example.org:1 is not in file, and there is no answer: ") {
		t.Error(err)
	}
}

// TestKnownAskHasTime: --timeout is for the connections, not for the person.
func TestKnownAskHasTime(t *testing.T) {
	var d dialer
	cmd := &cobra.Command{}
	d.addFlags(cmd)
	if err := cmd.ParseFlags([]string{"--timeout", "7s"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := d.bounded(t.Context())
	defer cancel()
	config, err := d.config()
	if _, limited := ctx.Deadline(); limited || err != nil || config.HandshakeTimeout != 7*time.Second {
		t.Errorf("%v, %+v, %v", limited, config, err)
	}
	if again, err := d.config(); err != nil || again.Peers != config.Peers {
		t.Error("each session of a command would ask anew")
	}
}
