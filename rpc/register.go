package rpc

import (
	"context"
	"fmt"
	"io"
	"reflect"
)

// Register registers the methods of a value, as net/rpc does, under name + "." + the method's name; an empty name stands for
// the name of the value's type. These are taken, with Req, Resp and Item of types as in Handle:
//
//	func(ctx context.Context, req Req) (Resp, error)                                   // unary
//	func(ctx context.Context, req Req) error                                           // unary, answered by nil
//	func(args Req, reply *Resp) error                                                  // unary, as net/rpc has it
//	func(ctx context.Context, req Req, send func(Item) error) error                    // ServerStream
//	func(ctx context.Context, items iter.Seq2[Item, error]) (Resp, error)              // ClientStream
//	func(ctx context.Context, s *Stream[Out, In]) error                                // Bidi
//
// Other exported methods are left out, but Register panics if one takes a context first and returns an error last and is none
// of these, since it was surely meant to be one; if there is none at all; and as HandleRaw does. It returns the names.
func (s *Server) Register(name string, value any) []string { return s.RegisterCodec(name, value, nil) }

// RegisterCodec is Register for methods whose messages are in a codec; nil: in none. They are called by a Unary with that Codec.
func (s *Server) RegisterCodec(name string, value any, codec Codec) []string {
	v := reflect.ValueOf(value)
	if name == "" {
		name = reflect.Indirect(v).Type().Name()
	}
	var names []string
	for i := range v.NumMethod() {
		m, err := methodOf(v.Method(i), codec)
		if err != nil {
			panic(fmt.Sprintf("rpc: method %s of %v: %v", v.Type().Method(i).Name, v.Type(), err))
		}
		if m != nil {
			m.codec = codec
			m.name = name + "." + v.Type().Method(i).Name
			s.register(m)
			names = append(names, m.name)
		}
	}
	if names == nil {
		panic(fmt.Sprintf("rpc: %v has no method that can be registered; is a pointer to it due?", v.Type()))
	}
	return names
}

var (
	errorType   = reflect.TypeFor[error]()
	contextType = reflect.TypeFor[context.Context]()
)

// methodOf makes a method of f by its type; nil if f is not meant to be one.
func methodOf(f reflect.Value, codec Codec) (*method, error) {
	t := f.Type()
	var in, out []reflect.Type
	for p := range t.Ins() {
		in = append(in, p)
	}
	for r := range t.Outs() {
		out = append(out, r)
	}
	if t.IsVariadic() || len(in) == 0 || len(out) == 0 || out[len(out)-1] != errorType {
		return nil, nil
	}
	switch {
	case in[0] != contextType && len(in) == 2 && len(out) == 1 && in[1].Kind() == reflect.Pointer:
		return netrpcMethod(f, codec, in[0], in[1]), nil
	case in[0] != contextType:
		return nil, nil
	case len(in) == 2 && len(out) == 2 && isSeq(in[1]):
		return clientStreamMethod(f, codec, in[1], out[0]), nil
	case len(in) == 2 && len(out) == 2:
		return unaryMethod(f, codec, in[1], out[0]), nil
	case len(in) == 3 && len(out) == 1 && isSend(in[2]):
		return serverStreamMethod(f, codec, in[1], in[2]), nil
	case len(in) == 2 && len(out) == 1:
		if b, ok := reflect.New(in[1]).Elem().Interface().(binder); ok {
			return bidiMethod(f, codec, b), nil
		}
		return unaryMethod(f, codec, in[1], nil), nil
	}
	return nil, fmt.Errorf("%v is of no form that Register takes", t)
}

// isSend reports whether t is func(Item) error.
func isSend(t reflect.Type) bool {
	return t.Kind() == reflect.Func && !t.IsVariadic() && t.NumIn() == 1 && t.NumOut() == 1 && t.Out(0) == errorType
}

// isSeq reports whether t is iter.Seq2[Item, error].
func isSeq(t reflect.Type) bool {
	if t.Kind() != reflect.Func || t.NumIn() != 1 || t.NumOut() != 0 {
		return false
	}
	yield := t.In(0)
	return yield.Kind() == reflect.Func && yield.NumIn() == 2 && yield.In(1) == errorType &&
		yield.NumOut() == 1 && yield.Out(0).Kind() == reflect.Bool
}

func errorIn(v reflect.Value) error {
	err, _ := v.Interface().(error)
	return err
}

