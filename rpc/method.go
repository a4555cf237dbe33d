package rpc

import (
	"context"
	"errors"
	"io"
	"iter"
	"reflect"
	"strings"
)

// A Unary is a method with one request and one reply: a value that both sides share,
//
//	var Get = rpc.Unary[GetRequest, *GetReply]{Name: "kv.Get"}
//
// of types as in Handle, or of those that its Codec carries.
type Unary[Req, Resp any] struct {
	Name  string
	Codec Codec // of the request and the reply; nil: msgpack
}

// Handle registers fn for the method: see Handle.
func (u Unary[Req, Resp]) Handle(s *Server, fn func(ctx context.Context, req Req) (Resp, error)) {
	s.register(u.method(fn))
}

// Call calls the method: see Call.
func (u Unary[Req, Resp]) Call(ctx context.Context, c Caller, req Req) (Resp, error) {
	return callValue[Req, Resp](ctx, c, u.Name, u.Codec, &req)
}

func (u Unary[Req, Resp]) method(fn func(ctx context.Context, req Req) (Resp, error)) *method {
	return &method{
		name: u.Name, form: unaryForm, codec: u.Codec, in: reflect.TypeFor[Req](), out: reflect.TypeFor[Resp](),
		unary: func(ctx context.Context, r *Request) (Raw, error) {
			req, err := decodeBy[Req](u.Codec, r.Body)
			if err != nil {
				return nil, refuseBody(err)
			}
			resp, err := fn(ctx, req)
			if err != nil {
				return nil, err
			}
			reply, err := encodeBy(u.Codec, r.scratch, &resp)
			if err != nil {
				return nil, Errorf(Internal, "the reply: %w", err)
			}
			return reply, nil
		},
	}
}

// decodeRequest is decodeInto for what a handler was sent.
func decodeRequest(c Codec, b Raw, v any) error {
	if err := decodeInto(c, b, v); err != nil {
		return refuseBody(err)
	}
	return nil
}

func refuseBody(err error) error {
	return refuse(InvalidArgument, "the request: "+strings.TrimPrefix(err.Error(), "rpc: "))
}

// A ServerStream is a method with one request, answered by any number of messages.
type ServerStream[Req, Item any] struct {
	Name  string
	Codec Codec // of the request and the messages; nil: msgpack
}

// Handle registers fn for the method. send waits while the caller lags behind; it fails when nobody wants more. When fn
// returns nil the caller's loop ends.
func (m ServerStream[Req, Item]) Handle(s *Server, fn func(ctx context.Context, req Req, send func(Item) error) error) {
	s.register(m.method(fn))
}

func (m ServerStream[Req, Item]) method(fn func(ctx context.Context, req Req, send func(Item) error) error) *method {
	return &method{
		name: m.Name, form: serverForm, codec: m.Codec, in: reflect.TypeFor[Req](), out: reflect.TypeFor[Item](),
		stream: func(ctx context.Context, _ *Request, raw MessageStream) error {
			s := Stream[Item, Req]{raw, m.Codec}
			req, err := s.one()
			if err != nil { // fn has not run, though what stands around it has
				status := statusOf(err, nil)
				status.outcome = NotExecuted
				return &refusal{status}
			}
			return fn(ctx, req, s.Send)
		},
	}
}

// Call calls the method and yields its messages, to be ranged over:
//
//	for event, err := range Watch.Call(ctx, client, req) {
//		if err != nil {
//			return err
//		}
//		...
//	}
//
// The loop ends without an error only if the handler has ended well; leaving it cancels the call. Each range is a call.
func (m ServerStream[Req, Item]) Call(ctx context.Context, c Caller, req Req) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var none Item
		body, err := encodeBy(m.Codec, nil, &req)
		if err != nil {
			yield(none, fail(InvalidArgument, NotSent, "", err))
			return
		}
		s, err := open[Req, Item](ctx, c, m.Name, m.Codec, body)
		if err != nil {
			yield(none, err)
			return
		}
		defer s.Close()
		for item, err := range s.All() {
			if !yield(item, err) {
				return
			}
		}
	}
}

// A ClientStream is a method with any number of messages, answered by one reply.
type ClientStream[Item, Resp any] struct {
	Name  string
	Codec Codec // of the messages and the reply; nil: msgpack
}

// Handle registers fn for the method. items is to be ranged over, once; it yields an error, last, if the caller's messages
// break off, which fn should return.
func (m ClientStream[Item, Resp]) Handle(s *Server, fn func(ctx context.Context, items iter.Seq2[Item, error]) (Resp, error)) {
	s.register(&method{
		name: m.Name, form: clientForm, codec: m.Codec, in: reflect.TypeFor[Item](), out: reflect.TypeFor[Resp](),
		stream: func(ctx context.Context, _ *Request, raw MessageStream) error {
			s := Stream[Resp, Item]{raw, m.Codec}
			resp, err := fn(ctx, s.All())
			if err != nil {
				return err
			}
			return s.Send(resp)
		},
	})
}

// Call calls the method with the messages that items yields, and returns its reply. A handler may end the call before it
// has taken them all. When ctx ends Call returns at once, unless items is waiting to yield.
func (m ClientStream[Item, Resp]) Call(ctx context.Context, c Caller, items iter.Seq[Item]) (Resp, error) {
	var none Resp
	s, err := open[Item, Resp](ctx, c, m.Name, m.Codec, nil)
	if err != nil {
		return none, err
	}
	defer s.Close()
	for item := range items {
		if err := s.Send(item); err == io.EOF {
			break // Recv says why
		} else if err != nil {
			return none, err
		}
	}
	if err := s.CloseSend(); err != nil {
		return none, err
	}
	return s.reply()
}

