package plugin

import (
	"errors"
	"fmt"
	"os"
)

// Errors of this package, found with errors.Is in what it returns.
var (
	// ErrNotPlugin: the program printed something else than a plug-in's line on standard output. Have it print nothing there
	// before Serve, and log to standard error.
	ErrNotPlugin = errors.New("plugin: the program does not answer as a plug-in; it must call plugin.Serve and print nothing to standard output before")
	// ErrStartTimeout: the program did not get to Serve within Options.StartTimeout. It was killed.
	ErrStartTimeout = errors.New("plugin: the program did not answer in time; raise Options.StartTimeout, or look at what it does before plugin.Serve")
	// ErrStopped: Stop or Kill was called on this Plugin. Start another.
	ErrStopped = errors.New("plugin: the plug-in was stopped; start another")
	// ErrKilled: the plug-in did not end by itself within Options.StopTimeout, and was killed.
	ErrKilled = errors.New("plugin: the plug-in did not stop in time and was killed; raise Options.StopTimeout, or have its handlers heed their context")
	// ErrHostGone: Serve lost its host, which died or closed the session without a Stop.
	ErrHostGone = errors.New("plugin: the host is gone")
	// ErrOptions: the arguments cannot work; the text says what to change. Nothing was started.
	ErrOptions = errors.New("plugin: unusable options")
)

// An ExitError says how a plug-in ended that was not stopped. Calls that it failed carry it: find it with errors.As.
type ExitError struct {
	Name   string           // Options.Name
	State  *os.ProcessState // how the process ended; nil for one that runs in this process (InProcess)
	Stderr string           // the last lines of its standard error, at most 4 KiB, as it wrote them
	Err    error            // what else is known: why the session ended, or the start failed; may be nil
}

// Error tells the status and the last lines of standard error.
func (e *ExitError) Error() string {
	how := "ended"
	if e.State != nil {
		how = "ended with " + e.State.String()
	}
	text := fmt.Sprintf("plugin: %s %s", e.Name, how)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Stderr != "" {
		text += fmt.Sprintf("; its last lines: %q", e.Stderr)
	}
	return text
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// A VersionError says that the two sides have no version of the application protocol in common. Upgrade the older one.
type VersionError struct{ Host, Plugin []int }

// Error names both lists.
func (e *VersionError) Error() string {
	return fmt.Sprintf("plugin: no version in common: the host speaks %v, the plug-in %v; upgrade the older one", e.Host, e.Plugin)
}
