package legacy

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
	"testing/synctest"
	"time"
)

// One hundred clients at once, each with several texts over one connection, through our own client.
func TestManyClients(t *testing.T) {
	addr := listen(t, newTestServer(t, Config{Key: smallKeyForTest()}))
	var clients sync.WaitGroup
	for i := range 100 {
		clients.Go(func() {
			c, err := Dial(t.Context(), "tcp", addr, smallKeyForTest().pub)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for j, text := range []string{"hello", "你好，世界", "", "a#b##", strings.Repeat("long ", 100*(i+1))} {
				got, err := c.Call(t.Context(), text)
				if err != nil || got != prefix+text {
					t.Errorf("client %d, text %d: %.40q, %v", i, j, got, err)
				}
			}
		})
	}
	clients.Wait()
}

// The texts that a program may send, through both sides.
func TestTexts(t *testing.T) {
	addr := listen(t, newTestServer(t, Config{}))
	c, err := Dial(t.Context(), "tcp", addr, keyForTest().pub)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, texts := range map[string][2]string{
		"NULs at the end": {"a\x00\x00", "a"},
		"NULs alone":      {strings.Repeat("\x00", 40), ""},
		"NULs inside":     {"\x00a\x00b", "\x00a\x00b"},
		"1 MiB":           {strings.Repeat("0123456789abcdef", 1<<16), strings.Repeat("0123456789abcdef", 1<<16)},
		"1 MiB Chinese":   {strings.Repeat("你好", 1<<20/6), strings.Repeat("你好", 1<<20/6)},
		"quotes":          {`{"key":"a", 'data':'\\'}`, `{"key":"a", 'data':'\\'}`},
	} {
		if got, err := c.Call(t.Context(), texts[0]); err != nil || got != prefix+texts[1] {
			t.Errorf("%s: %.60q, %v", name, got, err)
		}
	}
	if _, err := c.Call(t.Context(), strings.Repeat("x", MaxText+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	if _, err := c.Call(t.Context(), "\xff"); err == nil {
		t.Error("no UTF-8 was sent")
	}
	if got, err := c.Call(t.Context(), "still there"); err != nil || got != prefix+"still there" {
		t.Error(got, err)
	}
}

// What a handler refuses ends the connection, with the replies before it intact.
func TestHandlerFails(t *testing.T) {
	refused, told := errors.New("refused"), refusals{}
	s := newTestServer(t, Config{Key: smallKeyForTest(), Refused: told.add, Handle: func(ctx context.Context, text string) (string, error) {
		if text == "bad" {
			return "", refused
		}
		return echo(ctx, text)
	}})
	c, err := net.Dial("tcp", listen(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var want strings.Builder
	for _, text := range []string{"one", "two", "bad", "never"} {
		request, with := requestFor(t, smallKeyForTest().pub, text)
		c.Write(request)
		if text != "bad" && text != "never" {
			want.Write(replyTo(with, prefix+text))
		}
	}
	if got, _ := io.ReadAll(c); string(got) != want.String() {
		t.Errorf("%d bytes of replies, want %d", len(got), want.Len())
	}
	s.Close()
	if told.count(refused) != 1 {
		t.Errorf("told of %v", told.all)
	}
}

// A bad request behind good ones costs none of their replies, though more is unread.
func TestRepliesBeforeBadRequest(t *testing.T) {
	addr := listen(t, newTestServer(t, Config{Key: smallKeyForTest()}))
	for range 20 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		request, with := requestFor(t, smallKeyForTest().pub, "good")
		go c.Write(append(append(request, "bad#"...), strings.Repeat("x", 100<<10)...)) // ends with the connection
		got, err := io.ReadAll(c)
		c.Close()
		if err != nil || string(got) != string(replyTo(with, prefix+"good")) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
}

// Shutdown lets the requests end that were taken, and takes no more; idle connections end at once.
func TestShutdownDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, end := make(chan struct{}), make(chan struct{})
		s := NewServer(Config{Key: smallKeyForTest(), Handle: func(ctx context.Context, text string) (string, error) {
			close(begun)
			<-end
			return echo(ctx, text)
		}})
		idle, half, busy := pipe(t, s), pipe(t, s), pipe(t, s)
		request, with := requestFor(t, smallKeyForTest().pub, "taken")
		half.Write(request[:100])
		busy.Write(request)
		<-begun
		down := make(chan error, 1)
		go func() { down <- s.Shutdown(context.Background()) }()
		isClosed(t, idle)
		isClosed(t, half)
		quiet := s.Stop()
		select {
		case <-quiet:
			t.Error("quiet while a handler runs")
		default:
		}
		close(end)
		<-quiet
		if got := reply(t, busy); got != string(replyTo(with, prefix+"taken")) {
			t.Errorf("reply %q", got)
		}
		isClosed(t, busy)
		if err := <-down; err != nil {
			t.Error(err)
		}
		late := pipe(t, s)
		isClosed(t, late)
	})
}

// Connections that come while the server stops are served or closed, and Shutdown waits for them too.
func TestShutdownWhileConnecting(t *testing.T) {
	for range 50 {
		s := NewServer(Config{Key: smallKeyForTest(), Handle: echo})
		connected := make(chan struct{})
		go func() {
			defer close(connected)
			for range 20 {
				ours, theirs := net.Pipe()
				s.begin(theirs)
				defer ours.Close()
			}
		}()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-connected
		s.mu.Lock()
		left := len(s.conns)
		s.mu.Unlock()
		if left > 0 {
			t.Fatalf("%d connections are left", left)
		}
	}
}

// When its context ends Shutdown cuts: handlers by their context, and clients that do not take their replies.
func TestShutdownCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := make(chan struct{})
		s := NewServer(Config{Key: smallKeyForTest(), Handle: func(ctx context.Context, text string) (string, error) {
			if text == "quick" {
				return text, nil
			}
			close(begun)
			<-ctx.Done()
			return "", ctx.Err()
		}})
		slow, deaf := pipe(t, s), pipe(t, s)
		request, _ := requestFor(t, smallKeyForTest().pub, "slow")
		slow.Write(request)
		<-begun
		request, _ = requestFor(t, smallKeyForTest().pub, "quick")
		deaf.Write(request)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		isClosed(t, slow)
		isClosed(t, deaf)
	})
}