// A Bidi is a method with any number of messages both ways, In from the caller and Out from the handler.
type Bidi[In, Out any] struct {
	Name  string
	Codec Codec // of the messages both ways; nil: msgpack
}

// Handle registers fn for the method. The stream ends when fn returns.
func (m Bidi[In, Out]) Handle(s *Server, fn func(ctx context.Context, s *Stream[Out, In]) error) {
	s.register(&method{
		name: m.Name, form: bidiForm, codec: m.Codec, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		stream: func(ctx context.Context, _ *Request, raw MessageStream) error {
			return fn(ctx, &Stream[Out, In]{raw, m.Codec})
		},
	})
}

// Open opens a stream to the method's handler: see Caller. It must be used until Recv fails, or be closed, or ctx be cancelled.
func (m Bidi[In, Out]) Open(ctx context.Context, c Caller) (*OpenStream[In, Out], error) {
	return open[In, Out](ctx, c, m.Name, m.Codec, nil)
}

// An OpenStream is the caller's end of a stream: it sends S and receives R.
type OpenStream[S, R any] struct {
	Stream[S, R]
	raw      RawStream
	received *Received
}

func open[S, R any](ctx context.Context, c Caller, name string, codec Codec, body Raw) (*OpenStream[S, R], error) {
	o := outgoingOf(ctx)
	raw, err := c.Open(ctx, &Request{Method: name, ID: o.requestID, Header: o.header.clone(), Body: body})
	if err != nil {
		return nil, err
	}
	return &OpenStream[S, R]{Stream[S, R]{raw, codec}, raw, o.received}, nil
}

// CloseSend says that there are no more messages from here.
func (s *OpenStream[S, R]) CloseSend() error { return s.raw.CloseSend() }

// Header waits for the metadata that the handler sends before its first message.
func (s *OpenStream[S, R]) Header() (Metadata, error) { return s.raw.Header() }

// Trailer is the metadata that came with the end, once Recv has failed.
func (s *OpenStream[S, R]) Trailer() Metadata { return s.raw.Trailer() }

// Close gives the stream up, unless it has ended: the handler's context is cancelled. It returns nil.
func (s *OpenStream[S, R]) Close() error {
	err := s.raw.Close()
	if s.received != nil {
		header, _ := s.raw.Header() // what has come: it waits no more
		*s.received = Received{header, s.raw.Trailer()}
	}
	return err
}

// reply is the only message of a client stream's handler.
func (s *OpenStream[S, R]) reply() (R, error) {
	var reply, none R
	wrong := func(err error) (R, error) { return none, fail(Internal, Executed, "the reply", err) }
	body, err := s.raw.Recv()
	switch {
	case err == io.EOF:
		return wrong(errors.New("the handler ended well without one"))
	case err != nil:
		return none, err
	}
	if err := decodeFrom(s.raw, s.codec, body, &reply); err != nil {
		return wrong(err)
	}
	switch _, err := s.raw.Recv(); {
	case err == nil:
		return wrong(errors.New("there are two"))
	case err != io.EOF:
		return none, err
	}
	return reply, nil
}

// A Stream is an end of a stream of messages: it sends S and receives R. One goroutine may send while another receives. A
// message that is not an R fails with an error that matches ErrBadMessage and ends nothing by itself.
type Stream[S, R any] struct {
	raw   MessageStream
	codec Codec
}

// Send sends a message: see MessageStream.
func (s *Stream[S, R]) Send(message S) error {
	body, err := encodeBy(s.codec, nil, &message)
	if err != nil {
		return Errorf(Internal, "the message: %w", err)
	}
	return s.raw.Send(body)
}

// Recv returns the next message, or io.EOF once the other side has said that there are no more.
func (s *Stream[S, R]) Recv() (R, error) {
	var message R
	if err := recvInto(s.raw, s.codec, &message); err != nil {
		var none R
		return none, err
	}
	return message, nil
}

// recvInto receives a message into what v points to.
func recvInto(s MessageStream, codec Codec, v any) error {
	body, err := s.Recv()
	if err != nil {
		return err
	}
	if err := decodeFrom(s, codec, body, v); err != nil {
		return Errorf(InvalidArgument, "the message: %w", err)
	}
	return nil
}

// decodeFrom decodes a message of s. What an interceptor has had in its hands is checked again.
func decodeFrom(s MessageStream, codec Codec, body Raw, v any) error {
	switch s.(type) {
	case *openStream, *handlerStream:
	default:
		if err := Check(body); err != nil {
			return err
		}
	}
	return decodeInto(codec, body, v)
}

// All yields the messages until there are no more. If the stream breaks off it yields an error, last.
func (s *Stream[S, R]) All() iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for {
			message, err := s.Recv()
			if err == io.EOF || !yield(message, err) || err != nil {
				return
			}
		}
	}
}

// one returns the message of a side that sends exactly one.
func (s *Stream[S, R]) one() (R, error) {
	message, err := s.Recv()
	if err == io.EOF {
		return message, Errorf(InvalidArgument, "one message was due, none came")
	}
	if err != nil {
		return message, err
	}
	switch _, err := s.Recv(); {
	case err == nil:
		return message, Errorf(InvalidArgument, "one message was due, more came")
	case !errors.Is(err, io.EOF):
		return message, err
	}
	return message, nil
}
