package main

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// BenchmarkForward compares a plain TCP proxy with forward and serve, which are two of them and a session: bulk is 16 MiB from the
// target, round is a byte there and back.
func BenchmarkForward(b *testing.B) {
	const bulk = 16 << 20
	piece := make([]byte, 64<<10)
	target := targetOf(b, func(c net.Conn) {
		c.SetDeadline(time.Time{})
		asked := make([]byte, 1)
		for {
			if _, err := io.ReadFull(c, asked); err != nil {
				return
			}
			if asked[0] == 'r' {
				c.Write(asked)
				continue
			}
			for n := 0; n < bulk; n += len(piece) {
				c.Write(piece)
			}
		}
	})
	for _, way := range []struct {
		name string
		open func(b *testing.B) string
	}{
		{"direct", func(*testing.B) string { return target }},
		{"proxy", func(b *testing.B) string { return plainProxy(b, target) }},
		{"forward", func(b *testing.B) string {
			addr, server, client := forwarding(b, target)
			b.Cleanup(func() {
				client.ends(b)
				server.ends(b)
			})
			return addr
		}},
	} {
		b.Run("bulk/"+way.name, func(b *testing.B) {
			c := dialTCP(b, way.open(b))
			b.SetBytes(bulk)
			for b.Loop() {
				io.WriteString(c, "b")
				if n, err := io.CopyN(io.Discard, c, bulk); err != nil {
					b.Fatal(n, err)
				}
			}
			c.Close()
		})
		b.Run("round/"+way.name, func(b *testing.B) {
			c := dialTCP(b, way.open(b))
			answer := make([]byte, 1)
			for b.Loop() {
				io.WriteString(c, "r")
				if _, err := io.ReadFull(c, answer); err != nil {
					b.Fatal(err)
				}
			}
			c.Close()
		})
	}
}

// plainProxy relays to target without a session.
func plainProxy(b *testing.B, target string) string {
	return targetOf(b, func(c net.Conn) {
		there, err := net.Dial("tcp", target)
		if err != nil {
			b.Error(err)
			return
		}
		c.SetDeadline(time.Time{})
		if err := (&relay{a: c, b: there}).run(context.Background()); err != nil {
			b.Error(err)
		}
	})
}
