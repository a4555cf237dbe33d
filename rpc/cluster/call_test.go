package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// TestEveryForm: a typed method, a stream and a connection work on a Client as on one session.
func TestEveryForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		count := rpc.ServerStream[int, int]{Name: "count"}
		sum := rpc.ClientStream[int, int]{Name: "sum"}
		echo := rpc.Bidi[string, string]{Name: "echo"}
		connEnds := make(chan error, 2) // of both connections
		for _, addr := range []string{"a", "b", "c"} {
			f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
				where.Handle(s, func(ctx context.Context, _ string) (string, error) {
					rpc.InfoFrom(ctx).SetTrailer("seen", rpc.InfoFrom(ctx).Header().Get("tenant")+rpc.InfoFrom(ctx).RequestID())
					return addr, nil
				})
				count.Handle(s, func(_ context.Context, n int, send func(int) error) error {
					for i := range n {
						if err := send(i); err != nil {
							return err
						}
					}
					return nil
				})
				sum.Handle(s, func(_ context.Context, items iter.Seq2[int, error]) (total int, err error) {
					for n, err := range items {
						if err != nil {
							return 0, err
						}
						total += n
					}
					return total, nil
				})
				echo.Handle(s, func(ctx context.Context, s *rpc.Stream[string, string]) error {
					for m, err := range s.All() {
						if err != nil {
							return err
						}
						if err := s.Send(m); err != nil {
							return err
						}
					}
					return nil
				})
				rpc.HandleConn(s, "raw", func(_ context.Context, conn net.Conn) error {
					_, err := io.Copy(conn, conn)
					connEnds <- err
					return err
				})
			})
		}
		c := f.client(t, Static("a", "b", "c"), Options{})
		ctx := within(t, time.Minute)
		var received rpc.Received
		asked := rpc.WithReceived(rpc.WithRequestID(rpc.WithHeader(ctx, "tenant", "t7"), "-42"), &received)
		if at, err := where.Call(asked, c, ""); err != nil || at == "" || received.Trailer.Get("seen") != "t7-42" {
			t.Error(at, err, received)
		}
		n := 0
		for i, err := range count.Call(ctx, c, 1000) {
			if err != nil || i != n {
				t.Fatal(i, err)
			}
			n++
		}
		if n != 1000 {
			t.Error(n)
		}
		if total, err := sum.Call(ctx, c, slices.Values([]int{1, 2, 3})); err != nil || total != 6 {
			t.Error(total, err)
		}
		s, err := echo.Open(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send("x"); err != nil {
			t.Error(err)
		}
		if m, err := s.Recv(); err != nil || m != "x" {
			t.Error(m, err)
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Error(err)
		}
		if _, err := s.Recv(); err != io.EOF {
			t.Error(err)
		}
		conn, err := c.OpenConn(ctx, "raw")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "bytes")
		conn.(interface{ CloseWrite() error }).CloseWrite()
		if b, err := io.ReadAll(conn); err != nil || string(b) != "bytes" {
			t.Error(string(b), err)
		}
		conn.Close()
		conn.Close()
		if conn, err = c.OpenConn(ctx, "raw"); err != nil {
			t.Fatal(err)
		}
		conn.(interface{ Reset() error }).Reset()
		if whole, cut := <-connEnds, <-connEnds; whole != nil || cut == nil {
			t.Errorf("the handlers were told %v of a whole connection, %v of one that was reset", whole, cut)
		}
		left, cancel := context.WithCancel(ctx)
		if _, err := echo.Open(left, c); err != nil { // given up without a word
			t.Error(err)
		}
		cancel()
		synctest.Wait()
		for _, e := range c.Snapshot().Endpoints {
			if e.InFlight != 0 || e.State != "ready" {
				t.Errorf("%+v", e)
			}
		}
	})
}

