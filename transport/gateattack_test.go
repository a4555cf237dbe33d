package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// knock is a ClientHello, which costs the server a private-key operation and commits the client to nothing.
func knock(t *testing.T) []byte {
	t.Helper()
	client, _ := configs()
	full, err := client.forClient()
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		h := &clientRole{ctx: t.Context(), raw: a, cfg: full, log: newTranscript()}
		h.shares()
		h.greet()
	})
	body, err := receive(b, typeClientHello)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	wg.Wait()
	return message(typeClientHello, body)
}

// setLane lets so many private-key operations run at once.
func (g *gate) setLane(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lane = n
	g.serveLocked()
}

func (g *gate) inUse() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.places
}

// No more than MaxHandshakes are in progress, also when everybody waits for the server.
func TestGateHoldsItsLimit(t *testing.T) {
	hello := knock(t)
	synctest.Test(t, func(t *testing.T) {
		l, _, raw := gated(t, func(c *Config) { c.MaxHandshakes = 4 })
		l.gate.setLane(0)
		for i := range 5 {
			go raw(fmt.Sprint(i)).Write(hello)
			synctest.Wait() // until it waits for its turn, or the last one outside
		}
		if n := l.gate.inUse(); n != 4 {
			t.Error(n)
		}
	})
}

// When all wait for the server, and then the server waits for all of them, a friend need not wait for their deadlines.
func TestGateOpensToAStall(t *testing.T) {
	hello := knock(t)
	synctest.Test(t, func(t *testing.T) {
		l, dial, raw := gated(t, func(c *Config) { c.MaxHandshakes = 4 })
		l.gate.setLane(0)
		for i := range 4 {
			go raw(fmt.Sprint(i)).Write(hello)
			synctest.Wait()
		}
		begin := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := dial("friend"); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			s, err := l.Accept(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
		synctest.Wait()
		l.gate.setLane(1) // all are answered, and say nothing more
		wg.Wait()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("a friend had to wait for %v", took)
		}
	})
}

// A turn that is given up costs its source nothing, and is not remembered.
func TestGateForgetsTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateFor(t, 1000, 500, 0)
		ctx, cancel := context.WithCancelCause(context.Background())
		var work sync.WaitGroup
		order := make(chan string, 10)
		queue := func(from string, ctx context.Context) {
			p := come(g, from)
			work.Go(func() { p.leave(p.operate(ctx, func() { order <- from })) })
			synctest.Wait()
		}
		for range 5 {
			queue("unlucky", ctx)
		}
		queue("b", context.Background())
		cancel(ErrHandshakeTimeout)
		synctest.Wait()
		for name, s := range g.sources {
			if n := len(s.turns); name == "unlucky" && n > 0 {
				t.Errorf("%d turns of connections that are gone", n)
			}
		}
		for range 2 {
			queue("b", context.Background())
		}
		queue("unlucky", context.Background())
		g.setLane(1)
		work.Wait()
		if got := <-order + <-order + <-order + <-order; got != "bunluckybb" {
			t.Error(got)
		}
		if len(g.ring) != 0 || g.lane != 1 {
			t.Error(g.ring, g.lane)
		}
	})
}

// Who waited for the server until it was too late has done nothing wrong.
func TestGateBlamesNoVictim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateFor(t, 1000, 500, 0)
		var work sync.WaitGroup
		for range 100 {
			p := come(g, "victim")
			work.Go(func() {
				ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Second, ErrHandshakeTimeout)
				defer cancel()
				p.leave(p.operate(ctx, func() {}))
			})
		}
		work.Wait()
		if err := come(g, "victim").err; err != nil {
			t.Error(err)
		}
	})
}

// Strangers that stall, each from an address of its own, do not push out a busy office that answers at once, and do not have it
// kept out either.
func TestGateSparesTheQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gateFor(t, 100, 50, 1)
		n := 0
		stranger := func() { n++; come(g, fmt.Sprint("stranger ", n)) }
		for range 100 {
			stranger()
			time.Sleep(10 * time.Millisecond)
		}
		for range 100 {
			office := []*comer{come(g, "office"), come(g, "office"), come(g, "office")}
			for range 10 {
				stranger()
				time.Sleep(time.Millisecond)
			}
			for _, c := range office {
				if c.err != nil || c.evicted != nil {
					t.Fatal(c.err, c.evicted)
				}
				c.leave(nil)
			}
		}
		// One that has to go at once, since it came last, has stalled for no time.
		for range 100 {
			come(g, "unlucky").leave(errGiveWay)
		}
		if err := come(g, "unlucky").err; err != nil {
			t.Error(err)
		}
	})
}

// What is remembered of a source does not depend on how many connections it had.
func TestGateRemembersLittle(t *testing.T) {
	g := gateFor(t, 2000, 1000, 1)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const sources = 50
	before := heap()
	for i := range sources {
		var all []*comer
		for range 1000 {
			all = append(all, come(g, fmt.Sprint(i)))
		}
		for j := len(all) - 1; j >= 0; j-- {
			all[j].leave(ErrHandshake)
		}
	}
	if each := int64(heap()-before) / sources; each > 1000 {
		t.Errorf("%d bytes a source", each)
	}
	runtime.KeepAlive(g)
}

// Whoever is turned away cannot make the listener wait, if it is one that shakes hands itself either.
func TestTurnAwayWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn)
		inner := &handedListener{conns: conns, closed: make(chan struct{})}
		_, server := configs()
		server.HandshakeSource = func(net.Addr) string { return "stranger" }
		l, err := NewListener(tls.NewListener(inner, &tls.Config{Certificates: []tls.Certificate{{}}}), server)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		l.gate.mu.Lock()
		l.gate.sources["stranger"] = &source{name: "stranger", limited: true, barred: true, until: time.Now().Add(time.Hour)}
		l.gate.mu.Unlock()
		for range 3 {
			a, b := net.Pipe()
			defer a.Close()
			begin := time.Now()
			select {
			case conns <- b:
			case <-time.After(time.Minute):
				t.Fatal("the listener waits for a stranger")
			}
			if took := time.Since(begin); took > time.Second {
				t.Error(took)
			}
		}
	})
}

// A handedListener accepts what it is handed.
type handedListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (h *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}
func (h *handedListener) Close() error   { h.once.Do(func() { close(h.closed) }); return nil }
func (h *handedListener) Addr() net.Addr { return &net.TCPAddr{} }

// However Listener.Close comes between, nobody is left behind, and no place and no turn is lost.
func TestCloseWhileWaiting(t *testing.T) {
	hello := knock(t)
	synctest.Test(t, func(t *testing.T) {
		l, _, raw := gated(t, func(c *Config) { c.MaxHandshakes = 4 })
		l.gate.setLane(0)
		for i := range 6 { // the second gives way to the fifth, and the last one waits outside
			c := raw(fmt.Sprint(i))
			if i != 1 {
				go c.Write(hello)
			}
			synctest.Wait()
		}
		begin := time.Now()
		l.Close()
		if took := time.Since(begin); took > time.Second || l.gate.places != 0 || len(l.gate.ring) != 0 {
			t.Error(took, l.gate.places, l.gate.ring)
		}
		if _, err := l.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}
