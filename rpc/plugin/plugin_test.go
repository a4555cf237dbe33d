//go:build unix

package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// A bound on what must happen, far above what it takes.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustStart(t *testing.T, mode string, opts Options) *Plugin {
	t.Helper()
	opts.StartTimeout = patience
	p, err := Start(testContext(t), self(mode), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// mustEnd waits for a process to be gone, or dead and not yet collected by whoever has inherited it.
func mustEnd(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, _ := strings.Cut(string(stat), ") "); errors.Is(err, fs.ErrNotExist) || strings.HasPrefix(state, "Z") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// asked answers the plug-in's calls, and tells of them.
func asked(got chan<- string) rpc.Options {
	srv := rpc.NewServer(rpc.Options{})
	ask.Handle(srv, func(_ context.Context, s string) (string, error) {
		got <- s
		return "host says " + s, nil
	})
	return rpc.Options{Handlers: srv}
}

func TestCalls(t *testing.T) {
	for _, loopback := range []bool{false, true} {
		got := make(chan string, 1)
		p := mustStart(t, "new", Options{Versions: []int{1, 2, 3}, RPC: asked(got), loopback: loopback})
		ctx := testContext(t)
		if v, err := version.Call(ctx, p.Client(), struct{}{}); v != 3 || err != nil || p.Version() != 3 {
			t.Errorf("version %d, %d, %v; want 3", v, p.Version(), err)
		}
		if s, err := relay.Call(ctx, p.Client(), "hi"); s != "host says hi" || err != nil {
			t.Errorf("relay: %q, %v", s, err)
		}
		n, err := pid.Call(ctx, p.Client(), struct{}{})
		if err != nil || n == os.Getpid() {
			t.Errorf("pid %d, %v", n, err)
		}
		if err := p.Stop(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
		mustEnd(t, n)
		_, err = pid.Call(ctx, p.Client(), struct{}{})
		if !errors.Is(err, ErrStopped) || rpc.OutcomeOf(err) != rpc.NotSent || !errors.Is(p.Err(), ErrStopped) {
			t.Errorf("after Stop: %v (%v), Err %v", err, rpc.OutcomeOf(err), p.Err())
		}
	}
}

func TestStartFails(t *testing.T) {
	exit, mismatch := (*ExitError)(nil), (*VersionError)(nil)
	for mode, right := range map[string]func(error) bool{
		"rubbish": func(err error) bool { return errors.Is(err, ErrNotPlugin) && strings.Contains(err.Error(), "Welcome") },
		"silent":  func(err error) bool { return errors.Is(err, ErrStartTimeout) },
		"exits": func(err error) bool {
			return errors.As(err, &exit) && exit.State.ExitCode() == 3 && exit.Stderr == "no licence"
		},
		"old": func(err error) bool {
			return errors.As(err, &mismatch) && fmt.Sprint(mismatch.Host, mismatch.Plugin) == "[1 2] [7 8]"
		},
	} {
		opts := Options{Versions: []int{1, 2}, StartTimeout: patience}
		if mode == "silent" {
			opts.StartTimeout = 50 * time.Millisecond
		}
		if _, err := Start(testContext(t), self(mode), opts); !right(err) {
			t.Errorf("%s: %v", mode, err)
		}
	}
	if _, err := Start(testContext(t), exec.Command("/nonexistent/x"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	if _, err := Start(testContext(t), &exec.Cmd{Path: "x", Stdout: os.Stdout}, Options{}); !errors.Is(err, ErrOptions) {
		t.Errorf("standard files: %v", err)
	}
}

func TestByHand(t *testing.T) {
	var out bytes.Buffer
	cmd := self("good")
	cmd.Stderr = &out
	err := cmd.Run()
	const want = "this is a plug-in of the tests; it is started by the tests, not by hand\n"
	if cmd.ProcessState.ExitCode() != 1 || out.String() != want {
		t.Errorf("%v: %q", err, out.String())
	}
}

func TestKilledMidCall(t *testing.T) {
	got := make(chan string, 1)
	p := mustStart(t, "good", Options{RPC: asked(got)})
	ctx := testContext(t)
	n, err := pid.Call(ctx, p.Client(), struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-got // it runs
		syscall.Kill(n, syscall.SIGKILL)
	}()
	_, err = hang.Call(ctx, p.Client(), struct{}{})
	var exit *ExitError
	if !errors.As(err, &exit) || rpc.OutcomeOf(err) != rpc.OutcomeUnknown || rpc.CodeOf(err) != rpc.Unavailable ||
		exit.State.String() != "signal: killed" {
		t.Errorf("got %v (%v)", err, rpc.OutcomeOf(err))
	}
	<-p.Done()
	if _, err = pid.Call(ctx, p.Client(), struct{}{}); !errors.As(err, &exit) || rpc.OutcomeOf(err) != rpc.NotSent {
		t.Errorf("afterwards %v (%v)", err, rpc.OutcomeOf(err))
	}
}

func TestStreamExplains(t *testing.T) {
	p := mustStart(t, "good", Options{})
	ctx := testContext(t)
	var last error
	for n, err := range count.Call(ctx, p.Client(), struct{}{}) {
		if n == 1 {
			go die.Call(ctx, p.Client(), 7)
		}
		last = err
	}
	var exit *ExitError
	if !errors.As(last, &exit) || exit.State.ExitCode() != 7 || exit.Stderr != "out of luck" {
		t.Errorf("got %v", last)
	}
}

func TestChildrenEnd(t *testing.T) {
	for name, end := range map[string]func(context.Context, *Plugin){
		"Stop":  func(ctx context.Context, p *Plugin) { p.Stop(ctx) },
		"Kill":  func(_ context.Context, p *Plugin) { p.Kill() },
		"crash": func(ctx context.Context, p *Plugin) { die.Call(ctx, p.Client(), 1); <-p.Done() },
	} {
		p := mustStart(t, "good", Options{})
		ctx := testContext(t)
		n, err := child.Call(ctx, p.Client(), struct{}{})
		if err != nil {
			t.Fatal(name, err)
		}
		end(ctx, p)
		mustEnd(t, n)
	}
}

func TestHostKilled(t *testing.T) {
	cmd := self("host")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var one, two int
	if _, err := fmt.Fscan(out, &one, &two); err != nil {
		t.Error(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if one != 0 && two != 0 {
		mustEnd(t, one)
		mustEnd(t, two)
	}
}

func TestStopDrains(t *testing.T) {
	got := make(chan string, 1)
	p := mustStart(t, "good", Options{RPC: asked(got), StopTimeout: patience})
	ctx := testContext(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if s, err := slow.Call(ctx, p.Client(), struct{}{}); s != "done" || err != nil {
			t.Errorf("call: %q, %v", s, err)
		}
	})
	<-got // it runs
	if err := p.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
	wg.Wait()
}

func TestStopIsPatient(t *testing.T) {
	p := mustStart(t, "lingers", Options{StopTimeout: patience})
	p.mu.Lock()
	r := p.current
	p.mu.Unlock()
	if err := p.Stop(testContext(t)); err != nil || !r.state.Success() {
		t.Errorf("Stop: %v, and it ended with %v", err, r.state)
	}
}

func TestStubborn(t *testing.T) {
	got := make(chan string, 1)
	p := mustStart(t, "stubborn", Options{RPC: asked(got), StopTimeout: 50 * time.Millisecond})
	ctx := testContext(t)
	n, _ := pid.Call(ctx, p.Client(), struct{}{})
	var wg sync.WaitGroup
	wg.Go(func() { hang.Call(ctx, p.Client(), struct{}{}) })
	<-got
	if err := p.Stop(ctx); !errors.Is(err, ErrKilled) {
		t.Errorf("Stop: %v", err)
	}
	wg.Wait()
	mustEnd(t, n)
}

func TestFlood(t *testing.T) {
	p := mustStart(t, "flood", Options{})
	ctx := testContext(t)
	for range 20 {
		if _, err := pid.Call(ctx, p.Client(), struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
	p.Kill()
}

func TestRestart(t *testing.T) {
	p := mustStart(t, "good", Options{Restarts: 2, Backoff: time.Millisecond})
	ctx := testContext(t)
	seen := make(map[int]bool)
	for range 3 {
		n, err := pid.Call(ctx, p.Client(), struct{}{}) // waits for the restart
		if err != nil || seen[n] {
			t.Fatalf("pid %d, %v", n, err)
		}
		seen[n] = true
		var exit *ExitError
		if _, err := die.Call(ctx, p.Client(), 9); !errors.As(err, &exit) || exit.State.ExitCode() != 9 {
			t.Fatalf("die: %v", err)
		}
	}
	<-p.Done()
	var exit *ExitError
	if !errors.As(p.Err(), &exit) || exit.State.ExitCode() != 9 {
		t.Errorf("Err: %v", p.Err())
	}
}

func TestCleanEndIsNoFailure(t *testing.T) {
	p := mustStart(t, "good", Options{Restarts: -1})
	die.Call(testContext(t), p.Client(), 0)
	<-p.Done()
	var exit *ExitError
	if !errors.As(p.Err(), &exit) || !exit.State.Success() {
		t.Errorf("Err: %v", p.Err())
	}
}

// A safeBuffer may be read while a logger writes.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func TestLogs(t *testing.T) {
	var out safeBuffer
	p := mustStart(t, "good", Options{Name: "disks", Logger: slog.New(slog.NewTextHandler(&out, nil))})
	ctx := testContext(t)
	if _, err := logs.Call(ctx, p.Client(), struct{}{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(ctx); err != nil { // after which all is read
		t.Fatal(err)
	}
	for _, want := range []string{
		"level=WARN msg=disk plugin=disks free=12 at.path=/x\n",
		"level=INFO msg=plain plugin=disks stream=stderr\n",
		"level=INFO msg=printed plugin=disks stream=stdout\n",
	} {
		if !strings.Contains(out.b.String(), want) {
			t.Errorf("no %q in\n%s", want, out.b.String())
		}
	}
}

// How long a start takes, to the first call's answer.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p, err := Start(b.Context(), self("good"), Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := pid.Call(b.Context(), p.Client(), struct{}{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		p.Kill()
		b.StartTimer()
	}
}

func BenchmarkCall(b *testing.B) {
	p, err := Start(b.Context(), self("good"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Kill()
	for b.Loop() {
		if _, err := pid.Call(b.Context(), p.Client(), struct{}{}); err != nil {
			b.Fatal(err)
		}
	}
}
