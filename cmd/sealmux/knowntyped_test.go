//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// TestKnownTypedAhead: what is typed before the question, when nobody could have meant it, is no answer.
func TestKnownTypedAhead(t *testing.T) {
	_, addr, _ := newServer(t)
	env, file := knownHome(t)
	behind, open := knownGate(t, addr)
	p := sit(t, env, "send", behind, "hello")
	p.types("yes", keyEnter)
	open()
	p.sees(knownQuestion)
	p.types("no", keyEnter)
	p.sees("you did not accept the key")
	p.leaves(exitIdentity)
	if lines := knownLines(t, file); lines != "" {
		t.Errorf("remembered %q", lines)
	}
}

// knownGate leads to an address once it is open.
func knownGate(t *testing.T, addr string) (behind string, open func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	open = sync.OnceFunc(func() { close(opened) })
	var work sync.WaitGroup
	work.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer near.Close()
				<-opened
				far, err := net.Dial("tcp", addr)
				if err != nil {
					return
				}
				defer far.Close()
				work.Go(func() { io.Copy(far, near); far.Close() })
				io.Copy(near, far)
			})
		}
	})
	t.Cleanup(func() {
		open()
		l.Close()
		work.Wait()
	})
	return l.Addr().String(), open
}
