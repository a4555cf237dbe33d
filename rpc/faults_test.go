package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type panickyError struct{}

func (panickyError) Error() string { panic("no text") }

// TestErrorsThatPanic: an error that cannot be looked at harms only its own call.
func TestErrorsThatPanic(t *testing.T) {
	srv := NewServer(Options{})
	Handle(srv, "nil", func(context.Context, string) (string, error) {
		var e *Error
		return "", e
	})
	Handle(srv, "panics", func(context.Context, string) (string, error) { return "", panickyError{} })
	c, _ := start(t, srv, Options{})
	_, err := Call[string](bg, c, "nil", "")
	want(t, err, Unknown, Executed)
	_, err = Call[string](bg, c, "panics", "")
	want(t, err, Internal, Executed)
}

// TestShutdownTellsOfACut: whoever cuts running calls during a drain, Shutdown does not call it whole.
func TestShutdownTellsOfACut(t *testing.T) {
	for name, cut := range map[string]func(srv *Server, cancel context.CancelFunc){
		"Close":   func(srv *Server, _ context.CancelFunc) { srv.Close() },
		"context": func(_ *Server, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := NewServer(Options{})
				handleRaw(srv, "wait", func(ctx context.Context, _ Raw) (Raw, error) { <-ctx.Done(); return nil, ctx.Err() })
				a, b := newMemPair()
				ctx, cancel := context.WithCancel(bg)
				defer cancel()
				go srv.ServeSession(ctx, b)
				c := NewClient(a, Options{})
				defer c.Close()
				result, down := make(chan error, 1), make(chan error, 1)
				go func() { _, err := Call[any](bg, c, "wait", nil); result <- err }()
				synctest.Wait()
				go func() { down <- srv.Shutdown(bg) }()
				synctest.Wait()
				cut(srv, cancel)
				if err := <-down; err != ErrServerClosed {
					t.Errorf("Shutdown: %v", err)
				}
				if <-result == nil { // the handler's last word may or may not have come through
					t.Error("a cut call succeeded")
				}
			})
		})
	}
}

// TestShutdownWaitsForLostSessions: a handler whose session is gone is waited for too.
func TestShutdownWaitsForLostSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		finished := false
		handleRaw(srv, "deaf", func(context.Context, Raw) (Raw, error) {
			time.Sleep(time.Hour)
			finished = true
			return Raw{0xc0}, nil
		})
		c, _ := start(t, srv, Options{})
		go Call[any](bg, c, "deaf", nil)
		synctest.Wait()
		c.Close()
		synctest.Wait()
		if err := srv.Shutdown(bg); err != nil || !finished {
			t.Error(err, finished)
		}
	})
}

// TestLargeCallsDrain: a client of large calls only hears of a drain between two of them.
func TestLargeCallsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{})
		c, _ := start(t, srv, Options{})
		large := make([]byte, 2*LargeCall)
		if _, err := Call[[]byte](bg, c, "echo", large); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := srv.Shutdown(bg); err != nil || time.Since(begin) != 0 {
			t.Errorf("%v after %v: the client has not said that it is done", err, time.Since(begin))
		}
		_, err := Call[[]byte](bg, c, "echo", large)
		want(t, err, Unavailable, NotSent)
	})
}

// TestLargeCallWithoutRoom: it waits for a while, is then refused unread, and the stream of small calls goes on meanwhile.
func TestLargeCallWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := NewServer(Options{MaxHeld: 200 << 10})
		release := make(chan struct{})
		Handle(srv, "hold", func(context.Context, []byte) (int, error) { <-release; return 0, nil })
		Handle(srv, "len", func(_ context.Context, b []byte) (int, error) { return len(b), nil })
		c, _ := start(t, srv, Options{})
		held := make(chan error, 1)
		go func() { _, err := Call[int](bg, c, "hold", make([]byte, 150<<10)); held <- err }()
		synctest.Wait()
		begin := time.Now()
		large := make(chan error, 1)
		go func() { _, err := Call[int](bg, c, "len", make([]byte, 100<<10)); large <- err }()
		synctest.Wait()
		if n, err := Call[int](bg, c, "len", []byte("small")); n != 5 || err != nil {
			t.Error(n, err)
		}
		want(t, <-large, ResourceExhausted, NotExecuted)
		if took := time.Since(begin); took != patience {
			t.Error(took)
		}
		close(release)
		if err := <-held; err != nil {
			t.Error(err)
		}
		if n, err := Call[int](bg, c, "len", make([]byte, 100<<10)); n != 100<<10 || err != nil {
			t.Error(n, err)
		}
	})
}

// An endedSession ends, in good order, as soon as it has a request; the reply lies in the stream.
type endedSession struct {
	net.Conn // what is written goes nowhere
	reply    *bytes.Reader
	once     sync.Once
	done     chan struct{}
}

var errGone = errors.New("session closed by the peer")

func (s *endedSession) Open(context.Context) (net.Conn, error) { return s, nil }
func (s *endedSession) Accept() (net.Conn, error)              { <-s.done; return nil, errGone }
func (s *endedSession) Close() error                           { return nil }
func (s *endedSession) Done() <-chan struct{}                  { return s.done }
func (s *endedSession) Err() error {
	select {
	case <-s.done:
		return errGone
	default:
		return nil
	}
}
func (s *endedSession) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.done) })
	return len(b), nil
}
func (s *endedSession) Read(b []byte) (int, error) {
	<-s.done
	if n, err := s.reply.Read(b); err != io.EOF {
		return n, err
	}
	return 0, errGone
}

// TestReplyBehindTheSession: a reply that came is not lost because the session has ended behind it.
func TestReplyBehindTheSession(t *testing.T) {
	for range 200 {
		sess := &endedSession{reply: bytes.NewReader(appendReply(nil, 1, []byte{7})), done: make(chan struct{})}
		c := NewClient(sess, Options{})
		if n, err := Call[int](bg, c, "m", nil); n != 7 || err != nil {
			t.Fatal(n, err)
		}
		<-c.ctx.Done() // the client has seen the end too: what it sends before that is of unknown outcome
		_, err := Call[int](bg, c, "m", nil)
		want(t, err, Unavailable, NotSent)
		c.Close()
	}
}
