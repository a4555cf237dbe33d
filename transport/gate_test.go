package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/internal/faultnet"
)

// A name is an address that is its own source.
type name string

func (name) Network() string  { return "test" }
func (n name) String() string { return string(n) }

func byName(addr net.Addr) string { return addr.String() }

// gateFor is a gate for so many handshakes.
func gateFor(t *testing.T, limit, perSource, lane int) *gate {
	t.Helper()
	_, cfg := configs()
	cfg.MaxHandshakes, cfg.MaxHandshakesPerSource, cfg.HandshakeSource = limit, perSource, byName
	full, err := cfg.forServer()
	if err != nil {
		t.Fatal(err)
	}
	return newGate(full, lane)
}

// closed is for those who do not wait.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// A comer is a connection at the gate.
type comer struct {
	*pass
	err     error
	evicted error
}

func come(g *gate, from string) *comer {
	c := new(comer)
	c.pass, c.err = g.enter(name(from), func(cause error) { c.evicted = cause }, closed)
	return c
}

// Whoever makes the server wait loses his place first, of the source that has held places for the longest.
func TestGateGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateFor(t, 4, 3, 1)
		next := func(from string) *comer {
			time.Sleep(time.Second)
			return come(g, from)
		}
		one, two, three, four := next("a"), next("a"), next("b"), next("a")
		one.works(true)
		one.works(false) // it has sent something: now two has waited for the longest
		if five := next("b"); five.err != nil || two.evicted == nil || one.evicted != nil || four.evicted != nil || three.evicted != nil {
			t.Error("full: not the oldest of the source that holds the most", five.err, one, two, three, four)
		}
		if six := next("a"); six.err != nil || four.evicted == nil { // of a there were one and four, which waits longer
			t.Error(six.err, four)
		}
		for _, from := range g.sources {
			for _, p := range slices.Clone(from.passes) {
				p.works(true)
			}
		}
		if seven := next("c"); !errors.Is(seven.err, net.ErrClosed) || g.sources["c"] != nil {
			t.Error("it is full of connections that wait for us", seven.err)
		}
		come := make(chan error)
		wait := func() {
			_, err := g.enter(name("c"), func(error) {}, nil)
			come <- err
		}
		go wait()
		synctest.Wait()
		three.leave(nil)
		three.leave(nil) // once is enough
		if err := <-come; err != nil || g.places != 4 {
			t.Error("a place was given back", err, g.places)
		}
		g.sources["c"].passes[0].works(true)
		go wait()
		synctest.Wait()
		one.works(false)
		if err := <-come; err != nil || one.evicted == nil {
			t.Error("one makes us wait", err, one.evicted)
		}
	})
	g := gateFor(t, 10, 2, 1)
	one, two := come(g, "a"), come(g, "a")
	three := come(g, "a")
	if three.err != nil || one.evicted == nil || !errors.Is(one.evicted, ErrHandshakeTimeout) {
		t.Error(three.err, one.evicted)
	}
	two.works(true)
	three.works(true)
	if four := come(g, "a"); !errors.Is(four.err, ErrBusy) || !strings.Contains(four.err.Error(), "2 handshakes from a") {
		t.Error(four.err)
	}
	if other := come(g, "b"); other.err != nil {
		t.Error(other.err)
	}
}

// Private-key operations go round the sources, and one whose connection has gone takes no turn.
func TestGateTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateFor(t, 100, 50, 1)
		release := make(chan struct{})
		order := make(chan string, 20)
		var work sync.WaitGroup
		begin := func(from string, ctx context.Context) {
			p := come(g, from)
			work.Go(func() {
				err := p.operate(ctx, func() {
					order <- from
					<-release
				})
				if err != nil {
					order <- err.Error()
				}
				p.leave(err)
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		begin("a", context.Background())
		begin("a", context.Background())
		begin("a", ctx)
		begin("a", context.Background())
		begin("b", context.Background())
		begin("c", context.Background())
		begin("b", context.Background())
		if g.sources["a"].waiterLocked() >= 0 {
			t.Error("a connection that waits for its turn would give way")
		}
		cancel(errors.New("gone"))
		synctest.Wait()
		close(release)
		work.Wait()
		close(order)
		var got []string
		for from := range order {
			got = append(got, from)
		}
		if all := strings.Join(got, " "); all != "a gone a b c a b" {
			t.Error(all)
		}
		if g.lane != 1 || g.places != 0 || len(g.ring) != 0 {
			t.Error(g)
		}
	})
}

