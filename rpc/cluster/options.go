package cluster

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// Options are the habits of a Client. Dial must be set. The zero value of anything else, or a negative limit, stands for its default.
type Options struct {
	// Dial makes a session to an endpoint, and must give up when ctx ends. DialTransport makes one for sessions of this module. The
	// Client owns the session, and no trust is its own: whom it talks to is decided here.
	Dial func(ctx context.Context, e Endpoint) (rpc.Session, error)
	// RPC are the options of the rpc.Client of each session. Its Interceptors stand around each attempt at a call, and around the
	// Client's own calls of rpc.Health, which have nothing of a caller in their context: one that refuses these for want of
	// a token, say, keeps every session from rotation.
	RPC rpc.Options
	// Balancer places calls. Default LeastLoaded().
	Balancer Balancer
	// Policy says what may be done for calls of a method; it must be quick. Default: the zero Policy for all.
	Policy func(method string) Policy
	// Budget bounds retries and hedges.
	Budget Budget

	// Subset is how many of the service's endpoints this client has sessions to. Default 0: all. With many clients of many
	// servers set it to 20 or so: every server then has about as many clients as any other. Leave it off with ConsistentHash.
	Subset int
	// ID decides which endpoints the subset holds: a client that starts again under its ID has the same. Default: random.
	ID string
	// Eager has sessions made by New. Default: with the first call. Either way they are then kept up.
	Eager bool
	// MaxDials is how many sessions are in the making at once; one to each endpoint. Default 8.
	MaxDials int
	// DialTimeout bounds Dial, and the first call, by which a session shows that it answers. Default 10 s.
	DialTimeout time.Duration
	// Backoff is how long to wait between sessions to one endpoint.
	Backoff Backoff

	// StallAfter takes an endpoint out of rotation whose server has gone silent: one with calls in flight that has answered none for so long
	// is asked (rpc.Health), and is out if it is silent for as long again: at most 2.5 x StallAfter behind the first call
	// that it does not answer. It is back when it answers.
	// Default 2 s; negative: never.
	StallAfter time.Duration
	// Outlier takes endpoints out of rotation that answer worse than the others.
	Outlier Outlier

	// Logger gets sessions that come (Info) and end or cannot be made (Warn), ejections (Warn) and a resolver's errors (Warn).
	// One goroutine logs; what comes while it keeps 64 others waiting is not told. Default: nothing is logged.
	Logger *slog.Logger
}

// A Policy is what the Client may do for calls of one method. The zero value repeats only what never ran.
type Policy struct {
	// Idempotent says that the method may run twice for one call. Then a unary call that may have run is repeated, if the Budget
	// allows. A handler that must know sees the same request id each time (rpc.WithRequestID). Streams and connections are not repeated.
	Idempotent bool
	// MaxAttempts bounds how often a call is sent because a server was overloaded or the call may have run. Default 4.
	MaxAttempts int
	// HedgeAfter sends a unary call that was not answered for so long to one more endpoint, and takes the first answer; the other
	// call is cancelled. Only if Idempotent. Up to MaxHedges times, default 1, if the Budget allows. Default 0: never.
	HedgeAfter time.Duration
	MaxHedges  int
	// FailFast has a call fail as Unavailable, not sent, when no session is up and none can be made, rather than wait until
	// there is one or its context ends.
	FailFast bool
}

// An Outlier says when an endpoint is ejected: taken out of rotation for a time. What counts as a failure is Unavailable, Internal,
// DataLoss, and a deadline that passed without an answer; neither a drain nor the loss of a session, for which there is
// Backoff, nor overload, which LeastLoaded evens out.
type Outlier struct {
	// Consecutive failures eject. Default 5; negative: any number is tolerated.
	Consecutive int
	// Deviations is how many standard deviations below the mean of all endpoints the share of calls that went well may be, in one Interval,
	// of those that had 100 calls in it, if there are 5 such. Default 1.9; negative: any.
	Deviations float64
	// Interval between looks at the shares. Default 10 s.
	Interval time.Duration
	// BaseTime is how long the first ejection lasts. Each further one lasts BaseTime longer, up to MaxTime; each Interval without makes the
	// next shorter. Defaults 30 s and 300 s.
	BaseTime, MaxTime time.Duration
	// MaxShare of all endpoints that may be ejected at once; one always may, the last in rotation never. If the others are lost
	// later, those that are ejected serve until one is back. Default 0.3.
	MaxShare float64
}

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		panic("cluster: Options.Dial is not set; DialTransport makes one")
	}
	if o.Balancer == nil {
		o.Balancer = LeastLoaded()
	}
	if o.Policy == nil {
		o.Policy = func(string) Policy { return Policy{} }
	}
	if o.ID == "" {
		o.ID = strconv.FormatUint(rand.Uint64(), 36)
	}
	if o.Subset <= 0 {
		o.Subset = 0
	}
	fill(&o.MaxDials, 8)
	fill(&o.DialTimeout, 10*time.Second)
	fill(&o.Backoff.Base, 500*time.Millisecond)
	fill(&o.Backoff.Max, 30*time.Second)
	o.Backoff.Max = max(o.Backoff.Max, o.Backoff.Base)
	tune(&o.Budget.Ratio, 0.1, 0)
	tune(&o.Budget.PerSecond, 10, 0)
	tune(&o.StallAfter, 2*time.Second, 0)
	tune(&o.Outlier.Consecutive, 5, math.MaxInt)
	tune(&o.Outlier.Deviations, 1.9, math.Inf(1))
	fill(&o.Outlier.Interval, 10*time.Second)
	fill(&o.Outlier.BaseTime, 30*time.Second)
	fill(&o.Outlier.MaxTime, 300*time.Second)
	o.Outlier.MaxTime = max(o.Outlier.MaxTime, o.Outlier.BaseTime)
	fill(&o.Outlier.MaxShare, 0.3)
	return o
}

func (p Policy) withDefaults() Policy {
	fill(&p.MaxAttempts, 4)
	fill(&p.MaxHedges, 1)
	if p.HedgeAfter <= 0 || !p.Idempotent {
		p.HedgeAfter, p.MaxHedges = 0, 0
	}
	return p
}

type number interface {
	~int | ~int64 | ~float64
}

// fill sets a default for what must be more than nothing.
func fill[N number](v *N, def N) {
	if *v <= 0 {
		*v = def
	}
}

// tune is fill for what can be turned off.
func tune[N number](v *N, def, off N) {
	switch {
	case *v == 0:
		*v = def
	case *v < 0:
		*v = off
	}
}
