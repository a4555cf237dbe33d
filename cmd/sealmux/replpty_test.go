//go:build unix

package main

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealmux/sealmux/rpc"
)

// TestTerminalIsNotDriven: what a server sends to clear the screen, to forge a line or to turn text around is shown as ?, whatever it
// comes in.
func TestTerminalIsNotDriven(t *testing.T) {
	const bad, shown = "a\x1b[2Jb\r\nsealmux> c\u009b31md\u202ee\u2028f", "a?[2Jb??sealmux> c?31md?e?f"
	type reply struct{ Text string }
	srv := rpc.NewServer(rpc.Options{})
	rpc.Unary[string, string]{Name: "echo"}.Handle(srv, func(_ context.Context, text string) (string, error) {
		if text == "fail" {
			return "", &rpc.Error{Code: rpc.Internal, Message: bad}
		}
		return bad, nil
	})
	rpc.Unary[string, reply]{Name: "bad" + bad}.Handle(srv, func(context.Context, string) (reply, error) { return reply{}, nil })
	rpc.Unary[string, reply]{Name: "badly.made"}.Handle(srv, func(context.Context, string) (reply, error) { return reply{bad}, nil })
	addr, key := serveHere(t, srv)
	inJSON := func(t *testing.T, text string) {
		for _, r := range []string{"\x1b[2J", "\u009b", "\u202e", "\u2028"} {
			if strings.Contains(text, r) {
				t.Errorf("%q in %q", r, text)
			}
		}
	}
	p := sit(t, nil, "repl", "--server-key", key, addr)
	p.sees(replPrompt)
	p.types("x", keyEnter)
	p.sees("\r\n" + shown + "\r\n")
	p.types("fail", keyEnter)
	p.sees("Internal: a [2Jb  sealmux> c 31md e f (outcome: executed)\r\n")
	p.types(":list bad", keyEnter)
	p.sees("bad" + shown)
	p.types(":call ba", keyTab)
	p.sees(":call badly.made") // the one that can be typed
	p.types(` "x"`, keyEnter)
	inJSON(t, p.sees("{\"Text\":", "}\r\n"))
	p.types(keyCtrlD)
	p.leaves(exitFailed) // one line did

	p = sit(t, nil, "send", "--server-key", key, addr, "x")
	p.sees(shown + "\r\n")
	p.leaves(exitDone)
	p = sit(t, nil, "call", "--server-key", key, addr, "badly.made", `"x"`)
	inJSON(t, p.sees("{\"Text\":", "}\r\n"))
	p.leaves(exitDone)
}

// TestReplStopped: Ctrl-Z gives the shell its terminal, and fg gives the editor its own, in the middle of a call and between two keys.
func TestReplStopped(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no shell with job control is here")
	}
	begun, goOn := make(chan struct{}), make(chan struct{})
	srv := rpc.NewServer(rpc.Options{})
	rpc.Unary[string, string]{Name: "echo"}.Handle(srv, func(ctx context.Context, text string) (string, error) {
		if text != "slow" {
			return text, nil
		}
		begun <- struct{}{}
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return "done", nil
	})
	addr, key := serveHere(t, srv)
	p := sitAt(t, []string{"PS1=shell> ", "HISTFILE="}, exec.Command(shell, "--norc", "--noprofile", "--noediting", "-i"))
	p.sees("shell> ")
	p.types("sealmux repl --server-key "+key+" "+addr, keyEnter)
	p.sees(replPrompt)
	p.types("slow", keyEnter)
	<-begun
	p.types(keyCtrlZ)
	p.sees("Stopped", "shell> ")
	p.unchanged()
	p.types("fg", keyEnter)
	p.sees("sealmux repl")
	goOn <- struct{}{}
	p.sees("\r\ndone\r\n", replPrompt)
	p.types("ac", keyLeft, "b", keyEnter)
	p.sees("\r\nabc\r\n", replPrompt)

	p.types("ef")
	p.sees("ef")
	group, err := unix.IoctlGetInt(int(p.keys.Fd()), unix.TIOCGPGRP)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(-group, syscall.SIGTSTP) // the editor does not take Ctrl-Z for it, but somebody at another terminal may
	p.sees("Stopped", "shell> ")
	p.unchanged()
	p.types("fg", keyEnter)
	p.sees("sealmux repl")
	p.types(keyHome, "d", keyEnter)
	p.sees("\r\ndef\r\n", replPrompt)
	p.types(keyCtrlD)
	p.sees("shell> ")
	p.types("exit", keyEnter)
	p.leaves(exitDone)
}

// TestReplNotStopped: where nobody could let it go on, Ctrl-Z does nothing.
func TestReplNotStopped(t *testing.T) {
	p, _ := atRepl(t) // it leads the session
	p.cmd.Process.Signal(syscall.SIGTSTP)
	p.types("hello", keyEnter)
	p.sees(echoed+"hello\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(exitDone)
}

// TestReplOutlivesHangup: nohup has SIGHUP ignored, and so it stays.
func TestReplOutlivesHangup(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell is here")
	}
	_, addr, public := newServer(t)
	p := sitAt(t, nil, exec.Command("sh", "-c", `trap "" HUP; exec sealmux repl --server-key "$0" "$1"`, public, addr))
	p.sees(replPrompt)
	p.cmd.Process.Signal(syscall.SIGHUP)
	p.types("ac", keyLeft, "b", keyEnter)
	p.sees(echoed+"abc\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(exitDone)
}

// TestTerminalAfterSignal: what ends a program at once gives the terminal back first.
func TestTerminalAfterSignal(t *testing.T) {
	for _, sent := range []syscall.Signal{syscall.SIGHUP, syscall.SIGQUIT} {
		if signal.Ignored(sent) { // as where these tests run by nohup: the program leaves it so (TestReplOutlivesHangup)
			continue
		}
		p, _ := atRepl(t)
		p.types("half")
		p.sees("half")
		p.cmd.Process.Signal(sent)
		if sent == syscall.SIGHUP {
			p.leaves(-1)
			continue
		}
		p.sees("SIGQUIT: quit") // and where every goroutine was
		p.leaves(2)
	}
}

// TestHistoryOfMode: a file that others may read is not left so, and lines are not kept in what is no file.
func TestHistoryOfMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := appendHistory(path, "new"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readHistory(pipe); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Error(err)
	}
}
