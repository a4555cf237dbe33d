package cluster

import (
	"context"
	"errors"
	"sync"

	"github.com/sealmux/sealmux/rpc"
)

// A verdict is what may be done about a failed attempt.
type verdict int

const (
	final      verdict = iota // it stands
	elsewhere                 // it never ran, and cost no server anything: again at once, on another session
	overloaded                // it never ran, for the server had too much to do: again later
	perhaps                   // it may have run
)

// verdictOf looks at the error of an attempt: an *rpc.Error, or what an interceptor made of one.
func verdictOf(err error) verdict {
	code, outcome := rpc.CodeOf(err), rpc.OutcomeOf(err)
	switch {
	case outcome == rpc.NotSent && code == rpc.Unavailable:
		return elsewhere
	case outcome == rpc.NotExecuted && code == rpc.Unavailable:
		if errors.Is(err, rpc.ErrDraining) {
			return elsewhere
		}
		return overloaded
	case outcome == rpc.NotExecuted && code == rpc.ResourceExhausted:
		return overloaded
	case outcome == rpc.OutcomeUnknown && code == rpc.Unavailable:
		return perhaps
	}
	return final
}

// A judgement is what an attempt's end says about its endpoint.
type judgement int

const (
	good    judgement = iota // it answered
	bad                      // it failed
	refused                  // it is overloaded
	silent                   // nothing
)

func judge(err error) judgement {
	code, outcome := rpc.CodeOf(err), rpc.OutcomeOf(err)
	answered := outcome == rpc.Executed || outcome == rpc.NotExecuted
	switch {
	case outcome == rpc.NotExecuted && (code == rpc.ResourceExhausted || errors.Is(err, rpc.ErrDraining)):
		return refused
	case code == rpc.Unavailable, code == rpc.Internal, code == rpc.DataLoss:
		return bad
	case code == rpc.DeadlineExceeded && outcome == rpc.OutcomeUnknown:
		return bad
	case answered: // an application's error is an answer
		return good
	}
	return silent
}

// A tries is what became of the attempts at one call so far. Hedges share it.
type tries struct {
	policy Policy

	mu      sync.Mutex // protects all below
	used    []*session // not to be used again before the others
	rounds  int        // how often all had been used
	ran     bool       // an attempt may have run
	refused bool       // a server says that it did not run one
	paid    int        // attempts that the Budget paid for
	last    error      // of the last attempt
}

// use notes where an attempt goes.
func (t *tries) use(s *session) {
	t.mu.Lock()
	t.used = append(t.used, s)
	t.mu.Unlock()
}

// note notes how an attempt has failed.
func (t *tries) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = err
	switch rpc.OutcomeOf(err) {
	case rpc.OutcomeUnknown:
		t.ran = true
	case rpc.NotExecuted:
		t.refused = true
	}
}

// settle makes the call's error of the one that ends it: its outcome is true of all attempts together.
func (t *tries) settle(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := rpc.Error{Code: rpc.CodeOf(err), Message: err.Error()}
	if e, _ := errors.AsType[*rpc.Error](err); e != nil {
		own = *e
	}
	switch {
	case own.Outcome == rpc.Executed: // by this attempt, whatever the others did
	case t.ran:
		own.Outcome = rpc.OutcomeUnknown
	case own.Outcome == rpc.NotSent && t.refused:
		own.Outcome = rpc.NotExecuted
	}
	return &own
}

// fail is the error of an attempt that was never made.
func fail(code rpc.Code, cause error) error {
	e, _ := errors.AsType[*rpc.Error](rpc.Errorf(code, "%w", cause))
	e.Outcome = rpc.NotSent
	return e
}

// failContext is fail for a call whose context has ended. why is what it was waiting for, if that is known.
func failContext(ctx context.Context, why error) error {
	cause := context.Cause(ctx)
	if why != nil {
		cause = &waitError{cause, why}
	}
	return fail(rpc.CodeOf(ctx.Err()), cause)
}

// A waitError says that a context has ended, and why there was something to wait for.
type waitError struct{ ended, why error }

func (e *waitError) Error() string   { return e.ended.Error() + "; until then: " + e.why.Error() }
func (e *waitError) Unwrap() []error { return []error{e.ended, e.why} }
