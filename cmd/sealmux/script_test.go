package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"github.com/sealmux/sealmux/transport"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sealmux": main})
}

// TestScripts runs testdata/script. Beside testscript's own commands the scripts have
//
//	exits CODE PROGRAM ARG...    run it and check its exit code
//	server NAME ARG...           start sealmux serve ARG..., wait until it is ready, set $ADDR and $FINGERPRINT, and $LEGACY with --legacy-listen
//	signal NAME INT|TERM CODE    signal that server, check its exit code, keep its output in NAME.out and NAME.err
//	fake KIND                    listen as something else (see fakes), set $ADDR
//	text FILE COUNT              write a line of so many bytes
//	splice OUT (FILE FROM TO)... write these pieces of files, one behind the other; TO -1 is the end
//
// $CAPTURES is the folder of captures that internal/inspect has.
func TestScripts(t *testing.T) {
	captures, err := filepath.Abs("../../internal/inspect/testdata/captures")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[serversKey{}] = make(map[string]*process)
			env.Setenv("GORACE", quickExit)
			env.Setenv("CAPTURES", captures)
			env.Setenv("NO_TERMINAL", "1") // nobody is asked on the one of go test
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			return nil
		},
		Cmds: scriptCommands,
	})
}

// scriptCommands are joined by those of other files.
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"exits":  cmdExits,
	"server": cmdServer,
	"signal": cmdSignal,
	"fake":   cmdFake,
	"text":   cmdText,
	"splice": cmdSplice,
}

// quickExit keeps a program under the race detector from sleeping a second before it exits.
const quickExit = "atexit_sleep_ms=10"

type serversKey struct{}

func servers(ts *testscript.TestScript) map[string]*process {
	return ts.Value(serversKey{}).(map[string]*process)
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: server NAME ARG...")
	}
	p, err := startProcess(ts.MkAbs("."), variables(ts), append([]string{"serve"}, args[1:]...)...)
	ts.Check(err)
	ts.Defer(p.kill)
	servers(ts)[args[0]] = p
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		ts.Fatalf("the server did not become ready: %s", p.stderr.String())
	}
	addr, print, err := ready(line)
	if slices.Contains(args, "--json") {
		addr, print, err = readyJSON(line)
	}
	ts.Check(err)
	ts.Setenv("ADDR", addr)
	ts.Setenv("FINGERPRINT", print)
	if slices.Contains(args, "--legacy-listen") {
		line, err := p.stdout.ReadString('\n')
		ts.Check(err)
		old, err := readyLegacy(line)
		ts.Check(err)
		ts.Setenv("LEGACY", old)
	}
}

// variables are those of the script that serve takes flags from.
func variables(ts *testscript.TestScript) (all []string) {
	serveCommand().Flags().VisitAll(func(f *pflag.Flag) {
		all = append(all, variable(f.Name)+"="+ts.Getenv(variable(f.Name)))
	})
	return all
}

// ready reads the line that serve prints.
func ready(line string) (addr, print string, err error) {
	words := strings.Fields(line)
	if len(words) < 5 || words[0] != "listening" || words[1] != "on" || words[3] != "key" {
		return "", "", fmt.Errorf("serve printed %q", line)
	}
	if _, port, err := net.SplitHostPort(words[2]); err != nil || port == "0" {
		return "", "", fmt.Errorf("serve printed the address %q", words[2])
	}
	return words[2], words[4], nil
}

// readyJSON reads the object that serve --json prints.
func readyJSON(line string) (addr, print string, err error) {
	var ready struct {
		Event, Addr  string
		Fingerprints []string
	}
	if err := json.Unmarshal([]byte(line), &ready); err != nil || ready.Event != "ready" || len(ready.Fingerprints) == 0 {
		return "", "", fmt.Errorf("serve printed %q: %v", line, err)
	}
	return ready.Addr, ready.Fingerprints[0], nil
}

