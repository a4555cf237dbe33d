package main

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// A tally counts what really happened.
type tally struct{ connections, streams, calls, bytes, mismatches atomic.Int64 }

// compare counts what went there and what came back, and whether that is what it must be.
func (t *tally) compare(sent, back, want []byte) {
	t.bytes.Add(int64(len(sent) + len(back)))
	if !bytes.Equal(back, want) {
		t.mismatches.Add(1)
	}
}

// A countingListener counts the TCP connections that come in.
type countingListener struct {
	net.Listener
	count *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.count.Add(1)
	}
	return conn, err
}

// inParallel runs n of f at once and returns their errors.
func inParallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}
