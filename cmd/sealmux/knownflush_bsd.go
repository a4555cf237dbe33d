//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dropTyped drops what was typed at a terminal and not read yet.
func dropTyped(t *os.File) {
	const input = 1 // FREAD of sys/fcntl.h
	unix.IoctlSetPointerInt(int(t.Fd()), unix.TIOCFLUSH, input)
}