// readyLegacy reads the second line that serve prints.
func readyLegacy(line string) (addr string, err error) {
	words := strings.Fields(line)
	if len(words) != 5 || words[0] != "legacy" || words[1] != "on" || words[3] != "key" || !strings.HasPrefix(words[4], "SHA256:") {
		return "", fmt.Errorf("serve printed %q", line)
	}
	return words[2], nil
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM}
	if neg || len(args) != 3 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME INT|TERM CODE")
	}
	p := servers(ts)[args[0]]
	if p == nil {
		ts.Fatalf("no server %s", args[0])
	}
	ts.Check(p.cmd.Process.Signal(signals[args[1]]))
	rest, code := p.wait()
	if strconv.Itoa(code) != args[2] {
		ts.Fatalf("exit code %d, want %s\n%s", code, args[2], p.stderr.String())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), []byte(rest), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".err"), []byte(p.stderr.String()), 0o600))
}

func cmdText(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: text FILE COUNT")
	}
	count, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat("x", count)+"\n"), 0o600))
}

func cmdSplice(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args)%3 != 1 {
		ts.Fatalf("usage: splice OUT (FILE FROM TO)...")
	}
	var all []byte
	for piece := range slices.Chunk(args[1:], 3) {
		data, err := os.ReadFile(ts.MkAbs(piece[0]))
		ts.Check(err)
		from, err := strconv.Atoi(piece[1])
		ts.Check(err)
		to, err := strconv.Atoi(piece[2])
		ts.Check(err)
		if to == -1 {
			to = len(data)
		}
		all = append(all, data[from:to]...)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), all, 0o600))
}

// fakes are what may answer at an address instead of a sealmux server.
var fakes = map[string]func(net.Conn){
	"silent": func(c net.Conn) { io.Copy(io.Discard, c) },
	"closed": func(c net.Conn) {},
	"hash":   func(c net.Conn) { c.Read(make([]byte, 4096)); io.WriteString(c, "welcome!#"); io.Copy(io.Discard, c) },
	"http": func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request")
	},
	"tls": func(c net.Conn) { // the fatal alert with which a TLS server meets what is not a ClientHello
		c.Read(make([]byte, 4096))
		c.Write([]byte{0x15, 3, 1, 0, 2, 2, 10})
	},
	"ssh": func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n"); io.Copy(io.Discard, c) },
}

func cmdFake(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: fake KIND")
	}
	if args[0] == "protocol" {
		fakeProtocol(ts)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("ADDR", l.Addr().String())
	if args[0] == "absent" {
		l.Close()
		return
	}
	serve(ts, l, func() error {
		c, err := l.Accept()
		if err == nil {
			go func() {
				defer c.Close()
				fakes[args[0]](c)
			}()
		}
		return err
	})
}

// fakeProtocol serves another application protocol with the key in server/private.pem.
func fakeProtocol(ts *testscript.TestScript) {
	key, err := transport.ReadPrivateKey(ts.MkAbs("server/private.pem"))
	ts.Check(err)
	l, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: "another/1",
	})
	ts.Check(err)
	ts.Setenv("ADDR", l.Addr().String())
	serve(ts, l, func() error {
		_, err := l.Accept(context.Background())
		return err
	})
}

// serve calls accept until it fails; the end of the script closes l and waits for that.
func serve(ts *testscript.TestScript, l io.Closer, accept func() error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for accept() == nil {
		}
	}()
	ts.Defer(func() {
		l.Close()
		<-done
	})
}

// A process is a sealmux that runs beside the test.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr written // whole once wait has returned
	waited bool
}

func startProcess(dir string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command("sealmux", args...)}
	p.cmd.Dir = dir
	p.cmd.Env = append(append(os.Environ(), "GORACE="+quickExit), env...)
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = 5 * time.Second
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReader(out)
	return p, p.cmd.Start()
}

// wait returns the rest of the output and the exit code, -1 if a signal ended it or it took too long.
func (p *process) wait() (string, int) {
	stuck := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
	defer stuck.Stop()
	rest, _ := io.ReadAll(p.stdout)
	p.cmd.Wait()
	p.waited = true
	return string(rest), p.cmd.ProcessState.ExitCode()
}

func (p *process) kill() {
	if !p.waited {
		p.cmd.Process.Kill()
		p.wait()
	}
}

// silentServer listens and never answers. It tells when the first client is there.
func silentServer(t *testing.T) (addr string, connected <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		close(seen)
		io.Copy(io.Discard, c)
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String(), seen
}
