package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFolders makes the folders as README does: the service's user, who made none of them, has to reach the clients' keys.
func TestFolders(t *testing.T) {
	found := 0
	for line := range strings.Lines(read(t, "README.md")) {
		_, line, ok := strings.Cut(line, "mkdir -p ")
		if !ok {
			continue
		}
		found++
		clients, rest, _ := strings.Cut(line, " && sealmux ")
		keygen, _, _ := strings.Cut(strings.TrimSpace(rest), " && ")
		dir := t.TempDir()
		clients = filepath.Join(dir, clients)
		keygen = strings.Replace(keygen, "--out ", "--bits 2048 --out "+dir+"/", 1)
		script := "umask 022 && mkdir -p " + clients + " && " + program(t) + " " + keygen
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		for path := clients; path != dir; path = filepath.Dir(path) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if mode := info.Mode().Perm(); mode&0o005 != 0o005 {
				t.Errorf("after %s: %s has mode %04o", script, path, mode)
			}
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(clients), "private.pem")); err != nil {
			t.Errorf("the key is not beside the clients: %v", err)
		}
	}
	if found != 2 {
		t.Errorf("%d lines of README make folders, not 2", found)
	}
}
