package rpc

import (
	"context"
	"errors"
	"strconv"
)

// Code says what kind of failure a call met. The numbers and names are gRPC's, so that people and gateways know them.
// A Code is an error, so errors.Is(err, rpc.NotFound) asks for it, and a handler may return one as it is.
type Code uint32

// The codes. OK is never the code of an error.
const (
	OK                 Code = 0
	Canceled           Code = 1  // the caller gave up
	Unknown            Code = 2  // the handler returned an error without a code
	InvalidArgument    Code = 3  // the request is wrong whatever the state of the server
	DeadlineExceeded   Code = 4  // the time allowed for the call passed
	NotFound           Code = 5  // what was asked for does not exist
	AlreadyExists      Code = 6  // what was to be created exists
	PermissionDenied   Code = 7  // the caller is known and may not do this
	ResourceExhausted  Code = 8  // a limit: message size, running calls, memory
	FailedPrecondition Code = 9  // the state of the server forbids it; do not retry as it is
	Aborted            Code = 10 // a conflict; retry the whole operation
	OutOfRange         Code = 11 // past the end of something
	Unimplemented      Code = 12 // no such method
	Internal           Code = 13 // the server or a peer broke its own rules
	Unavailable        Code = 14 // no session, a lost one, or a server that drains
	DataLoss           Code = 15 // data is gone or damaged
	Unauthenticated    Code = 16 // the caller is not known
)

var codeNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable",
	"DataLoss", "Unauthenticated",
}

// String returns the code's name, such as "NotFound".
func (c Code) String() string {
	if int64(c) < int64(len(codeNames)) {
		return codeNames[c]
	}
	return "Code(" + strconv.FormatUint(uint64(c), 10) + ")"
}

// Error makes a Code an error, for errors.Is and for handlers with nothing to add.
func (c Code) Error() string { return "rpc: " + c.String() }

// Outcome says what became of a failed call: whether its handler can have run.
type Outcome uint8

// The outcomes. The zero value promises least.
const (
	OutcomeUnknown Outcome = 0 // the request left, no answer came: the handler may have run; repeat idempotent calls only
	NotSent        Outcome = 1 // the last byte of the request was never handed to the session: the handler did not run
	NotExecuted    Outcome = 2 // the server says that it did not run the handler
	Executed       Outcome = 3 // the server answered: the handler ran, and failed with this error
)

// String returns "unknown", "not sent", "not executed" or "executed".
func (o Outcome) String() string {
	switch o {
	case OutcomeUnknown:
		return "unknown"
	case NotSent:
		return "not sent"
	case NotExecuted:
		return "not executed"
	case Executed:
		return "executed"
	}
	return "Outcome(" + strconv.Itoa(int(o)) + ")"
}

// CodeOf returns the code of err: OK for nil, that of an *Error or a Code in its tree, DeadlineExceeded and Canceled for
// the context's errors, Unknown for any other.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		return e.Code
	} else if ok {
		return Unknown // a nil *Error in an error: the oldest trap of the language
	}
	if c, ok := errors.AsType[Code](err); ok {
		return c
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	return Unknown
}

// OutcomeOf returns the outcome of a call that returned err: Executed for nil, OutcomeUnknown for an error that is not of
// this package.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Executed
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		return e.Outcome
	}
	return OutcomeUnknown
}
