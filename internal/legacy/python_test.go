package legacy

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python finds an interpreter that has the module Cryptodome. Debian's package is for /usr/bin/python3 alone.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "-c", "import Cryptodome").Run() == nil {
			return name
		}
	}
	t.Skip("needs python3 with the module Cryptodome (Debian: python3-pycryptodome)")
	return ""
}

// script is a program of testdata, whose standard error is the test's.
func script(t *testing.T, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(python(t), append([]string{"-W", "ignore", name}, args...)...)
	cmd.Dir = "testdata"
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONUTF8=1")
	cmd.Stderr = t.Output()
	return cmd
}

// texts go through both scripts, a line each.
func texts() []string {
	return []string{"hello", "你好，世界", "", "a#b##", "🙂", "0123456789abcdef", `{"key":'a'}`, strings.Repeat("0123456789abcdef", 1<<16), "last"}
}

// The script's client is served.
func TestPythonClient(t *testing.T) {
	for _, name := range []string{"server", "small"} {
		addr := listen(t, newTestServer(t, Config{Key: testKeys()[name+".pem"]}))
		host, port, _ := net.SplitHostPort(addr)
		cmd := script(t, "client.py", host, port, name+".pub.pem")
		cmd.Stdin = strings.NewReader(strings.Join(texts(), "\n") + "\n")
		got, err := cmd.Output()
		want := prefix + strings.Join(texts(), "\n"+prefix) + "\n"
		if err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, want %d: %.200q, %v", name, len(got), len(want), got, err)
		}
	}
}

// The script's server answers our client.
func TestPythonServer(t *testing.T) {
	for _, name := range []string{"server", "small"} {
		cmd := script(t, "server.py", name+".pem")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var port int
		if _, err := fmt.Fscan(bufio.NewReader(stdout), &port); err != nil {
			t.Fatal(err)
		}
		c, err := Dial(t.Context(), "tcp", fmt.Sprint("127.0.0.1:", port), testKeys()[name+".pem"].pub)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts() {
			if got, err := c.Call(t.Context(), text); err != nil || got != prefix+text {
				t.Errorf("%s: %.60q: %.60q, %v", name, text, got, err)
			}
		}
		c.Close()
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// The files that the tests compare with are what golden.py makes.
func TestGoldenFilesAreMade(t *testing.T) {
	dir := t.TempDir()
	if out, err := script(t, "golden.py", dir).Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(made) != 4 {
		t.Fatal(made, err)
	}
	for _, path := range made {
		got, err := os.ReadFile(path)
		if want := testdata(t, filepath.Base(path)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another: %v", filepath.Base(path), err)
		}
	}
}
