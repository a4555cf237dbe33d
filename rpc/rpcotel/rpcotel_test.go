package rpcotel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	greet  = rpc.Unary[string, string]{Name: "greet"}
	count  = rpc.ServerStream[int, int]{Name: "count"}
	sum    = rpc.ClientStream[int, int]{Name: "sum"}
	shout  = rpc.Bidi[string, string]{Name: "shout"}
	forget = rpc.Bidi[string, string]{Name: "forget"}
)

// A fixture is a client and a server that are watched.
type fixture struct {
	client *rpc.Client
	spans  *tracetest.SpanRecorder
	reader *sdkmetric.ManualReader
	close  func()
}

func watched(t testing.TB, server func(*rpc.Server), more Options) *fixture {
	f := &fixture{spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	opts := more
	opts.TracerProvider = trace.NewTracerProvider(trace.WithSpanProcessor(f.spans))
	opts.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(f.reader))
	srv := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{Server(opts)}})
	server(srv)
	a, b := rpc.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { srv.ServeSession(context.Background(), b) })
	f.client = rpc.NewClient(a, rpc.Options{Interceptors: []rpc.Interceptor{Client(opts)}})
	var once sync.Once
	f.close = func() {
		once.Do(func() {
			f.client.Close()
			srv.Shutdown(context.Background())
			serving.Wait()
		})
	}
	t.Cleanup(f.close)
	return f
}

