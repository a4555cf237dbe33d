package legacy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs f with a server, in a bubble whose time runs when all wait.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, s *Server, told *refusals)) {
	synctest.Test(t, func(t *testing.T) {
		told := &refusals{}
		cfg.Key, cfg.Refused = smallKeyForTest(), told.add
		if cfg.Handle == nil {
			cfg.Handle = echo
		}
		s := NewServer(cfg)
		defer s.Close()
		f(t, s, told)
	})
}

// took returns how long f does.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestTimeouts(t *testing.T) {
	request := func() string {
		r, _ := requestFor(t, smallKeyForTest().pub, "hello")
		return string(r)
	}()
	for name, test := range map[string]struct {
		client func(*testing.T, net.Conn)
		after  time.Duration
		want   error
	}{
		"silent": {func(*testing.T, net.Conn) {}, 15 * time.Minute, errIdle},
		"silent behind a reply": {func(t *testing.T, c net.Conn) {
			time.Sleep(time.Minute)
			isOpen(t, c, smallKeyForTest().pub)
		}, 16 * time.Minute, errIdle},
		"silent in a request": {func(t *testing.T, c net.Conn) { c.Write([]byte("e")) }, time.Minute, errSlow},
		"a byte each second": {func(t *testing.T, c net.Conn) {
			for i := range 59 {
				c.Write([]byte{request[i]})
				time.Sleep(time.Second)
			}
		}, time.Minute, errSlow},
		"takes no reply": {func(t *testing.T, c net.Conn) { c.Write([]byte(request)) }, time.Minute, errNotTaken},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, s *Server, told *refusals) {
				c := pipe(t, s)
				after := took(func() {
					test.client(t, c)
					s.work.Wait() // the connection
				})
				synctest.Wait()
				if after != test.after || told.count(test.want) != 1 {
					t.Errorf("after %v, want %v; told of %v", after, test.after, told.all)
				}
			})
		})
	}
}

func TestHandlerTakesTooLong(t *testing.T) {
	cfg := Config{Handle: func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	}}
	inBubble(t, cfg, func(t *testing.T, s *Server, told *refusals) {
		c := pipe(t, s)
		request, _ := requestFor(t, smallKeyForTest().pub, "hello")
		c.Write(request)
		if after := took(func() { isClosed(t, c) }); after != time.Minute {
			t.Errorf("after %v", after)
		}
		synctest.Wait()
		if told.count(errNoReply) != 1 {
			t.Errorf("told of %v", told.all)
		}
	})
}

// A request of maxMessage bytes is read to its end, and one of more is not.
func TestLongRequests(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server, told *refusals) {
		for _, size := range []int{maxMessage, maxMessage + 1, 2 * maxMessage} {
			c := pipe(t, s)
			n, _ := c.Write([]byte(strings.Repeat("A", size) + "#"))
			if n > maxMessage+2*smallRequest {
				t.Errorf("%d bytes were read of a request of %d", n, size)
			}
			isClosed(t, c)
		}
		synctest.Wait()
		if len(told.all) != 3 || told.count(ErrUndecryptable) != 1 || told.count(ErrTooLong) != 2 {
			t.Errorf("told of %v", told.all)
		}
	})
}

// A request in the reader's buffer takes no place among the large ones, and one more byte takes one.
func TestSmallRequests(t *testing.T) {
	for _, size := range []int{smallRequest - 1, smallRequest} {
		inBubble(t, Config{}, func(t *testing.T, s *Server, told *refusals) {
			for range maxLarge {
				s.large <- struct{}{}
			}
			c := pipe(t, s)
			after := took(func() {
				c.Write([]byte(strings.Repeat("A", size) + "#"))
				isClosed(t, c)
			})
			synctest.Wait()
			if small := size < smallRequest; small && (after != 0 || told.count(ErrUndecryptable) != 1) ||
				!small && (after != time.Minute || told.count(ErrBusy) != 1) {
				t.Errorf("%d bytes: after %v, told of %v", size, after, told.all)
			}
		})
	}
}

