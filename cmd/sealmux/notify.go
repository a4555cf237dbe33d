package main

import (
	"fmt"
	"io"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells the service manager that started this process with Type=notify how it is; without one it does nothing. A manager that
// cannot be told is no reason not to serve.
func notify(errOut io.Writer, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		fmt.Fprintf(errOut, "cannot tell the service manager %q: %s\n", state, oneLine(err))
	}
}