func methods(srv *rpc.Server) {
	greet.Handle(srv, func(ctx context.Context, name string) (string, error) {
		switch name {
		case "nobody":
			return "", rpc.Errorf(rpc.NotFound, "nobody is here")
		case "plain":
			return "", errors.New("a plain error")
		case "panic":
			panic("as asked")
		}
		return "hello " + name, nil
	})
	count.Handle(srv, func(_ context.Context, n int, send func(int) error) error {
		for i := range n {
			if err := send(i); err != nil {
				return err
			}
		}
		return nil
	})
	sum.Handle(srv, func(_ context.Context, items iter.Seq2[int, error]) (total int, err error) {
		for n, err := range items {
			if err != nil {
				return 0, err
			}
			total += n
		}
		return total, nil
	})
	shout.Handle(srv, func(_ context.Context, s *rpc.Stream[string, string]) error {
		for text, err := range s.All() {
			if err != nil {
				return err
			}
			if err := s.Send(strings.ToUpper(text)); err != nil {
				return err
			}
		}
		return nil
	})
	forget.Handle(srv, func(ctx context.Context, _ *rpc.Stream[string, string]) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

// told is one side's only ended span, of which all are looked at together.
func (f *fixture) told(t *testing.T, kind oteltrace.SpanKind) (trace.ReadOnlySpan, map[string]string) {
	t.Helper()
	var found trace.ReadOnlySpan
	// That of a stream which was left to its context is ended by a goroutine of that: it may take its time.
	for limit := time.Now().Add(20 * time.Second); found == nil; time.Sleep(time.Millisecond) {
		for _, span := range f.spans.Ended() {
			if span.SpanKind() != kind {
				continue
			}
			if found != nil {
				t.Fatalf("two spans of kind %v: %s and %s", kind, found.Name(), span.Name())
			}
			found = span
		}
		if time.Now().After(limit) {
			t.Fatalf("no span of kind %v", kind)
		}
	}
	values := make(map[string]string)
	for _, kv := range found.Attributes() {
		values[string(kv.Key)] = kv.Value.String()
	}
	return found, values
}

func TestCalls(t *testing.T) {
	for _, c := range []struct {
		name, arg            string
		code, kind, outcome  string
		clientErr, serverErr bool
	}{
		{"well", "world", "OK", "", "", false, false},
		{"refused by its handler", "nobody", "NotFound", "NotFound", "executed", true, false},
		{"a plain error", "plain", "Unknown", "Unknown", "executed", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := watched(t, methods, Options{Attributes: []attribute.KeyValue{attribute.String("server.address", "here")}})
			greet.Call(t.Context(), f.client, c.arg)
			f.close()
			client, values := f.told(t, oteltrace.SpanKindClient)
			for name, want := range map[string]string{"rpc.system.name": "sealmux", "rpc.method": "greet", "rpc.response.status_code": c.code,
				"error.type": c.kind, "sealmux.outcome": c.outcome, "server.address": "here"} {
				if values[name] != want {
					t.Errorf("client: %s is %q, not %q", name, values[name], want)
				}
			}
			server, values := f.told(t, oteltrace.SpanKindServer)
			if values["rpc.method"] != "greet" || values["rpc.response.status_code"] != c.code || values["sealmux.outcome"] != c.outcome {
				t.Errorf("server: %v", values)
			}
			if server.Parent().SpanID() != client.SpanContext().SpanID() || server.SpanContext().TraceID() != client.SpanContext().TraceID() || !server.Parent().IsRemote() {
				t.Error("the server's span is not the child of the client's")
			}
			if (client.Status().Code == codes.Error) != c.clientErr || (server.Status().Code == codes.Error) != c.serverErr {
				t.Errorf("client %v, server %v", client.Status(), server.Status())
			}
		})
	}
}

func TestHandlerPanics(t *testing.T) {
	f := watched(t, methods, Options{})
	greet.Call(t.Context(), f.client, "panic")
	f.close()
	span, values := f.told(t, oteltrace.SpanKindServer)
	if values["error.type"] != "panic" || values["rpc.response.status_code"] != "Internal" || values["sealmux.outcome"] != "executed" || span.Status().Code != codes.Error {
		t.Errorf("%v %v", values, span.Status())
	}
}

// A client's interceptor that panics has perhaps sent the call, perhaps not.
func TestInterceptorPanics(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	ours := Client(Options{TracerProvider: trace.NewTracerProvider(trace.WithSpanProcessor(spans))})
	a, b := rpc.Pipe()
	defer b.Close()
	client := rpc.NewClient(a, rpc.Options{Interceptors: []rpc.Interceptor{ours,
		{Unary: func(context.Context, *rpc.Request, rpc.UnaryFunc) (*rpc.Response, error) { panic("within") }}}})
	defer client.Close()
	func() {
		defer func() { recover() }()
		greet.Call(t.Context(), client, "x")
	}()
	f := &fixture{spans: spans}
	if _, values := f.told(t, oteltrace.SpanKindClient); values["error.type"] != "panic" || values["sealmux.outcome"] != "unknown" {
		t.Error(values)
	}
}

// What never reached a handler has no server's span, and a client's that says so.
func TestNotServed(t *testing.T) {
	f := watched(t, methods, Options{})
	rpc.Call[string](t.Context(), f.client, "nothing", "x")
	f.close()
	if _, values := f.told(t, oteltrace.SpanKindClient); values["error.type"] != "Unimplemented" || values["sealmux.outcome"] != "not executed" {
		t.Error(values)
	}
	if n := len(f.spans.Ended()); n != 1 {
		t.Errorf("%d spans", n)
	}
}

func TestBadBody(t *testing.T) {
	f := watched(t, methods, Options{})
	rpc.Call[string](t.Context(), f.client, "greet", 7)
	f.close()
	if _, values := f.told(t, oteltrace.SpanKindServer); values["error.type"] != "InvalidArgument" || values["sealmux.outcome"] != "not executed" {
		t.Error(values)
	}
}

func TestStreams(t *testing.T) {
	for _, c := range []struct {
		method, sent, received, code string
		use                          func(ctx context.Context, c rpc.Caller)
	}{
		{"count", "1", "3", "OK", func(ctx context.Context, c rpc.Caller) {
			for range count.Call(ctx, c, 3) {
			}
		}},
		{"sum", "2", "1", "OK", func(ctx context.Context, c rpc.Caller) {
			sum.Call(ctx, c, func(yield func(int) bool) { _ = yield(1) && yield(2) })
		}},
		{"shout", "1", "1", "OK", func(ctx context.Context, c rpc.Caller) {
			s, _ := shout.Open(ctx, c)
			s.Send("a")
			s.Recv()
			s.CloseSend()
			if _, err := s.Recv(); err != io.EOF {
				panic(err)
			}
			s.Close()
		}},
		{"shout", "1", "1", "Canceled", func(ctx context.Context, c rpc.Caller) { // given up
			s, _ := shout.Open(ctx, c)
			s.Send("a")
			s.Recv()
			s.Close()
		}},
		{"forget", "0", "0", "Canceled", func(ctx context.Context, c rpc.Caller) { // left to its context
			ctx, cancel := context.WithCancel(ctx)
			forget.Open(ctx, c)
			cancel()
		}},
	} {
		t.Run(c.method+" "+c.code, func(t *testing.T) {
			f := watched(t, methods, Options{})
			c.use(t.Context(), f.client)
			f.close()
			client, values := f.told(t, oteltrace.SpanKindClient)
			if client.Name() != c.method || values["sealmux.messages.sent"] != c.sent || values["sealmux.messages.received"] != c.received || values["rpc.response.status_code"] != c.code {
				t.Errorf("%s: %v", client.Name(), values)
			}
		})
	}
}

// A server's names are bounded; a call too many for a header goes without its trace.
func TestBounds(t *testing.T) {
	f := watched(t, func(*rpc.Server) {}, Options{}) // the echo: it serves any name
	for i := range mostMethods + 20 {
		if _, err := rpc.Call[string](t.Context(), f.client, fmt.Sprint("m", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	for i := range 63 { // and traceparent, the 64th
		ctx = rpc.WithHeader(ctx, "k"+fmt.Sprint(i), "v")
	}
	for range 2 {
		if _, err := rpc.Call[string](ctx, f.client, "m1", "x"); err != nil {
			t.Error(err)
		}
		ctx = rpc.WithHeader(ctx, "one.more", "v")
	}
	f.close()
	names := make(map[string]bool)
	orphans := 0
	for _, span := range f.spans.Ended() {
		if span.SpanKind() != oteltrace.SpanKindServer {
			continue
		}
		if !span.Parent().IsValid() {
			orphans++
		}
		for _, kv := range span.Attributes() {
			if kv.Key == "rpc.method" {
				names[kv.Value.AsString()] = true
			}
		}
	}
	if len(names) != mostMethods+1 || !names[other] || orphans != 1 {
		t.Errorf("%d names, orphans: %d", len(names), orphans)
	}
}

// Whom an interceptor refuses takes no names from those whom it lets through, on a server that serves any name.
func TestNamesOfRefused(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	opts := Options{TracerProvider: trace.NewTracerProvider(trace.WithSpanProcessor(spans))}
	gate := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
		if req.Header.Get("token") == "" {
			return nil, rpc.Unauthenticated
		}
		return next(ctx, req)
	}}
	srv := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{Server(opts), gate}}) // an echo
	a, b := rpc.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { srv.ServeSession(context.Background(), b) })
	client := rpc.NewClient(a, rpc.Options{})
	defer serving.Wait()
	defer client.Close()
	for i := range mostMethods + 10 {
		if _, err := rpc.Call[string](t.Context(), client, fmt.Sprint("m", i), "x"); !errors.Is(err, rpc.Unauthenticated) {
			t.Fatal(err)
		}
	}
	if _, err := rpc.Call[string](rpc.WithHeader(t.Context(), "token", "x"), client, "kv.Get", "x"); err != nil {
		t.Fatal(err)
	}
	client.Close()
	serving.Wait()
	names := make(map[string]int)
	for _, span := range spans.Ended() {
		outcome := ""
		for _, kv := range span.Attributes() {
			if kv.Key == "sealmux.outcome" {
				outcome = kv.Value.AsString()
			}
		}
		names[span.Name()+" "+outcome]++
	}
	if len(names) != 2 || names[system+" not executed"] != mostMethods+10 || names["kv.Get "] != 1 {
		t.Error(names)
	}
}

