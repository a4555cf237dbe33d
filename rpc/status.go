package rpc

import (
	"context"
	"errors"
	"fmt"
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

// Sentinels, found with errors.Is in what this package returns.
var (
	// ErrDraining: the server takes no new calls. Open a new session, to another server or to the restarted one.
	ErrDraining = errors.New("rpc: the server is draining; call again on a new session")
	// ErrClientClosed: Close was called on this Client, or it was made of a session that it closed.
	ErrClientClosed = errors.New("rpc: the client is closed; make a new one on a new session")
	// ErrServerClosed: Shutdown or Close was called on this Server.
	ErrServerClosed = errors.New("rpc: the server is closed")
	// ErrTooLarge: a message is over a size limit. Send less at a time, or raise Options on both sides.
	ErrTooLarge = errors.New("rpc: message over the size limit; send less at a time or raise the limit on both sides")
	// ErrBadMessage: bytes that should be one msgpack value are refused (see Check), or do not fit the Go type.
	ErrBadMessage = errors.New("rpc: bad message")
	// ErrProtocol: the peer broke the rules of SPEC.md. The session was ended; check that the peer speaks this protocol.
	ErrProtocol = errors.New("rpc: the peer broke the protocol")
)

// Error is how a call fails. It matches its Code, its cause, and, for the codes DeadlineExceeded and Canceled, the
// context's own errors, under errors.Is.
type Error struct {
	Code    Code
	Outcome Outcome
	Message string // for people; at most 4096 bytes cross the wire
	cause   error
}

// Errorf returns an *Error of that code, with a message as of fmt.Errorf: %w keeps the cause on this side. The outcome is
// for the side that makes the call to know, so that of a handler's error is ignored: the caller gets Executed.
func Errorf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: err}
}

// Error returns one line: code, message and outcome.
func (e *Error) Error() string {
	s := e.Code.Error()
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s + " (outcome: " + e.Outcome.String() + ")"
}

// Unwrap returns the cause, nil if the error came from the peer.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is this error's Code, or the context error that the code stands for.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == DeadlineExceeded
	case context.Canceled:
		return e.Code == Canceled
	}
	c, ok := target.(Code)
	return ok && c == e.Code
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

// fail builds the errors of this package's own: cause may be nil.
func fail(code Code, outcome Outcome, message string, cause error) *Error {
	if cause != nil {
		if message != "" {
			message += ": "
		}
		message += cause.Error()
	}
	return &Error{Code: code, Outcome: outcome, Message: message, cause: cause}
}

// failContext is the error of a call that its own context ended.
func failContext(ctx context.Context, outcome Outcome) *Error {
	code := Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = DeadlineExceeded
	}
	return &Error{Code: code, Outcome: outcome, Message: context.Cause(ctx).Error(), cause: context.Cause(ctx)}
}

// statusOf is what of a handler's error crosses the wire: a code and a text. A cause and a local outcome stay here.
func statusOf(err error) (Code, string) {
	if e, ok := errors.AsType[*Error](err); ok && e == nil {
		return Unknown, "the handler returned a nil *rpc.Error as its error"
	} else if ok {
		if e.Code == OK || e.Code > Unauthenticated {
			return Unknown, e.Message
		}
		return e.Code, e.Message
	}
	code := CodeOf(err)
	if code == OK || code > Unauthenticated {
		code = Unknown
	}
	return code, err.Error()
}
