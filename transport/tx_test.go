package transport

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pattern is the byte at a place of a stream.
func pattern(at int) byte { return byte(at * 7 / 3) }

func fill(b []byte, at int) []byte {
	for i := range b {
		b[i] = pattern(at + i)
	}
	return b
}

// WriteNow never waits: it takes what fits the window and the queue, and what it took arrives.
func TestWriteNowTakesWhatFits(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	sent := 0
	for chunk := make([]byte, 8<<10); ; {
		n := o.WriteNow(fill(chunk, sent))
		sent += n
		if n < len(chunk) {
			break // nobody reads
		}
	}
	if sent == 0 || sent > MaxStreamWindow {
		t.Fatal(sent)
	}
	more := make(chan error, 1)
	go func() { _, err := o.Write(fill(make([]byte, 100<<10), sent)); more <- err }() // waits in turn
	got := make([]byte, sent+100<<10)
	if _, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, fill(make([]byte, len(got)), 0)) {
		t.Fatal(err)
	}
	if err := <-more; err != nil {
		t.Fatal(err)
	}
	o.SetWriteDeadline(time.Now().Add(-time.Second))
	if n := o.WriteNow([]byte("x")); n != 0 {
		t.Error("after the deadline:", n)
	}
	o.SetWriteDeadline(time.Time{})
	if n := o.WriteNow([]byte("x")); n != 1 {
		t.Error(n)
	}
	o.Close()
	if n := o.WriteNow([]byte("x")); n != 0 {
		t.Error("after Close:", n)
	}
}

// Whoever writes, and however the key changes meanwhile, each stream's bytes arrive in their order.
func TestWritersOfAllKinds(t *testing.T) {
	cs, ss := sessions(t)
	for _, s := range []*Session{cs, ss} {
		s.conn.tx.mu.Lock()
		s.conn.tx.cipher.softRecords = 7
		s.conn.tx.mu.Unlock()
	}
	var wg sync.WaitGroup
	for i := range 8 {
		o, p := streams(t, cs, ss)
		if i%2 == 1 {
			o, p = p, o
		}
		const total = 2 << 20
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for sent := 0; sent < total; {
				b := fill(make([]byte, min(1+random.IntN(1<<uint(random.IntN(18))), total-sent)), sent)
				n := 0
				if random.IntN(2) == 0 {
					n = o.WriteNow(b)
				}
				if _, err := o.Write(b[n:]); err != nil {
					t.Error(err)
					return
				}
				sent += len(b)
			}
			o.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(p)
			if err != nil || len(got) != total || !bytes.Equal(got, fill(make([]byte, total), 0)) {
				t.Error(i, len(got), err)
			}
		})
	}
	wg.Wait()
}

// A connection that embeds a TCP connection has its own Write, which is not gone past.
type meteredConn struct {
	*net.TCPConn
	written atomic.Int64
}

func (c *meteredConn) Write(b []byte) (int, error) {
	c.written.Add(int64(len(b)))
	return c.TCPConn.Write(b)
}

func TestWritesPassWrappers(t *testing.T) {
	a, b := tcpPair(t)
	metered := &meteredConn{TCPConn: a.(*net.TCPConn)}
	client, server := configs()
	cs, ss := sessionsOver(t, metered, b, client, server)
	o, p := streams(t, cs, ss)
	before := metered.written.Load()
	for range 100 {
		if _, err := o.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(p, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if n := metered.written.Load() - before; n < 100*100 {
		t.Errorf("%d bytes passed", n)
	}
}
