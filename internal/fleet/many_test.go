//go:build unix

package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

var clients = flag.Int("clients", 300, "how many clients TestMany has")

// A usage is what a process holds.
type usage struct {
	Bytes      uint64 // heap and stacks
	Goroutines int
	Sessions   int           // of a server: open
	Took       time.Duration // of clients: until each had an answer
}

func use() usage {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{Bytes: m.HeapAlloc + m.StackInuse, Goroutines: runtime.NumGoroutine()}
}

// A census counts the sessions of a listener that are open.
type census struct {
	*transport.Listener

	mu   sync.Mutex // protects all below
	open []*transport.Session
}

// Accept is a Listener's.
func (c *census) Accept(ctx context.Context) (*transport.Session, error) {
	s, err := c.Listener.Accept(ctx)
	if err == nil {
		c.mu.Lock()
		c.open = append(c.open, s)
		c.mu.Unlock()
	}
	return s, err
}

func (c *census) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var open []*transport.Session
	for _, s := range c.open {
		select {
		case <-s.Done():
		default:
			open = append(open, s)
		}
	}
	c.open = open
	return len(open)
}

// clientsRole is so many clients of a server, each with a session and tickets of its own. For each line of its input they make their sessions,
// anew if they have them, and a call each; it prints the usage then.
func clientsRole() error {
	key, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	own, err := transport.ParsePrivateKey(key)
	if err != nil {
		return err
	}
	pins := transport.Pin(own.Public())
	n, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	server, dials, all := cluster.Static(os.Args[2]), make([]cluster.Options, n), make([]*cluster.Client, n)
	for i := range dials {
		dials[i].Dial = cluster.DialTransport("tcp", &transport.Config{Peers: pins, Protocol: rpc.Protocol, Tickets: transport.NewTicketCache(1)})
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		for _, c := range all {
			if c != nil {
				c.Close()
			}
		}
		begin := time.Now()
		if err := each(n, func(i int) error {
			all[i] = cluster.New(server, dials[i])
			_, err := Work.Call(context.Background(), all[i], uint64(i))
			return err
		}); err != nil {
			return err
		}
		took := time.Since(begin)
		u := use()
		u.Took = took
		if err := json.NewEncoder(os.Stdout).Encode(u); err != nil {
			return err
		}
	}
	return nil
}

// each calls f for 0 to n-1, 64 at a time.
func each(n int, f func(int) error) error {
	next := make(chan int)
	errs := make([]error, 64)
	var wg sync.WaitGroup
	for worker := range errs {
		wg.Go(func() {
			for i := range next {
				errs[worker] = errors.Join(errs[worker], f(i))
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

// TestMany: many clients of one server, the clients in a process of their own, so that a process needs one file for each. They all come
// at once, and again, with tickets.
func TestMany(t *testing.T) {
	dir := t.TempDir()
	data, pins := keys()
	if err := os.WriteFile(dir+"/key", data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := run(t, "server", dir+"/key", dir+"/journal", "one")
	addr := s.line(t)
	session, err := transport.Dial(t.Context(), "tcp", addr, &transport.Config{Peers: pins, Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	observer := rpc.NewClient(session, rpc.Options{})
	defer observer.Close()
	usageOf := func() usage {
		u, err := Usage.Call(t.Context(), observer, "")
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	before := usageOf()
	p := run(t, "clients", dir+"/key", addr, strconv.Itoa(*clients))
	for _, kind := range []string{"full", "resumed"} {
		fmt.Fprintln(p.in, kind)
		var theirs usage
		if err := json.Unmarshal([]byte(p.line(t)), &theirs); err != nil {
			t.Fatal(err)
		}
		ours := usageOf()
		if got := ours.Sessions - before.Sessions; got != *clients {
			t.Errorf("the server has %d sessions of %d clients", got, *clients)
		}
		n := float64(*clients)
		t.Logf("%d clients, %s handshakes: each has an answer after %v, %.0f a second; "+
			"the server holds %.1f KiB and %.1f goroutines a session, the clients %.1f KiB and %.1f goroutines each",
			*clients, kind, theirs.Took.Round(time.Millisecond), n/theirs.Took.Seconds(),
			float64(ours.Bytes-before.Bytes)/n/1024, float64(ours.Goroutines-before.Goroutines)/n,
			float64(theirs.Bytes)/n/1024, float64(theirs.Goroutines)/n)
	}
	p.in.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}
