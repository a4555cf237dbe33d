package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// dropTyped drops what was typed at a terminal and not read yet.
func dropTyped(t *os.File) { unix.IoctlSetInt(int(t.Fd()), unix.TCFLSH, unix.TCIFLUSH) }
