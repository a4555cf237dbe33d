package rpc

import (
	"context"
	"testing"
	"testing/synctest"
)

// A method that takes one request is not run before that has come whole: whatever is wrong until then, its caller learns that
// it did not run. The code may be told by an interceptor, which did.
func TestNotRunBeforeItsRequest(t *testing.T) {
	seen := 0
	var told error
	around := Interceptor{Stream: func(ctx context.Context, req *Request, s MessageStream, next StreamFunc) error {
		seen++
		told = next(ctx, req, s)
		return told
	}}
	for name, opts := range map[string]Options{"plain": {}, "intercepted": {Interceptors: []Interceptor{around}}} {
		for _, c := range []struct {
			what string
			code Code
			send func(s RawStream, srv *Server)
		}{
			{"no request", InvalidArgument, func(s RawStream, _ *Server) { s.CloseSend() }},
			{"two requests", InvalidArgument, func(s RawStream, _ *Server) { s.Send(Raw{1}); s.Send(Raw{2}); s.CloseSend() }},
			{"text for a number", InvalidArgument, func(s RawStream, _ *Server) { s.Send(Raw{0xa1, 'x'}); s.CloseSend() }},
			{"half a value", InvalidArgument, func(s RawStream, _ *Server) { s.Send(Raw{0x91}); s.CloseSend() }},
			{"a server that is closed", Unavailable, func(_ RawStream, srv *Server) { go srv.Close() }},
		} {
			t.Run(name+"/"+c.what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv, ran := NewServer(opts), false
					count.Handle(srv, func(context.Context, int, func(int) error) error {
						ran = true
						return nil
					})
					client, _ := start(t, srv, Options{})
					seen = 0
					s, err := client.Open(bg, &Request{Method: "count"})
					if err != nil {
						t.Fatal(err)
					}
					defer s.Close()
					synctest.Wait() // its goroutine waits for the request
					c.send(s, srv)
					_, err = s.Recv()
					synctest.Wait()
					if seen > 0 && (CodeOf(told) != c.code || OutcomeOf(told) != NotExecuted) {
						t.Errorf("the interceptor was told %v, %v", told, OutcomeOf(told))
					}
					if ran || seen != len(opts.Interceptors) {
						t.Errorf("ran: %v, interceptors called: %d", ran, seen)
					}
					if o := OutcomeOf(err); CodeOf(err) != c.code || o != NotExecuted && !(c.code == Unavailable && o == OutcomeUnknown) {
						t.Error(err)
					}
				})
			})
		}
	}
}