// encodeReflected is encode by a codec, if there is one.
func encodeReflected(c Codec, v reflect.Value) (Raw, error) {
	if c == nil {
		return encode(v.Interface())
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return appendCoded(nil, c, p.Interface())
}

func encodeReply(c Codec, v reflect.Value) (Raw, error) {
	reply, err := encodeReflected(c, v)
	if err != nil {
		return nil, Errorf(Internal, "the reply: %w", err)
	}
	return reply, nil
}

// unaryMethod answers with nil if resp is nil.
func unaryMethod(f reflect.Value, codec Codec, req, resp reflect.Type) *method {
	return &method{form: unaryForm, in: req, out: resp, unary: func(ctx context.Context, r *Request) (Raw, error) {
		arg := reflect.New(req)
		if err := decodeRequest(codec, r.Body, arg.Interface()); err != nil {
			return nil, err
		}
		results := f.Call([]reflect.Value{reflect.ValueOf(ctx), arg.Elem()})
		if err := errorIn(results[len(results)-1]); err != nil {
			return nil, err
		}
		if resp == nil {
			return Raw{0xc0}, nil
		}
		return encodeReply(codec, results[0])
	}}
}

func netrpcMethod(f reflect.Value, codec Codec, args, reply reflect.Type) *method {
	return &method{form: unaryForm, in: args, out: reply, unary: func(_ context.Context, r *Request) (Raw, error) {
		arg, result := reflect.New(args), reflect.New(reply.Elem())
		if err := decodeRequest(codec, r.Body, arg.Interface()); err != nil {
			return nil, err
		}
		switch reply.Elem().Kind() { // net/rpc's handlers count on these
		case reflect.Map:
			result.Elem().Set(reflect.MakeMap(reply.Elem()))
		case reflect.Slice:
			result.Elem().Set(reflect.MakeSlice(reply.Elem(), 0, 0))
		}
		if err := errorIn(f.Call([]reflect.Value{arg.Elem(), result})[0]); err != nil {
			return nil, err
		}
		return encodeReply(codec, result.Elem())
	}}
}

func serverStreamMethod(f reflect.Value, codec Codec, req, send reflect.Type) *method {
	return &method{form: serverForm, in: req, out: send.In(0), stream: func(ctx context.Context, _ *Request, s MessageStream) error {
		body, err := (&Stream[Raw, Raw]{raw: s}).one()
		if err != nil {
			return err
		}
		arg := reflect.New(req)
		if err := decodeRequest(codec, body, arg.Interface()); err != nil {
			return err
		}
		sender := reflect.MakeFunc(send, func(items []reflect.Value) []reflect.Value {
			body, err := encodeReflected(codec, items[0])
			if err == nil {
				err = s.Send(body)
			} else {
				err = Errorf(Internal, "the message: %w", err)
			}
			result := reflect.New(errorType).Elem()
			if err != nil {
				result.Set(reflect.ValueOf(err))
			}
			return []reflect.Value{result}
		})
		return errorIn(f.Call([]reflect.Value{reflect.ValueOf(ctx), arg.Elem(), sender})[0])
	}}
}

func clientStreamMethod(f reflect.Value, codec Codec, seq, resp reflect.Type) *method {
	item := seq.In(0).In(0)
	return &method{form: clientForm, in: item, out: resp, stream: func(ctx context.Context, _ *Request, s MessageStream) error {
		items := reflect.MakeFunc(seq, func(args []reflect.Value) []reflect.Value {
			for {
				v, failed := reflect.New(item), reflect.New(errorType).Elem()
				err := recvInto(s, codec, v.Interface())
				if err == io.EOF {
					return nil
				}
				if err != nil {
					v = reflect.New(item)
					failed.Set(reflect.ValueOf(err))
				}
				if !args[0].Call([]reflect.Value{v.Elem(), failed})[0].Bool() || err != nil {
					return nil
				}
			}
		})
		results := f.Call([]reflect.Value{reflect.ValueOf(ctx), items})
		if err := errorIn(results[1]); err != nil {
			return err
		}
		reply, err := encodeReply(codec, results[0])
		if err != nil {
			return err
		}
		return s.Send(reply)
	}}
}

// A binder is a *Stream of whatever types.
type binder interface {
	types() (in, out reflect.Type)
	bind(MessageStream, Codec) reflect.Value
}

func (*Stream[S, R]) types() (in, out reflect.Type) {
	return reflect.TypeFor[R](), reflect.TypeFor[S]()
}

func (*Stream[S, R]) bind(raw MessageStream, codec Codec) reflect.Value {
	return reflect.ValueOf(&Stream[S, R]{raw, codec})
}

func bidiMethod(f reflect.Value, codec Codec, b binder) *method {
	in, out := b.types()
	return &method{form: bidiForm, in: in, out: out, stream: func(ctx context.Context, _ *Request, s MessageStream) error {
		return errorIn(f.Call([]reflect.Value{reflect.ValueOf(ctx), b.bind(s, codec)})[0])
	}}
}
