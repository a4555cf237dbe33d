package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func pipeStreams(t testing.TB) (a, b *pipeSession, x, y net.Conn) {
	a, b = newPipe()
	x, err1 := a.Open(bg)
	y, err2 := b.Accept()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return a, b, x, y
}

func TestPipeStreamIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, _, x, y := pipeStreams(t)
		return x, y, func() { x.Close(); y.Close(); a.Close() }, nil
	})
}

// TestPipeEnds: what was written is read, and then the end as it was.
func TestPipeEnds(t *testing.T) {
	for name, row := range map[string]struct {
		end         func(a *pipeSession, x net.Conn)
		read, write error // of the other side, behind the data
	}{
		"close write":   {func(_ *pipeSession, x net.Conn) { x.(*pipeStream).CloseWrite() }, io.EOF, nil},
		"close":         {func(_ *pipeSession, x net.Conn) { x.Close(); x.Close() }, io.EOF, errPipeReset},
		"session close": {func(a *pipeSession, _ net.Conn) { a.Close(); a.end(io.ErrUnexpectedEOF) }, errPipeEnded, errPipeEnded},
		"cut":           {func(a *pipeSession, _ net.Conn) { a.end(io.ErrUnexpectedEOF) }, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF},
		"both":          {func(a *pipeSession, x net.Conn) { x.Close(); a.end(io.ErrUnexpectedEOF) }, io.EOF, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, x, y := pipeStreams(t)
				x.Write([]byte("data"))
				blocked := make(chan error, 1)
				go func() { _, err := x.Read(make([]byte, 1)); blocked <- err }()
				synctest.Wait()
				row.end(a, x)
				got := make([]byte, 10)
				if n, err := y.Read(got); string(got[:n]) != "data" || err != nil {
					t.Error(n, err)
				}
				if _, err := y.Read(got); err != row.read {
					t.Error(err)
				}
				if _, err := y.Write(got); err != row.write {
					t.Error(err)
				}
				a.Close()
				if err := <-blocked; err == nil && name != "close write" || err == io.EOF {
					t.Error(err)
				}
				for _, s := range []*pipeSession{a, b} {
					<-s.Done()
					_, err1 := s.Open(bg)
					_, err2 := s.Accept()
					if err := s.Err(); err == nil || err1 != err || err2 != err {
						t.Error(err, err1, err2)
					}
				}
				if len(a.streams) != 0 {
					t.Error(len(a.streams))
				}
			})
		})
	}
}

func TestPipeBacklogAndWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		for range pipeBacklog {
			if _, err := a.Open(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.Open(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		if len(a.streams) != 2*pipeBacklog {
			t.Error(len(a.streams))
		}
		y, _ := b.Accept()
		y.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := y.Write(make([]byte, 2*pipeWindow)); n != pipeWindow || !errors.Is(err, context.DeadlineExceeded) && err == nil {
			t.Error(n, err)
		}
		a.Close()
	})
}

// TestPipeKeepsNothing: streams that ended are forgotten.
func TestPipeKeepsNothing(t *testing.T) {
	a, b := newPipe()
	for range 10_000 {
		x, _ := a.Open(bg)
		y, _ := b.Accept()
		x.Close()
		y.Close()
	}
	if len(a.streams) != 0 {
		t.Error(len(a.streams))
	}
}

// TestPipeServes: handlers are tested over it as users do.
func TestPipeServes(t *testing.T) {
	a, b := Pipe()
	srv := streams()
	done := make(chan error, 1)
	go func() { done <- srv.ServeSession(bg, b) }()
	c := NewClient(a, Options{})
	n := 0
	for _, err := range count.Call(bg, c, 10_000) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 10_000 {
		t.Error(n)
	}
	if err := srv.Shutdown(bg); err != nil {
		t.Error(err)
	}
	c.Close()
	if err := <-done; err != ErrServerClosed {
		t.Error(err)
	}
}
