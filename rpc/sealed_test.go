package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Calls over the real transport: what rpc promises of any session, on the one it is made for.

var sealedKey = sync.OnceValue(func() *transport.PrivateKey {
	key, err := transport.GenerateKey(transport.MinKeyBits)
	if err != nil {
		panic(err)
	}
	return key
})

// sealed serves srv on loopback and returns a client of it. connections counts what the listener accepted.
func sealed(t testing.TB, srv *rpc.Server) (client *rpc.Client, session *transport.Session, connections *atomic.Int64) {
	t.Helper()
	return sealedWith(t, srv, rpc.Options{})
}

func sealedWith(t testing.TB, srv *rpc.Server, opts rpc.Options) (client *rpc.Client, session *transport.Session, connections *atomic.Int64) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingListener{Listener: inner}
	key := sealedKey()
	listener, err := transport.NewListener(counted, &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), srv, listener) }()
	session, err = transport.Dial(context.Background(), "tcp", listener.Addr().String(), &transport.Config{
		Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	client = rpc.NewClient(session, opts)
	t.Cleanup(func() {
		client.Close()
		srv.Close()
		if err := <-served; !errors.Is(err, rpc.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return client, session, &counted.accepted
}

type countingListener struct {
	net.Listener
	accepted atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

// 1,000 callers at once on one connection, with small and large bodies: each gets its own answers.
func TestSealedThousandCallers(t *testing.T) {
	client, _, connections := sealed(t, rpc.NewServer(rpc.Options{}))
	var wg sync.WaitGroup
	for caller := range 1000 {
		wg.Go(func() {
			for call := range 5 {
				text := fmt.Sprintf("%d/%d ", caller, call)
				if caller%100 == 0 {
					text += strings.Repeat("长", 40_000) // a stream of its own
				}
				got, err := rpc.Call[string](context.Background(), client, "echo", text)
				if err != nil || got != rpc.EchoPrefix+text {
					t.Errorf("%d/%d: %d bytes, %v", caller, call, len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Handlers learn who calls, and a drain under load loses no call that was taken.
func TestSealedDrain(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	var ran atomic.Int64
	rpc.Handle(srv, "who", func(ctx context.Context, n int) (string, error) {
		ran.Add(1)
		peer, ok := transport.PeerFrom(ctx)
		return fmt.Sprint(n, ok, peer.Key == nil), nil
	})
	client, _, _ := sealed(t, srv)
	var answered, other atomic.Int64
	var wg sync.WaitGroup
	under := make(chan struct{}, 1)
	for caller := range 50 {
		wg.Go(func() {
			for {
				got, err := rpc.Call[string](context.Background(), client, "who", caller)
				if err != nil {
					if o := rpc.OutcomeOf(err); o != rpc.NotSent && o != rpc.NotExecuted {
						other.Add(1)
						t.Errorf("%v: %v", o, err)
					}
					return
				}
				if want := fmt.Sprint(caller, true, true); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if answered.Add(1) == 1000 {
					under <- struct{}{}
				}
			}
		})
	}
	<-under
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if ran.Load() != answered.Load() || other.Load() != 0 {
		t.Errorf("%d ran, %d answered", ran.Load(), answered.Load())
	}
}

// A connection that is cut is a truncation, and says that the call may have run.
func TestSealedCut(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	running := make(chan struct{})
	rpc.Handle(srv, "wait", func(ctx context.Context, _ string) (string, error) {
		close(running)
		<-ctx.Done()
		return "", ctx.Err()
	})
	a, b := net.Pipe()
	key := sealedKey()
	accepted := make(chan *transport.Session, 1)
	go func() {
		s, err := transport.Server(context.Background(), b, &transport.Config{
			Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient()})
		if err != nil {
			t.Error(err)
		}
		accepted <- s
	}()
	session, err := transport.Client(context.Background(), a, &transport.Config{Peers: transport.Pin(key.Public())})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.ServeSession(context.Background(), <-accepted) }()
	client := rpc.NewClient(session, rpc.Options{})
	defer client.Close()
	result := make(chan error, 1)
	go func() {
		_, err := rpc.Call[string](context.Background(), client, "wait", "")
		result <- err
	}()
	<-running
	a.Close()
	if err := <-result; rpc.OutcomeOf(err) != rpc.OutcomeUnknown || !errors.Is(err, rpc.Unavailable) || !errors.Is(err, transport.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, transport.ErrTruncated) {
		t.Error(err)
	}
	if _, err := rpc.Call[string](context.Background(), client, "wait", ""); rpc.OutcomeOf(err) != rpc.NotSent {
		t.Error(err)
	}
}

func BenchmarkSealedCall(b *testing.B) {
	for _, callers := range []int{1, 16, 128} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			client, _, _ := sealed(b, rpc.NewServer(rpc.Options{}))
			body := []byte("0123456789abcdef")
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := rpc.Call[[]byte](context.Background(), client, "echo", body); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
