package cluster

import (
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// BenchmarkCall compares a call on a Client with one on the session beneath.
func BenchmarkCall(b *testing.B) {
	f := new(fleet)
	for _, addr := range []string{"a", "b"} {
		f.start(b, addr, rpc.Options{}, named(addr))
	}
	c := f.client(b, Static("a"), Options{StallAfter: -1})
	session, err := f.dial(bg, Endpoint{Addr: "a"})
	if err != nil {
		b.Fatal(err)
	}
	one := rpc.NewClient(session, rpc.Options{})
	defer one.Close()
	for name, caller := range map[string]rpc.Caller{"cluster": c, "session": one} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := where.Call(bg, caller, ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