// failing is a listener whose Accept fails a few times, as when there are no file descriptors.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptFailsForAWhile(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, told := &failing{Listener: inner}, refusals{}
	l.left.Store(3)
	s := newTestServer(t, Config{Refused: told.add})
	served := make(chan error)
	go func() { served <- s.Serve(l) }()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	isOpen(t, c, keyForTest().pub)
	s.Close()
	if err := <-served; err != nil || len(told.all) != 3 {
		t.Errorf("%v, told of %v", err, told.all)
	}
	if err := s.Serve(inner); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

// A listener that somebody else closes ends Serve with its error.
func TestListenerCloses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := newTestServer(t, Config{}).Serve(l); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// What the client meets when its server fails: each once, and no further call.
func TestClientFaults(t *testing.T) {
	for name, c := range map[string]struct {
		server func(net.Conn)
		want   error
	}{
		"closes at once": {func(c net.Conn) {}, ErrNoReply},
		"closes in the middle of a reply": {func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, "abcd")
		}, ErrNoReply},
		"sends no base64": {func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 400 Bad Request#")
		}, errReply},
		"sends no end": {func(c net.Conn) {
			c.Read(make([]byte, 4096))
			for {
				if _, err := io.WriteString(c, strings.Repeat("x", 64<<10)); err != nil {
					return
				}
			}
		}, ErrTooLong},
		"sends what it made of another key": {func(c net.Conn) {
			c.Read(make([]byte, 4096))
			c.Write(replyTo(newPair(), "a text of some length that becomes no UTF-8 under another key"))
		}, errReply},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				c.server(b)
				b.Close()
			}()
			client := NewClient(a, keyForTest().pub)
			if _, err := client.Call(t.Context(), "hello"); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if got, err := client.Call(t.Context(), "again"); err == nil {
				t.Errorf("a call after the end returned %q", got)
			}
			<-client.Done()
			if client.Err() == nil {
				t.Error("ended for no reason")
			}
			client.Close()
			<-served
		})
	}
}

// A context ends a call, whether its server reads or not, and the connection.
func TestClientContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, reads := range []bool{true, false} {
			a, b := net.Pipe()
			read := make(chan struct{})
			go func() {
				defer close(read)
				if reads {
					io.Copy(io.Discard, b)
				}
			}()
			client := NewClient(a, smallKeyForTest().pub)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			start := time.Now()
			if _, err := client.Call(ctx, "hello"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
			cancel()
			<-client.Done()
			if _, err := client.Call(ctx, "hello"); err == nil {
				t.Error("a call with an ended context")
			}
			client.Close()
			b.Close()
			<-read
		}
	})
}

// Calls of many goroutines over one client wait for each other.
func TestClientIsShared(t *testing.T) {
	c, err := Dial(t.Context(), "tcp", listen(t, newTestServer(t, Config{Key: smallKeyForTest()})), smallKeyForTest().pub)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var calls sync.WaitGroup
	for i := range 50 {
		calls.Go(func() {
			text := fmt.Sprint("text ", i)
			if got, err := c.Call(t.Context(), text); err != nil || got != prefix+text {
				t.Error(got, err)
			}
		})
	}
	calls.Wait()
}
