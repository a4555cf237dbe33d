//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// Keys, as a terminal sends them.
const (
	keyEnter     = "\r"
	keyLeft      = "\x1b[D"
	keyUp        = "\x1b[A"
	keyHome      = "\x1b[H"
	keyBackspace = "\x7f"
	keyCtrlC     = "\x03"
	keyCtrlD     = "\x04"
	keyCtrlR     = "\x12"
	keyCtrlZ     = "\x1a"
	keyTab       = "\t"
)

// A person sits at a terminal in which a sealmux runs.
type person struct {
	t      *testing.T
	cmd    *exec.Cmd
	keys   *os.File
	screen *os.File // the program's side, kept to look at its settings
	before *term.State
	read   chan struct{} // closed when nothing more can come

	mu   sync.Mutex
	more *sync.Cond
	out  string // that was not expected yet
	over bool
}

// sit starts a sealmux in a terminal of its own.
func sit(t *testing.T, env []string, args ...string) *person {
	t.Helper()
	return sitAt(t, env, exec.Command("sealmux", args...))
}

// sitAt starts a program in a terminal of its own.
func sitAt(t *testing.T, env []string, cmd *exec.Cmd) *person {
	t.Helper()
	keys, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(keys, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, keys: keys, screen: screen, read: make(chan struct{}), cmd: cmd}
	p.more = sync.NewCond(&p.mu)
	if p.before, err = term.GetState(int(screen.Fd())); err != nil {
		t.Fatal(err)
	}
	p.cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR=", "GORACE="+quickExit, "XDG_STATE_HOME="+t.TempDir()), env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = screen, screen, screen
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.watch()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		screen.Close()
		keys.Close()
		<-p.read
	})
	return p
}

func (p *person) watch() {
	defer close(p.read)
	buf := make([]byte, 4096)
	for {
		n, err := p.keys.Read(buf)
		p.mu.Lock()
		p.out += string(buf[:n])
		p.over = err != nil
		p.more.Broadcast()
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// sees waits until all of these were shown, in this order, since the last time; it returns what was shown until then.
func (p *person) sees(texts ...string) (shown string) {
	p.t.Helper()
	late := false
	stuck := time.AfterFunc(30*time.Second, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.more.Broadcast()
	})
	defer stuck.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range texts {
		i := strings.Index(p.out, text)
		for ; i < 0; i = strings.Index(p.out, text) {
			if late || p.over {
				p.t.Fatalf("no %q in %q", text, p.out)
			}
			p.more.Wait()
		}
		shown += p.out[:i+len(text)]
		p.out = p.out[i+len(text):]
	}
	return shown
}

func (p *person) types(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		if _, err := p.keys.WriteString(key); err != nil {
			p.t.Fatal(err)
		}
	}
}

// leaves waits for the program's end, and looks whether the terminal is as it was.
func (p *person) leaves(code int) {
	p.t.Helper()
	stuck := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
	defer stuck.Stop()
	p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Errorf("exit code %d, want %d; shown last: %q", got, code, p.out)
	}
	p.unchanged()
}

// unchanged looks whether the terminal's settings are those of the beginning.
func (p *person) unchanged() {
	p.t.Helper()
	now, err := term.GetState(int(p.screen.Fd()))
	if err != nil || !reflect.DeepEqual(now, p.before) {
		p.t.Errorf("the terminal was %+v and is %+v: %v", p.before, now, err)
	}
}

// atRepl starts a repl with a server of its own, and waits for its prompt.
func atRepl(t *testing.T, env ...string) (p *person, server *process) {
	t.Helper()
	server, addr, public := newServer(t)
	p = sit(t, env, "repl", "--server-key", public, addr)
	p.sees("connected to "+addr, replPrompt)
	return p, server
}

const echoed = "服务端已收到数据: "

