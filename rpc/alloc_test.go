//go:build !race

package rpc_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// What is allocated for a call, by both ends together, over the real transport: a promise. (Under the race detector pools
// forget what they were given.)
func TestAllocations(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	echo := rpc.Unary[[]byte, []byte]{Name: "echo"}
	echo.Handle(srv, func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
	text := rpc.Unary[string, string]{Name: "text"}
	text.Handle(srv, func(_ context.Context, s string) (string, error) { return s, nil })
	client, _, _ := sealed(t, srv)
	ctx, body := context.Background(), make([]byte, 16)
	var word any = "some text that is small"
	for _, c := range []struct {
		name string
		most float64
		f    func()
	}{
		{"bytes", 4, func() { echo.Call(ctx, client, body) }},
		{"text", 5, func() { text.Call(ctx, client, "some text that is small") }},
		{"text of an any", 5, func() { rpc.Call[string](ctx, client, "text", word) }},
		{"check an array", 0, func() { rpc.Check(hundredNils) }},
		{"check a map", 0, func() { rpc.Check(smallMap) }},
	} {
		c.f()
		if n := testing.AllocsPerRun(1000, c.f); n > c.most {
			t.Errorf("%s: %v allocations, promised %v", c.name, n, c.most)
		}
	}
}

var (
	hundredNils = append([]byte{0xdc, 0, 100}, bytes.Repeat([]byte{0xc0}, 100)...)
	smallMap    = []byte("\x82\xa1a\x01\xa1b\x81\xa1c\x02")
)