// Why a context ended is not the code of the stream that it ends.
func TestStreamLeftToCause(t *testing.T) {
	f := watched(t, methods, Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	if _, err := forget.Open(ctx, f.client); err != nil {
		t.Fatal(err)
	}
	cancel(errors.New("a cause"))
	f.close()
	if _, values := f.told(t, oteltrace.SpanKindClient); values["rpc.response.status_code"] != "Canceled" || values["error.type"] != "Canceled" {
		t.Error(values)
	}
}

// A tracestate that the caller has set belongs to another traceparent than the span's.
func TestForeignTracestate(t *testing.T) {
	var state, parent string
	f := watched(t, func(srv *rpc.Server) {
		greet.Handle(srv, func(ctx context.Context, _ string) (string, error) {
			header := rpc.InfoFrom(ctx).Header()
			state, parent = header.Get("tracestate"), header.Get("traceparent")
			return "", nil
		})
	}, Options{})
	if _, err := greet.Call(rpc.WithHeader(t.Context(), "tracestate", "old=1"), f.client, "x"); err != nil {
		t.Fatal(err)
	}
	if state != "" || parent == "" {
		t.Errorf("tracestate %q, traceparent %q", state, parent)
	}
}

// The span of a method that is not told apart has a bounded name too.
func TestOtherSpanName(t *testing.T) {
	f := watched(t, func(*rpc.Server) {}, Options{Methods: []string{"greet"}}) // the echo: it serves any name
	if _, err := rpc.Call[string](t.Context(), f.client, "a stranger's", "x"); err != nil {
		t.Fatal(err)
	}
	f.close()
	span, values := f.told(t, oteltrace.SpanKindServer)
	if span.Name() != system || values["rpc.method"] != other || values["rpc.method_original"] != "a stranger's" {
		t.Errorf("%s: %v", span.Name(), values)
	}
}

func TestMeasurements(t *testing.T) {
	f := watched(t, methods, Options{Methods: []string{"greet"}})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 25 {
				greet.Call(t.Context(), f.client, "world")
			}
			for range count.Call(t.Context(), f.client, 2) {
			}
		})
	}
	callers.Wait()
	f.close()
	var got metricdata.ResourceMetrics
	if err := f.reader.Collect(context.Background(), &got); err != nil {
		t.Fatal(err)
	}
	counts, active := make(map[string]uint64), make(map[string]int64)
	for _, scope := range got.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, point := range data.DataPoints {
					method, _ := point.Attributes.Value("rpc.method")
					counts[m.Name+" "+method.AsString()] += point.Count
				}
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					active[m.Name] += point.Value
				}
			}
		}
	}
	for name, want := range map[string]uint64{"rpc.client.call.duration greet": 200, "rpc.client.call.duration count": 8,
		"rpc.server.call.duration greet": 200, "rpc.server.call.duration " + other: 8} {
		if counts[name] != want {
			t.Errorf("%s: %d, not %d (%v)", name, counts[name], want, counts)
		}
	}
	if len(active) != 2 || active["sealmux.client.active"] != 0 || active["sealmux.server.active"] != 0 {
		t.Error(active)
	}
}

