package rpc

import (
	"context"
	"io"
	"testing"
)

// TestInfoOutcome: an interceptor knows what the caller will be told, whatever the error looks like.
func TestInfoOutcome(t *testing.T) {
	seen := make(chan Outcome, 1)
	see := func(ctx context.Context, err *error, panicked *bool) {
		if *panicked {
			*err = Internal
		}
		seen <- InfoFrom(ctx).Outcome(*err)
	}
	outer := Interceptor{
		Unary: func(ctx context.Context, req *Request, next UnaryFunc) (resp *Response, err error) {
			panicked := true
			defer see(ctx, &err, &panicked)
			resp, err = next(ctx, req)
			panicked = false
			return resp, err
		},
		Stream: func(ctx context.Context, req *Request, s MessageStream, next StreamFunc) (err error) {
			panicked := true
			defer see(ctx, &err, &panicked)
			err = next(ctx, req, s)
			panicked = false
			return err
		},
	}
	refuses := func(ctx context.Context, method string) error {
		switch method {
		case "denied":
			return PermissionDenied
		case "panics":
			panic("an interceptor's")
		}
		return nil
	}
	inner := Interceptor{
		Unary: func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error) {
			if err := refuses(ctx, req.Method); err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		Stream: func(ctx context.Context, req *Request, s MessageStream, next StreamFunc) error {
			if err := refuses(ctx, req.Method); err != nil {
				return err
			}
			return next(ctx, req, s)
		},
	}
	results := map[string]error{"well": nil, "denied": nil, "panics": nil, "fails": NotFound, "hands on": &Error{Code: Unavailable, Outcome: NotExecuted}, "body": nil, "crashes": nil}
	for _, stream := range []bool{false, true} {
		srv := NewServer(Options{Interceptors: []Interceptor{outer, inner}})
		for name, err := range results {
			fn := func(context.Context, int) (int, error) { return 1, err }
			if name == "crashes" {
				fn = func(context.Context, int) (int, error) { panic("a handler's") }
			}
			if stream {
				ServerStream[int, int]{Name: name}.Handle(srv, func(ctx context.Context, n int, _ func(int) error) error { _, err := fn(ctx, n); return err })
			} else {
				Handle(srv, name, fn)
			}
		}
		c, _ := start(t, srv, Options{})
		for name := range results {
			var err error
			request := Raw{1}
			if name == "body" {
				request = Raw{0xa1, 'x'}
			}
			if stream {
				s, failed := c.Open(bg, &Request{Method: name, Body: request})
				if failed != nil {
					t.Fatal(failed)
				}
				for err == nil {
					_, err = s.Recv()
				}
				if err == io.EOF {
					err = nil
				}
				s.Close()
			} else {
				_, err = c.Do(bg, &Request{Method: name, Body: request})
			}
			if got := <-seen; got != OutcomeOf(err) {
				t.Errorf("%s, stream %t: the interceptor saw %v, the caller %v", name, stream, got, err)
			}
		}
	}
	if (Info{}).Outcome(NotFound) != OutcomeUnknown || (Info{}).Outcome(nil) != Executed {
		t.Error("an Info of no call")
	}
}
