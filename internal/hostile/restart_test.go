//go:build unix

package hostile

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// A fleet is servers that come and go, and a journal of what they ran.
type fleet struct {
	mu      sync.Mutex // protects all below
	addrs   []string
	journal map[uint64]int
}

func (f *fleet) begin(id uint64) {
	f.mu.Lock()
	f.journal[id]++
	f.mu.Unlock()
}

// swap puts an address in place of another.
func (f *fleet) swap(slot int, addr string) {
	f.mu.Lock()
	f.addrs[slot] = addr
	f.mu.Unlock()
}

func (f *fleet) addr(n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addrs[n%len(f.addrs)]
}

// A failover is a caller that goes to another server when a call never ran, and repeats nothing else.
type failover struct {
	fleet *fleet
	cfg   *transport.Config

	mu     sync.Mutex // protects all below; held while dialling, so that callers share what comes of it
	client *rpc.Client
	dials  int
	old    []*rpc.Client
}

// pick returns a client, a new one if broken is the one there is.
func (f *failover) pick(ctx context.Context, broken *rpc.Client) (*rpc.Client, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.client == broken {
		f.dials++
		client, err := dial(ctx, f.fleet.addr(f.dials), f.cfg)
		if err == nil {
			f.client = client
			f.old = append(f.old, client)
		} else if ctx.Err() != nil {
			return nil, err
		}
	}
	return f.client, nil
}

func (f *failover) call(ctx context.Context, id uint64) error {
	client, err := f.pick(ctx, nil)
	for err == nil {
		_, err = rpc.Call[uint64](ctx, client, "work", id)
		if o := rpc.OutcomeOf(err); o != rpc.NotSent && o != rpc.NotExecuted {
			return err
		}
		client, err = f.pick(ctx, client)
	}
	return err
}

func (f *failover) close() {
	for _, c := range f.old {
		c.Close()
	}
}

// TestRollingRestart: callers go on while the servers are drained and replaced, one after the other. Not a call fails, none runs
// twice.
func TestRollingRestart(t *testing.T) {
	const restarts, callers = 50, 16
	f := &fleet{addrs: make([]string, 2), journal: make(map[uint64]int)}
	keys := transport.NewTicketKeys() // as servers of one fleet share them
	start := func(slot int) *place {
		srv := rpc.NewServer(rpc.Options{})
		rpc.Handle(srv, "work", func(_ context.Context, id uint64) (uint64, error) {
			f.begin(id)
			return id, nil
		})
		cfg := serverConfig()
		cfg.TicketKeys = keys
		p := serve(t, cfg, srv)
		f.swap(slot, p.addr)
		return p
	}
	servers := []*place{start(0), start(1)}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	caller := &failover{fleet: f, cfg: clientConfig()}
	caller.cfg.Tickets = transport.NewTicketCache(4)
	defer caller.close()
	var ids, failed atomic.Uint64
	var callsRunning sync.WaitGroup
	stop := make(chan struct{})
	for range callers {
		callsRunning.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := caller.call(ctx, ids.Add(1)); err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range restarts {
		made := ids.Load() + 100
		for ids.Load() < made && failed.Load() == 0 { // there is load between two restarts
			time.Sleep(time.Millisecond)
		}
		old := servers[i%2]
		servers[i%2] = start(i % 2)
		if err := old.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-old.served; !errors.Is(err, rpc.ErrServerClosed) {
			t.Error(err)
		}
		old.served <- nil // for the cleanup
	}
	close(stop)
	callsRunning.Wait()
	twice := 0
	for id := range ids.Load() {
		if n := f.journal[id+1]; n != 1 {
			twice++
		}
	}
	t.Logf("%d restarts, %d calls on %d sessions: %d failed, %d ran not exactly once", restarts, ids.Load(), caller.dials, failed.Load(), twice)
	if twice > 0 || caller.dials < restarts/2 {
		t.Error("calls were lost or repeated, or no session was")
	}
}
