package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuthorizedKeysWhileServing: a client whose key is put into the folder while the server runs gets in; one whose key is taken out
// is cut off, by the server's own bound of a few seconds, and told why; the others stay.
func TestAuthorizedKeysWhileServing(t *testing.T) {
	dir := t.TempDir()
	clients := filepath.Join(dir, "clients")
	if err := os.Mkdir(clients, 0o700); err != nil {
		t.Fatal(err)
	}
	private := func(name string) string { return filepath.Join(dir, name, privateFile) }
	public := func(name string) string { return filepath.Join(dir, name, publicFile) }
	print := make(map[string]string)
	for _, name := range []string{"server", "alice", "bob"} {
		key, err := keygen(filepath.Join(dir, name), 2048)
		if err != nil {
			t.Fatal(err)
		}
		print[name] = key.Fingerprint().String()
	}
	admit := func(name string) {
		t.Helper()
		key, err := os.ReadFile(public(name))
		if err == nil {
			err = os.WriteFile(filepath.Join(clients, name+".new"), key, 0o600)
		}
		if err == nil {
			err = os.Rename(filepath.Join(clients, name+".new"), filepath.Join(clients, name+".pem"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	admit("bob")
	server := start(t, "serve", "--listen", "127.0.0.1:0", "--key", private("server"), "--authorized-keys", clients)
	addr, _, err := ready(server.line(t))
	if err != nil {
		t.Fatal(err)
	}
	as := func(name, command string, args ...string) *process {
		return start(t, append([]string{command, "--server-key", public("server"), "--key", private(name)}, args...)...)
	}
	talk := func(repl *process, text string) {
		t.Helper()
		io.WriteString(repl.stdin, text+"\n")
		if got := repl.line(t); got != "服务端已收到数据: "+text+"\n" {
			t.Errorf("reply %q to %q", got, text)
		}
	}
	only := func(p *process, code int, says string) {
		t.Helper()
		p.ends(t, code, says)
		if strings.Count(p.stderr.String(), "\n") != 1 {
			t.Errorf("not one line: %s", p.stderr.String())
		}
	}

	only(as("alice", "repl", addr), exitIdentity, "does not admit the key "+print["alice"]+"; have its public half put into")
	admit("alice")
	bob, alice := as("bob", "repl", addr), as("alice", "repl", addr)
	talk(bob, "one")
	talk(alice, "two")
	ping := as("alice", "ping", "-i", "100ms", addr)
	ping.line(t)
	ping.line(t)

	if err := os.Remove(filepath.Join(clients, "alice.pem")); err != nil {
		t.Fatal(err)
	}
	only(alice, exitIdentity, "sealmux: the server at "+addr+" does not admit the key "+print["alice"]+" any more; have its public half put back into the server's --authorized-keys folder\n")
	for line := ping.line(t); !strings.HasSuffix(line, ": the server does not admit this client any more\n"); line = ping.line(t) {
		if !strings.HasPrefix(line, "reply from") {
			t.Errorf("ping says %q", line)
		}
	}
	ping.kill()
	talk(bob, "three")
	only(as("alice", "send", addr, "x"), exitIdentity, "does not admit the key "+print["alice"]+"; have its public half put into")
	bob.stdin.Close()
	bob.ends(t, exitDone, "")
}
