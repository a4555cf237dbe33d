//go:build unix

package hostile

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// TestStops: a server may be stopped in any order and from anywhere, beside whatever else is done to it, and stays stopped.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	shut := func(s *rpc.Server) { s.Shutdown(ctx) }
	end := func(s *rpc.Server) { s.Close() }
	for name, stops := range map[string][]func(*rpc.Server){
		"hard": {end}, "twice hard": {end, end}, "soft": {shut}, "twice soft": {shut, shut}, "soft, then hard": {shut, end}, "hard, then soft": {end, shut},
	} {
		for _, when := range []string{"before it serves", "while it serves", "all at once", "in a call"} {
			t.Run(name+"/"+when, func(t *testing.T) {
				srv := rpc.NewServer(rpc.Options{})
				running, release := make(chan struct{}), make(chan struct{})
				rpc.Handle(srv, "deaf", func(context.Context, int) (int, error) {
					close(running)
					<-release
					return 0, nil
				})
				stop := func() {
					for _, f := range stops {
						f(srv)
					}
				}
				if when == "before it serves" {
					stop()
				}
				p := serve(t, serverConfig(), srv)
				var calls sync.WaitGroup
				if when == "in a call" {
					client, err := dial(t.Context(), p.addr, clientConfig())
					if err != nil {
						t.Fatal(err)
					}
					defer client.Close()
					calls.Go(func() {
						if _, err := rpc.Call[int](context.Background(), client, "deaf", 0); rpc.OutcomeOf(err) == rpc.NotSent {
							t.Error(err)
						}
					})
					<-running
				}
				if when == "all at once" {
					var all sync.WaitGroup
					for range 4 {
						all.Go(stop)
						all.Go(func() {
							if client, err := dial(context.Background(), p.addr, clientConfig()); err == nil {
								rpc.Call[string](context.Background(), client, "echo", "x")
								client.Close()
							}
						})
					}
					all.Wait()
				} else {
					stop()
				}
				if err := <-p.served; !errors.Is(err, rpc.ErrServerClosed) {
					t.Error(err)
				}
				p.served <- nil // for the cleanup
				close(release)
				calls.Wait()
				if _, err := dial(t.Context(), p.addr, clientConfig()); err == nil {
					t.Error("it still takes sessions")
				}
			})
		}
	}
}

// A blockedSink is a log that takes nothing until it is released.
type blockedSink struct{ waits, release chan struct{} }

func (s blockedSink) Write(b []byte) (int, error) {
	s.waits <- struct{}{}
	<-s.release
	return len(b), nil
}

// TestBlockedLog: a log that blocks holds up what is logged, and nobody else.
func TestBlockedLog(t *testing.T) {
	sink := blockedSink{make(chan struct{}, 10), make(chan struct{})}
	srv := rpc.NewServer(rpc.Options{Logger: slog.New(slog.NewTextHandler(sink, nil))})
	rpc.Handle(srv, "panics", func(context.Context, int) (int, error) { panic("x") })
	rpc.Handle(srv, "good", func(_ context.Context, n int) (int, error) { return n, nil })
	cfg := serverConfig()
	p := serve(t, cfg, srv)
	client, err := dial(t.Context(), p.addr, clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var panics sync.WaitGroup
	for range 5 {
		panics.Go(func() {
			if _, err := rpc.Call[int](context.Background(), client, "panics", 0); rpc.CodeOf(err) != rpc.Internal {
				t.Error(err)
			}
		})
	}
	<-sink.waits
	for i := range 100 {
		if n, err := rpc.Call[int](t.Context(), client, "good", i); n != i || err != nil {
			t.Fatal(n, err)
		}
	}
	close(sink.release)
	panics.Wait()
}
