package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	netrpc "net/rpc"
	"testing"
)

// TestSessionListenerHTTP: net/http without anything between: its Shutdown answers what runs and keeps the session, for another listener.
func TestSessionListenerHTTP(t *testing.T) {
	client, server := sessions(t)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return client.Open(ctx) }
	for range 3 {
		runs, release := make(chan struct{}), make(chan struct{})
		web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(runs)
			<-release
			io.WriteString(w, "answered")
		})}
		shut := make(chan struct{})
		web.RegisterOnShutdown(func() { close(shut) })
		served, answer := make(chan error, 1), make(chan string, 1)
		l := server.Listener()
		go func() { served <- web.Serve(l) }()
		over := &http.Transport{DialContext: dial}
		go func() {
			resp, err := (&http.Client{Transport: over}).Get("http://any/")
			if err != nil {
				answer <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			answer <- string(b)
		}()
		<-runs
		down := make(chan error, 1)
		go func() { down <- web.Shutdown(context.Background()) }()
		<-shut
		if _, err := l.Accept(); err != net.ErrClosed || l.Addr().String() != server.Addr().String() {
			t.Error(err, l.Addr())
		}
		close(release)
		if got := <-answer; got != "answered" {
			t.Error(got)
		}
		if err := errors.Join(<-down, server.Err()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
		over.CloseIdleConnections()
	}
	l := server.Listener()
	client.Close()
	if _, err := l.Accept(); !errors.Is(err, ErrPeerClosed) {
		t.Error(err)
	}
}

// Doubler is a service of net/rpc.
type Doubler struct{}

func (Doubler) Double(n int, reply *int) error { *reply = 2 * n; return nil }

// TestSessionNetRPC: net/rpc on bare streams, whose codec writes and reads them as any connection.
func TestSessionNetRPC(t *testing.T) {
	client, server := sessions(t)
	service := netrpc.NewServer()
	if err := service.Register(Doubler{}); err != nil {
		t.Fatal(err)
	}
	l := server.Listener()
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go service.ServeConn(conn) // ends with the session
		}
	}()
	conn, err := client.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	caller := netrpc.NewClient(conn)
	defer caller.Close()
	for n := range 100 {
		var twice int
		if err := caller.Call("Doubler.Double", n, &twice); twice != 2*n || err != nil {
			t.Fatal(twice, err)
		}
	}
	l.Close()
	<-served
	var twice int
	if err := caller.Call("Doubler.Double", 21, &twice); twice != 42 || err != nil { // what was accepted goes on
		t.Fatal(twice, err)
	}
	server.Close()
	if err := caller.Call("Doubler.Double", 1, &twice); err == nil {
		t.Error("answered without a session")
	}
}