// Large requests have a number of places, and so have those of a source; when one is answered the next is read.
func TestLargePlaces(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server, told *refusals) {
		half := []byte(strings.Repeat("A", 2*smallRequest))
		var conns []net.Conn
		begin := func(ip string) (c net.Conn, read bool) {
			c = pipeFrom(t, s, ip)
			c.SetWriteDeadline(time.Now().Add(time.Second))
			_, err := c.Write(half)
			c.SetWriteDeadline(time.Time{})
			conns = append(conns, c)
			return c, err == nil
		}
		for i := range maxLarge {
			if _, read := begin(fmt.Sprintf("192.0.2.%d", i/maxLargePerSource)); !read {
				t.Fatalf("request %d was not read", i)
			}
		}
		if _, read := begin("192.0.2.0"); read {
			t.Error("a source has one place more than it may")
		}
		if _, read := begin("192.0.2.9"); read {
			t.Error("there is one place more than there may be")
		}
		conns[0].Write([]byte("#"))
		isClosed(t, conns[0])
		synctest.Wait()
		next := conns[maxLarge+1] // the other one began to wait for a place of all only when its source had one
		next.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := next.Write([]byte("AAAA")); err != nil {
			t.Error("nobody got the place of one that has ended")
		}
	})
}

// A source may ask for so much at once, and then at a pace; others are not affected.
func TestPace(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server, _ *refusals) {
		c, other := pipeFrom(t, s, "192.0.2.1"), pipeFrom(t, s, "192.0.2.2")
		request, _ := requestFor(t, smallKeyForTest().pub, "hello")
		ask := func(c net.Conn, n int) func() {
			return func() {
				for range n {
					c.Write(request)
					reply(t, c)
				}
			}
		}
		if after := took(ask(c, requestsAtOnce)); after != 0 {
			t.Errorf("%d requests took %v", requestsAtOnce, after)
		}
		if after := took(ask(c, 50)); after != 50*time.Second/requestsPerSecond {
			t.Errorf("50 more took %v", after)
		}
		if after := took(ask(other, 10)); after != 0 {
			t.Errorf("another source's took %v", after)
		}
		time.Sleep(time.Second)
		if after := took(ask(c, requestsPerSecond)); after != 0 {
			t.Errorf("%d requests a second later took %v", requestsPerSecond, after)
		}
	})
}

// A source that sends bad requests is kept out for a while, on the connections that it has too.
func TestPenalty(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server, told *refusals) {
		there := pipeFrom(t, s, "192.0.2.1")
		isOpen(t, there, smallKeyForTest().pub)
		bad := func() {
			c := pipeFrom(t, s, "192.0.2.1")
			c.Write([]byte("bad#"))
			isClosed(t, c)
		}
		for range 29 {
			bad()
		}
		isOpen(t, there, smallKeyForTest().pub)
		isOpen(t, pipeFrom(t, s, "192.0.2.1"), smallKeyForTest().pub)
		bad()
		isClosed(t, pipeFrom(t, s, "192.0.2.1"))
		request, _ := requestFor(t, smallKeyForTest().pub, "hello")
		there.Write(request)
		isClosed(t, there)
		isOpen(t, pipeFrom(t, s, "192.0.2.2"), smallKeyForTest().pub)
		synctest.Wait()
		if told.count(ErrUndecryptable) != 30 || told.count(ErrBusy) != 2 {
			t.Errorf("told of %v", told.all)
		}
		time.Sleep(15 * time.Second)
		isOpen(t, pipeFrom(t, s, "192.0.2.1"), smallKeyForTest().pub)
	})
}

