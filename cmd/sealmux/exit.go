package main

import (
	"errors"
	"fmt"

	"github.com/sealmux/sealmux/rpc"
)

// The exit codes. A call that the server refused or that failed there exits with exitCall plus its rpc.Code, which is 1 to 16 unless the
// server has codes of its own.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitConnect  = 3 // no session, or none any more, or no answer in time
	exitIdentity = 4 // the server is not who it should be, or does not admit this client
	exitCall     = 64
)

const exitCodesHelp = "0 done, 1 failed, 2 wrong usage, 3 no session or no answer in time, 4 an identity was refused, 64 and the\n" +
	"code of the error of a call"

// A usageError is a command line that cannot be carried out, whatever the state of the world.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return usageError{fmt.Sprintf(format, args...)}
}

// A codedError is an error that says with which code the command exits.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

func withCode(code int, err error) error { return codedError{err, code} }

// callCode is the exit code for an error of a call.
func callCode(code rpc.Code) int { return exitCall + int(min(code, 255-exitCall)) }

// exitCode is the code with which a command exits that ended with err.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if coded, ok := errors.AsType[codedError](err); ok {
		return coded.code
	}
	return exitFailed
}
