package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMetadata(t *testing.T) {
	srv := NewServer(Options{})
	Handle(srv, "meta", func(ctx context.Context, fails bool) (string, error) {
		info := InfoFrom(ctx)
		if err := errors.Join(info.SetHeader("Side", "server"), info.SetTrailer("cost", "\xff\x00")); err != nil {
			return "", err
		}
		if err := info.SetHeader("no good", "x"); err == nil {
			return "", Internal
		}
		if fails {
			return "", NotFound
		}
		return fmt.Sprint(info.Method(), info.Header()["tenant"], info.Header().Get("X-Empty"), info.RequestID()), nil
	})
	count.Handle(srv, func(ctx context.Context, n int, send func(int) error) error {
		info := InfoFrom(ctx)
		info.SetHeader("side", "server")
		if err := send(len(info.Header())); err != nil {
			return err
		}
		if err := info.SetHeader("late", "x"); !errors.Is(err, errHeaderSent) {
			return Internal
		}
		return info.SetTrailer("cost", "5")
	})
	c, _ := start(t, srv, Options{})
	var got Received
	ctx := WithReceived(WithHeader(WithHeader(WithHeader(bg, "Tenant", "blue"), "tenant", "red"), "x-empty", ""), &got)
	reply, err := Call[string](WithRequestID(ctx, "id-1"), c, "meta", false)
	if err != nil || reply != "meta[blue red]id-1" {
		t.Fatal(reply, err)
	}
	if got.Header.Get("SIDE") != "server" || got.Trailer.Get("cost") != "\xff\x00" {
		t.Error(got)
	}
	got = Received{}
	_, err = Call[string](ctx, c, "meta", true)
	want(t, err, NotFound, Executed)
	if got.Header.Get("side") != "server" || err.(*Error).Trailer.Get("cost") != "\xff\x00" || got.Trailer.Get("cost") == "" {
		t.Error(got, err.(*Error).Trailer)
	}
	got = Received{}
	for n, err := range count.Call(ctx, c, 1) {
		if n != 2 || err != nil {
			t.Error(n, err)
		}
	}
	if got.Header.Get("side") != "server" || got.Trailer.Get("cost") != "5" {
		t.Error(got)
	}
	ids := map[string]bool{}
	for range 10 {
		reply, _ := Call[string](bg, c, "meta", false)
		ids[reply] = true
	}
	if len(ids) != 10 {
		t.Error(ids)
	}
	for name, ctx := range map[string]context.Context{
		"key":   WithHeader(bg, "no good", ""),
		"empty": WithHeader(bg, "", ""),
		"long":  WithHeader(bg, "long", strings.Repeat("x", maxMetadata)),
		"id":    WithRequestID(bg, "\xff"),
	} {
		_, err := Call[string](ctx, c, "meta", false)
		if CodeOf(err) != InvalidArgument || OutcomeOf(err) != NotSent {
			t.Error(name, err)
		}
	}
	var none Info // of no call
	if none.Method()+none.RequestID()+none.Header().Get("x") != "" || none.SetTrailer("a", "b") != nil || none.Draining() != nil {
		t.Error("an empty Info is not empty")
	}
}

var errNoKey = errors.New("no such key")

type quotaError struct {
	Limit int
	Who   string `msgpack:"who"`
}

func (e *quotaError) Error() string { return fmt.Sprint(e.Who, " has only ", e.Limit) }

