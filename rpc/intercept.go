package rpc

import (
	"context"
	"fmt"
	"unicode/utf8"
)

// A Request is a call as interceptors and raw handlers see it, before its body is decoded.
type Request struct {
	Method string   // 1 to 255 bytes of UTF-8
	ID     string   // WithRequestID's, at most 255 bytes of UTF-8; may be empty
	Header Metadata // not to be changed by handlers
	// Body is one encoded msgpack value. To Open it is the only message that the caller sends on the stream, or nil if it sends by itself;
	// on the way to a stream's handler it is nil.
	Body Raw

	scratch *scratch // for the reply, if nobody but the handler and the stream sees that
}

// A Response is the answer to a unary call.
type Response struct {
	Header, Trailer Metadata
	Body            Raw // one encoded msgpack value
}

// A UnaryFunc makes a call, or answers one.
type UnaryFunc func(ctx context.Context, req *Request) (*Response, error)

// An OpenFunc opens a stream of messages to a handler.
type OpenFunc func(ctx context.Context, req *Request) (RawStream, error)

// A StreamFunc handles a stream of messages. The stream ends when it returns: well with nil, else with the error.
type StreamFunc func(ctx context.Context, req *Request, s MessageStream) error

// A MessageStream is an end of a stream of messages, each one encoded msgpack value. One goroutine may send while another
// receives.
type MessageStream interface {
	// Send sends a message. It waits while the other side lags behind by more than the session's window. It fails with
	// io.EOF when the stream has ended, well or not: Recv tells how. It does not keep the message.
	Send(message Raw) error
	// Recv returns the next message, which is the caller's to keep, or io.EOF once the other side has said that there are no more.
	// However the stream is lost, that is another error.
	Recv() (Raw, error)
}

// A RawStream is the caller's end. It must be used until Recv fails, or be closed, or its context be cancelled.
type RawStream interface {
	MessageStream
	// CloseSend says that there are no more messages from here.
	CloseSend() error
	// Header waits for the metadata that the handler sends first.
	Header() (Metadata, error)
	// Trailer is the metadata that came with the end: valid after Recv has failed.
	Trailer() Metadata
	// Close gives the stream up if it has not ended: the handler's context is cancelled. It returns nil.
	Close() error
}

// An Interceptor stands around calls: those that a Client makes, or those that a Server answers. Each of its functions may
// be nil. It may return without calling next; then the call was not sent, or not executed. Those of Options are called
// in the order given, the first outermost.
type Interceptor struct {
	// Unary stands around unary calls, on either side.
	Unary func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error)
	// Open stands around the opening of streams on the calling side. It may wrap what next returns.
	Open func(ctx context.Context, req *Request, next OpenFunc) (RawStream, error)
	// Stream stands around the handlers of streams. It may wrap the stream that it gives to next.
	Stream func(ctx context.Context, req *Request, s MessageStream, next StreamFunc) error
}

func chainUnary(list []Interceptor, next UnaryFunc) UnaryFunc {
	for i := len(list) - 1; i >= 0; i-- {
		if f, inner := list[i].Unary, next; f != nil {
			next = func(ctx context.Context, req *Request) (*Response, error) { return f(ctx, req, inner) }
		}
	}
	return next
}

func chainOpen(list []Interceptor, next OpenFunc) OpenFunc {
	for i := len(list) - 1; i >= 0; i-- {
		if f, inner := list[i].Open, next; f != nil {
			next = func(ctx context.Context, req *Request) (RawStream, error) { return f(ctx, req, inner) }
		}
	}
	return next
}

func chainStream(list []Interceptor, next StreamFunc) StreamFunc {
	for i := len(list) - 1; i >= 0; i-- {
		if f, inner := list[i].Stream, next; f != nil {
			next = func(ctx context.Context, req *Request, s MessageStream) error { return f(ctx, req, s, inner) }
		}
	}
	return next
}

// checkMethod reports what W6 does not allow.
func checkMethod(method string) error {
	if method == "" || len(method) > maxMethod || !utf8.ValidString(method) {
		return fmt.Errorf("a method's name has 1 to %d bytes of UTF-8", maxMethod)
	}
	return nil
}

// check reports what of a request, its body aside, cannot be sent.
func (r *Request) check() error {
	if err := checkMethod(r.Method); err != nil {
		return err
	}
	if len(r.ID) > maxRequestID || !utf8.ValidString(r.ID) {
		return fmt.Errorf("a request id has at most %d bytes of UTF-8", maxRequestID)
	}
	return r.Header.check()
}
