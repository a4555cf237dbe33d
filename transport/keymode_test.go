//go:build unix

package transport

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func TestExposedMode(t *testing.T) {
	for mode := fs.FileMode(0); mode <= 0o777; mode++ {
		if got, want := exposedMode(mode, false), mode&0o077 != 0; got != want {
			t.Errorf("%04o: %v", mode, got)
		}
		if got, want := exposedMode(mode, true), mode&0o077 != 0 && mode&0o077 != 0o040; got != want {
			t.Errorf("%04o of root's: %v", mode, got)
		}
	}
}

// TestKeyFileIsPipe: nobody waits for who writes to it.
func TestKeyFileIsPipe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pipe.pem")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPrivateKey(path); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if _, err := ReadPublicKey(path); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if _, err := AuthorizedKeys(dir); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

// TestKeyFileOfRoot reads a key as a service that is not root does, to whom root hands it. It needs root to set that up.
func TestKeyFileOfRoot(t *testing.T) {
	if path := os.Getenv("SEALMUX_TEST_KEY_OF_ROOT"); path != "" {
		if _, err := ReadPrivateKey(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of root's")
	}
	const group = 65532
	dir, err := os.MkdirTemp("", "sealmux") // others may enter it, as they may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "key.pem")
	if err := serverKeyForTest().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "test")
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []error{os.Chmod(dir, 0o755), os.Chown(path, 0, group)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	for mode, readable := range map[fs.FileMode]bool{0o440: true, 0o640: true, 0o400: false, 0o460: false, 0o444: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		service := exec.Command(program, "-test.run", "^TestKeyFileOfRoot$")
		service.Dir = dir
		service.Env = append(os.Environ(), "SEALMUX_TEST_KEY_OF_ROOT="+path)
		service.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: group, Gid: group}}
		if out, err := service.CombinedOutput(); (err == nil) != readable {
			t.Errorf("mode %04o: %v\n%s", mode, err, out)
		}
	}
}
