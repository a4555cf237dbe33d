//go:build unix

package hostile

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/sealmux/sealmux/transport"
)

var (
	manySessions = flag.Int("many.sessions", 500, "how many idle sessions TestManySessions has")
	manyStreams  = flag.Int("many.streams", 10_000, "how many streams TestManyStreams has open at once")
	manyOpens    = flag.Int("many.opens", 20_000, "how many streams TestManyStreams opens in turn")
)

// use is what the process holds: heap and stacks, and goroutines.
func use() (bytes uint64, goroutines int) {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse, runtime.NumGoroutine()
}

// sessionsRole dials so many sessions, says so, and holds them until it is killed.
func sessionsRole() {
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fatal(err)
	}
	cfg := &transport.Config{Peers: transport.Pin(givenKey().Public()), Tickets: transport.NewTicketCache(1)}
	for range n {
		sess, err := transport.Dial(context.Background(), "tcp", os.Args[1], cfg)
		if err != nil {
			fatal(err)
		}
		held = append(held, sess)
	}
	fmt.Println(len(held))
	select {}
}

var held []*transport.Session

// TestManySessions: so many idle sessions in one server, whose clients are another process, so that each needs one file a
// session.
func TestManySessions(t *testing.T) {
	cfg := serverConfig()
	cfg.Protocol = ""
	l, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before, goroutines := use()
	var all []*transport.Session
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for range *manySessions {
			sess, err := l.Accept(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			all = append(all, sess)
		}
	})
	p := run(t, "sessions", l.Addr().String(), strconv.Itoa(*manySessions))
	accepting.Wait()
	bytes, now := use()
	n := uint64(len(all))
	if n != uint64(*manySessions) {
		t.Fatal(n, p.addr)
	}
	t.Logf("%d idle sessions, the clients in another process: %.1f KiB and %.1f goroutines each on the server's side",
		n, float64(bytes-before)/float64(n)/1024, float64(now-goroutines)/float64(n))
	p.Process.Kill()
	for _, sess := range all {
		<-sess.Done()
		sess.Close()
	}
}

// TestManyStreams: so many streams open at once on one session, and so many in turn.
func TestManyStreams(t *testing.T) {
	near, far := net.Pipe()
	server := serverConfig()
	server.MaxStreams = *manyStreams
	var ours, theirs *transport.Session
	var serr error
	var shaking sync.WaitGroup
	shaking.Go(func() { theirs, serr = transport.Server(t.Context(), far, server) })
	ours, err := transport.Client(t.Context(), near, clientConfig())
	shaking.Wait()
	if err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	defer theirs.Close()
	defer ours.Close()
	accepted := make(chan net.Conn)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		defer close(accepted)
		for {
			st, err := theirs.Accept()
			if err != nil {
				return
			}
			accepted <- st
		}
	})
	pair := func() (a, b net.Conn) {
		a, err := ours.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b = <-accepted
		if _, err := a.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	before, _ := use()
	var all []net.Conn
	for range *manyStreams {
		a, b := pair()
		all = append(all, a, b)
	}
	bytes, _ := use()
	t.Logf("%d streams open: %.1f KiB each, both ends together", *manyStreams, float64(bytes-before)/float64(*manyStreams)/1024)
	for _, st := range all {
		st.Close()
	}
	all = nil
	a, b := pair() // what was open before is over when this comes through
	a.Close()
	b.Close()
	before, _ = use()
	for range *manyOpens {
		a, b := pair()
		a.Close()
		b.Close()
	}
	bytes, _ = use()
	grown := int64(bytes) - int64(before)
	t.Logf("%d more opened in turn: %d KiB grown", *manyOpens, grown>>10)
	if grown > 8<<20 {
		t.Error("they leave something behind")
	}
	ours.Close()
	accepting.Wait()
}
