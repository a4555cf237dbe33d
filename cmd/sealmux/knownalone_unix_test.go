//go:build unix

package main

import (
	"os"
	"syscall"
)

// noTerminal, if set, has a sealmux that a script runs give up the terminal that go test was started from.
const noTerminal = "NO_TERMINAL"

func init() {
	if os.Getenv(noTerminal) != "" {
		syscall.Setsid() // fails for one that has a terminal of its own, which it keeps
	}
}
