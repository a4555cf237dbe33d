//go:build unix

package postgres

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A process is a sealmux that runs beside the test.
type process struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer // whole once it has ended
}

func start(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(sealmux, args...)}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(out)
	t.Cleanup(func() { p.end(t) })
	return p
}

// ready waits for the line that says where the process listens, and returns the word behind what.
func (p *process) ready(t testing.TB, what string) string {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	rest, ok := strings.CutPrefix(line, what)
	if !ok {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		t.Fatalf("%q is no %q: %v; %s", line, what, err, &p.stderr)
	}
	return strings.Fields(rest)[0]
}

// end drains the process, which has nothing left to do.
func (p *process) end(t testing.TB) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	io.Copy(io.Discard, p.stdout)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%s ended with %v: %s", p.cmd.Args[1], err, &p.stderr)
	}
}

// keys are files of a server's and a client's identity.
type keys struct{ serverPrivate, serverPublic, clientPrivate, authorized string }

func newKeys(t testing.TB) keys {
	t.Helper()
	dir := t.TempDir()
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, who := range []string{"server", "client"} {
		if out, err := exec.Command(sealmux, "keygen", "--out", in(who), "--bits", "2048").CombinedOutput(); err != nil {
			t.Fatalf("keygen: %v: %s", err, out)
		}
	}
	public, err := os.ReadFile(in("client", "public.pem"))
	if err == nil {
		err = os.Mkdir(in("clients"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(in("clients", "client.pem"), public, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys{in("server", "private.pem"), in("server", "public.pem"), in("client", "private.pem"), in("clients")}
}