func TestReplEditing(t *testing.T) {
	p, _ := atRepl(t)
	p.types("hello", keyEnter)
	p.sees(echoed+"hello\r\n", replPrompt)
	p.types("你好x", keyLeft, keyBackspace, keyEnter) // one key, one character, however wide
	p.sees(echoed+"你x\r\n", replPrompt)
	p.types("lo", keyHome, "hel", keyEnter)
	p.sees(echoed+"hello\r\n", replPrompt)
	p.types(keyUp, keyUp, "!", keyEnter)
	p.sees(echoed+"你x!\r\n", replPrompt)
	p.types("dropped")
	p.sees("dropped") // until the editor has the line, Ctrl-C is a signal
	p.types(keyCtrlC, "kept", keyEnter)
	p.sees(echoed+"kept\r\n", replPrompt)
	p.types(keyCtrlR, "x!", keyEnter)
	p.sees(echoed+"你x!\r\n", replPrompt)
	p.types("two\rlines\r") // as a paste comes
	p.sees(echoed+"two\r\n", echoed+"lines\r\n", replPrompt)
	p.types("\tof\ttabs\r")
	p.sees(echoed+"\tof\ttabs\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(0)
}

func TestReplCommandsOnTerminal(t *testing.T) {
	p, _ := atRepl(t)
	p.types(":st", keyTab, keyEnter)
	p.sees("connected for", "calls", "0, failed 0", replPrompt)
	p.types(":", keyTab, keyTab)
	p.sees(":call", ":list", ":stats", ":help", ":quit")
	p.types("help", keyEnter)
	p.sees("as sealmux call does\r\n:list", "\r\n:quit", "leave, as does the line quit\r\n", replPrompt)
	p.types(":call x \"a\"", keyEnter)
	p.sees("\""+echoed+"a\"\r\n", replPrompt)
	p.types(":quit", keyEnter)
	p.leaves(0)
}

// TestReplHistory: lines are there the next time, but for those that nobody should keep.
func TestReplHistory(t *testing.T) {
	state := t.TempDir()
	p, _ := atRepl(t, "XDG_STATE_HOME="+state)
	p.types("first", keyEnter)
	p.sees(echoed+"first\r\n", replPrompt)
	p.types(" secret", keyEnter)
	p.sees(echoed+" secret\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(0)
	file := filepath.Join(state, "sealmux", "history")
	if text, err := os.ReadFile(file); err != nil || string(text) != "first\n" {
		t.Errorf("kept %q: %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	p, _ = atRepl(t, "XDG_STATE_HOME="+state)
	p.types(keyUp, keyEnter)
	p.sees(echoed+"first\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(0)

	p, _ = atRepl(t, "SEALMUX_HISTORY=none", "XDG_STATE_HOME="+state)
	p.types("third", keyEnter)
	p.sees(echoed+"third\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(0)
	if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "third") {
		t.Errorf("kept %q: %v", text, err)
	}

	_, addr, public := newServer(t)
	p = sit(t, []string{"SEALMUX_HISTORY=" + state}, "repl", "--server-key", public, addr)
	p.sees("connected to ", "lines are not kept: ", "is not a file; name another file with --history, or none", replPrompt)
	p.types("fourth", keyEnter)
	p.sees(echoed+"fourth\r\n", replPrompt)
	p.types(keyCtrlD)
	p.leaves(0)
}

// TestReplLosesServerWhileTyping: the person is told at once, and has the terminal back.
func TestReplLosesServerWhileTyping(t *testing.T) {
	p, server := atRepl(t)
	p.types("half a li")
	p.sees("half a li")
	server.cmd.Process.Signal(syscall.SIGTERM)
	p.sees("\r\n", "sealmux:", " the session with ", "connect again")
	p.leaves(exitConnect)
}

// TestReplInterruptedOnTerminal: a signal from elsewhere ends it, and it leaves the terminal as it was.
func TestReplInterruptedOnTerminal(t *testing.T) {
	p, _ := atRepl(t)
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.sees("interrupted")
	p.leaves(exitFailed)
}

func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "history")
	if err := appendHistory(path, "a"); err != nil {
		t.Fatal(err)
	}
	if err := appendHistory(path, "b\x1b[2J"); err != nil {
		t.Fatal(err)
	}
	if lines, size, err := readHistory(path); err != nil || size != 8 || !reflect.DeepEqual(lines, []string{"a", "b?[2J"}) {
		t.Errorf("%q, %d, %v", lines, size, err)
	}
	if err := writeHistory(path, []string{"c"}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if lines, _, readErr := readHistory(path); readErr != nil || err != nil || len(lines) != 1 || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v", lines, readErr, err)
	}
	if _, _, err := readHistory(filepath.Dir(path)); err == nil {
		t.Error("read a folder")
	}
}
