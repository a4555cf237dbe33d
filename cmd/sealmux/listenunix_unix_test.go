//go:build unix

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestUnixSocketIsNeverOpen: whatever the umask, at no time may others connect to a socket of forward's.
func TestUnixSocketIsNeverOpen(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	for range 200 {
		path := filepath.Join(dir, "socket")
		modes := make(chan fs.FileMode)
		go func() { // the mode that it has when it is first there
			for {
				if info, err := os.Stat(path); err == nil {
					modes <- info.Mode().Perm()
					return
				}
			}
		}()
		f := &forwarder{locals: []local{{"unix", path, "127.0.0.1:1"}}}
		listeners, err := f.listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mode := <-modes
		closeAll(listeners)
		if mode != 0o600 {
			t.Fatalf("mode %o", mode)
		}
	}
	if now := syscall.Umask(0); now != 0 {
		t.Errorf("a umask of %o is left", now)
	}
}
