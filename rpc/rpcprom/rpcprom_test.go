package rpcprom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	greet  = rpc.Unary[string, string]{Name: "greet"}
	count  = rpc.ServerStream[int, int]{Name: "count"}
	sum    = rpc.ClientStream[int, int]{Name: "sum"}
	forget = rpc.Bidi[string, string]{Name: "forget"}
)

func methods(srv *rpc.Server) {
	greet.Handle(srv, func(_ context.Context, name string) (string, error) {
		switch name {
		case "nobody":
			return "", rpc.Errorf(rpc.NotFound, "nobody is here")
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
	forget.Handle(srv, func(ctx context.Context, _ *rpc.Stream[string, string]) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

// counted is a client and a server over a pipe; closing waits for all that they do.
func counting(t testing.TB, server func(*rpc.Server), opts Options) (m *Metrics, client *rpc.Client, closed func()) {
	m = New(opts)
	srv := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{m.Server()}})
	server(srv)
	a, b := rpc.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() { srv.ServeSession(context.Background(), b) })
	client = rpc.NewClient(a, rpc.Options{Interceptors: []rpc.Interceptor{m.Client()}})
	closed = sync.OnceFunc(func() {
		client.Close()
		srv.Shutdown(context.Background())
		serving.Wait()
	})
	t.Cleanup(closed)
	return m, client, closed
}

// compare is what is collected, of some metrics.
func compare(t *testing.T, c prometheus.Collector, want string, names ...string) {
	t.Helper()
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestCalls(t *testing.T) {
	m, client, closed := counting(t, methods, Options{Labels: prometheus.Labels{"at": "here"}})
	ctx := t.Context()
	greet.Call(ctx, client, "world")
	greet.Call(ctx, client, "world")
	greet.Call(ctx, client, "nobody")
	greet.Call(ctx, client, "panic")
	rpc.Call[string](ctx, client, "greet", 7)
	rpc.Call[string](ctx, client, "nothing", 7)
	for range count.Call(ctx, client, 3) {
	}
	sum.Call(ctx, client, func(yield func(int) bool) { _ = yield(1) && yield(2) })
	given, _ := forget.Open(ctx, client)
	given.Close()
	left, cancel := context.WithCancelCause(ctx)
	if _, err := forget.Open(left, client); err != nil {
		t.Error(err)
	}
	cancel(errors.New("a cause of its own"))
	closed()
	for range 1000 { // a stream that was left to its context is counted by a goroutine of that
		if testutil.ToFloat64(m.client.inFlight) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	compare(t, m, `
# HELP sealmux_client_calls_total Calls and streams that have ended.
# TYPE sealmux_client_calls_total counter
sealmux_client_calls_total{at="here",code="Canceled",form="stream",method="forget",outcome="unknown"} 2
sealmux_client_calls_total{at="here",code="Internal",form="unary",method="greet",outcome="executed"} 1
sealmux_client_calls_total{at="here",code="InvalidArgument",form="unary",method="greet",outcome="not executed"} 1
sealmux_client_calls_total{at="here",code="NotFound",form="unary",method="greet",outcome="executed"} 1
sealmux_client_calls_total{at="here",code="OK",form="stream",method="count",outcome="executed"} 1
sealmux_client_calls_total{at="here",code="OK",form="stream",method="sum",outcome="executed"} 1
sealmux_client_calls_total{at="here",code="OK",form="unary",method="greet",outcome="executed"} 2
sealmux_client_calls_total{at="here",code="Unimplemented",form="unary",method="nothing",outcome="not executed"} 1
# HELP sealmux_client_in_flight Calls and streams in progress.
# TYPE sealmux_client_in_flight gauge
sealmux_client_in_flight{at="here"} 0
# HELP sealmux_client_messages_total Messages of streams.
# TYPE sealmux_client_messages_total counter
sealmux_client_messages_total{at="here",direction="received"} 4
sealmux_client_messages_total{at="here",direction="sent"} 3
# HELP sealmux_server_in_flight Calls and streams in progress.
# TYPE sealmux_server_in_flight gauge
sealmux_server_in_flight{at="here"} 0
`, "sealmux_client_calls_total", "sealmux_client_in_flight", "sealmux_client_messages_total", "sealmux_server_in_flight")
	for labels, want := range map[[4]string]float64{{"greet", unary, "OK", "executed"}: 2, {"greet", unary, "NotFound", "executed"}: 1,
		{"greet", unary, "Internal", "executed"}: 1, {"greet", unary, "InvalidArgument", "not executed"}: 1, {"count", stream, "OK", "executed"}: 1} {
		if got := testutil.ToFloat64(m.server.calls.WithLabelValues(labels[:]...)); got != want {
			t.Errorf("server, %v: %v, not %v", labels, got, want)
		}
	}
	if n := testutil.CollectAndCount(m, "sealmux_client_call_seconds"); n != 5 {
		t.Errorf("%d histograms of the client", n)
	}
}

// A server's names are bounded.
func TestNames(t *testing.T) {
	m, client, closed := counting(t, func(*rpc.Server) {}, Options{}) // the echo serves any name
	for i := range mostMethods + 10 {
		if _, err := rpc.Call[string](t.Context(), client, fmt.Sprint("m", i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	closed()
	if n := testutil.CollectAndCount(m, "sealmux_server_calls_total"); n != mostMethods+1 {
		t.Errorf("%d series", n)
	}
	if n := testutil.ToFloat64(m.server.calls.WithLabelValues(other, unary, "OK", "executed")); n != 10 {
		t.Errorf("%v others", n)
	}
	m, client, closed = counting(t, methods, Options{Methods: []string{"count"}})
	greet.Call(t.Context(), client, "world")
	closed()
	if n := testutil.ToFloat64(m.server.calls.WithLabelValues(other, unary, "OK", "executed")); n != 1 {
		t.Errorf("%v others", n)
	}
}

// Whom an interceptor refuses takes no names from those whom it lets through, on a server that serves any name.
func TestNamesOfRefused(t *testing.T) {
	m := New(Options{})
	gate := rpc.Interceptor{
		Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			if req.Header.Get("token") == "" {
				return nil, rpc.Unauthenticated
			}
			return next(ctx, req)
		},
		Stream: func(ctx context.Context, req *rpc.Request, s rpc.MessageStream, next rpc.StreamFunc) error {
			return rpc.Errorf(rpc.PermissionDenied, "no streams")
		},
	}
	srv := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{m.Server(), gate}}) // an echo
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
		for _, err := range (rpc.ServerStream[string, string]{Name: fmt.Sprint("s", i)}).Call(t.Context(), client, "x") {
			if !errors.Is(err, rpc.PermissionDenied) {
				t.Fatal(err)
			}
		}
	}
	if _, err := rpc.Call[string](rpc.WithHeader(t.Context(), "token", "x"), client, "kv.Get", "x"); err != nil {
		t.Fatal(err)
	}
	client.Close()
	serving.Wait()
	if n := testutil.ToFloat64(m.server.calls.WithLabelValues(other, unary, "Unauthenticated", "not executed")); n != mostMethods+10 {
		t.Errorf("%v refused calls", n)
	}
	if n := testutil.ToFloat64(m.server.calls.WithLabelValues(other, stream, "PermissionDenied", "not executed")); n != mostMethods+10 {
		t.Errorf("%v refused streams", n)
	}
	if n := testutil.ToFloat64(m.server.calls.WithLabelValues("kv.Get", unary, "OK", "executed")); n != 1 {
		t.Errorf("%v calls that ran", n)
	}
	if n := testutil.CollectAndCount(m, "sealmux_server_calls_total"); n != 3 {
		t.Errorf("%d series", n)
	}
}

// What a client calls itself must not end the program.
func TestNameThatIsNoText(t *testing.T) {
	m, client, _ := counting(t, methods, Options{})
	if _, err := client.Do(t.Context(), &rpc.Request{Method: "\xff", Body: rpc.Raw{0xc0}}); err == nil {
		t.Error("it was called")
	}
	if n := testutil.CollectAndCount(m, "sealmux_client_calls_total"); n != 1 {
		t.Errorf("%d series", n)
	}
}

func TestSessions(t *testing.T) {
	key, err := transport.GenerateKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	m := New(Options{})
	told := make(chan error, 10)
	config := &transport.Config{Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol,
		HandshakeFailed: func(_ net.Addr, err error) { told <- err }}
	l, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", m.Config(config))
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.NewServer(rpc.Options{})
	var serving sync.WaitGroup
	serving.Go(func() { rpc.Serve(context.Background(), srv, m.Listener(l)) })
	dial := &transport.Config{Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol, Tickets: transport.NewTicketCache(1)}
	open := func() *rpc.Client {
		s, err := transport.Dial(t.Context(), "tcp", l.Addr().String(), dial)
		if err != nil {
			t.Fatal(err)
		}
		m.Dialled(s)
		c := rpc.NewClient(s, rpc.Options{})
		if _, err := rpc.Call[string](t.Context(), c, "echo", "x"); err != nil { // by then the ticket is there
			t.Fatal(err)
		}
		return c
	}
	one, two := open(), open()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(raw, "GET / HTTP/1.1\r\n\r\n")
	if err := <-told; !errors.Is(err, transport.ErrNotSealmux) {
		t.Error(err)
	}
	raw.Close()
	compare(t, m, `
# HELP sealmux_handshakes_failed_total Connections to listeners that did not become sessions.
# TYPE sealmux_handshakes_failed_total counter
sealmux_handshakes_failed_total{reason="not_sealmux"} 1
# HELP sealmux_sessions Sessions that are open.
# TYPE sealmux_sessions gauge
sealmux_sessions{side="client"} 2
sealmux_sessions{side="server"} 2
# HELP sealmux_sessions_total Sessions that have begun.
# TYPE sealmux_sessions_total counter
sealmux_sessions_total{resumed="no",side="client"} 1
sealmux_sessions_total{resumed="no",side="server"} 1
sealmux_sessions_total{resumed="yes",side="client"} 1
sealmux_sessions_total{resumed="yes",side="server"} 1
`, "sealmux_handshakes_failed_total", "sealmux_sessions", "sealmux_sessions_total")
	one.Close()
	srv.Close()
	<-two.Draining()
	two.Close()
	serving.Wait()
	compare(t, m, `
# HELP sealmux_sessions Sessions that are open.
# TYPE sealmux_sessions gauge
sealmux_sessions{side="client"} 0
sealmux_sessions{side="server"} 0
`, "sealmux_sessions")
	if got := testutil.ToFloat64(m.sessions.ended.WithLabelValues("client", "closed")); got < 1 {
		t.Errorf("%v sessions that the client closed", got)
	}
	if len(m.sessions.live) != 0 {
		t.Error("sessions that have ended are kept")
	}
}

// Sessions that have ended are not kept, though nobody collects.
func TestSweep(t *testing.T) {
	s := newSessions(nil)
	for range 5 {
		s.add(new(endless), "server")
	}
	for range 3 * leastSweep {
		s.add(new(brief), "client")
	}
	if n := len(s.live); n > leastSweep+6 {
		t.Errorf("%d sessions are kept", n)
	}
	if testutil.CollectAndCount(s); len(s.live) != 5 {
		t.Errorf("%d sessions are open", len(s.live))
	}
	if n := testutil.ToFloat64(s.ended.WithLabelValues("client", "peer_closed")); n != 3*leastSweep {
		t.Errorf("%v have ended", n)
	}
}

// brief sessions have ended already, endless ones never do.
type (
	brief   struct{ _ byte }
	endless struct{ _ byte }
)

func (*brief) Err() error      { return transport.ErrPeerClosed }
func (*brief) Resumed() bool   { return false }
func (*endless) Err() error    { return nil }
func (*endless) Resumed() bool { return true }

func TestCluster(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	methods(srv)
	var serving sync.WaitGroup
	client := cluster.New(cluster.Static("one", "two"), cluster.Options{Balancer: cluster.RoundRobin(), Dial: func(_ context.Context, e cluster.Endpoint) (rpc.Session, error) {
		if e.Addr == "two" {
			return nil, errors.New("not there")
		}
		a, b := rpc.Pipe()
		serving.Go(func() { srv.ServeSession(context.Background(), b) })
		return a, nil
	}})
	for range 3 {
		if _, err := greet.Call(t.Context(), client, "world"); err != nil {
			t.Error(err)
		}
	}
	compare(t, Cluster("kv", client), `
# HELP sealmux_cluster_calls_total Calls.
# TYPE sealmux_cluster_calls_total counter
sealmux_cluster_calls_total{service="kv"} 3
# HELP sealmux_cluster_endpoint_in_flight Calls in flight.
# TYPE sealmux_cluster_endpoint_in_flight gauge
sealmux_cluster_endpoint_in_flight{endpoint="one",service="kv"} 0
sealmux_cluster_endpoint_in_flight{endpoint="two",service="kv"} 0
# HELP sealmux_cluster_endpoint_sessions_total Sessions made.
# TYPE sealmux_cluster_endpoint_sessions_total counter
sealmux_cluster_endpoint_sessions_total{endpoint="one",service="kv"} 1
sealmux_cluster_endpoint_sessions_total{endpoint="two",service="kv"} 0
`, "sealmux_cluster_calls_total", "sealmux_cluster_endpoint_in_flight", "sealmux_cluster_endpoint_sessions_total")
	if n := testutil.CollectAndCount(Cluster("kv", client), "sealmux_cluster_endpoints"); n != len(states) {
		t.Errorf("%d states", n)
	}
	client.Close()
	srv.Close()
	serving.Wait()
}

// All of it can be registered, beside another's, and is as Prometheus wants it.
func TestRegistered(t *testing.T) {
	client := cluster.New(cluster.Static("one"), cluster.Options{Dial: func(context.Context, cluster.Endpoint) (rpc.Session, error) {
		return nil, errors.New("nobody")
	}})
	defer client.Close()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(New(Options{Labels: prometheus.Labels{"listener": "a"}}), New(Options{Labels: prometheus.Labels{"listener": "b"}}),
		Cluster("kv", client), Cluster("mail", client))
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func Example() {
	registry := prometheus.NewRegistry()
	m := New(Options{})
	registry.MustRegister(m)
	srv := rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{m.Server()}})
	greet.Handle(srv, func(_ context.Context, name string) (string, error) { return "hello " + name, nil })
	a, b := rpc.Pipe()
	go srv.ServeSession(context.Background(), b)
	client := rpc.NewClient(a, rpc.Options{Interceptors: []rpc.Interceptor{m.Client()}})
	defer srv.Close()
	defer client.Close()
	fmt.Println(greet.Call(context.Background(), client, "world"))
	fmt.Println(testutil.ToFloat64(m.client.calls.WithLabelValues("greet", "unary", "OK", "executed")))
	// Output:
	// hello world <nil>
	// 1
}

func BenchmarkCall(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(map[bool]string{false: "without", true: "with"}[with], func(b *testing.B) {
			var client, server []rpc.Interceptor
			if with {
				m := New(Options{})
				client, server = []rpc.Interceptor{m.Client()}, []rpc.Interceptor{m.Server()}
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