func TestErrorsAcross(t *testing.T) {
	kinds := []ErrorKind{Sentinel("kv.no-key", NotFound, errNoKey), ErrorType[*quotaError]("kv.quota", ResourceExhausted)}
	srv := NewServer(Options{Errors: kinds})
	results := map[string]error{
		"sentinel": fmt.Errorf("get x: %w", errNoKey),
		"typed":    &quotaError{7, "bob"},
		"both":     errors.Join(errNoKey, &quotaError{8, "eve"}),
		"coded":    Errorf(Aborted, "later: %w", errNoKey),
		"detailed": &Error{Code: Unavailable, Message: "m", RetryAfter: 1500 * time.Millisecond, Details: []Detail{NewDetail("d", map[string]int{"a": 1})}},
		"too much": &Error{Code: Internal, Details: []Detail{{"a", Raw{1}}, {"b", make(Raw, maxDetailSize)}}},
	}
	Handle(srv, "fail", func(_ context.Context, name string) (string, error) { return "", results[name] })
	count.Handle(srv, func(context.Context, int, func(int) error) error { return results["both"] })
	c, _ := start(t, srv, Options{Errors: kinds})
	plain, _ := start(t, srv, Options{})
	call := func(c *Client, name string) error { _, err := Call[string](bg, c, "fail", name); return err }

	err := call(c, "sentinel")
	want(t, err, NotFound, Executed)
	if !errors.Is(err, errNoKey) || err.(*Error).Message != "get x: no such key" {
		t.Error(err)
	}
	err = call(c, "typed")
	want(t, err, ResourceExhausted, Executed)
	if q, ok := errors.AsType[*quotaError](err); !ok || *q != (quotaError{7, "bob"}) {
		t.Error(q, err)
	}
	stream := func(yield func(error) bool) {
		for _, err := range count.Call(bg, c, 1) {
			yield(err)
		}
	}
	for _, err := range append(slices.Collect(stream), call(c, "both")) {
		if q, ok := errors.AsType[*quotaError](err); !ok || q.Limit != 8 || !errors.Is(err, errNoKey) {
			t.Error(err)
		}
	}
	err = call(c, "coded")
	want(t, err, Aborted, Executed)
	if !errors.Is(err, errNoKey) {
		t.Error(err)
	}
	err = call(plain, "typed") // nothing is registered: the code and the details remain
	want(t, err, ResourceExhausted, Executed)
	if q, ok := DetailOf[quotaError](err, "kv.quota"); !ok || q.Who != "bob" {
		t.Error(q, ok)
	}
	err = call(c, "detailed")
	if e := err.(*Error); e.RetryAfter != 1500*time.Millisecond || errors.Is(err, ErrDraining) {
		t.Error(e.RetryAfter, err)
	}
	if d, ok := DetailOf[map[string]int](err, "d"); !ok || d["a"] != 1 {
		t.Error(d)
	}
	if _, ok := DetailOf[int](err, "d"); ok {
		t.Error("a map is an int")
	}
	if e := call(c, "too much").(*Error); len(e.Details) != 1 {
		t.Error(len(e.Details))
	}
}

// TestInterceptors: they are called in the order given, around what is inside, and may stand in its place.
func TestInterceptors(t *testing.T) {
	var log []string
	note := func(name string) Interceptor {
		return Interceptor{
			Unary: func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error) {
				log = append(log, name+" in")
				if req.Method == name {
					return nil, Errorf(PermissionDenied, "not here")
				}
				if req.Method == name+"2" {
					next(ctx, req)
					return nil, errors.New("own error")
				}
				resp, err := next(ctx, req)
				if err == nil {
					resp.Trailer = Metadata{name: {"seen"}}
				}
				log = append(log, name+" out")
				return resp, err
			},
			Open: func(ctx context.Context, req *Request, next OpenFunc) (RawStream, error) {
				log = append(log, name+" open")
				return next(ctx, req)
			},
			Stream: func(ctx context.Context, req *Request, s MessageStream, next StreamFunc) error {
				log = append(log, name+" stream")
				return next(ctx, req, &countingStream{s, &log})
			},
		}
	}
	srv := NewServer(Options{Interceptors: []Interceptor{note("c"), {}, note("d")}})
	for _, name := range []string{"m", "a", "a2", "d", "d2"} {
		Handle(srv, name, func(ctx context.Context, _ int) (int, error) { log = append(log, "handler"); return 1, nil })
	}
	count.Handle(srv, func(_ context.Context, n int, send func(int) error) error { return send(n) })
	c, _ := start(t, srv, Options{Interceptors: []Interceptor{note("a"), note("b")}})
	expect := func(want string) {
		t.Helper()
		if got := strings.Join(log, ","); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		log = nil
	}
	var got Received
	if _, err := Call[int](WithReceived(bg, &got), c, "m", 1); err != nil {
		t.Error(err)
	}
	expect("a in,b in,c in,d in,handler,d out,c out,b out,a out")
	if len(got.Trailer) != 1 || got.Trailer.Get("a") != "seen" { // each replaced that of the one inside
		t.Error(got)
	}
	_, err := Call[int](bg, c, "a", 1)
	want(t, err, PermissionDenied, NotSent)
	expect("a in")
	_, err = Call[int](bg, c, "a2", 1)
	want(t, err, Unknown, OutcomeUnknown)
	log = nil
	_, err = Call[int](bg, c, "d", 1)
	want(t, err, PermissionDenied, NotExecuted)
	expect("a in,b in,c in,d in,c out,b out,a out")
	_, err = Call[int](bg, c, "d2", 1)
	want(t, err, Unknown, Executed)
	log = nil
	for n, err := range count.Call(bg, c, 5) {
		if n != 5 || err != nil {
			t.Error(n, err)
		}
	}
	expect("a open,b open,c stream,d stream,recv,recv,recv,recv,send,send")
}

type countingStream struct {
	MessageStream
	log *[]string
}

