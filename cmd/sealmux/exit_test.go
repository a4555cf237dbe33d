package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("a"), 1},
		{usagef("a"), 2},
		{fmt.Errorf("message 1: %w", lost("a")), 3},
		{withCode(exitIdentity, errors.New("a")), 4},
		{fmt.Errorf("%w (the call may have run)", withCode(callCode(rpc.NotFound), errors.New("a"))), 69},
		{withCode(callCode(1<<32-1), errors.New("a")), 255},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}
