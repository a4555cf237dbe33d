//go:build unix

package plugin

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// starts is a plug-in in this process that can be started again, and notes when that was.
type starts struct {
	since time.Time
	fail  error // of all starts but the first

	mu   sync.Mutex // protects all below
	at   []time.Duration
	last *run
}

func (s *starts) plugin(t *testing.T, opts Options) *Plugin {
	t.Helper()
	opts, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s.since = time.Now()
	p, err := start(t.Context(), opts, func(context.Context) (*run, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.at = append(s.at, time.Since(s.since))
		if len(s.at) > 1 && s.fail != nil {
			return nil, s.fail
		}
		s.last = inProcess(services(), opts)
		return s.last, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// crash ends the plug-in that runs.
func (s *starts) crash() {
	s.mu.Lock()
	r := s.last
	s.mu.Unlock()
	r.force(true)
	<-r.over
	synctest.Wait()
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{}
		p := s.plugin(t, Options{Restarts: 3, Backoff: time.Second})
		for range 3 {
			s.crash()
			if n, err := pid.Call(t.Context(), p.Client(), struct{}{}); n != os.Getpid() || err != nil { // it waits
				t.Fatal(n, err)
			}
		}
		time.Sleep(steady) // from here on they are counted anew
		s.crash()
		if _, err := pid.Call(t.Context(), p.Client(), struct{}{}); err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 8*time.Second + steady}
		p.Kill()
		if !slices.Equal(s.at, want) {
			t.Errorf("started at %v, want %v", s.at, want)
		}
	})
}

func TestRestartsThatFailCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{fail: errors.New("no such file")}
		p := s.plugin(t, Options{Restarts: 4})
		s.crash()
		_, err := pid.Call(t.Context(), p.Client(), struct{}{})
		if !errors.Is(err, s.fail) || rpc.OutcomeOf(err) != rpc.NotSent || rpc.CodeOf(err) != rpc.Unavailable {
			t.Errorf("call: %v", err)
		}
		if <-p.Done(); !errors.Is(p.Err(), s.fail) || len(s.at) != 5 {
			t.Errorf("Err %v after %d starts", p.Err(), len(s.at))
		}
	})
}

func TestStopWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &starts{}
		p := s.plugin(t, Options{Restarts: -1, Backoff: time.Hour})
		s.crash()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := pid.Call(ctx, p.Client(), struct{}{}); !errors.Is(err, context.DeadlineExceeded) || rpc.OutcomeOf(err) != rpc.NotSent {
			t.Errorf("call: %v", err)
		}
		if err := p.Stop(t.Context()); err != nil || !errors.Is(p.Err(), ErrStopped) || len(s.at) != 1 {
			t.Errorf("Stop: %v, Err %v, %d starts", err, p.Err(), len(s.at))
		}
	})
}

func TestInProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 1)
		p, err := InProcess(services(), Options{Versions: []int{2, 5}, RPC: asked(got)})
		if err != nil {
			t.Fatal(err)
		}
		if v, err := version.Call(t.Context(), p.Client(), struct{}{}); v != 5 || err != nil {
			t.Errorf("version %d, %v", v, err)
		}
		if s, err := relay.Call(t.Context(), p.Client(), "hi"); s != "host says hi" || err != nil {
			t.Errorf("relay: %q, %v", s, err)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
}

// Nothing is left in this process: no descriptor.
func TestNoDescriptorsLeft(t *testing.T) {
	open := func() int {
		all, err := os.ReadDir("/dev/fd")
		if err != nil {
			t.Skip("this system does not list descriptors: ", err)
		}
		return len(all)
	}
	for i, before := 0, 0; i < 4; i++ { // the first round opens what stays, such as the poller
		p := mustStart(t, "good", Options{})
		die.Call(testContext(t), p.Client(), 1)
		<-p.Done()
		if _, err := Start(testContext(t), self("exits"), Options{StartTimeout: patience}); err == nil {
			t.Fatal("it started")
		}
		if now := open(); i == 0 {
			before = now
		} else if now > before {
			t.Fatalf("%d descriptors, %d before", now, before)
		}
	}
}
