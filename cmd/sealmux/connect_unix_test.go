//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmux/sealmux/transport"
)

// TestUnreadable: a folder of clients' keys that is out of reach is told as that, with what helps.
func TestUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	above := filepath.Join(t.TempDir(), "above")
	clients := filepath.Join(above, "clients")
	if err := os.MkdirAll(clients, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(above, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(above, 0o700)
	_, err := transport.AuthorizedKeys(clients)
	got := keyError("--authorized-keys", clients, err).Error()
	if want := "--authorized-keys: this user may not read " + clients + ", or reach it; "; !strings.HasPrefix(got, want) {
		t.Errorf("got %s", got)
	}
}
