//go:build unix

package hostile

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// The tests that need other processes run their own binary again, in a role.

const roleEnv = "SEALMUX_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleEnv)]; role != nil {
		role()
		return
	}
	goleak.VerifyTestMain(m)
}

var roles = map[string]func(){"server": serverRole, "poor": poorRole, "sessions": sessionsRole}

// A process is one that runs a role.
type process struct {
	*exec.Cmd
	addr  string        // what it has printed first
	lines *bufio.Reader // what it prints then
}

// run starts a role, which gets the server's key, the arguments, and prints its address, or anything else, on its first line.
func run(t testing.TB, role string, args ...string) *process {
	t.Helper()
	key, err := keys()[0].MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(os.Args[0], args...)}
	p.Env = append(os.Environ(), roleEnv+"="+role)
	p.Stderr = os.Stderr
	p.Stdin = bytes.NewReader(key)
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	p.lines = bufio.NewReader(out)
	p.addr = p.line(t)
	return p
}

func (p *process) line(t testing.TB) string {
	t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// givenKey is the server's key, in a role.
func givenKey() *transport.PrivateKey {
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		fatal(err)
	}
	key, err := transport.ParsePrivateKey(data)
	if err != nil {
		fatal(err)
	}
	return key
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// serverRole serves "work", which writes the id of each call into a file before it answers. It ends by being killed.
func serverRole() {
	journal, err := os.OpenFile(os.Args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fatal(err)
	}
	srv := rpc.NewServer(rpc.Options{})
	rpc.Handle(srv, "work", func(_ context.Context, id uint64) (uint64, error) {
		_, err := fmt.Fprintln(journal, id) // one write: it is in the kernel, which outlives us
		return id, err
	})
	serveRole(srv, nil)
}

func serveRole(srv *rpc.Server, failed func(net.Addr, error)) {
	cfg := &transport.Config{Keys: []*transport.PrivateKey{givenKey()}, Peers: transport.AnyClient(), Protocol: rpc.Protocol, HandshakeFailed: failed}
	l, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", cfg)
	if err != nil {
		fatal(err)
	}
	fmt.Println(l.Addr())
	fatal(rpc.Serve(context.Background(), srv, l))
}

// poorRole is a server that may have few files open. It says when it has run out of them.
func poorRole() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(n), Max: uint64(n)}); err != nil {
		fatal(err)
	}
	var told atomic.Int64
	serveRole(rpc.NewServer(rpc.Options{}), func(from net.Addr, _ error) {
		if from == nil { // accepting failed
			fmt.Println("out of files", told.Add(1))
		}
	})
}

// TestFileDescriptors: a server without file descriptors serves the sessions it has, and takes new ones when it has some again.
// That it waits longer and longer between its tries is transport's TestAcceptBacksOff.
func TestFileDescriptors(t *testing.T) {
	p := run(t, "poor", "40")
	client, err := dial(t.Context(), p.addr, clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range 60 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for range 3 {
		p.line(t) // it has run out, and tries again
	}
	if s, err := rpc.Call[string](t.Context(), client, "echo", "x"); err != nil {
		t.Error(s, err)
	}
	for _, c := range held {
		c.Close()
	}
	held = nil
	other, err := dial(t.Context(), p.addr, clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
}

// TestFrozen: a process that is stopped, as a machine that has lost its power, ends its sessions by their keepalive.
func TestFrozen(t *testing.T) {
	p := run(t, "server", t.TempDir()+"/journal")
	cfg := clientConfig()
	cfg.KeepaliveInterval, cfg.KeepaliveTimeout = 200*time.Millisecond, 200*time.Millisecond
	client, err := dial(t.Context(), p.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := rpc.Call[uint64](t.Context(), client, "work", uint64(1)); err != nil {
		t.Fatal(err)
	}
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	for !status.Stopped() { // all its threads have
		if _, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil && err != syscall.EINTR {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	_, err = rpc.Call[uint64](t.Context(), client, "work", uint64(2))
	t.Logf("the call ended %v after the server froze, of 400ms", time.Since(begin).Round(time.Millisecond))
	if rpc.OutcomeOf(err) != rpc.OutcomeUnknown {
		t.Error(err)
	}
	_, err = rpc.Call[uint64](t.Context(), client, "work", uint64(3))
	if rpc.OutcomeOf(err) != rpc.NotSent {
		t.Error(err)
	}
}
