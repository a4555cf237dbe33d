package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/sealmux/sealmux/rpc"
)

// echoing serves one method, that of send and repl.
func echoing(t *testing.T, opts rpc.Options, f func(context.Context, string) (string, error)) (addr, keyFile string) {
	srv := rpc.NewServer(opts)
	rpc.Handle(srv, method, f)
	return serveHere(t, srv)
}

// TestUnavailableIsNoLostSession: a server that answers a call with Unavailable is there: the session goes on, and the exit code is that
// of a call.
func TestUnavailableIsNoLostSession(t *testing.T) {
	for name, opts := range map[string]rpc.Options{
		"by the handler": {},
		"not executed": {Authorize: func(_ context.Context, req *rpc.Request) error {
			if strings.HasPrefix(req.Method, "sealmux.") {
				return nil
			}
			return rpc.Errorf(rpc.Unavailable, "the disk is away")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			addr, key := echoing(t, opts, func(_ context.Context, text string) (string, error) {
				return "", rpc.Errorf(rpc.Unavailable, "the disk is away")
			})
			for _, args := range [][]string{{"send", "--server-key", key, addr, "a"}, {"call", "--server-key", key, addr, method, `"a"`}} {
				var out, errOut bytes.Buffer
				if code := run(args, nil, &out, &errOut); code != 64+14 || !strings.Contains(errOut.String(), "the disk is away") || strings.Contains(errOut.String(), "session") {
					t.Errorf("%s: exit %d, %q", args[0], code, errOut.String())
				}
			}
			var out, errOut bytes.Buffer
			code := run([]string{"repl", "--server-key", key, addr}, strings.NewReader("a\nb\n"), &out, &errOut)
			if code != 1 || !strings.Contains(errOut.String(), "2 of 2 lines got no reply") {
				t.Errorf("repl: exit %d, %q", code, errOut.String())
			}
		})
	}
}

// TestJSONIsQuiet: what a peer says does nothing to a terminal in JSON either, and is the same to a program.
func TestJSONIsQuiet(t *testing.T) {
	const evil = "\u009b2J\x7f\u202e\u2066\U000e0041"
	addr, key := echoing(t, rpc.Options{}, func(context.Context, string) (string, error) { return evil, nil })
	var out, errOut bytes.Buffer
	if code := run([]string{"send", "--json", "--server-key", key, addr, "a"}, nil, &out, &errOut); code != 0 {
		t.Error(code, errOut.String())
	}
	const want = `{"message":"a","reply":"\u009b2J\u007f\u202e\u2066\udb40\udc41"}` + "\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// TestDescriptionOfNothing: a server whose description refers to types that it does not have is told of, whoever asks.
func TestDescriptionOfNothing(t *testing.T) {
	for _, request := range []int{-1, 7} {
		told, err := msgpack.Marshal(rpc.Description{Methods: []rpc.MethodInfo{{Name: method, Form: "unary", Request: request, Reply: request}}})
		if err != nil {
			t.Fatal(err)
		}
		tell := func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			if req.Method == rpc.Methods.Name {
				return &rpc.Response{Body: told}, nil
			}
			return next(ctx, req)
		}
		addr, key := echoing(t, rpc.Options{Interceptors: []rpc.Interceptor{{Unary: tell}}},
			func(_ context.Context, text string) (string, error) { return text, nil })
		for _, args := range [][]string{{"bench", "-n", "1"}, {"call"}, {"list"}} {
			args = append(append(args, "--server-key", key, addr), map[string][]string{"call": {method, `"a"`}}[args[0]]...)
			var out, errOut bytes.Buffer
			code := run(args, nil, &out, &errOut)
			if refused := code == exitFailed && strings.Contains(errOut.String(), "which is not among its 0"); !refused && args[0] != "list" {
				t.Errorf("%s: exit %d, %q", args[0], code, errOut.String())
			}
		}
	}
}
