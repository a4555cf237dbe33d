package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// TestEnvironmentDoesNotOverruleTrust: a server key in the environment is not believed where the command line says whom to believe.
func TestEnvironmentDoesNotOverruleTrust(t *testing.T) {
	addr, key := echoing(t, rpc.Options{}, func(_ context.Context, text string) (string, error) { return text, nil })
	t.Setenv("SEALMUX_SERVER_KEY", key)
	t.Setenv("SEALMUX_KNOWN_SERVERS", filepath.Join(t.TempDir(), "none"))
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitDone, ""},
		{[]string{"--trust", "strict"}, exitIdentity, "is not in"},
		{[]string{"--known-servers", filepath.Join(t.TempDir(), "empty"), "--trust=strict"}, exitIdentity, "is not in"},
		{[]string{"--trust", "strict", "--server-key", key}, exitDone, ""},
	} {
		var out, errOut bytes.Buffer
		code := run(append(append([]string{"send"}, row.args...), addr, "a"), nil, &out, &errOut)
		if code != row.code || !strings.Contains(errOut.String(), row.says) {
			t.Errorf("%q: exit %d, %q", row.args, code, errOut.String())
		}
	}
}