// TestVerdicts: what is repeated is what never ran because of the server's state, and nothing else by itself.
func TestVerdicts(t *testing.T) {
	type row struct {
		code    rpc.Code
		outcome rpc.Outcome
		drain   bool
		verdict verdict
		judge   judgement
	}
	rows := []row{
		{rpc.Unavailable, rpc.NotSent, false, elsewhere, bad},
		{rpc.Unavailable, rpc.NotSent, true, elsewhere, bad}, // its session tells that it drains
		{rpc.Unavailable, rpc.NotExecuted, true, elsewhere, refused},
		{rpc.Unavailable, rpc.NotExecuted, false, overloaded, bad},
		{rpc.ResourceExhausted, rpc.NotExecuted, false, overloaded, refused},
		{rpc.ResourceExhausted, rpc.NotSent, false, final, silent}, // too large to send
		{rpc.Unavailable, rpc.OutcomeUnknown, false, perhaps, bad},
		{rpc.DeadlineExceeded, rpc.OutcomeUnknown, false, final, bad},
		{rpc.DeadlineExceeded, rpc.NotSent, false, final, silent},
		{rpc.DeadlineExceeded, rpc.NotExecuted, false, final, good},
		{rpc.Canceled, rpc.OutcomeUnknown, false, final, silent},
		{rpc.Unavailable, rpc.Executed, false, final, bad},
		{rpc.Internal, rpc.Executed, false, final, bad},
		{rpc.NotFound, rpc.Executed, false, final, good},
		{rpc.Unimplemented, rpc.NotExecuted, false, final, good},
		{rpc.PermissionDenied, rpc.NotExecuted, false, final, good},
		{rpc.InvalidArgument, rpc.NotSent, false, final, silent},
	}
	for _, r := range rows {
		cause := errors.New("cause")
		if r.drain {
			cause = rpc.ErrDraining
		}
		err := rpc.Errorf(r.code, "%w", cause)
		err.(*rpc.Error).Outcome = r.outcome
		if v := verdictOf(err); v != r.verdict {
			t.Errorf("%v: verdict %d, want %d", err, v, r.verdict)
		}
		if j := judge(err); j != r.judge {
			t.Errorf("%v: judged %d, want %d", err, j, r.judge)
		}
	}
	if judge(nil) != good || verdictOf(errors.New("of an interceptor")) != final {
		t.Error("nil, or an error that nobody knows")
	}
}

// TestSettle: an error's outcome is true of all attempts.
func TestSettle(t *testing.T) {
	with := func(o rpc.Outcome) error {
		err := rpc.Errorf(rpc.Unavailable, "x")
		err.(*rpc.Error).Outcome = o
		return err
	}
	const unknown, unsent, refused, executed = rpc.OutcomeUnknown, rpc.NotSent, rpc.NotExecuted, rpc.Executed
	for _, row := range []struct {
		attempts []rpc.Outcome // the last is the one that ends the call
		want     rpc.Outcome
	}{
		{[]rpc.Outcome{unsent}, unsent},
		{[]rpc.Outcome{refused}, refused},
		{[]rpc.Outcome{unknown}, unknown},
		{[]rpc.Outcome{executed}, executed},
		{[]rpc.Outcome{unknown, unsent}, unknown},
		{[]rpc.Outcome{unknown, refused, unsent}, unknown},
		{[]rpc.Outcome{refused, unsent}, refused},
		{[]rpc.Outcome{unsent, unsent}, unsent},
		{[]rpc.Outcome{unknown, executed}, executed},
	} {
		var tr tries
		for _, o := range row.attempts {
			tr.note(with(o))
		}
		err := tr.settle(with(row.attempts[len(row.attempts)-1]))
		if got := rpc.OutcomeOf(err); got != row.want {
			t.Errorf("%v: %v, want %v", row.attempts, got, row.want)
		}
		if !errors.Is(err, rpc.Unavailable) {
			t.Error(err)
		}
	}
	plain := new(tries).settle(errors.New("of an interceptor"))
	want(t, plain, rpc.Unknown, rpc.OutcomeUnknown)
}

// TestWaits: a call without a session waits for one under its deadline, or not at all, as its policy says.
func TestWaits(t *testing.T) {
	bubble(t, "until one is there", func(t *testing.T) {
		f := new(fleet)
		c := f.client(t, Static("a"), Options{})
		time.AfterFunc(20*time.Second, func() { f.start(t, "a", rpc.Options{}, named("a")) })
		began := time.Now()
		if at, err := where.Call(within(t, 2*time.Minute), c, ""); err != nil || at != "a" {
			t.Error(at, err)
		}
		// The backoff may have just begun to wait.
		if took := time.Since(began); took < 20*time.Second || took > 50*time.Second {
			t.Error(took)
		}
	})
	bubble(t, "until its deadline", func(t *testing.T) {
		c := new(fleet).client(t, Static("a"), Options{})
		began := time.Now()
		_, err := where.Call(within(t, 7*time.Second), c, "")
		want(t, err, rpc.DeadlineExceeded, rpc.NotSent)
		if took := time.Since(began); took != 7*time.Second {
			t.Error(took)
		}
		if !errors.Is(err, errRefused) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("it does not say why: %v", err)
		}
	})
	bubble(t, "not at all", func(t *testing.T) {
		c := new(fleet).client(t, Static("a", "b"), Options{Policy: func(string) Policy { return Policy{FailFast: true} }})
		_, err := where.Call(within(t, time.Hour), c, "")
		want(t, err, rpc.Unavailable, rpc.NotSent)
		if !errors.Is(err, ErrNoEndpoint) || !errors.Is(err, errRefused) {
			t.Error(err)
		}
	})
	bubble(t, "for a resolver with no answer", func(t *testing.T) {
		list := new(List)
		c := new(fleet).client(t, list, Options{Policy: func(string) Policy { return Policy{FailFast: true} }})
		_, err := where.Call(within(t, time.Hour), c, "")
		want(t, err, rpc.Unavailable, rpc.NotSent)
		if !errors.Is(err, ErrNoEndpoint) {
			t.Error(err)
		}
	})
	bubble(t, "on a closed client", func(t *testing.T) {
		f := new(fleet)
		c := f.client(t, Static("a"), Options{})
		ended := make(chan error, 1)
		go func() { _, err := where.Call(bg, c, ""); ended <- err }()
		synctest.Wait()
		c.Close()
		want(t, <-ended, rpc.Unavailable, rpc.NotSent)
		_, err := where.Call(bg, c, "")
		want(t, err, rpc.Unavailable, rpc.NotSent)
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		c.Close()
	})
}

