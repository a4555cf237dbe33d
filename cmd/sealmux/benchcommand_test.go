package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

type benchGet struct{ Key string }

// TestBenchMethods loads a server that has methods of its own, in this process, and leaves nothing behind.
func TestBenchMethods(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	key, err := transport.GenerateKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(rpc.Options{})
	gone := make(chan struct{}, 1)
	var calls atomic.Int64
	rpc.Unary[benchGet, string]{Name: "kv.Get"}.Handle(server, func(_ context.Context, req benchGet) (string, error) {
		switch req.Key {
		case "flaky":
			if calls.Add(1)%2 == 0 {
				return "", rpc.Errorf(rpc.Aborted, "odd")
			}
		case "rude":
			return "", rpc.Errorf(rpc.Aborted, "rpc: \x1b[31modd\nline")
		case "drain":
			select {
			case gone <- struct{}{}:
			default:
			}
		}
		return "value of " + req.Key, nil
	})
	rpc.Unary[string, string]{Name: "text"}.Handle(server, func(_ context.Context, s string) (string, error) { return s, nil })
	rpc.Bidi[string, string]{Name: "kv.Talk"}.Handle(server, func(_ context.Context, s *rpc.Stream[string, string]) error {
		for text, err := range s.All() {
			if err != nil {
				return err
			}
			if err := s.Send(text); err != nil {
				return err
			}
		}
		return nil
	})
	listener, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- rpc.Serve(context.Background(), server, listener) }()

	bench := func(want int, args ...string) (out, errOut string) {
		t.Helper()
		var o, e bytes.Buffer
		args = append([]string{"bench", "--server-key", key.Fingerprint().String(), listener.Addr().String()}, args...)
		if code := run(args, strings.NewReader(""), &o, &e); code != want {
			t.Errorf("%q: exit code %d, want %d: %s%s", args[4:], code, want, o.String(), e.String())
		}
		return o.String(), e.String()
	}
	says := func(text, want string) {
		t.Helper()
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
	out, _ := bench(exitDone, "-n", "100", "-c", "3", "--method", "kv.Get", "--data", `{"Key": "a"}`)
	says(out, "kv.Get, 7 bytes a call, closed loop: 3 in flight, 100 calls\n") // a map of one text to another
	says(out, "\n100 calls in ")
	out, _ = bench(exitDone, "-n", "20", "-c", "2", "--method", "text", "-z", "1000") // as text, for the method takes no other
	says(out, "\n20 calls in ")
	out, _ = bench(exitDone, "-n", "20", "--streams", "2", "--method", "kv.Talk")
	says(out, "\n20 calls in ")
	out, errOut := bench(exitFailed, "-n", "2000", "-c", "4", "--method", "kv.Get", "--data", `{"Key": "flaky"}`)
	says(out, "; 1,000 failed\n")
	says(out, "Aborted, executed: odd\n")
	says(errOut, "sealmux: 1000 of 2000 calls failed; see why above\n")
	out, _ = bench(exitFailed, "-n", "1", "-c", "1", "--method", "kv.Get", "--data", `{"Key": "rude"}`)
	says(out, "Aborted, executed:  [31modd line\n") // nothing for the terminal to obey
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{}, "has no method echo of that form; name another with --method; sealmux list shows those it has\n"},
		{[]string{"--method", "kv.Talk"}, "kv.Talk is of the form bidi; bench calls unary methods, and with --streams bidi ones\n"},
		{[]string{"--method", "kv.Get", "--streams", "1"}, "kv.Get is of the form unary; bench calls"},
		{[]string{"--method", "kv.Get", "--data", `{"Kee": "a"}`}, "sealmux: request"},
		{[]string{"--method", "kv.Get"}, "every call of kv.Get failed; see why above, and give the request with --data; sealmux list shows its shape\n"}, // bytes are no benchGet
	} {
		_, errOut := bench(exitFailed, append(c.args, "-n", "1", "-c", "1")...)
		says(errOut, c.want)
	}

	// A server that drains ends a run of any length; its report comes first.
	drained := make(chan error)
	go func() { <-gone; drained <- server.Shutdown(context.Background()) }()
	out, errOut = bench(exitConnect, "-d", "24h", "-c", "4", "--warm-up", "0", "--method", "kv.Get", "--data", `{"Key": "drain"}`)
	says(out, " calls/s")
	says(errOut, "; connect again") // that it shuts down, or that it has ended the session by now
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, rpc.ErrServerClosed) {
		t.Error(err)
	}
}
