package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/internal/legacy"
	"github.com/sealmux/sealmux/rpc"
)

// newOldWire serves a server's handlers over the old wire, in this process.
func newOldWire(t *testing.T, server *rpc.Server) (old *oldWire, public *legacy.PublicKey) {
	t.Helper()
	dir := t.TempDir()
	if _, err := keygen(dir, 2048); err != nil {
		t.Fatal(err)
	}
	old, err := (&serveOptions{legacyKey: filepath.Join(dir, privateFile)}).readLegacyKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if public, err = legacy.ReadPublicKey(filepath.Join(dir, publicFile)); err != nil {
		t.Fatal(err)
	}
	if err := old.listen(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	old.serve(context.WithoutCancel(t.Context()), server, &refusals{out: io.Discard})
	t.Cleanup(func() {
		old.close()
		server.Close()
	})
	return old, public
}

func newOldClient(t *testing.T, old *oldWire, public *legacy.PublicKey) *legacy.Client {
	t.Helper()
	client, err := legacy.Dial(t.Context(), "tcp", old.listener.Addr().String(), public)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// TestLegacyMessageIsACall: interceptors stand around it, a panic harms itself alone, a refusal ends the connection alone.
func TestLegacyMessageIsACall(t *testing.T) {
	var seen atomic.Int32
	server := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{{
		Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			seen.Add(1)
			return next(ctx, req)
		}}}})
	rpc.Handle(server, method, func(_ context.Context, text string) (string, error) {
		switch text {
		case "panic":
			panic("asked for")
		case "refuse":
			return "", rpc.Errorf(rpc.PermissionDenied, "not you")
		}
		return "<" + text + ">", nil
	})
	old, public := newOldWire(t, server)
	for _, text := range []string{"hello", "panic", "refuse", "你好"} {
		client := newOldClient(t, old, public)
		got, err := client.Call(t.Context(), text)
		if bad := text == "panic" || text == "refuse"; bad && !errors.Is(err, legacy.ErrNoReply) || !bad && (err != nil || got != "<"+text+">") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if seen.Load() != 4 {
		t.Errorf("the interceptor saw %d calls", seen.Load())
	}
}

// TestLegacyDrains: a message whose handler runs when a signal comes gets its reply, though the server drains too.
func TestLegacyDrains(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	server := rpc.NewServer(rpc.Options{})
	rpc.Handle(server, method, func(_ context.Context, text string) (string, error) {
		close(begun)
		<-end
		return text, nil
	})
	old, public := newOldWire(t, server)
	busy, idle := newOldClient(t, old, public), newOldClient(t, old, public)
	type answer struct {
		text string
		err  error
	}
	answered, down := make(chan answer, 1), make(chan error, 1)
	go func() {
		text, err := busy.Call(t.Context(), "hello")
		answered <- answer{text, err}
	}()
	<-begun
	go func() { down <- shutdown(t.Context(), server, old) }()
	<-idle.Done()
	close(end)
	if got := <-answered; got.err != nil || got.text != "hello" {
		t.Error(got)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// TestLegacyCuts: what is left when the time is over is cut.
func TestLegacyCuts(t *testing.T) {
	begun := make(chan struct{})
	server := rpc.NewServer(rpc.Options{})
	rpc.Handle(server, method, func(ctx context.Context, _ string) (string, error) {
		close(begun)
		<-ctx.Done()
		return "", ctx.Err()
	})
	old, public := newOldWire(t, server)
	client := newOldClient(t, old, public)
	failed := make(chan error, 1)
	go func() {
		_, err := client.Call(t.Context(), "hello")
		failed <- err
	}()
	<-begun
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := shutdown(over, server, old); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, legacy.ErrNoReply) {
		t.Error(err)
	}
}

// TestLegacyReplLosesServer: a repl that waits for input notices that its server drains, and the server does not wait for it.
func TestLegacyReplLosesServer(t *testing.T) {
	skipWithoutSignals(t)
	sealed, old := t.TempDir(), t.TempDir()
	for _, dir := range []string{sealed, old} {
		if _, err := keygen(dir, 2048); err != nil {
			t.Fatal(err)
		}
	}
	server := start(t, "serve", "--listen", "127.0.0.1:0", "--key", filepath.Join(sealed, privateFile), "--allow-anonymous",
		"--legacy-listen", "127.0.0.1:0", "--legacy-key", filepath.Join(old, privateFile))
	server.line(t)
	addr, err := readyLegacy(server.line(t))
	if err != nil {
		t.Fatal(err)
	}
	repl := start(t, "repl", "--legacy", "--server-key", filepath.Join(old, publicFile), addr)
	for _, text := range []string{"first", "second"} {
		io.WriteString(repl.stdin, text+"\n")
		if got := repl.line(t); got != "服务端已收到数据: "+text+"\n" {
			t.Errorf("reply %q to %q", got, text)
		}
	}
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.ends(t, exitDone, "draining: ")
	repl.ends(t, exitConnect, "sealmux: the connection to "+addr+" is over: the server ended the connection; connect again\n")
}

// TestLegacyLeaksNothing runs serve and its clients in this process.
func TestLegacyLeaksNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	sealed, old := t.TempDir(), t.TempDir()
	for _, dir := range []string{sealed, old} {
		if _, err := keygen(dir, 2048); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, lines := io.Pipe()
	ended := make(chan error, 1)
	o := serveOptions{listen: "127.0.0.1:0", keyFiles: []string{filepath.Join(sealed, privateFile)}, anonymous: true,
		legacyListen: "127.0.0.1:0", legacyKey: filepath.Join(old, privateFile), drain: time.Minute}
	go func() { ended <- o.run(ctx, lines, io.Discard) }()
	ready := bufio.NewScanner(out)
	ready.Scan()
	ready.Scan()
	addr, err := readyLegacy(ready.Text())
	if err != nil {
		t.Fatal(err)
	}
	tool := func(in string, args ...string) string {
		t.Helper()
		var got, errOut bytes.Buffer
		if code := run(args, strings.NewReader(in), &got, &errOut); code != exitDone {
			t.Fatalf("%q: exit code %d: %s", args, code, errOut.String())
		}
		return got.String()
	}
	public := filepath.Join(old, publicFile)
	if got := tool("", "send", "--legacy", "--server-key", public, addr, "a", "b"); strings.Count(got, "\n") != 2 {
		t.Errorf("send printed %q", got)
	}
	if got := tool("a\nb", "repl", "--legacy", "--server-key", public, addr); strings.Count(got, "\n") != 2 {
		t.Errorf("repl printed %q", got)
	}
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("an idle connection was left open")
	}
}
