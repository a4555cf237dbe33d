//go:build unix

package hostile

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/internal/faultnet"
	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

var (
	simRuns = flag.Int("sim.runs", 150, "how many runs of the simulation")
	simSeed = flag.Uint64("sim.seed", 1, "the seed of the first; the next have the next numbers")
)

// TestSimulation runs clients, servers and a network with faults in simulated time, against a model of what may come of a
// call. A seed decides what everybody does and where faults strike; the goroutines of a run take their turns as Go pleases.
// A failure is run again with -sim.runs 1 -sim.seed N.
func TestSimulation(t *testing.T) {
	if os.Getenv(roleEnv) != simulationRole {
		again(t, "TestSimulation", simulationRole)
		return
	}
	synctest.Test(t, func(t *testing.T) {
		var sum tally
		violations := 0
		for seed := *simSeed; seed < *simSeed+uint64(*simRuns); seed++ {
			w := newWorld(seed)
			w.simulate()
			for _, v := range w.violations {
				t.Errorf("seed %d: %s", seed, v)
			}
			if violations += len(w.violations); violations > 20 {
				t.Fatal("enough")
			}
			sum.add(&w.tally)
		}
		t.Logf("%d runs: %d calls and streams (%d well, %d failed in a handler, %d never ran, %d may have run), %d sessions (%d resumed), %d handshakes failed, %d faults, %d drains; violations: %d",
			*simRuns, sum.calls, sum.ok, sum.executed, sum.never, sum.unknown, sum.sessions, sum.resumed, sum.refused, sum.faults, sum.drains, violations)
		if *simRuns > 50 && (sum.ok == 0 || sum.executed == 0 || sum.never == 0 || sum.unknown == 0 || sum.faults == 0 || sum.resumed == 0 || sum.refused == 0 || sum.drains == 0) {
			t.Error("something never happened")
		}
	})
}

// simulationRole is a process of its own: yamux keeps timers in a pool, and a timer must not leave its bubble.
const simulationRole = "simulation"

// again runs a test in another process, with our flags, in a role.
func again(t *testing.T, test, role string) {
	args := []string{"-test.run=^" + test + "$", "-test.v"}
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	if end, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(end).String())
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	out, err := cmd.CombinedOutput()
	t.Logf("in a process of its own: %s", out)
	if err != nil {
		t.Error(err)
	}
}

type tally struct {
	calls, ok, executed, never, unknown, sessions, resumed, refused, faults, drains int
}

func (t *tally) add(o *tally) {
	for _, f := range []struct{ to, from *int }{{&t.calls, &o.calls}, {&t.ok, &o.ok}, {&t.executed, &o.executed}, {&t.never, &o.never}, {&t.unknown, &o.unknown},
		{&t.sessions, &o.sessions}, {&t.resumed, &o.resumed}, {&t.refused, &o.refused}, {&t.faults, &o.faults}, {&t.drains, &o.drains}} {
		*f.to += *f.from
	}
}

// A world is one run.
type world struct {
	seed    uint64
	keys    *transport.TicketKeys
	listen  func() (net.Listener, error)
	connect func(up, down faultnet.Line) (faulty, error)
	speed   time.Duration // how many times faster than in simulated time everybody acts; 1 there

	mu         sync.Mutex // protects all below
	journal    map[uint64]int
	outcomes   map[uint64]error // of every call that was made
	lastID     uint64
	conns      []faulty
	violations []string
	tally
}

// A faulty is a connection whose faults are counted.
type faulty interface {
	net.Conn
	Cut()
	Faults() int
}

type simulated struct{ *faultnet.Conn }

func (c simulated) Faults() int { return c.Sent().Faults + c.Received().Faults }

func newWorld(seed uint64) *world {
	network := new(faultnet.Network)
	return &world{seed: seed, keys: transport.NewTicketKeys(), journal: make(map[uint64]int), outcomes: make(map[uint64]error), speed: 1,
		listen: func() (net.Listener, error) { return network.Listen("server") },
		connect: func(up, down faultnet.Line) (faulty, error) {
			c, err := network.Dial(context.Background(), "client", "server", up, down)
			return simulated{c}, err
		}}
}

// within draws a time to act within.
func (w *world) within(random *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(random.IntN(int(limit))) / w.speed
}

func (w *world) violation(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// random is the source of one actor's choices: the order in which actors run must not change them.
func (w *world) random(actor uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, actor)) }

const simLimit = 5 * time.Minute // no call without a deadline may take longer: keepalive, write and drain bounds are below

