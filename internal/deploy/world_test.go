package deploy

import (
	"bufio"
	"debug/elf"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const files = "../../examples/deploy/"

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(files + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A host is a folder with a server's key and its clients, which stands for the folders that the files name.
type host struct{ dir string }

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t.TempDir()}
	tool(t, "keygen", "--out", h.path("keys"), "--bits", "2048")
	if err := os.MkdirAll(h.path("clients"), 0o700); err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(h.path("keys/public.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path("clients/self.pem"), public, 0o644); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// built is the program, made by the line of the Dockerfile.
var built string

// program builds the program as the Dockerfile does, once.
func program(t *testing.T) string {
	t.Helper()
	if built != "" {
		return built
	}
	dir, err := os.MkdirTemp("", "sealmux")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "sealmux")
	line := strings.Replace(buildLine(t), "-o /sealmux", "-o "+out, 1)
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = "../.."
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, text)
	}
	image, err := elf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	for _, part := range image.Progs {
		if part.Type == elf.PT_INTERP {
			t.Error("the program needs a loader, which an empty image does not have")
		}
	}
	built = out
	return out
}

// tool runs the program to its end and returns what it printed.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(program(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sealmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A server is the program as one of the files starts it.
type server struct {
	cmd  *exec.Cmd
	addr string
}

// serve starts the program and waits for the line that it is ready with.
func serve(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(program(t), args...)}
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cmd.Process.Kill(); s.cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 3 || words[0] != "listening" {
		t.Fatalf("serve printed %q: %v", line, err)
	}
	_, port, err := net.SplitHostPort(words[2])
	if err != nil {
		t.Fatal(err)
	}
	s.addr = net.JoinHostPort("127.0.0.1", port)
	return s
}

// stop is what all of the three do first.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// drains checks that a manager that waits so long before it kills does not cut a drain.
func drains(t *testing.T, args []string, wait time.Duration) {
	t.Helper()
	for i, arg := range args {
		if arg != "--drain" {
			continue
		}
		drain, err := time.ParseDuration(args[i+1])
		if err != nil || drain >= wait {
			t.Errorf("--drain %s, and killed after %v: %v", args[i+1], wait, err)
		}
		return
	}
	t.Error("no --drain")
}

// in replaces what a file names by what there is here.
func in(args []string, names ...string) []string {
	replaced := make([]string, len(args))
	for i, arg := range args {
		replaced[i] = strings.NewReplacer(names...).Replace(arg)
	}
	return replaced
}