// A source whose handshakes fail is kept out for a while: as OpenSSH does, and no longer.
func TestGatePenalties(t *testing.T) {
	truncated, bad := fmt.Errorf("x: %w", ErrTruncated), ErrHandshake
	for _, c := range []struct {
		what   string
		source string
		worked bool
		held   time.Duration // for how long it made us wait
		err    error
		every  time.Duration
		times  int // after which it is out; 0: never
	}{
		{"a burst that costs operations", "a", true, 0, bad, 0, 30},
		{"one that cuts after an operation", "a", true, 0, truncated, 0, 30},
		{"unauthorized", "a", true, 0, ErrUnauthorized, 0, 30},
		{"stalls", "a", false, 10 * time.Second, ErrHandshakeTimeout, 0, 30},
		{"gives way", "a", false, time.Second, errGiveWay, 0, 30},
		{"gives way soon", "a", false, 10 * time.Millisecond, errGiveWay, 0, 0},
		{"garbage", "a", false, 0, ErrNotSealmux, 0, 150},
		{"two a second", "a", true, 0, bad, 500 * time.Millisecond, 0},
		{"three a second", "a", true, 0, bad, 333 * time.Millisecond, 88},
		{"knocks", "a", false, 0, truncated, 0, 0},
		{"comes in", "a", true, 0, nil, 0, 0},
		{"has no source", "", true, 0, bad, 0, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := gateFor(t, 10, 5, 1)
				try := func() error {
					p := come(g, c.source)
					if p.err == nil {
						p.worked, p.since = c.worked, p.since.Add(-c.held)
						p.leave(c.err)
					}
					return p.err
				}
				n := 0
				for ; n < 1000 && try() == nil; n++ {
					time.Sleep(c.every)
				}
				if n != c.times && !(n == 1000 && c.times == 0) {
					t.Errorf("out after %d, not %d", n, c.times)
				}
				if c.times == 0 {
					return
				}
				if err := try(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "for another 15s") {
					t.Error(err)
				}
				if err := come(g, "other").err; err != nil {
					t.Error(err)
				}
				time.Sleep(penaltyLimit - time.Second)
				if err := try(); !errors.Is(err, ErrBusy) {
					t.Error(err)
				}
				time.Sleep(2 * time.Second)
				if err := try(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What is remembered of sources is bounded, and those with connections are not forgotten.
func TestGateForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateFor(t, 10, 5, 1)
		stays := come(g, "stays")
		for i := range 2 * maxSources {
			come(g, fmt.Sprint(i)).leave(ErrHandshake)
		}
		if n := len(g.sources); n != maxSources || g.sources["stays"] == nil {
			t.Error(n)
		}
		if p := come(g, "knocks"); g.sources["knocks"] == nil {
			t.Error(p.err)
		} else if p.leave(nil); g.sources["knocks"] != nil {
			t.Error("a source of no interest is remembered")
		}
		stays.leave(nil)
		time.Sleep(time.Minute)
		for i := range 3 {
			come(g, fmt.Sprint("next ", i))
		}
		if n := len(g.sources); n != 3 {
			t.Error(n)
		}
	})
}

func TestDefaultSource(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1": "192.0.2.7", "[::ffff:192.0.2.7]:1": "192.0.2.7", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := defaultSource(tcp); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	if got := defaultSource(&net.UnixAddr{Name: "x"}) + defaultSource(nil); got != "" {
		t.Error(got)
	}
}

// gated is a Listener on a network in memory, where each client has a source of its own choice.
func gated(t *testing.T, edit func(*Config)) (l *Listener, dial func(from string) (*Session, error), raw func(from string) net.Conn) {
	t.Helper()
	network := new(faultnet.Network)
	inner, err := network.Listen("server")
	if err != nil {
		t.Fatal(err)
	}
	client, server := configs()
	server.HandshakeSource = byName
	edit(server)
	l, err = NewListener(inner, server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	raw = func(from string) net.Conn {
		c, err := network.Dial(t.Context(), from, "server", faultnet.Line{}, faultnet.Line{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial = func(from string) (*Session, error) {
		s, err := Client(t.Context(), raw(from), client)
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return s, err
	}
	return l, dial, raw
}

// However many connections stall, those who speak come in, from the same source too; the stalled ones are gone.
func TestStallsKeepNobodyOut(t *testing.T) {
	l, dial, raw := gated(t, func(c *Config) { c.MaxHandshakes, c.HandshakeTimeout = 20, time.Hour })
	for i := range 1000 {
		raw(fmt.Sprint("stranger ", i%40)) // each source gives way too seldom to be kept out
	}
	for i := range 10 {
		ours, err := dial(fmt.Sprint("stranger ", i))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ours.Close()
		theirs.Close()
	}
	eventually(t, func() bool {
		l.gate.mu.Lock()
		defer l.gate.mu.Unlock()
		return l.gate.places <= 20
	})
}

// Who is kept out is told so, and so is the server's owner, who may take his time: nobody waits for him.
func TestBusy(t *testing.T) {
	told, hold := make(chan error), make(chan struct{})
	l, dial, raw := gated(t, func(c *Config) {
		c.HandshakeFailed = func(_ net.Addr, err error) {
			select {
			case told <- err:
			case <-hold:
			}
		}
	})
	defer close(hold)
	for range 100 { // HandshakeFailed blocks meanwhile
		c := raw("someone")
		c.Write([]byte("GET / HTTP/1.1\r\n"))
		io.Copy(io.Discard, c) // until it is over, so that it has been counted
	}
	l.gate.mu.Lock()
	l.gate.sources["stranger"] = &source{name: "stranger", limited: true, barred: true, until: time.Now().Add(time.Hour)}
	l.gate.mu.Unlock()
	if _, err := dial("stranger"); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if _, err := dial("friend"); err != nil {
		t.Error(err)
	}
	if s, err := l.Accept(t.Context()); err != nil {
		t.Error(err)
	} else {
		s.Close()
	}
	for !errors.Is(<-told, ErrBusy) {
		raw("stranger") // some were not told, while 64 waited
	}
}
