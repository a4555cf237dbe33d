//go:build unix

package hostile

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// firstFlight is what a client sends first, for a flood to repeat: it costs the server an RSA operation.
func firstFlight(b *testing.B) []byte {
	near, far := net.Pipe()
	defer near.Close()
	var hello bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.CopyN(&hello, near, 8) // SPEC.md, H1: the last two bytes of the header are the length of the body
		io.CopyN(&hello, near, int64(hello.Bytes()[6])<<8|int64(hello.Bytes()[7]))
		near.Close()
	}()
	if _, err := transport.Client(b.Context(), far, clientConfig()); err == nil {
		b.Fatal("a session with nobody")
	}
	<-done
	return hello.Bytes()
}

// A flood is one thing that strangers do, over and over, each time from a source.
type flood struct {
	name    string
	sources int // 0: no flood
	strange func(source net.IP, addr string, hello []byte) error
}

var floods = []flood{
	{"none", 0, nil},
	{"stalls", 1 << 20, func(source net.IP, addr string, _ []byte) error {
		c, err := from(source, addr)
		if err != nil {
			return err
		}
		time.AfterFunc(200*time.Millisecond, func() { c.Close() }) // about 1,000 at once
		time.Sleep(time.Millisecond)
		return nil
	}},
	{"bogus from one source", 1, replayHello},
	{"bogus from everywhere", 1 << 20, replayHello},
	{"real from everywhere", 1 << 20, func(source net.IP, addr string, _ []byte) error {
		c, err := from(source, addr)
		if err != nil {
			return err
		}
		sess, err := transport.Client(context.Background(), c, clientConfig())
		if err == nil {
			sess.Close()
		}
		return err
	}},
}

func replayHello(source net.IP, addr string, hello []byte) error {
	c, err := from(source, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.Write(hello)
	_, err = io.ReadFull(c, make([]byte, 64)) // wait for the ServerHello, so that the operation was made
	return err
}

// BenchmarkFlood measures calls on a session, and handshakes of a friend, while strangers flood the listener. It reports
// microseconds, and what the flood achieved.
func BenchmarkFlood(b *testing.B) {
	hello := firstFlight(b)
	for _, f := range floods {
		b.Run(f.name, func(b *testing.B) { benchmarkFlood(b, f, hello) })
	}
}

func benchmarkFlood(b *testing.B, f flood, hello []byte) {
	cfg := serverConfig()
	p := serve(b, cfg, rpc.NewServer(rpc.Options{}))
	client, err := dial(b.Context(), p.addr, clientConfig())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	var strangers, friends sync.WaitGroup
	var done, refused atomic.Int64
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	if f.sources > 0 {
		for range 8 {
			strangers.Go(func() {
				for !stopped() {
					n := rand.IntN(f.sources)
					if err := f.strange(net.IPv4(127, 1+byte(n>>16), byte(n>>8), 1+byte(n%250)), p.addr, hello); err != nil {
						refused.Add(1)
						time.Sleep(time.Millisecond)
					} else {
						done.Add(1)
					}
				}
			})
		}
	}
	var shakes []time.Duration
	friends.Go(func() {
		for !stopped() {
			begin := time.Now()
			sess, err := transport.Dial(context.Background(), "tcp", p.addr, clientConfig())
			if err != nil {
				b.Error("a friend was kept out:", err)
				return
			}
			shakes = append(shakes, time.Since(begin))
			sess.Close()
			time.Sleep(20 * time.Millisecond)
		}
	})
	var calls []time.Duration
	begin := time.Now()
	for b.Loop() {
		start := time.Now()
		if _, err := rpc.Call[string](b.Context(), client, "echo", "data"); err != nil {
			b.Fatal(err)
		}
		calls = append(calls, time.Since(start))
		time.Sleep(100 * time.Microsecond)
	}
	took := time.Since(begin).Seconds()
	close(stop)
	strangers.Wait()
	friends.Wait()
	micros := func(d []time.Duration, part float64, name string) {
		if len(d) == 0 {
			return // it was too short for one
		}
		slices.Sort(d)
		b.ReportMetric(float64(d[int(float64(len(d)-1)*part)].Microseconds()), name)
	}
	micros(calls, 0.5, "call-p50")
	micros(calls, 0.99, "call-p99")
	micros(shakes, 0.5, "friend-p50")
	micros(shakes, 0.99, "friend-p99")
	b.ReportMetric(float64(done.Load())/took, "strangers/s")
	b.ReportMetric(float64(refused.Load())/took, "refused/s")
}
