package rpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// TestConnEnds: what is not all never ends as if it were, whoever ends it and how. Each side writes a word first.
func TestConnEnds(t *testing.T) {
	type ends struct {
		client *rpc.Client
		srv    *rpc.Server
		ours   net.Conn // the caller's
		theirs net.Conn
		done   chan error // what the handler returns
	}
	reset := func(c net.Conn) { c.(interface{ Reset() error }).Reset() }
	half := func(c net.Conn) { c.(interface{ CloseWrite() error }).CloseWrite() }
	for name, c := range map[string]struct {
		do    func(e ends)
		hears func(e ends) net.Conn // who reads how it ends
		eof   bool
	}{
		"caller closes":        {func(e ends) { e.ours.Close() }, func(e ends) net.Conn { return e.theirs }, true},
		"caller half-closes":   {func(e ends) { half(e.ours) }, func(e ends) net.Conn { return e.theirs }, true},
		"caller resets":        {func(e ends) { reset(e.ours) }, func(e ends) net.Conn { return e.theirs }, false},
		"ended, then reset":    {func(e ends) { half(e.ours); reset(e.ours) }, func(e ends) net.Conn { return e.theirs }, true},
		"client closes":        {func(e ends) { e.client.Close() }, func(e ends) net.Conn { return e.theirs }, false},
		"handler returns":      {func(e ends) { e.done <- nil }, func(e ends) net.Conn { return e.ours }, true},
		"handler fails":        {func(e ends) { e.done <- errors.New("x") }, func(e ends) net.Conn { return e.ours }, false},
		"handler resets":       {func(e ends) { reset(e.theirs) }, func(e ends) net.Conn { return e.ours }, false},
		"server closes":        {func(e ends) { e.srv.Close() }, func(e ends) net.Conn { return e.ours }, false},
		"handler half-closes":  {func(e ends) { half(e.theirs) }, func(e ends) net.Conn { return e.ours }, true},
		"caller closes, twice": {func(e ends) { e.ours.Close(); reset(e.ours) }, func(e ends) net.Conn { return e.theirs }, true},
	} {
		for _, session := range []string{"pipe", "sealed"} {
			t.Run(name+"/"+session, func(t *testing.T) {
				e := ends{srv: rpc.NewServer(rpc.Options{}), done: make(chan error, 2)}
				took := make(chan net.Conn, 1)
				rpc.HandleConn(e.srv, "m", func(_ context.Context, conn net.Conn) error {
					io.WriteString(conn, "word")
					took <- conn
					return <-e.done
				})
				if session == "sealed" {
					e.client, _, _ = sealed(t, e.srv)
				} else {
					near, far := rpc.Pipe()
					served := make(chan error, 1)
					go func() { served <- e.srv.ServeSession(context.Background(), far) }()
					e.client = rpc.NewClient(near, rpc.Options{})
					defer func() { e.client.Close(); <-served }()
				}
				var err error
				if e.ours, err = e.client.OpenConn(t.Context(), "m"); err != nil {
					t.Fatal(err)
				}
				defer e.ours.Close()
				e.theirs = <-took
				defer func() { e.done <- nil }()
				io.WriteString(e.ours, "word")
				from := c.hears(e)
				word := make([]byte, 4)
				if _, err := io.ReadFull(from, word); err != nil || string(word) != "word" {
					t.Fatal(string(word), err)
				}
				c.do(e)
				if n, err := from.Read(word); n != 0 || (err == io.EOF) != c.eof {
					t.Errorf("%d, %v", n, err)
				}
			})
		}
	}
}
