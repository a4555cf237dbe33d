package faultnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFaults: each kind does to a stream what it says, in memory and through a proxy, however the bytes are written.
func TestFaults(t *testing.T) {
	sent := []byte("0123456789abcdefghij")
	for _, c := range []struct {
		fault Fault
		want  string
		err   error
	}{
		{Fault{At: 3, Kind: Flip, Len: 0}, "0122456789abcdefghij", nil},
		{Fault{At: 3, Kind: Drop, Len: 4}, "012789abcdefghij", nil},
		{Fault{At: 0, Kind: Duplicate, Len: 2}, "010123456789abcdefghij", nil},
		{Fault{At: 10, Kind: Reorder, Len: 3}, "0123456789defabcghij", nil},
		{Fault{At: 18, Kind: Reorder, Len: 3}, "0123456789abcdefghij", nil}, // too late: it comes at the end
		{Fault{At: 5, Kind: Insert, Len: 2}, "01234\xa5\xa556789abcdefghij", nil},
		{Fault{At: 5, Kind: Stall, For: time.Millisecond}, "0123456789abcdefghij", nil},
		{Fault{At: 5, Kind: Truncate}, "01234", nil},
		{Fault{At: 20, Kind: Cut}, "0123456789abcdefghij", nil}, // there is no byte behind
	} {
		for _, size := range []int{1, 7, 20} {
			up := Line{Faults: []Fault{c.fault}}
			a, b := Pair(up, Line{})
			if got := through(t, a, b, sent, size); got != c.want {
				t.Errorf("%v in writes of %d: %q, not %q", c.fault, size, got, c.want)
			}
			if got := throughProxy(t, up, sent, size); got != c.want {
				t.Errorf("%v through a proxy in writes of %d: %q, not %q", c.fault, size, got, c.want)
			}
		}
	}
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// through is what comes out of b when sent goes into a.
func through(t *testing.T, a, b halfCloser, sent []byte, size int) string {
	t.Helper()
	defer a.Close()
	defer b.Close()
	for p := range slicesOf(sent, size) {
		if _, err := a.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	a.CloseWrite()
	got, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func slicesOf(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

func throughProxy(t *testing.T, up Line, sent []byte, size int) string {
	t.Helper()
	l, p := target(t, func(int) (Line, Line) { return up, Line{} })
	a, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return through(t, a.(*net.TCPConn), b.(*net.TCPConn), sent, size)
}

// target is a listener, and a proxy in front of it.
func target(t *testing.T, plan func(int) (up, down Line)) (net.Listener, *Proxy) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewProxy(l.Addr().String(), plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		l.Close()
	})
	return l, p
}

// TestCut: both ends of both directions see a reset, in memory and through a proxy.
func TestCut(t *testing.T) {
	cutAt := Line{Faults: []Fault{{At: 4, Kind: Cut}}}
	a, b := Pair(cutAt, Line{})
	if n, err := a.Write([]byte("abcdef")); n != 6 || !errors.Is(err, syscall.ECONNRESET) {
		t.Error(n, err)
	}
	if _, err := b.Read(make([]byte, 9)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if s := a.Sent(); s.Faults != 1 || s.Bytes != 6 {
		t.Error(s)
	}
	l, p := target(t, func(int) (Line, Line) { return cutAt, Line{} })
	near, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near.Write([]byte("abcdef"))
	for _, c := range []net.Conn{near, far} {
		if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	p.Close()
	if up, _ := p.Stats(); up.Bytes != 6 || up.Faults != 1 {
		t.Error(up)
	}
}

// TestTime: rate, delay and stalls take the time they say, and deadlines end what waits.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pair(Line{Rate: 1000, Delay: time.Second, Window: 500, Faults: []Fault{{At: 1000, Kind: Stall, For: time.Minute}}}, Line{})
		begin := time.Now()
		after := func(want time.Duration) {
			t.Helper()
			if got := time.Since(begin).Round(time.Millisecond); got != want {
				t.Errorf("after %v, not %v", got, want)
			}
		}
		go a.Write(make([]byte, 1100))
		b.SetReadDeadline(begin.Add(time.Millisecond))
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		b.SetReadDeadline(time.Time{})
		io.ReadFull(b, make([]byte, 500))
		after(1500 * time.Millisecond)
		io.ReadFull(b, make([]byte, 500)) // they were written, and left, once the first were taken
		after(3 * time.Second)
		io.ReadFull(b, make([]byte, 100))
		if time.Since(begin) < time.Minute {
			t.Error("it did not stall")
		}
		a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 1000)); n != 500 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(n, err)
		}
		a.Close()
		b.Close()
	})
}

// TestPulledCable: after a stall for ever the writer fills the window and the reader waits, until each closes.
func TestPulledCable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pair(Line{Faults: []Fault{{At: 1, Kind: Stall}}}, Line{})
		a.SetWriteDeadline(time.Now().Add(time.Hour))
		if n, err := a.Write(make([]byte, 1<<20)); n != 256<<10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(n, err)
		}
		a.Close()
		if n, _ := b.Read(make([]byte, 9)); n != 1 {
			t.Error(n)
		}
		done := make(chan error, 1)
		go func() { _, err := b.Read(make([]byte, 9)); done <- err }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
		b.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestNetwork: names are taken, dialled, and free again.
func TestNetwork(t *testing.T) {
	var n Network
	ctx := context.Background()
	if _, err := n.Dial(ctx, "me", "you", Line{}, Line{}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	l, err := n.Listen("you")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("you"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		c, err := l.Accept()
		if err != nil || c.RemoteAddr().String() != "me" {
			t.Error(c, err)
			return
		}
		io.Copy(c, c)
		c.Close()
	})
	c, err := n.Dial(ctx, "me", "you", Line{Chunk: 3}, Line{})
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("hello"))
	c.CloseWrite()
	if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	c.Close()
	work.Wait()
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := n.Dial(ctx, "me", "you", Line{}, Line{}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

// TestRandom: a seed says all; every kind is drawn; and whatever is drawn, bytes are only lost or changed by a fault.
func TestRandom(t *testing.T) {
	draw := func(seed uint64) Line { return Random(rand.New(rand.NewPCG(seed, 0)), 4, 1000) }
	seen := make(map[Kind]bool)
	for seed := range uint64(300) {
		one, two := draw(seed), draw(seed)
		if !reflect.DeepEqual(one, two) {
			t.Fatalf("seed %d: %v and %v", seed, one, two)
		}
		for _, f := range one.Faults {
			seen[f.Kind] = true
		}
		synctest.Test(t, func(t *testing.T) {
			a, b := Pair(Line{Rate: one.Rate, Delay: one.Delay, Chunk: one.Chunk}, Line{})
			sent := make([]byte, 3000)
			for i := range sent {
				sent[i] = byte(i)
			}
			go func() {
				a.Write(sent)
				a.Close()
			}()
			if got, err := io.ReadAll(b); !bytes.Equal(got, sent) || err != nil {
				t.Errorf("seed %d: %d bytes of %d, %v", seed, len(got), len(sent), err)
			}
			b.Close()
		})
	}
	if len(seen) != int(kinds) {
		t.Error(seen)
	}
}