// TestOverload: a server that has too much to do is asked again, later, within attempts, budget and deadline, and not before it asks for it.
func TestOverload(t *testing.T) {
	for name, row := range map[string]struct {
		after    time.Duration // the server's retry-after
		deadline time.Duration
		refusals int64
		opts     Options
		ok       bool
		attempts int64
		least    time.Duration
	}{
		"it recovers":          {0, time.Minute, 2, Options{}, true, 3, 0},
		"it does not":          {0, time.Minute, 1 << 30, Options{}, false, 4, 0},
		"with a retry-after":   {time.Second, time.Minute, 2, Options{}, true, 3, 2 * time.Second},
		"behind the deadline":  {time.Second, time.Second, 1, Options{}, false, 1, 0},
		"in a very long time":  {time.Hour, 2 * time.Hour, 1, Options{}, false, 1, 0},
		"without a budget":     {0, time.Minute, 2, Options{Budget: Budget{Ratio: -1, PerSecond: -1}}, false, 1, 0},
		"with fewer attempts":  {0, time.Minute, 2, Options{Policy: func(string) Policy { return Policy{MaxAttempts: 2} }}, false, 2, 0},
		"with an endless room": {0, time.Hour, 6, Options{Policy: func(string) Policy { return Policy{MaxAttempts: 100} }}, true, 7, 0},
	} {
		bubble(t, name, func(t *testing.T) {
			f := new(fleet)
			var asked atomic.Int64
			full := &rpc.Error{Code: rpc.ResourceExhausted, RetryAfter: row.after}
			f.start(t, "a", rpc.Options{Authorize: func(_ context.Context, req *rpc.Request) error {
				if req.Method == where.Name && asked.Add(1) <= row.refusals {
					return full
				}
				return nil
			}}, named("a"))
			c := f.client(t, Static("a"), row.opts)
			began := time.Now()
			_, err := where.Call(within(t, row.deadline), c, "")
			if (err == nil) != row.ok || asked.Load() != row.attempts {
				t.Errorf("%v after %d attempts", err, asked.Load())
			}
			if !row.ok {
				want(t, err, rpc.ResourceExhausted, rpc.NotExecuted)
			}
			if took := time.Since(began); took < row.least {
				t.Error(took)
			}
		})
	}
}

// TestExecutedStands: whatever a handler says of itself, it has run.
func TestExecutedStands(t *testing.T) {
	for _, code := range []rpc.Code{rpc.Unavailable, rpc.ResourceExhausted, rpc.Internal, rpc.Aborted, rpc.NotFound} {
		bubble(t, code.String(), func(t *testing.T) {
			f := new(fleet)
			var ran atomic.Int64
			for _, addr := range []string{"a", "b"} {
				f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
					work.Handle(s, func(context.Context, int) (int, error) {
						ran.Add(1)
						return 0, &rpc.Error{Code: code, Outcome: rpc.NotExecuted, RetryAfter: time.Millisecond}
					})
				})
			}
			c := f.client(t, Static("a", "b"), Options{Policy: func(string) Policy { return Policy{Idempotent: true} }})
			_, err := work.Call(within(t, time.Minute), c, 1)
			want(t, err, code, rpc.Executed)
			if ran.Load() != 1 {
				t.Error(ran.Load())
			}
		})
	}
}