// simulate is run, after which nothing may be left.
func (w *world) simulate() {
	before := runtime.NumGoroutine()
	w.run()
	time.Sleep(time.Minute) // what waits for a timer has ended
	synctest.Wait()
	if runtime.NumGoroutine() > before { // perhaps one of the garbage collector's, which is in no bubble
		stacks := make([]byte, 1<<16)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if n := bytes.Count(stacks, []byte(", synctest bubble")); n > 3 { // this one, that of the test, that of the bubble
			w.violation("%d goroutines are left\n%s", n-3, stacks)
		}
	}
}

// run has servers and clients act, and judges.
func (w *world) run() {
	over := make(chan struct{})
	var servers, clients sync.WaitGroup
	servers.Go(func() { w.servers(w.random(0), over) })
	for i := range 1 + w.random(1).IntN(3) {
		clients.Go(func() { w.client(w.random(10+uint64(i)), uint64(i)) })
	}
	clients.Wait()
	close(over)
	servers.Wait()
	w.judge()
}

// judge compares what each caller was told with what the handlers did.
func (w *world) judge() {
	for _, c := range w.conns {
		w.faults += c.Faults()
	}
	for id, err := range w.outcomes {
		ran := w.journal[id]
		w.calls++
		wrong := false
		switch rpc.OutcomeOf(err) {
		case rpc.NotSent, rpc.NotExecuted:
			w.never++
			wrong = ran != 0
		case rpc.Executed:
			if err == nil {
				w.ok++
			} else {
				w.executed++
			}
			wrong = ran != 1
		default:
			w.unknown++
			wrong = ran > 1
		}
		if wrong {
			w.violation("call %d ran %d times and ended: %v", id, ran, err)
		}
	}
	for id := range w.journal {
		if _, known := w.outcomes[id]; !known {
			w.violation("call %d ran and nobody made it", id)
		}
	}
}

// servers has one server after another under the same name, until over is closed.
func (w *world) servers(random *rand.Rand, over chan struct{}) {
	for {
		inner, err := w.listen()
		if err != nil {
			w.violation("listen: %v", err)
			return
		}
		cfg := w.patience(serverConfig())
		cfg.TicketKeys = w.keys
		l, err := transport.NewListener(inner, cfg)
		if err != nil {
			w.violation("listen: %v", err)
			return
		}
		srv := w.server()
		defer srv.Shutdown(context.Background()) // of a closed one: waits for handlers that Close has left behind, before they are judged
		served := make(chan error, 1)
		go func() { served <- rpc.Serve(context.Background(), srv, l) }()
		life := time.NewTimer(w.within(random, 30*time.Second))
		select {
		case <-over:
			srv.Close()
			<-served
			life.Stop()
			return
		case <-life.C:
		}
		if random.IntN(2) == 0 {
			srv.Close()
		} else {
			ctx, cancel := context.WithTimeout(context.Background(), w.within(random, 20*time.Second))
			srv.Shutdown(ctx)
			cancel()
			w.mu.Lock()
			w.drains++
			w.mu.Unlock()
		}
		if err := <-served; err != rpc.ErrServerClosed {
			w.violation("Serve: %v", err)
		}
		time.Sleep(w.within(random, 2*time.Second)) // nobody is there
	}
}

// patience shortens the limits of a Config when everybody acts faster.
func (w *world) patience(cfg *transport.Config) *transport.Config {
	cfg.HandshakeTimeout = transport.DefaultHandshakeTimeout / w.speed
	cfg.KeepaliveInterval = transport.DefaultKeepaliveInterval / w.speed
	cfg.KeepaliveTimeout = transport.DefaultKeepaliveTimeout / w.speed
	cfg.WriteTimeout = transport.DefaultWriteTimeout / w.speed
	return cfg
}

// begin notes that the handler of a call runs, which its request id names: the first item of a stream may never come.
func (w *world) begin(ctx context.Context) {
	id, err := strconv.ParseUint(rpc.InfoFrom(ctx).RequestID(), 10, 64)
	if err != nil {
		w.violation("a handler runs for nobody: %v", err)
	}
	w.mu.Lock()
	w.journal[id]++
	w.mu.Unlock()
}

// quiet is for what handlers' panics are logged to.
var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// known reports whether an error is one of those that a session may end with, or a handshake.
func known(err error) bool {
	for _, k := range []error{transport.ErrTruncated, transport.ErrRecord, transport.ErrMisbehaved, transport.ErrPeerSilent, transport.ErrWriteStalled,
		transport.ErrPeerClosed, transport.ErrSessionClosed, transport.ErrHandshake, transport.ErrNotSealmux, transport.ErrHandshakeTimeout,
		transport.ErrVersion, transport.ErrBusy, transport.ErrServerKey, transport.ErrApplicationProtocol, context.DeadlineExceeded} {
		if errors.Is(err, k) {
			return true
		}
	}
	alert, ok := errors.AsType[*transport.AlertError](err)
	return ok && alert.Code == transport.AlertMisbehaved
}