// At the limits a new connection takes the place of one that has waited the longest: of its source, or of the largest.
func TestConnectionLimits(t *testing.T) {
	inBubble(t, Config{MaxConns: 5, MaxConnsPerSource: 3}, func(t *testing.T, s *Server, told *refusals) {
		conns := make(map[string]net.Conn)
		open := func(name, ip string) {
			time.Sleep(time.Second)
			conns[name] = pipeFrom(t, s, ip)
		}
		open("a1", "192.0.2.1")
		open("a2", "192.0.2.1")
		open("a3", "192.0.2.1")
		time.Sleep(time.Second)
		isOpen(t, conns["a1"], smallKeyForTest().pub) // from now on a2 has waited the longest
		open("a4", "192.0.2.1")
		isClosed(t, conns["a2"])
		open("b1", "192.0.2.2")
		open("c1", "192.0.2.3")
		open("d1", "192.0.2.4")
		isClosed(t, conns["a3"])
		for _, name := range []string{"a1", "a4", "b1", "c1", "d1"} {
			isOpen(t, conns[name], smallKeyForTest().pub)
		}
		synctest.Wait()
		if told.count(errGaveWay) != 2 || len(told.all) != 2 {
			t.Errorf("told of %v", told.all)
		}
	})
}

// Who is being answered gives no way: then a new one is turned away.
func TestBusyGiveNoWay(t *testing.T) {
	var begun, end chan struct{}
	cfg := Config{MaxConns: 3, MaxConnsPerSource: 2, Handle: func(ctx context.Context, text string) (string, error) {
		begun <- struct{}{}
		<-end
		return echo(ctx, text)
	}}
	synctest.Test(t, func(t *testing.T) {
		begun, end = make(chan struct{}), make(chan struct{})
		told := &refusals{}
		cfg.Key, cfg.Refused = smallKeyForTest(), told.add
		s := NewServer(cfg)
		defer s.Close()
		request, with := requestFor(t, smallKeyForTest().pub, "hello")
		var busy []net.Conn
		for _, ip := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2"} {
			c := pipeFrom(t, s, ip)
			c.Write(request)
			<-begun
			busy = append(busy, c)
		}
		isClosed(t, pipeFrom(t, s, "192.0.2.1")) // its source has its fill
		isClosed(t, pipeFrom(t, s, "192.0.2.3")) // all have
		close(end)
		for _, c := range busy {
			if got := reply(t, c); got != string(replyTo(with, prefix+"hello")) {
				t.Errorf("reply %q", got)
			}
		}
		synctest.Wait()
		if told.count(ErrBusy) != 2 {
			t.Errorf("told of %v", told.all)
		}
	})
}

func TestSources(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 5} }
	for _, c := range []struct {
		addr net.Addr
		want string
	}{
		{tcp("192.0.2.1"), "192.0.2.1"},
		{tcp("::ffff:192.0.2.1"), "192.0.2.1"},
		{tcp("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"},
		{&net.UnixAddr{Name: "x"}, ""},
	} {
		if got := sourceOf(c.addr); got != c.want {
			t.Errorf("%v: %q, want %q", c.addr, got, c.want)
		}
	}
}

// However many sources there were, so many are remembered; those with a connection or a penalty are the last to be forgotten.
func TestSourcesAreBounded(t *testing.T) {
	s := newTestServer(t, Config{})
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := func(i int) *source {
		return s.sourceLocked(&net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}, now)
	}
	at(0).conns = 1
	at(1).until = now.Add(time.Hour)
	for i := range 2 * maxSources {
		at(i)
	}
	if len(s.sources) > maxSources || s.sources["10.0.0.0"] == nil || s.sources["10.0.0.1"] == nil {
		t.Errorf("%d sources", len(s.sources))
	}
	for i := range 2 * maxSources {
		at(i).until = now.Add(time.Hour)
	}
	if len(s.sources) > maxSources || s.sources["10.0.0.0"] == nil {
		t.Errorf("%d sources", len(s.sources))
	}
}

// A Refused that blocks holds nobody up.
func TestRefusedBlocks(t *testing.T) {
	end := make(chan struct{})
	s := newTestServer(t, Config{Key: smallKeyForTest(), Refused: func(net.Addr, error) { <-end }})
	defer s.Close()
	defer close(end)
	for range 100 {
		c := pipe(t, s)
		c.Write([]byte("#"))
		isClosed(t, c)
	}
	for range 100 { // as who accepts connections does with those that it turns away
		s.report(nil, ErrBusy)
	}
	isOpen(t, pipe(t, s), smallKeyForTest().pub)
}
