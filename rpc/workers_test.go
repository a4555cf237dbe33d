package rpc_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// Handlers that wait for each other all run, however their calls came: none is behind another in one goroutine.
func TestHandlersWaitForEachOther(t *testing.T) {
	const n = 200
	srv := rpc.NewServer(rpc.Options{})
	var all sync.WaitGroup
	all.Add(n)
	rpc.Handle(srv, "meet", func(_ context.Context, i int) (int, error) {
		all.Done()
		all.Wait()
		return i, nil
	})
	client, _, _ := sealed(t, srv)
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			if got, err := rpc.Call[int](context.Background(), client, "meet", i); err != nil || got != i {
				t.Error(got, err)
			}
		})
	}
	calls.Wait()
}

// A reply that is there does not wait for a handler that takes long.
func TestSlowHandlerHoldsNoReply(t *testing.T) {
	const n = 100
	srv := rpc.NewServer(rpc.Options{})
	quickDone := make(chan struct{})
	rpc.Handle(srv, "quick", func(_ context.Context, i int) (int, error) { return i, nil })
	rpc.Handle(srv, "slow", func(_ context.Context, i int) (int, error) {
		<-quickDone // which the caller closes once it has all quick replies
		return i, nil
	})
	client, _, _ := sealed(t, srv)
	var quick, slow sync.WaitGroup
	for i := range n {
		quick.Go(func() {
			if _, err := rpc.Call[int](context.Background(), client, "quick", i); err != nil {
				t.Error(err)
			}
		})
		slow.Go(func() {
			if _, err := rpc.Call[int](context.Background(), client, "slow", i); err != nil {
				t.Error(err)
			}
		})
	}
	quick.Wait()
	close(quickDone)
	slow.Wait()
}

// A call's context is one as package context makes them: with its deadline, its end, and children that end with it.
func TestCallContext(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	type seen struct {
		err, cause error
		child      error
		left       time.Duration
	}
	saw, started := make(chan seen, 1), make(chan struct{}, 1)
	rpc.Handle(srv, "wait", func(ctx context.Context, _ string) (string, error) {
		var s seen
		deadline, _ := ctx.Deadline()
		s.left = time.Until(deadline)
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		after := make(chan struct{})
		context.AfterFunc(ctx, func() { close(after) })
		stopped := context.AfterFunc(ctx, func() { t.Error("it was stopped") })
		if !stopped() || stopped() {
			t.Error("stop does not say whether it did")
		}
		started <- struct{}{}
		<-child.Done()
		<-ctx.Done()
		<-after
		s.err, s.cause, s.child = ctx.Err(), context.Cause(ctx), child.Err()
		saw <- s
		return "", nil
	})
	client, _, _ := sealed(t, srv)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	go func() { <-started; cancel() }()
	rpc.Call[string](ctx, client, "wait", "")
	if s := <-saw; s.err != context.Canceled || s.cause != s.err || s.child != s.err || s.left < time.Minute {
		t.Errorf("%+v", s)
	}
}

// A stream that declares a message and sends none of it costs a read buffer, at most.
func TestDeclaredCostsNothing(t *testing.T) {
	client, session, _ := sealed(t, rpc.NewServer(rpc.Options{}))
	if _, err := rpc.Call[string](context.Background(), client, "echo", ""); err != nil {
		t.Fatal(err)
	}
	before := heap()
	const streams = 500
	for range streams {
		conn, err := session.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte{0, 1, 0, 0, 0x94}) // 64 KiB, it says
	}
	if _, err := rpc.Call[string](context.Background(), client, "echo", ""); err != nil { // behind it all
		t.Fatal(err)
	}
	// About 36 KiB without what is declared, which would come on top.
	if grown := heap() - before; grown > streams*56<<10 {
		t.Errorf("%d bytes a stream, both ends", grown/streams)
	}
}

func heap() int64 {
	for range 3 { // the second and third empty pools, which keep more under the race detector, as chance has it
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A stream whose refusals nobody reads holds up no other: they wait in a goroutine of their own.
func TestUnreadRefusalsHoldNobody(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{MaxCalls: 1, MaxQueue: -1})
	running, release := make(chan struct{}), make(chan struct{})
	rpc.Handle(srv, "m", func(context.Context, any) (any, error) {
		close(running)
		<-release
		return nil, nil
	})
	client, session, _ := sealed(t, srv)
	var flood sync.WaitGroup
	flood.Go(func() {
		conn, err := session.Open(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		var b []byte
		for id := range uint16(30_000) {
			id += 256 // so that it takes two bytes
			b = append(b, 0, 0, 0, 9, 0x95, 1, 0xcd, byte(id>>8), byte(id), 0xa1, 'm', 0, 0xc0)
		}
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		conn.Write(b) // as much as the windows take
		<-release
	})
	<-running
	for range 100 {
		_, err := rpc.Call[string](context.Background(), client, "m", "")
		if rpc.CodeOf(err) != rpc.ResourceExhausted {
			t.Fatal(err)
		}
	}
	close(release)
	flood.Wait()
}