func (s *countingStream) Send(m Raw) error {
	*s.log = append(*s.log, "send")
	return s.MessageStream.Send(m)
}
func (s *countingStream) Recv() (Raw, error) {
	*s.log = append(*s.log, "recv")
	return s.MessageStream.Recv()
}

// TestAuthorize: it is asked about every form, before the body is looked at, and what it refuses does not run.
func TestAuthorize(t *testing.T) {
	srv := NewServer(Options{Authorize: func(ctx context.Context, req *Request) error {
		if InfoFrom(ctx).Header().Get("token") != "t" || req.Header.Get("token") != "t" || ctx.Value(peerKey{}) == nil {
			return Unauthenticated
		}
		return nil
	}})
	Handle(srv, "m", func(context.Context, int) (int, error) { return 1, nil })
	count.Handle(srv, func(_ context.Context, n int, send func(int) error) error { return send(n) })
	HandleConn(srv, "conn", func(context.Context, net.Conn) error { return nil })
	c, _ := start(t, srv, Options{})
	all := func(ctx context.Context, check func(error)) {
		_, err := Call[Raw](ctx, c, "m", "not an int, but nobody looks")
		if CodeOf(err) == InvalidArgument {
			err = nil
		}
		check(err)
		_, err = Health.Call(ctx, c, "")
		check(err)
		_, err = Call[int](ctx, c, "none", 1)
		if CodeOf(err) == Unimplemented {
			err = nil
		}
		check(err)
		for _, err := range count.Call(ctx, c, 1) {
			check(err)
		}
		conn, err := c.OpenConn(ctx, "conn")
		check(err)
		if err == nil {
			conn.Close()
		}
	}
	all(bg, func(err error) { want(t, err, Unauthenticated, NotExecuted) })
	all(WithHeader(bg, "token", "t"), func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
}

func TestCompression(t *testing.T) {
	zip := Options{CompressOver: 100}
	srv := NewServer(zip)
	chat.Handle(srv, func(_ context.Context, s *Stream[string, string]) error {
		text, err := s.Recv()
		if err != nil {
			return err
		}
		return s.Send(text + text)
	})
	srv.HandleRaw("echo", Echo)
	c, _ := start(t, srv, zip)
	for _, size := range []int{0, 99, 100, 5000, LargeCall * 3} {
		text := strings.Repeat("a", size)
		if got, err := Call[string](bg, c, "echo", text); got != EchoPrefix+text || err != nil {
			t.Error(size, len(got), err)
		}
		s, _ := chat.Open(bg, c)
		s.Send(text)
		if got, err := s.Recv(); got != text+text || err != nil {
			t.Error(size, len(got), err)
		}
		s.Close()
	}
	// Only one side wants it.
	deaf, _ := start(t, NewServer(Options{}), zip)
	_, err := Call[string](bg, deaf, "echo", strings.Repeat("a", 1000))
	want(t, err, InvalidArgument, NotExecuted)
	if _, err := Call[string](bg, deaf, "echo", "short"); err != nil {
		t.Error(err)
	}
	plain, _ := start(t, srv, Options{})
	if _, err := Call[string](bg, plain, "echo", strings.Repeat("a", 1000)); err != nil {
		t.Error(err)
	}
	// What swells over the limit is refused where it is unpacked.
	small := NewServer(Options{CompressOver: 100, MaxReceive: 64 << 10})
	c, _ = start(t, small, zip)
	_, err = Call[string](bg, c, "echo", strings.Repeat("a", 1<<20))
	want(t, err, ResourceExhausted, NotExecuted)
	if _, err := decompress([]byte("garbage"), 100); !errors.Is(err, ErrBadMessage) {
		t.Error(err)
	}
	body := bytes.Repeat([]byte("ab"), 1000)
	packedBody, _ := compress(body)
	for n := range packedBody {
		if got, err := decompress(packedBody[:n], 1<<20); err == nil {
			t.Errorf("cut at %d: %d bytes", n, len(got))
		}
	}
	if _, err := decompress(append(packedBody, 0), 1<<20); err == nil {
		t.Error("trailing bytes")
	}
}

func TestHealthAndMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		c, _ := start(t, srv, Options{})
		for service, status := range map[string]HealthStatus{"": Serving, "kv": ServiceUnknown} {
			if got, err := Health.Call(bg, c, service); got != status || err != nil {
				t.Error(service, got, err)
			}
		}
		if _, err := Call[string](bg, c, "anything", "echo"); err != nil { // built-in methods do not end the echo
			t.Error(err)
		}
		Get := Unary[pair, *pair]{Name: "kv.Get"}
		Get.Handle(srv, func(_ context.Context, p pair) (*pair, error) { return &p, nil })
		d, err := Methods.Call(bg, c, "")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range d.Methods {
			names = append(names, m.Name)
		}
		if fmt.Sprint(names) != "[kv.Get sealmux.Health sealmux.Methods sealmux.WatchHealth]" || d.Methods[0].Form != "unary" ||
			d.Types[d.Methods[0].Request].Kind != "struct" || d.Methods[3].Form != "server stream" {
			t.Errorf("%+v", d)
		}
		if d, err := Methods.Call(bg, c, "none"); err != nil || len(d.Methods) != 0 {
			t.Error(d, err)
		}
		var seen []HealthStatus
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for s, err := range WatchHealth.Call(bg, c, "kv") {
				if err != nil {
					t.Error(err)
				}
				seen = append(seen, s)
			}
		}()
		synctest.Wait()
		srv.SetHealth("kv", Serving)
		synctest.Wait()
		srv.SetHealth("other", NotServing)
		srv.SetHealth("kv", NotServing)
		synctest.Wait()
		if err := srv.Shutdown(bg); err != nil {
			t.Error(err)
		}
		<-watched
		if fmt.Sprint(seen) != "[unknown serving not serving draining]" {
			t.Error(seen)
		}
	})
	c, _ := start(t, NewServer(Options{HideMethods: true}), Options{})
	_, err := Methods.Call(bg, c, "")
	want(t, err, Unimplemented, NotExecuted)
}

