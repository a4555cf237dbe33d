package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

var (
	modelRuns = flag.Int("model.runs", 20, "how many random runs TestModel makes")
	modelSeed = flag.Uint64("model.seed", 1, "the first run's seed")
)

// A journal is what the handlers did, by call.
type journal struct {
	mu  sync.Mutex // protects all below
	ran map[int]int
}

func (j *journal) add(id int) {
	j.mu.Lock()
	j.ran[id]++
	j.mu.Unlock()
}

// A claim is what a caller was told.
type claim struct {
	id         int
	idempotent bool
	err        error
}

// check compares a claim with what was done.
func (c claim) check(ran int) error {
	outcome := rpc.OutcomeOf(c.err)
	switch {
	case !c.idempotent && ran > 1:
		return fmt.Errorf("ran %d times, and must not be repeated: %v", ran, c.err)
	case ran > 0 && (outcome == rpc.NotSent || outcome == rpc.NotExecuted):
		return fmt.Errorf("ran %d times, and %w", ran, c.err)
	case ran == 0 && outcome == rpc.Executed:
		return fmt.Errorf("never ran, and %w", c.err)
	}
	return nil
}

// TestModel: random calls to servers that are drained, killed, frozen and overloaded at random, in random order. Nothing runs twice that
// must not, and what each caller is told of his call agrees with what the handlers did.
func TestModel(t *testing.T) {
	var mu sync.Mutex
	outcomes := make(map[string]int)
	for i := range *modelRuns {
		seed := *modelSeed + uint64(i)
		bubble(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := newModel(t, seed)
			m.run(t)
			mu.Lock()
			defer mu.Unlock()
			for _, c := range m.claims {
				kind := "called once: "
				if c.idempotent {
					kind = "idempotent: "
				}
				outcomes[fmt.Sprint(kind, rpc.OutcomeOf(c.err), ", well: ", c.err == nil)]++
			}
		})
	}
	t.Log(outcomes)
	for _, kind := range []string{"called once: ", "idempotent: "} {
		for _, outcome := range []string{"executed, well: true", "executed, well: false", "unknown, well: false", "not sent, well: false"} {
			if outcomes[kind+outcome] == 0 && *modelRuns >= 20 {
				t.Errorf("no call was %s%s: the model does not reach far enough", kind, outcome)
			}
		}
	}
}

// A model is one random run.
type model struct {
	fleet   fleet
	journal journal
	c       *Client
	list    *List

	mu     sync.Mutex // protects all below
	rng    *rand.Rand
	claims []claim
}

// Methods besides those of one number: on streams of their own.
var (
	modelLarge  = rpc.Unary[[]byte, int]{Name: "large"}
	modelStream = rpc.ServerStream[int, int]{Name: "stream"}
)

var modelAddrs = []string{"a", "b", "c", "d"}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{journal: journal{ran: make(map[int]int)}, rng: rand.New(rand.NewPCG(seed, 0))}
	balancer := []Balancer{LeastLoaded(), RoundRobin(), ConsistentHash()}[m.n(3)]
	m.list = Static(modelAddrs...)
	m.c = m.fleet.client(t, m.list, Options{Balancer: balancer, Eager: m.n(2) == 0, Policy: m.policy, Subset: m.n(2) * 3,
		Outlier: Outlier{BaseTime: time.Second}, StallAfter: 500 * time.Millisecond, Backoff: Backoff{Base: 100 * time.Millisecond, Max: time.Second}})
	return m
}

func (m *model) policy(method string) Policy {
	switch method {
	case "read":
		return Policy{Idempotent: true}
	case "hedged":
		return Policy{Idempotent: true, HedgeAfter: 100 * time.Millisecond, MaxHedges: 2}
	case "fast":
		return Policy{FailFast: true}
	}
	return Policy{}
}

// n draws a number below max.
func (m *model) n(max int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(max)
}

// start starts a server, with little room in one of three.
func (m *model) start(t *testing.T, addr string) {
	opts := rpc.Options{}
	if m.n(3) == 0 {
		opts.MaxCalls, opts.MaxQueue = 2, -1
	}
	m.fleet.start(t, addr, opts, func(s *rpc.Server) {
		for _, name := range []string{"write", "read", "hedged", "fast"} {
			rpc.Handle(s, name, m.handle)
		}
		modelLarge.Handle(s, func(ctx context.Context, b []byte) (int, error) {
			return m.handle(ctx, int(binary.BigEndian.Uint64(b)))
		})
		modelStream.Handle(s, func(ctx context.Context, id int, send func(int) error) error {
			for range m.n(3) {
				if err := send(id); err != nil {
					m.journal.add(id)
					return err
				}
			}
			_, err := m.handle(ctx, id)
			return err
		})
	})
}

