package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc/plugin"
)

func TestMain(m *testing.M) {
	if plugin.IsPlugin() { // the test binary is what run starts
		main()
		return
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out strings.Builder
	if err := run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `called:    the word for a! <nil>
crashed:   exit status 7 after saying out of luck - the call's outcome: unknown
restarted: the word for b! <nil>
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
