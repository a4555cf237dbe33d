//go:build unix

package transport

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A pipe would keep whoever opens it waiting, and a device never end.
func TestKnownServersOddFiles(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "known_servers")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := pipe + ".link"
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, "/dev/zero"} {
		if _, err := ReadKnownServers(path); !errors.Is(err, ErrKnownServers) {
			t.Errorf("%s: %v", path, err)
		}
		if err := addKnown(path, "a:1", Fingerprint{}); !errors.Is(err, ErrKnownServers) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := ForgetServer(path, "a:1"); !errors.Is(err, ErrKnownServers) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A link to a file is followed, and stays a link.
func TestKnownServersLink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known_servers")
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	write(t, path, "")
	if err := addKnown(link, "a:1", Fingerprint{1}); err != nil {
		t.Fatal(err)
	}
	if gone, err := ForgetServer(link, "a:1"); len(gone) != 1 || err != nil {
		t.Fatal(gone, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 || contents(t, path) == "" {
		t.Error(info, err)
	}
}

func TestKnownServersPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("nothing is denied to root")
	}
	path := filepath.Join(t.TempDir(), "known_servers")
	write(t, path, "")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKnownServers(path); !errors.Is(err, ErrKnownServers) || !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}
