// Command cluster runs an etcd, three servers that announce themselves there, and a client of the service under load. It restarts
// each server in turn, and tells what became of the calls: none fails.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/rpc/cluster/etcd"
	"github.com/sealmux/sealmux/transport"
)

// Where is answered with the server's name.
var Where = rpc.Unary[string, string]{Name: "where"}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := run(ctx, os.Stdout); err != nil {
		log.Fatal("cluster: ", err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	discovery, stop, err := startEtcd()
	if err != nil {
		return err
	}
	defer stop()
	registry := etcd.New(discovery, "services/where", etcd.Options{})
	key, err := transport.GenerateKey(0) // the service's; with keys of their own, servers announce Pins
	if err != nil {
		return err
	}
	servers := make([]*server, 3)
	for i := range servers {
		if servers[i], err = start(ctx, registry, key, fmt.Sprintf("server %d", i+1)); err != nil {
			return err
		}
		defer func() { servers[i].stop(ctx) }()
	}

	client := cluster.New(registry, cluster.Options{Dial: cluster.DialTransport("tcp", &transport.Config{
		Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol, Tickets: transport.NewTicketCache(1)})})
	defer client.Close()
	var calls, failed atomic.Uint64
	load, enough := context.WithCancel(ctx)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer enough()
	for range 8 {
		callers.Go(func() {
			for load.Err() == nil {
				if _, err := Where.Call(ctx, client, ""); err != nil {
					failed.Add(1)
					log.Print("cluster: a call has failed: ", err)
				}
				calls.Add(1)
			}
		})
	}

	for i, old := range servers {
		old.await(ctx, 100)
		if err := old.stop(ctx); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s was drained after %d calls\n", old.name, old.calls.Load())
		next, err := start(ctx, registry, key, old.name+", restarted")
		if err != nil {
			return err
		}
		servers[i] = next
	}
	for _, s := range servers {
		s.await(ctx, 100)
	}
	enough()
	callers.Wait()
	for _, s := range servers {
		fmt.Fprintf(out, "%s had %d calls\n", s.name, s.calls.Load())
	}
	fmt.Fprintf(out, "calls %d, failed %d, retried %d\n", calls.Load(), failed.Load(), client.Snapshot().Retries)
	if failed.Load() > 0 {
		return errors.New("calls have failed")
	}
	return ctx.Err()
}
