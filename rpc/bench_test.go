package rpc

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/hashicorp/yamux"
)

// BenchmarkCall echoes 16 bytes over yamux on a loopback TCP connection, without encryption.
func BenchmarkCall(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	cs, _ := yamux.Client(conn, nil)
	ss, _ := yamux.Server(peer, nil)
	srv := NewServer(Options{})
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeSession(bg, yamuxSession{ss}) }()
	c := NewClient(yamuxSession{cs}, Options{})
	data := "0123456789abcdef"
	b.Run("callers=1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Call[string](bg, c, "echo", data); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, n := range []int{64, 512} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(n)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := Call[string](bg, c, "echo", data); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
	c.Close()
	srv.Close()
	<-done
}

// BenchmarkCodec calls with a struct of seven fields there and back, without codec and in each.
func BenchmarkCodec(b *testing.B) {
	type order struct {
		ID       int64
		Customer string
		Lines    []pair
		Notes    map[string]string
		Price    float64
		Open     bool
		At       int64
	}
	v := order{7, "somebody", []pair{{1, "one"}, {2, "two"}, {3, "three"}}, map[string]string{"a": "b", "c": "d"}, 9.5, true, 1 << 40}
	for name, codec := range map[string]Codec{"none": nil, "json": JSON, "gob": Gob} {
		b.Run("codec="+name, func(b *testing.B) {
			m := Unary[order, order]{Name: "m", Codec: codec}
			srv := NewServer(Options{})
			m.Handle(srv, func(_ context.Context, v order) (order, error) { return v, nil })
			c, _ := start(b, srv, Options{})
			body, err := encodeBy(codec, nil, &v)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Call(bg, c, v); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(body)), "bytes/message")
		})
	}
}
