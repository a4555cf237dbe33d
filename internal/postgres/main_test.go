//go:build unix

package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// What all tests share.
var (
	onTCP    *database // listens on loopback
	onSocket *database // is on no network
	sealmux  string    // the tool, built of this repository
)

func TestMain(m *testing.M) {
	code, err := prepared(m)
	if err == nil && code == 0 {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "internal/postgres:", err)
		code = 1
	}
	os.Exit(code)
}

func prepared(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "sealmux-tool")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	sealmux = filepath.Join(dir, "sealmux")
	build := exec.Command("go", "build", "-C", "../..", "-o", sealmux, "./cmd/sealmux")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%v: %w: %s", build, err, out)
	}
	for _, db := range []struct {
		to    **database
		onTCP bool
	}{{&onTCP, true}, {&onSocket, false}} {
		if *db.to, err = startDatabase(db.onTCP); err != nil {
			return 0, err
		}
		defer func() {
			if stopErr := (*db.to).stop(); err == nil {
				err = stopErr
			}
		}()
	}
	return m.Run(), nil
}