// TestMayHaveRun: a call whose session is cut is repeated only if its method is idempotent, and only as the budget allows.
func TestMayHaveRun(t *testing.T) {
	always := func(string) Policy { return Policy{Idempotent: true} }
	for name, row := range map[string]struct {
		opts Options
		cuts int64
		ran  int64
		ok   bool
	}{
		"not idempotent": {Options{}, 1, 1, false},
		"idempotent":     {Options{Policy: always}, 1, 2, true},
		"cut each time":  {Options{Policy: always}, 1 << 30, 4, false},
		"no budget":      {Options{Policy: always, Budget: Budget{Ratio: -1, PerSecond: -1}}, 1, 1, false},
	} {
		bubble(t, name, func(t *testing.T) {
			f := new(fleet)
			var ran atomic.Int64
			for _, addr := range []string{"a", "b"} {
				var s *server
				s = f.start(t, addr, rpc.Options{}, func(srv *rpc.Server) {
					work.Handle(srv, func(context.Context, int) (int, error) {
						if ran.Add(1) <= row.cuts {
							s.cut()
						}
						return 7, nil
					})
				})
			}
			c := f.client(t, Static("a", "b"), row.opts)
			n, err := work.Call(within(t, time.Hour), c, 1)
			if (err == nil && n == 7) != row.ok || ran.Load() != row.ran {
				t.Errorf("%d, %v, ran %d times", n, err, ran.Load())
			}
			if !row.ok {
				want(t, err, rpc.Unavailable, rpc.OutcomeUnknown)
			}
		})
	}
}

// TestUnknownDominates: an attempt that may have run is not forgotten when a later one was never sent.
func TestUnknownDominates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		var s *server
		s = f.start(t, "a", rpc.Options{}, func(srv *rpc.Server) {
			work.Handle(srv, func(context.Context, int) (int, error) {
				f.leave(s)
				s.cut()
				return 7, nil
			})
		})
		c := f.client(t, Static("a"), Options{Policy: func(string) Policy { return Policy{Idempotent: true} }})
		_, err := work.Call(within(t, time.Minute), c, 1)
		want(t, err, rpc.DeadlineExceeded, rpc.OutcomeUnknown)
	})
}

// TestInterceptorsSeeEachAttempt, and what they add for one does not show in the next.
func TestInterceptorsSeeEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		attempts := 0
		f.start(t, "a", rpc.Options{Authorize: func(_ context.Context, req *rpc.Request) error {
			if req.Method != where.Name {
				return nil
			}
			if n := len(req.Header["try"]); n != 1 {
				t.Errorf("%d values", n)
			}
			if attempts++; attempts < 3 {
				return rpc.ResourceExhausted
			}
			return nil
		}}, named("a"))
		add := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			if req.Header == nil {
				req.Header = make(rpc.Metadata)
			}
			req.Header.Add("try", fmt.Sprint(attempts))
			return next(ctx, req)
		}}
		c := f.client(t, Static("a"), Options{RPC: rpc.Options{Interceptors: []rpc.Interceptor{add}}})
		if _, err := where.Call(rpc.WithHeader(within(t, time.Minute), "a", "b"), c, ""); err != nil || attempts != 3 {
			t.Error(err, attempts)
		}
	})
}

// TestNeverThere: a call that no session takes, though they are up, goes on at a pace that falls, until its deadline.
func TestNeverThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		f.start(t, "a", rpc.Options{}, named("a"))
		f.start(t, "b", rpc.Options{}, named("b"))
		attempts := 0
		gone := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			if req.Method != where.Name {
				return next(ctx, req)
			}
			attempts++
			return nil, rpc.Unavailable
		}}
		c := f.client(t, Static("a", "b"), Options{RPC: rpc.Options{Interceptors: []rpc.Interceptor{gone}}})
		_, err := where.Call(within(t, time.Minute), c, "")
		want(t, err, rpc.DeadlineExceeded, rpc.NotSent)
		if !errors.Is(err, rpc.Unavailable) || attempts < 20 || attempts > 1000 { // two each half second in the mean
			t.Error(attempts, err)
		}
	})
}

// TestRetryAfterForEver: a server that asks for more time than there is gets no retry.
func TestRetryAfterForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, asked := new(fleet), new(atomic.Int64)
		f.start(t, "a", rpc.Options{Authorize: func(_ context.Context, req *rpc.Request) error {
			if req.Method != where.Name {
				return nil
			}
			asked.Add(1)
			return rpc.ResourceExhausted
		}}, named("a"))
		refuse := rpc.Interceptor{Unary: func(ctx context.Context, req *rpc.Request, next rpc.UnaryFunc) (*rpc.Response, error) {
			resp, err := next(ctx, req)
			if e, _ := errors.AsType[*rpc.Error](err); e != nil {
				e.RetryAfter = math.MaxInt64 // about the most that can come from a server
			}
			return resp, err
		}}
		c := f.client(t, Static("a"), Options{RPC: rpc.Options{Interceptors: []rpc.Interceptor{refuse}}})
		_, err := where.Call(within(t, time.Hour), c, "")
		want(t, err, rpc.ResourceExhausted, rpc.NotExecuted)
		if asked.Load() != 1 {
			t.Errorf("%d attempts", asked.Load())
		}
	})
}
