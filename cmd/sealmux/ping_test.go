package main

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// pingServer is a server that answers the probes of a pinger over sessions in memory.
type pingServer struct {
	*rpc.Server
	began    time.Time
	arrived  []time.Duration // when each probe came, since began
	takes    func(probe int) time.Duration
	sessions atomic.Int32
	client   rpc.Session // that of the last session
	served   []chan struct{}
	handlers sync.WaitGroup
}

func newPingServer(takes func(probe int) time.Duration) *pingServer {
	s := &pingServer{began: time.Now(), takes: takes}
	s.Server = rpc.NewServer(rpc.Options{Interceptors: []rpc.Interceptor{{
		Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			s.arrived = append(s.arrived, time.Since(s.began))
			s.handlers.Add(1)
			defer s.handlers.Done()
			if !wakeAt(ctx, time.Now().Add(s.takes(len(s.arrived)))) {
				time.Sleep(time.Millisecond) // the server knows the deadline: here the client's, at the same moment, comes first
				return nil, ctx.Err()
			}
			return next(ctx, req)
		},
	}}})
	return s
}

// dial takes 2 ms.
func (s *pingServer) dial(context.Context) (*link, string, error) {
	time.Sleep(2 * time.Millisecond)
	client, server := rpc.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); s.ServeSession(context.Background(), server) }()
	s.sessions.Add(1)
	s.client, s.served = client, append(s.served, done)
	return &link{addr: "srv:1", timeout: 3 * time.Second, client: rpc.NewClient(client, rpc.Options{})}, "SHA256:print", nil
}

func (s *pingServer) stop() {
	s.Close()
	for _, done := range s.served {
		<-done
	}
	s.handlers.Wait()
}

func newTestPinger(s *pingServer, count int, interval time.Duration, out *bytes.Buffer) *pinger {
	return &pinger{addr: "srv:1", count: count, interval: interval, dial: s.dial, show: newPingPrinter(out, "srv:1", false)}
}

func TestPingKeepsItsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPingServer(func(probe int) time.Duration {
			return []time.Duration{0, 250 * time.Millisecond, 2300 * time.Millisecond, 5 * time.Second, 3 * time.Microsecond}[probe]
		})
		defer s.stop()
		var out bytes.Buffer
		if err := newTestPinger(s, 4, time.Second, &out).run(t.Context()); err != nil {
			t.Error(err)
		}
		// Probe 2 is answered at 3.3 s, so the next goes out at 4 s; it has no reply at 7 s, when the next is due.
		want := []time.Duration{2 * time.Millisecond, 1002 * time.Millisecond, 4002 * time.Millisecond, 8002 * time.Millisecond}
		if !slices.Equal(s.arrived, want) {
			t.Errorf("probes at %v, want %v", s.arrived, want)
		}
		const text = `ping srv:1 key SHA256:print: session in 2.00 ms
reply from srv:1: seq=1 time=250 ms
reply from srv:1: seq=2 time=2300 ms
no reply from srv:1: seq=3: none within 3s
reply from srv:1: seq=4 time=0.003 ms

--- srv:1 ping statistics ---
4 sent, 3 received, 25% lost, time 8000 ms
round trip min/avg/max/mdev = 0.003/850/2300/1030 ms
`
		if out.String() != text {
			t.Errorf("got\n%s\nwant\n%s", out.String(), text)
		}
		if n := s.sessions.Load(); n != 1 {
			t.Errorf("%d sessions, want 1: a late reply is no lost session", n)
		}
	})
}

func TestPingConnectsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *pingServer
		s = newPingServer(func(probe int) time.Duration {
			if probe == 2 {
				s.client.Close()
			}
			return 0
		})
		defer s.stop()
		var out bytes.Buffer
		p := newTestPinger(s, 5, time.Second, &out)
		p.dial = func(ctx context.Context) (*link, string, error) {
			if s.sessions.Load() == 1 && len(s.arrived) == 2 && time.Since(s.began) < 3*time.Second {
				return nil, "", withCode(exitConnect, errors.New("nothing listens\x1b at srv:1"))
			}
			return s.dial(ctx)
		}
		if err := p.run(t.Context()); err != nil {
			t.Error(err)
		}
		lines := strings.Split(out.String(), "\n")
		for i, part := range []string{"ping srv:1", "reply from srv:1: seq=1 ", "no reply from srv:1: seq=2: the session is over: ", "no reply from srv:1: seq=3: nothing listens  at srv:1",
			"ping srv:1 key SHA256:print: session in 2.00 ms", "reply from srv:1: seq=4 ", "reply from srv:1: seq=5 ", "", "---", "5 sent, 3 received, 40% lost, time 4000 ms"} {
			if !strings.HasPrefix(lines[i], part) {
				t.Errorf("line %d is %q, want %q...\n%s", i+1, lines[i], part, out.String())
			}
		}
		if n := s.sessions.Load(); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
	})
}

