package rpc

import (
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
