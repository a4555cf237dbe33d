package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Streams and connections over the real transport.

var (
	blocks = rpc.ServerStream[int, []byte]{Name: "blocks"}
	upload = rpc.ClientStream[[]byte, int]{Name: "upload"}
	talk   = rpc.Bidi[string, string]{Name: "talk"}
)

func sealedStreams() *rpc.Server {
	srv := rpc.NewServer(rpc.Options{})
	blocks.Handle(srv, func(_ context.Context, n int, send func([]byte) error) error {
		block := make([]byte, 1<<20)
		for i := range n {
			block[0] = byte(i)
			if err := send(block); err != nil {
				return err
			}
		}
		return nil
	})
	upload.Handle(srv, func(_ context.Context, items iter.Seq2[[]byte, error]) (int, error) {
		total := 0
		for b, err := range items {
			if err != nil {
				return 0, err
			}
			total += len(b)
		}
		return total, nil
	})
	talk.Handle(srv, func(_ context.Context, s *rpc.Stream[string, string]) error {
		for text, err := range s.All() {
			if err == nil {
				err = s.Send(text + "!")
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	rpc.Handle(srv, "ping", func(_ context.Context, n int) (int, error) { return n, nil })
	rpc.HandleConn(srv, "raw", func(_ context.Context, conn net.Conn) error {
		_, err := io.Copy(conn, conn)
		return err
	})
	return srv
}

// TestSealedStarvesNeither: a stream of 1 GiB and small calls, each goes on beside the other. How fast is BenchmarkSealedMixed's to say.
func TestSealedStarvesNeither(t *testing.T) {
	size := 1 << 10 // MiB
	if raceEnabled || testing.Short() {
		size = 64
	}
	client, _, _ := sealed(t, sealedStreams())
	var received atomic.Int64
	over := make(chan error, 1)
	go func() {
		n := 0
		for b, err := range blocks.Call(context.Background(), client, size) {
			if err != nil || len(b) != 1<<20 || b[0] != byte(n) {
				over <- fmt.Errorf("block %d: %d bytes, %w", n, len(b), err)
				return
			}
			n++
			received.Store(int64(n))
		}
		over <- nil
	}()
	calls, moved, last := 0, 0, int64(0)
	for {
		select {
		case err := <-over:
			if err != nil || received.Load() != int64(size) {
				t.Fatal(received.Load(), err)
			}
			if calls < size/2 || moved < 10 {
				t.Errorf("beside %d MiB %d calls were answered, and between them the stream moved %d times", size, calls, moved)
			}
			t.Logf("%d MiB beside %d calls", size, calls)
			return
		default:
		}
		if n, err := rpc.Call[int](context.Background(), client, "ping", calls); n != calls || err != nil {
			t.Fatal(n, err)
		}
		calls++
		if n := received.Load(); n != last {
			moved, last = moved+1, n
		}
	}
}

// TestSealedStreams: all forms at once, many of each, on one connection.
func TestSealedStreams(t *testing.T) {
	client, _, connections := sealed(t, sealedStreams())
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			n := 0
			for _, err := range blocks.Call(ctx, client, 3) {
				if err != nil {
					t.Error(err)
				}
				n++
			}
			total, err := upload.Call(ctx, client, slices.Values([][]byte{make([]byte, 100_000), nil, make([]byte, i)}))
			if n != 3 || total != 100_000+i || err != nil {
				t.Error(n, total, err)
			}
		})
		wg.Go(func() {
			s, err := talk.Open(ctx, client)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for j := range 20 {
				s.Send(fmt.Sprint(j))
				if got, err := s.Recv(); got != fmt.Sprint(j, "!") || err != nil {
					t.Error(got, err)
				}
			}
		})
		wg.Go(func() {
			conn, err := client.OpenConn(ctx, "raw")
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			data := bytes.Repeat([]byte{byte(i)}, 300_000)
			go func() {
				conn.Write(data)
				conn.(interface{ CloseWrite() error }).CloseWrite()
			}()
			if got, err := io.ReadAll(conn); !bytes.Equal(got, data) || err != nil {
				t.Error(len(got), err)
			}
		})
	}
	wg.Wait()
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestSealedUploadRefused: a handler that ends early stops a caller that only sends.
func TestSealedUploadRefused(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	upload.Handle(srv, func(_ context.Context, items iter.Seq2[[]byte, error]) (int, error) {
		for range items {
			return 0, rpc.PermissionDenied
		}
		return 0, nil
	})
	client, _, _ := sealed(t, srv)
	endless := func(yield func([]byte) bool) {
		for yield(make([]byte, 100_000)) {
		}
	}
	for range 20 {
		_, err := upload.Call(context.Background(), client, endless)
		if !errors.Is(err, rpc.PermissionDenied) || rpc.OutcomeOf(err) != rpc.Executed {
			t.Fatal(err)
		}
	}
}

// TestSealedStreamCut: the death of the connection is not the end of a stream.
func TestSealedStreamCut(t *testing.T) {
	client, session, _ := sealed(t, sealedStreams())
	n := 0
	for _, err := range blocks.Call(context.Background(), client, 1000) {
		if n++; err != nil {
			if !errors.Is(err, net.ErrClosed) || rpc.OutcomeOf(err) != rpc.OutcomeUnknown {
				t.Error(err)
			}
			break
		}
		if n == 3 {
			session.Close()
		}
	}
	if n < 3 || n == 1000 {
		t.Error(n)
	}
}

// TestSealedHTTP: net/http over the session that carries calls too.
func TestSealedHTTP(t *testing.T) {
	srv := sealedStreams()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, ok := transport.PeerFrom(r.Context()); !ok || peer.Addr.String() != r.RemoteAddr {
			t.Error("no peer", peer)
		}
		if rpc.InfoFrom(r.Context()).Method() != "http" {
			t.Error("no info")
		}
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	web := &http.Server{Handler: handler, ConnContext: rpc.ConnContext}
	listener := rpc.ListenConn(srv, "http")
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	client, _, _ := sealed(t, srv)
	browser := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return client.OpenConn(ctx, "http") }}}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for range 5 {
				body := bytes.Repeat([]byte{byte(i)}, 1000*i)
				resp, err := browser.Post("http://sealed/", "", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := io.ReadAll(resp.Body); !bytes.Equal(got, body) || err != nil {
					t.Error(len(got), err)
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	browser.CloseIdleConnections()
	if err := web.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
	if _, err := client.OpenConn(context.Background(), "http"); rpc.OutcomeOf(err) != rpc.NotExecuted || !errors.Is(err, rpc.Unavailable) {
		t.Error(err)
	}
	if n, err := rpc.Call[int](context.Background(), client, "ping", 7); n != 7 || err != nil {
		t.Error(n, err)
	}
}

// TestSealedBack: the accepting side calls the dialling side, who is verified too.
func TestSealedBack(t *testing.T) {
	handlers := rpc.NewServer(rpc.Options{})
	rpc.Handle(handlers, "who", func(ctx context.Context, _ int) (string, error) {
		peer, _ := transport.PeerFrom(ctx)
		return peer.Fingerprint().String(), nil
	})
	srv := rpc.NewServer(rpc.Options{})
	rpc.Handle(srv, "ask", func(ctx context.Context, _ int) (string, error) {
		return rpc.Call[string](ctx, rpc.BackFrom(ctx), "who", 0)
	})
	client, _, _ := sealedWith(t, srv, rpc.Options{Handlers: handlers})
	for range 100 {
		if who, err := rpc.Call[string](context.Background(), client, "ask", 0); who != sealedKey().Public().Fingerprint().String() || err != nil {
			t.Fatal(who, err)
		}
	}
}

// BenchmarkSealedMixed: a small call alone, and beside a stream that never ends.
func BenchmarkSealedMixed(b *testing.B) {
	for _, beside := range []bool{false, true} {
		b.Run(fmt.Sprint("stream=", beside), func(b *testing.B) {
			client, _, _ := sealed(b, sealedStreams())
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if beside {
				begun := make(chan struct{})
				var once sync.Once
				var wg sync.WaitGroup
				wg.Go(func() {
					for _, err := range blocks.Call(ctx, client, math.MaxInt) {
						if err != nil {
							return
						}
						once.Do(func() { close(begun) })
					}
				})
				defer func() { cancel(); wg.Wait() }()
				<-begun
			}
			for b.Loop() {
				if _, err := rpc.Call[int](ctx, client, "ping", 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