// A readiness probe is ping -c 1: it must fail unless the server serves.
func TestPingOnceTellsReadiness(t *testing.T) {
	for name, row := range map[string]struct {
		prepare func(*rpc.Server)
		opts    rpc.Options
		reply   string
		err     string // empty: ready
	}{
		"serving":     {func(*rpc.Server) {}, rpc.Options{}, "ms$", ""},
		"not serving": {func(s *rpc.Server) { s.SetHealth("", rpc.NotServing) }, rpc.Options{}, `\(not serving\)$`, "answers but does not serve: not serving"},
		"hostile":     {func(s *rpc.Server) { s.SetHealth("", "\x1b[2Jserving\n") }, rpc.Options{}, `\( \[2Jserving \)$`, "does not serve:  [2Jserving "},
		"hidden": {func(*rpc.Server) {}, rpc.Options{Authorize: func(context.Context, *rpc.Request) error { return rpc.Errorf(rpc.PermissionDenied, "no") }},
			`\(keeps its health to itself: PermissionDenied\)$`, ""},
		"overloaded": {func(*rpc.Server) {}, rpc.Options{Authorize: func(context.Context, *rpc.Request) error { return rpc.Errorf(rpc.ResourceExhausted, "full") }},
			`\(.*ResourceExhausted.*\)$`, "answers but does not serve: "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &pingServer{Server: rpc.NewServer(row.opts)}
				defer s.stop()
				row.prepare(s.Server)
				var out bytes.Buffer
				err := newTestPinger(s, 1, time.Second, &out).run(t.Context())
				if (err == nil) != (row.err == "") || err != nil && !strings.Contains(oneLine(err), row.err) || exitCode(err) > exitFailed {
					t.Errorf("error %v, want %q", err, row.err)
				}
				line := strings.Split(out.String(), "\n")[1]
				if !regexp.MustCompile(`^reply from srv:1: seq=1 time=\S+ ms( |$)`).MatchString(line) || !regexp.MustCompile(row.reply).MatchString(line) {
					t.Errorf("line %q, want %q", line, row.reply)
				}
			})
		})
	}
}

// A server that drains is one to leave: ping says so, and its next probe goes to whoever serves then.
func TestPingLeavesAServerThatDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &pingServer{Server: rpc.NewServer(rpc.Options{})}
		rpc.Handle(old.Server, "slow", func(context.Context, string) (string, error) { time.Sleep(1200 * time.Millisecond); return "", nil })
		defer old.stop()
		var shut chan error
		next := newPingServer(func(int) time.Duration { return 0 })
		defer next.stop()
		var out bytes.Buffer
		p := newTestPinger(old, 3, time.Second, &out)
		p.dial = func(ctx context.Context) (*link, string, error) {
			if shut != nil {
				return next.dial(ctx)
			}
			l, print, err := old.dial(ctx)
			shut = make(chan error, 1)
			time.AfterFunc(500*time.Millisecond, func() { shut <- old.Shutdown(context.Background()) })
			go rpc.Call[string](t.Context(), l.client, "slow", "") // keeps the session up for that long; ends with it
			return l, print, err
		}
		if err := p.run(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-shut; err != nil {
			t.Error("the drain: ", err)
		}
		want := `reply from srv:1: seq=1 time=0.000 ms
no reply from srv:1: seq=2: the server is shutting down
ping srv:1 key SHA256:print: session in 2.00 ms
reply from srv:1: seq=3 `
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwant in it\n%s", out.String(), want)
		}
	})
}

func TestPingInterrupted(t *testing.T) {
	for name, row := range map[string]struct {
		after time.Duration
		out   string
		err   error
	}{
		"before the first reply": {500 * time.Millisecond, "0 sent, 0 received, 0% lost, time 498 ms", errInterrupted},
		"while one waits":        {2500 * time.Millisecond, "1 sent, 1 received, 0% lost, time 2498 ms", nil},
		"between two":            {1500 * time.Millisecond, "1 sent, 1 received, 0% lost, time 1498 ms", nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPingServer(func(int) time.Duration { return time.Second })
				defer s.stop()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(row.after, cancel) // no deadline, which the server would know
				var out bytes.Buffer
				err := newTestPinger(s, 0, 2*time.Second, &out).run(ctx)
				if err != row.err || !strings.Contains(out.String(), row.out) {
					t.Errorf("error %v, want %v\n%s\nwant %s", err, row.err, out.String(), row.out)
				}
			})
		})
	}
}

func TestPingStats(t *testing.T) {
	var s roundTrips
	if s.mdev() != 0 || s.lost() != 0 {
		t.Error(s.mdev(), s.lost())
	}
	var sum, squares float64
	for i := range 1000 {
		d := time.Duration(i*i%977+1) * time.Microsecond
		s.sent++
		s.add(d)
		sum += float64(d)
		squares += float64(d) * float64(d)
	}
	mean := sum / 1000
	mdev := math.Sqrt(squares/1000 - mean*mean)
	if math.Abs(float64(s.average())-mean) > 1 || math.Abs(float64(s.mdev())-mdev) > 1 || s.min != time.Microsecond || s.max > 977*time.Microsecond {
		t.Errorf("%v %v %v %v, want mean %v, mdev %v", s.min, s.average(), s.max, s.mdev(), mean, mdev)
	}
}

// The whole of it as a process: SIGINT ends in good order, with statistics.
func TestPingSIGINT(t *testing.T) {
	addr, keyFile := service(t, rpc.Options{})
	p, err := startProcess(t.TempDir(), nil, "ping", "--server-key", keyFile, "-i", "10ms", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	for range 3 {
		if _, err := p.stdout.ReadString('\n'); err != nil {
			t.Fatal(err, p.stderr.String())
		}
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, code := p.wait()
	if code != exitDone || !strings.Contains(rest, " 0% lost") || p.stderr.String() != "" {
		t.Errorf("exit %d\n%s%s", code, rest, p.stderr.String())
	}
}

// An identity that is refused is told as everywhere.
func TestPingRefused(t *testing.T) {
	addr, _ := service(t, rpc.Options{})
	other, err := transport.GenerateKey(transport.MinKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "other.pem")
	if err := other.Public().WriteFile(file); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	code := run([]string{"ping", "--server-key", file, "-c", "1", addr}, nil, &out, &errOut)
	if code != exitIdentity || out.Len() > 0 || !strings.Contains(errOut.String(), "offers the key") {
		t.Error(code, out.String(), errOut.String())
	}
}
