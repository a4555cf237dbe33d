package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// newServer starts sealmux serve, and returns it with its address and the file of its public key.
func newServer(t *testing.T) (server *process, addr, public string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := keygen(dir, 2048); err != nil {
		t.Fatal(err)
	}
	server = start(t, "serve", "--listen", "127.0.0.1:0", "--key", filepath.Join(dir, privateFile), "--allow-anonymous")
	addr, _, err := ready(server.line(t))
	if err != nil {
		t.Fatal(err)
	}
	return server, addr, filepath.Join(dir, publicFile)
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p, err := startProcess(".", nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("no line of output: %v; stderr after its end: %s", err, p.stderr.String())
	}
	return line
}

// ends checks how a process ends.
func (p *process) ends(t *testing.T, code int, says string) {
	t.Helper()
	if _, got := p.wait(); got != code || !strings.Contains(p.stderr.String(), says) {
		t.Errorf("exit code %d, want %d with %q in: %s", got, code, says, p.stderr.String())
	}
}

func skipWithoutSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this system cannot send these signals")
	}
}

// TestReplLosesServer: a repl that waits for input notices that its server drains, and one whose server is killed.
func TestReplLosesServer(t *testing.T) {
	skipWithoutSignals(t)
	for _, c := range []struct {
		signal os.Signal
		code   int // of the server
		says   string
	}{
		{syscall.SIGTERM, 0, "closed by the peer; connect again"},
		{syscall.SIGKILL, -1, "; connect again"},
	} {
		server, addr, public := newServer(t)
		repl := start(t, "repl", "--server-key", public, addr)
		for _, text := range []string{"first", "second"} { // the connection is kept, and replies are not held back
			io.WriteString(repl.stdin, text+"\n")
			if got := repl.line(t); got != "服务端已收到数据: "+text+"\n" {
				t.Errorf("reply %q to %q", got, text)
			}
		}
		server.cmd.Process.Signal(c.signal)
		server.ends(t, c.code, "")
		repl.ends(t, exitConnect, c.says)
		if lines := strings.Count(repl.stderr.String(), "\n"); lines != 1 {
			t.Errorf("%v: the repl wrote %d lines, want 1: %s", c.signal, lines, repl.stderr.String())
		}
	}
}

// TestReplInterrupted: a signal ends a repl that waits for input.
func TestReplInterrupted(t *testing.T) {
	skipWithoutSignals(t)
	_, addr, public := newServer(t)
	repl := start(t, "repl", "--server-key", public, addr)
	io.WriteString(repl.stdin, "hello\n")
	repl.line(t)
	repl.cmd.Process.Signal(os.Interrupt)
	repl.ends(t, exitFailed, "sealmux: interrupted\n")
}

// TestSendInterrupted: a signal ends a send whose server does not answer, long before its timeout.
func TestSendInterrupted(t *testing.T) {
	skipWithoutSignals(t)
	_, _, public := newServer(t)
	addr, connected := silentServer(t)
	send := start(t, "send", "--server-key", public, "--timeout", "1h", addr, "hello")
	<-connected
	send.cmd.Process.Signal(syscall.SIGTERM)
	send.ends(t, exitFailed, "sealmux: interrupted\n")
}

// TestSecondSignalCuts: a client that never ends its streams holds a drain up for its seconds of grace; a second
// signal ends the server at once.
func TestSecondSignalCuts(t *testing.T) {
	skipWithoutSignals(t)
	server, addr, public := newServer(t)
	key, err := transport.ReadPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	session, err := transport.Dial(t.Context(), "tcp", addr, &transport.Config{Peers: transport.Pin(key), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	stream, err := session.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	message := func() []byte { // the next from the server: a length, and a msgpack array (rpc/SPEC.md)
		t.Helper()
		var size [4]byte
		if _, err := io.ReadFull(stream, size[:]); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(stream, body); err != nil {
			t.Fatal(err)
		}
		return body
	}
	io.WriteString(stream, "\x00\x00\x00\x0b\x95\x01\x01\xa4echo\x00\xa1x") // call 1
	message()                                                               // its reply: the server has the stream
	server.cmd.Process.Signal(syscall.SIGTERM)
	if goaway := message(); !bytes.Equal(goaway, []byte{0x91, 5}) {
		t.Fatalf("%x is no goaway", goaway)
	}
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.ends(t, -1, "draining: ")
	if status := server.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("ended by %v, not by the second signal", status.Signal())
	}
}

// TestLeaksNothing runs the commands in this process.
func TestLeaksNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	tool := func(want int, in string, args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := run(args, strings.NewReader(in), &out, &errOut); code != want {
			t.Fatalf("%q: exit code %d, want %d: %s", args, code, want, errOut.String())
		}
		return out.String()
	}
	print := strings.TrimSpace(tool(exitDone, "", "keygen", "--out", dir, "--bits", "2048"))
	key, err := transport.ReadPrivateKey(filepath.Join(dir, privateFile))
	if err != nil || key.Fingerprint().String() != print {
		t.Fatalf("keygen printed %s: %v", print, err)
	}
	listener, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(rpc.Options{})
	served := make(chan error)
	go func() { served <- rpc.Serve(context.Background(), server, listener) }()
	addr := listener.Addr().String()

	if got := tool(exitDone, "", "send", "--server-key", print, addr, "a", "b"); strings.Count(got, "\n") != 2 {
		t.Errorf("send printed %q", got)
	}
	if got := tool(exitDone, "a\nb", "repl", "--server-key", print, addr); strings.Count(got, "\n") != 2 {
		t.Errorf("repl printed %q", got)
	}
	tool(exitIdentity, "", "send", "--server-key", "SHA256:"+strings.Repeat("A", 43), addr, "a")

	// Once a method is registered the echo is refused, call by call, and nothing else changes.
	server.HandleRaw("other", rpc.Echo)
	tool(callCode(rpc.Unimplemented), "", "send", "--server-key", print, addr, "a")
	tool(exitFailed, "a\nb\n", "repl", "--server-key", print, addr)
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, rpc.ErrServerClosed) {
		t.Error(err)
	}
}

// TestReadLine goes through the ends that a line may have.
func TestReadLine(t *testing.T) {
	most := strings.Repeat("x", rpc.DefaultMaxMessage-1)
	for _, c := range []struct {
		in   string
		want []string // "long" stands for errLongLine
	}{
		{"", nil},
		{"\n", []string{""}},
		{"a", []string{"a"}},
		{"a\nb\n", []string{"a", "b"}},
		{"a\r\n\r\nb\r", []string{"a", "", "b"}},
		{most + "\na\n", []string{most, "a"}},
		{most + "xx\na\n", []string{"long", "a"}},
		{strings.Repeat(most, 3), []string{"long"}},
	} {
		in := bufio.NewReader(strings.NewReader(c.in))
		var got []string
		line, err := readLine(in)
		for ; err == nil || err == errLongLine; line, err = readLine(in) {
			if err != nil {
				line = []byte("long")
			}
			got = append(got, string(line))
		}
		if err != io.EOF || strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
			t.Errorf("%.20q: %d lines, want %d; %v", c.in, len(got), len(c.want), err)
		}
	}
}

// TestRefusalsAreLimited: strangers cannot fill the log.
func TestRefusalsAreLimited(t *testing.T) {
	var out strings.Builder
	r := &refusals{out: &out}
	for range 5 * maxRefusals {
		r.add(nil, errors.New("transport: any \x1b[2J\n reason"))
	}
	if n := strings.Count(out.String(), "\n"); n > 2*maxRefusals || n < maxRefusals || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d lines for %d refusals: %q", n, 5*maxRefusals, out.String())
	}
}
