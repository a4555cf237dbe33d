package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// relayed returns the outer ends of two TCP connections that are relayed, and what the relay will return.
func relayed(t *testing.T) (client, target *net.TCPConn, result <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (outer *net.TCPConn, inner net.Conn) {
		outer = dialTCP(t, l.Addr().String())
		if inner, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		return outer, inner
	}
	var r relay
	client, r.a = pair()
	target, r.b = pair()
	ended := make(chan error, 1)
	go func() { ended <- r.run(context.Background()) }()
	return client, target, ended
}

// TestRelayReset: a target that resets in the midst of an upload is not taken for one that has ended, though the system tells of a reset
// only once, whoever asks first: the one that writes, or the one that reads.
func TestRelayReset(t *testing.T) {
	for range 200 {
		client, target, result := relayed(t)
		var writing sync.WaitGroup
		var writeErr error
		writing.Go(func() {
			for piece := make([]byte, 10_000); writeErr == nil; {
				_, writeErr = client.Write(piece)
			}
		})
		io.ReadFull(target, make([]byte, 100_000))
		reset(target)
		_, readErr := io.ReadAll(client)
		client.Close()
		writing.Wait()
		if err := <-result; !errors.Is(errors.Join(readErr, writeErr), syscall.ECONNRESET) {
			t.Fatalf("read: %v; write: %v; the relay: %v", readErr, writeErr, err)
		}
	}
}

// TestRelayAnswersEarly: a target that answers, ends and closes, without having read all that was sent, is heard.
func TestRelayAnswersEarly(t *testing.T) {
	client, target, result := relayed(t)
	var writing sync.WaitGroup
	writing.Go(func() {
		for piece := make([]byte, 10_000); ; {
			if _, err := client.Write(piece); err != nil {
				return
			}
		}
	})
	io.ReadFull(target, make([]byte, 100_000))
	io.WriteString(target, "too large")
	target.CloseWrite()
	answer := make([]byte, len("too large"))
	if _, err := io.ReadFull(client, answer); err != nil || string(answer) != "too large" {
		t.Errorf("%q, %v", answer, err)
	}
	if n, err := client.Read(answer); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
	reset(target)
	writing.Wait() // it is told that nobody takes what it sends
	client.Close()
	if err := <-result; err == nil {
		t.Error("the relay knows of nothing")
	}
}

// TestRelayCut: when its context ends both ends are reset, and the cause is told.
func TestRelayCut(t *testing.T) {
	ctx, cut := context.WithCancelCause(t.Context())
	a, farA := net.Pipe()
	b, farB := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- (&relay{a: a, b: b}).run(ctx) }()
	want := errors.New("the cause")
	time.AfterFunc(time.Millisecond, func() { cut(want) })
	if err := <-ended; err != want {
		t.Error(err)
	}
	farA.Close()
	farB.Close()
}
