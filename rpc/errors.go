package rpc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

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
	// ErrStreamDone: the stream was closed on this side, or said that it sends no more.
	ErrStreamDone = errors.New("rpc: the stream is done on this side")
)

// Error is how a call fails. It matches its Code, its cause, the errors registered in Options.Errors that it carries, and,
// for the codes DeadlineExceeded and Canceled, the context's own errors, under errors.Is and errors.As.
type Error struct {
	Code    Code
	Outcome Outcome
	Message string // for people; at most 4096 bytes cross the wire
	// RetryAfter is how long the server asks to wait before the call is repeated, if it may be; 0: it says nothing.
	RetryAfter time.Duration
	// Details are values for programs, read with DetailOf; at most 16 of 16 KiB together cross the wire.
	Details []Detail
	Trailer Metadata // of a handler's answer
	header  Metadata
	cause   error
}

// A Detail is a named value in an Error.
type Detail struct {
	Name string // 1 to 255 bytes of UTF-8, such as "kv.quota"
	Body Raw    // one msgpack value, or empty for a name that says all
}

// NewDetail encodes v, of a type as in Handle. It panics if v is of no such type.
func NewDetail(name string, v any) Detail {
	b, err := encode(v)
	if err != nil {
		panic(err.Error())
	}
	return Detail{name, b}
}

// DetailOf returns the value of the first detail of that name in err, if it has one that fits T.
func DetailOf[T any](err error, name string) (v T, ok bool) {
	e, _ := errors.AsType[*Error](err)
	if e == nil {
		return v, false
	}
	for _, d := range e.Details {
		if d.Name == name && Check(d.Body) == nil && decode(d.Body, &v) == nil {
			return v, true
		}
	}
	var none T
	return none, false
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

// Unwrap returns the cause: of an error from the peer, the registered errors that it carries, or nil.
func (e *Error) Unwrap() error {
	if e == nil { // somebody's nil *Error in an error
		return nil
	}
	return e.cause
}

// Is reports whether target is this error's Code, or the context error that the code stands for.
func (e *Error) Is(target error) bool {
	if e == nil {
		return false
	}
	switch target {
	case context.DeadlineExceeded:
		return e.Code == DeadlineExceeded
	case context.Canceled:
		return e.Code == Canceled
	}
	c, ok := target.(Code)
	return ok && c == e.Code
}

// An ErrorKind is an error that stays itself across the wire: when a handler returns it, alone or wrapped, errors.Is or
// errors.As finds it in the caller's *Error. List the same kinds in Options.Errors on both sides.
type ErrorKind struct {
	name   string
	code   Code
	detail func(err error) (Raw, bool)  // what err carries of this kind
	cause  func(body Raw) (error, bool) // the other way
}

// Sentinel is the kind of one error value, found with errors.Is. code is that of the call's error.
func Sentinel(name string, code Code, sentinel error) ErrorKind {
	return ErrorKind{name, code,
		func(err error) (Raw, bool) { return nil, errors.Is(err, sentinel) },
		func(Raw) (error, bool) { return sentinel, true }}
}

// ErrorType is the kind of all errors of type T, a struct or a pointer to one, found with errors.As; its exported fields
// cross as msgpack. It panics if they cannot.
func ErrorType[T error](name string, code Code) ErrorKind {
	if _, err := planOf(reflect.TypeFor[T]()); err != nil {
		panic(err.Error())
	}
	return ErrorKind{name, code,
		func(err error) (Raw, bool) {
			v, ok := errors.AsType[T](err)
			if !ok {
				return nil, false
			}
			b, err := encode(v)
			return b, err == nil
		},
		func(body Raw) (error, bool) {
			var v T
			return v, Check(body) == nil && decode(body, &v) == nil
		}}
}

// statusOf is what of a handler's error crosses the wire. A cause and a local outcome stay here.
func statusOf(err error, kinds []ErrorKind) *wireStatus {
	s := &wireStatus{code: CodeOf(err), outcome: Executed, text: "the handler returned a nil *rpc.Error as its error"}
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok:
		s.text = err.Error()
	case e != nil:
		s.text, s.details, s.retry = e.Message, e.Details, micros(e.RetryAfter)
	}
	if !ok || e != nil {
		for _, k := range kinds {
			body, ok := k.detail(err)
			if !ok {
				continue
			}
			if s.code == Unknown {
				s.code = k.code
			}
			s.details = append(s.details[:len(s.details):len(s.details)], Detail{k.name, body})
		}
	}
	if s.code == OK || s.code > Unauthenticated {
		s.code = Unknown
	}
	// What only this package says must not come through from another server's error.
	s.details = slices.DeleteFunc(slices.Clone(s.details), func(d Detail) bool { return strings.HasPrefix(d.Name, builtIn) })
	s.text, s.details = clip(s.text), clipDetails(s.details)
	return s
}

// clip makes of an error's text what W8 allows.
func clip(text string) string {
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	return strings.ToValidUTF8(text, "") // a cut rune and the handler's own faults go
}

// clipDetails keeps the details that W8 allows, in order.
func clipDetails(details []Detail) []Detail {
	size := 0
	for i, d := range details {
		size += len(d.Name) + len(d.Body)
		if i == maxDetails || size > maxDetailSize || checkMethod(d.Name) != nil {
			return details[:i]
		}
	}
	return details
}

// errorOf makes the caller's error of an error message.
func errorOf(m *message, kinds []ErrorKind) *Error {
	e := &Error{Code: m.code, Outcome: m.outcome, Message: string(m.text), RetryAfter: time.Duration(m.retry) * time.Microsecond,
		Details: decodeDetails(m.details), header: decodeMetadata(m.header), Trailer: decodeMetadata(m.trailer)}
	var causes []error
	for _, d := range e.Details {
		if d.Name == drainingDetail && m.outcome == NotExecuted { // C9
			causes = append(causes, ErrDraining)
		}
		for _, k := range kinds {
			if cause, ok := error(nil), false; k.name == d.Name {
				if cause, ok = k.cause(d.Body); ok {
					causes = append(causes, cause)
				}
			}
		}
	}
	if len(causes) == 1 {
		e.cause = causes[0]
	} else {
		e.cause = errors.Join(causes...)
	}
	return e
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
