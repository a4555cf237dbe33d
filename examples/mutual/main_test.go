package main

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	var out strings.Builder
	if err := run(context.Background(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `bob reads:  "some text", error <nil>
bob writes: "", error rpc: PermissionDenied: you may not write (outcome: not executed)
mallory:    transport: the server does not admit this client
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
