package rpc

import (
	"context"
	"maps"
	"net"
	"reflect"
	"strings"
)

// A form is what a method's calls are, as Description tells it.
type form string

const (
	unaryForm  form = "unary"
	serverForm form = "server stream"
	clientForm form = "client stream"
	bidiForm   form = "bidi"
	connForm   form = "conn"
)

// A method is what is registered under a name. One of its handlers is set.
type method struct {
	name    string
	form    form
	unary   handler
	stream  StreamFunc
	conn    ConnFunc
	codec   Codec        // of messages
	in, out reflect.Type // of messages; nil if they are any
}

// A handler answers one call. The request passed Check.
type handler func(ctx context.Context, req *Request) (Raw, error)

// A ConnFunc handles a connection: see HandleConn.
type ConnFunc func(ctx context.Context, conn net.Conn) error

// A registry is never changed: a registration makes another.
type registry struct {
	methods  map[string]*method
	fallback *method
}

// echoes answers everything while nothing is registered.
var echoes = &method{name: "echo", form: unaryForm, unary: echoUnary, stream: echoStream}

// builtIn are the names that only this package registers.
const builtIn = "sealmux."

// find returns what is registered under a name, nil if nothing is.
func (s *Server) find(name []byte) *method {
	r := s.handlers.Load()
	if m, ok := r.methods[string(name)]; ok {
		return m
	}
	if m, ok := s.built[string(name)]; ok {
		return m
	}
	switch {
	case r.fallback != nil:
		return r.fallback
	case len(r.methods) == 0 && !s.nobody && !strings.HasPrefix(string(name), builtIn):
		return echoes
	}
	return nil
}

// register panics if the method cannot be: that is the program's fault, and seen at once.
func (s *Server) register(m *method) {
	if err := checkMethod(m.name); err != nil {
		panic("rpc: " + err.Error())
	}
	if strings.HasPrefix(m.name, builtIn) {
		panic("rpc: method names that begin with " + builtIn + " are taken")
	}
	if m.codec != nil {
		if err := checkCodec(m.codec.Name()); err != nil {
			panic(err.Error())
		}
	}
	for _, t := range []reflect.Type{m.in, m.out} {
		if t == nil || m.codec != nil {
			continue
		}
		if _, err := planOf(t); err != nil {
			panic(err.Error())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := *s.handlers.Load()
	if _, taken := r.methods[m.name]; taken {
		panic("rpc: method " + m.name + " is registered twice")
	}
	r.methods = maps.Clone(r.methods)
	if r.methods == nil {
		r.methods = make(map[string]*method)
	}
	r.methods[m.name] = m
	s.handlers.Store(&r)
}

// HandleRaw registers fn for the unary calls of a method, whose name has 1 to 255 bytes of UTF-8 and does not begin with
// "sealmux.". Calls run at once, each in a goroutine that nothing else uses until fn returns, and that may answer another call then:
// what fn does to its goroutine (runtime.LockOSThread, profiler labels) it must undo. Its context ends at the call's deadline, when the caller gives up, when
// the session ends, and on Server.Close. The request's body is one msgpack value that passed Check and is fn's to keep;
// that of the response must be one too. A nil error makes a reply, any other an error of code CodeOf(err), with outcome
// Executed. A panic is logged and answered with Internal. HandleRaw panics if the name is taken or no name.
func (s *Server) HandleRaw(name string, fn UnaryFunc) {
	s.register(&method{name: name, form: unaryForm, unary: rawHandler(fn)})
}

// HandleStream registers fn for the streams of a method: see StreamFunc and HandleRaw.
func (s *Server) HandleStream(name string, fn StreamFunc) {
	s.register(&method{name: name, form: bidiForm, stream: fn})
}

// HandleConn registers fn with s for the connections of a method (Caller.OpenConn): a tunnel, or another protocol beside the calls. fn
// takes the connection with its first Read, Write or CloseWrite; if it returns an error before, the caller's OpenConn
// fails with that. The connection is closed when fn returns; if that is with an error, or its context ends first, so that the caller
// reads an error behind what came, not io.EOF. It has CloseWrite, and Reset for the same effect.
func HandleConn(s *Server, name string, fn ConnFunc) {
	s.register(&method{name: name, form: connForm, conn: fn})
}

// Fallback sets the handler of the unary calls of all methods that are not registered. It panics if there is one.
func (s *Server) Fallback(fn UnaryFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := *s.handlers.Load()
	if r.fallback != nil {
		panic("rpc: a second fallback")
	}
	r.fallback = &method{form: unaryForm, unary: rawHandler(fn)}
	s.handlers.Store(&r)
}

// rawHandler makes what fn says besides the body that of the call.
func rawHandler(fn UnaryFunc) handler {
	return func(ctx context.Context, req *Request) (Raw, error) {
		resp, err := fn(ctx, req)
		if err != nil {
			return nil, err
		}
		if resp == nil {
			return nil, Errorf(Internal, "the handler returned neither a response nor an error")
		}
		if call := InfoFrom(ctx).call; call != nil {
			err = call.addMeta(resp.Header, resp.Trailer)
		}
		return resp.Body, err
	}
}