// handle takes some time and answers, well or not.
func (m *model) handle(ctx context.Context, id int) (int, error) {
	m.journal.add(id)
	switch m.n(4) {
	case 0:
		sleep(ctx, time.Duration(m.n(3000))*time.Millisecond)
	case 1:
		time.Sleep(time.Duration(m.n(300)) * time.Millisecond)
	}
	switch m.n(8) {
	case 0:
		return 0, rpc.Errorf(rpc.Code(m.n(16)+1), "as it happens")
	case 1:
		return 0, errors.Join(rpc.ErrDraining, ctx.Err())
	}
	return id, nil
}

// run has callers call while servers come and go.
func (m *model) run(t *testing.T) {
	for _, addr := range modelAddrs[m.n(2):] {
		m.start(t, addr)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for caller := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					m.call(caller*100_000 + i)
				}
			}
		})
	}
	for range 40 {
		time.Sleep(time.Duration(m.n(500)) * time.Millisecond)
		m.disturb(t)
	}
	for _, addr := range modelAddrs { // so that what is under way can end
		m.fleet.mu.Lock()
		s := m.fleet.servers[addr]
		m.fleet.mu.Unlock()
		if s == nil {
			m.start(t, addr)
		} else {
			s.freeze(false)
		}
	}
	close(stop)
	wg.Wait()
	time.Sleep(time.Minute) // whatever could run late has run
	m.journal.mu.Lock()
	defer m.journal.mu.Unlock()
	for _, c := range m.claims {
		if err := c.check(m.journal.ran[c.id]); err != nil {
			t.Errorf("call %d: %v", c.id, err)
		}
	}
	for _, e := range m.c.Snapshot().Endpoints {
		if e.InFlight != 0 {
			t.Errorf("calls that nobody makes: %+v", e)
		}
	}
}

func (m *model) call(id int) {
	method := []string{"write", "write", "read", "hedged", "fast", modelLarge.Name, modelStream.Name}[m.n(7)]
	ctx, cancel := context.WithTimeout(WithKey(bg, fmt.Sprint(m.n(9))), time.Duration(m.n(3000)+1)*time.Millisecond)
	defer cancel()
	if m.n(10) == 0 {
		time.AfterFunc(time.Duration(m.n(500))*time.Millisecond, cancel)
	}
	var err error
	switch method {
	case modelLarge.Name:
		_, err = modelLarge.Call(ctx, m.c, append(binary.BigEndian.AppendUint64(nil, uint64(id)), make([]byte, rpc.LargeCall)...))
	case modelStream.Name:
		for item, failed := range modelStream.Call(ctx, m.c, id) {
			if err = failed; err == nil && item != id {
				err = fmt.Errorf("an item of another stream: %d", item)
			}
		}
	default:
		_, err = rpc.Call[int](ctx, m.c, method, id)
	}
	m.mu.Lock()
	m.claims = append(m.claims, claim{id, m.policy(method).Idempotent, err})
	m.mu.Unlock()
	time.Sleep(time.Duration(m.n(20)) * time.Millisecond)
}

// disturb does something to a server, or to the list of them.
func (m *model) disturb(t *testing.T) {
	addr := modelAddrs[m.n(len(modelAddrs))]
	m.fleet.mu.Lock()
	s := m.fleet.servers[addr]
	m.fleet.mu.Unlock()
	if s == nil {
		m.start(t, addr)
		return
	}
	switch m.n(6) {
	case 0:
		s.kill()
	case 1:
		s.cut()
	case 2:
		s.freeze(true)
	case 3:
		s.freeze(false)
	case 4:
		s.freeze(false)
		m.fleet.leave(s)
		go s.srv.Shutdown(bg)
	case 5:
		var set []Endpoint
		for _, addr := range modelAddrs[m.n(3):] {
			set = append(set, Endpoint{Addr: addr, Name: fmt.Sprint(m.n(2))})
		}
		m.list.Set(set...)
	}
}