func Example() {
	opts := Options{Propagator: propagation.TraceContext{}} // the providers are OpenTelemetry's global ones
	srv := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{Server(opts)}})
	greet.Handle(srv, func(ctx context.Context, name string) (string, error) {
		return "hello " + name, nil // spans begun under ctx are children of the call's
	})
	a, b := rpc.Pipe()
	go srv.ServeSession(context.Background(), b)
	client := rpc.NewClient(a, rpc.Options{Interceptors: []rpc.Interceptor{Client(opts)}})
	defer srv.Close()
	defer client.Close()
	fmt.Println(greet.Call(context.Background(), client, "world"))
	// Output: hello world <nil>
}

func BenchmarkCall(b *testing.B) {
	for _, name := range []string{"without", "no SDK", "SDK"} {
		b.Run(name, func(b *testing.B) {
			opts := Options{}
			if name == "SDK" {
				opts.TracerProvider = trace.NewTracerProvider()
				opts.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
			}
			var client, server []rpc.Interceptor
			if name != "without" {
				client, server = []rpc.Interceptor{Client(opts)}, []rpc.Interceptor{Server(opts)}
			}
			srv := rpc.NewServer(rpc.Options{Interceptors: server})
			methods(srv)
			x, y := rpc.Pipe()
			go srv.ServeSession(context.Background(), y)
			c := rpc.NewClient(x, rpc.Options{Interceptors: client})
			defer srv.Close()
			defer c.Close()
			for b.Loop() {
				if _, err := greet.Call(context.Background(), c, "sixteen letters!"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