type Arith struct{ calls int }

type Args struct{ A, B int }

func (*Arith) Multiply(args *Args, reply *int) error           { *reply = args.A * args.B; return nil }
func (*Arith) Fail(args Args, reply *map[string]int) error     { return NotFound }
func (a *Arith) Add(_ context.Context, args Args) (int, error) { return args.A + args.B, nil }
func (a *Arith) Reset(context.Context, Raw) error              { a.calls = 0; return nil }
func (a *Arith) Close() error                                  { return nil }
func (a *Arith) Name() string                                  { return "" }
func (a *Arith) Count(_ context.Context, n int, send func(int) error) error {
	for i := range n {
		if err := send(i); err != nil {
			return err
		}
	}
	return nil
}
func (a *Arith) Sum(_ context.Context, items iter.Seq2[int, error]) (total int, err error) {
	for n, err := range items {
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
func (a *Arith) Chat(_ context.Context, s *Stream[string, int]) error {
	for n, err := range s.All() {
		if err != nil {
			return err
		}
		if err := s.Send(fmt.Sprint(n)); err != nil {
			return err
		}
	}
	return nil
}

type almost struct{}

func (almost) Method(context.Context, chan int) (int, error) { return 0, nil }

type wrong struct{}

func (wrong) Method(context.Context, int, int) (int, error) { return 0, nil }

func TestRegister(t *testing.T) {
	srv := NewServer(Options{})
	names := srv.Register("", &Arith{})
	if fmt.Sprint(names) != "[Arith.Add Arith.Chat Arith.Count Arith.Fail Arith.Multiply Arith.Reset Arith.Sum]" {
		t.Error(names)
	}
	c, _ := start(t, srv, Options{})
	if n, err := Call[int](bg, c, "Arith.Multiply", Args{6, 7}); n != 42 || err != nil {
		t.Error(n, err)
	}
	if n, err := Call[int](bg, c, "Arith.Add", Args{6, 7}); n != 13 || err != nil {
		t.Error(n, err)
	}
	_, err := Call[any](bg, c, "Arith.Fail", Args{6, 7})
	want(t, err, NotFound, Executed)
	if v, err := Call[any](bg, c, "Arith.Reset", nil); v != nil || err != nil {
		t.Error(v, err)
	}
	_, err = Call[int](bg, c, "Arith.Add", "text")
	want(t, err, InvalidArgument, NotExecuted)
	var got []int
	for n, err := range (ServerStream[int, int]{Name: "Arith.Count"}).Call(bg, c, 4) {
		if err != nil {
			t.Error(err)
		}
		got = append(got, n)
	}
	if n, err := (ClientStream[int, int]{Name: "Arith.Sum"}).Call(bg, c, slices.Values(got)); n != 6 || err != nil {
		t.Error(n, err)
	}
	_, err = ClientStream[string, int]{Name: "Arith.Sum"}.Call(bg, c, slices.Values([]string{"x"}))
	want(t, err, InvalidArgument, Executed)
	s, err := Bidi[int, string]{Name: "Arith.Chat"}.Open(bg, c)
	if err != nil {
		t.Fatal(err)
	}
	s.Send(5)
	if text, err := s.Recv(); text != "5" || err != nil {
		t.Error(text, err)
	}
	s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		t.Error(err)
	}
	for name, value := range map[string]any{"none": struct{}{}, "value": Arith{}, "almost": almost{}, "wrong": wrong{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			srv.Register(name, value)
		}()
	}
}
