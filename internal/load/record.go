package load

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/sealmux/sealmux/rpc"
)

// The digits of what the histograms hold, from 1 ns to Longest: latencies, and how late calls began.
const (
	latencyDigits = 3
	lateDigits    = 2
)

// The bounds of what a run keeps, however long it takes and whatever the server answers.
const (
	maxSeries     = 300 // points of the course over time; once there are more, neighbours become one
	maxFailures   = 32  // kinds of errors that are told apart
	maxSampleText = 200 // bytes of the text of an error
)

// A failure is a kind of error.
type failure struct {
	code    rpc.Code
	outcome rpc.Outcome
}

// failures counts errors of each kind, and keeps the text of the first.
type failures map[failure]*failureCount

type failureCount struct {
	count int64
	first string
}

// failureRest counts the errors of all the kinds that there is no more room for: a server's codes are its own affair.
var failureRest = failure{code: math.MaxUint32}

func (f failures) add(kind failure, count int64, first string) {
	if f[kind] == nil && len(f) >= maxFailures {
		kind, first = failureRest, "of other kinds"
	}
	if f[kind] == nil {
		f[kind] = &failureCount{first: first}
	}
	f[kind].count += count
}

// sorted are the kinds, the most frequent first.
func (f failures) sorted() []failure {
	return slices.SortedFunc(maps.Keys(f), func(a, b failure) int {
		return cmp.Or(cmp.Compare(f[b].count, f[a].count), cmp.Compare(a.code, b.code), cmp.Compare(a.outcome, b.outcome))
	})
}

// A tally is what became of some calls. Latencies are those of calls that were answered without an error and of those that timed
// out, which took at least that long: others that fail may take no time at all, and would flatter.
type tally struct {
	answered, failed, abandoned int64 // abandoned: in flight when the user interrupted, or not sent for the session was lost
	sent, received              int64 // bytes of the messages of answered calls
	min, max                    time.Duration
	sum                         float64 // of the latencies, in ns
	latency                     *hdrhistogram.Histogram
	late                        *hdrhistogram.Histogram // from when a call should have begun to when it did
	failures                    failures
}

func newTally() *tally {
	return &tally{
		latency:  hdrhistogram.New(1, int64(Longest), latencyDigits),
		late:     hdrhistogram.New(1, int64(Longest), lateDigits),
		failures: make(failures),
	}
}

func (t *tally) reset() {
	t.latency.Reset()
	t.late.Reset()
	clear(t.failures)
	*t = tally{latency: t.latency, late: t.late, failures: t.failures}
}

// took records a latency.
func (t *tally) took(latency, late time.Duration) {
	if t.latency.TotalCount() == 0 {
		t.min = latency
	}
	t.min, t.max = min(t.min, latency), max(t.max, latency)
	t.sum += float64(latency)
	t.latency.RecordValue(int64(min(latency, Longest))) // cannot fail in these bounds
	t.late.RecordValue(int64(min(max(late, 0), Longest)))
}

// add adds another tally to this one.
func (t *tally) add(other *tally) {
	if n := other.latency.TotalCount(); n > 0 {
		if t.latency.TotalCount() == 0 {
			t.min = other.min
		}
		t.min, t.max = min(t.min, other.min), max(t.max, other.max)
		t.sum += other.sum
		t.latency.Merge(other.latency)
		t.late.Merge(other.late)
	}
	t.answered, t.failed, t.abandoned = t.answered+other.answered, t.failed+other.failed, t.abandoned+other.abandoned
	t.sent, t.received = t.sent+other.sent, t.received+other.received
	for kind, f := range other.failures {
		t.failures.add(kind, f.count, f.first)
	}
}

// mean is exact, unlike that of the histogram.
func (t *tally) mean() time.Duration {
	return time.Duration(t.sum / float64(max(t.latency.TotalCount(), 1)))
}

// at is the latency that so many of a hundred calls stayed within, to three digits and never above the highest.
func (t *tally) at(percentile float64) time.Duration {
	return min(time.Duration(t.latency.ValueAtQuantile(percentile)), t.max)
}

// A shard is the tally of some callers since it was last collected. Callers do not share one lock.
type shard struct {
	clean func(string) string // Load.Clean

	mu sync.Mutex // protects all below
	*tally
	_ [64]byte // keeps the next shard out of this one's cache line
}

func (s *shard) ok(latency, late time.Duration, sent, received int) {
	s.mu.Lock()
	s.took(latency, late)
	s.answered++
	s.sent, s.received = s.sent+int64(sent), s.received+int64(received)
	s.mu.Unlock()
}

// fail records a call without a reply. One that timed out has a latency.
func (s *shard) fail(err error, expired bool, latency, late time.Duration) {
	kind := failure{rpc.CodeOf(err), rpc.OutcomeOf(err)}
	if expired {
		kind.code = rpc.DeadlineExceeded
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if expired {
		s.took(latency, late)
	}
	s.failed++
	text := ""
	if s.failures[kind] == nil {
		text = s.text(err, expired)
	}
	s.failures.add(kind, 1, text)
}

// text is what an error says beside its kind, on one line.
func (s *shard) text(err error, expired bool) string {
	if expired {
		return "no reply within --timeout"
	}
	text := err.Error()
	if e, ok := errors.AsType[*rpc.Error](err); ok && e.Message != "" {
		text = e.Message
	}
	if s.clean != nil {
		text = s.clean(text)
	}
	return strings.ToValidUTF8(text[:min(len(text), maxSampleText)], "")
}

func (s *shard) abandon() {
	s.mu.Lock()
	s.abandoned++
	s.mu.Unlock()
}

// A recorder gathers what callers measure. Its memory does not grow with time.
type recorder struct {
	shards []*shard

	// The rest belongs to whoever collects.
	spare  *tally // changes places with that of each shard
	total  *tally
	course course
}

func newRecorder(shards int, width time.Duration, clean func(string) string) *recorder {
	r := &recorder{spare: newTally(), total: newTally(), course: course{width: width}}
	for range shards {
		r.shards = append(r.shards, &shard{clean: clean, tally: newTally()})
	}
	return r
}

// collect adds what was measured since the last time. recent, if not nil, gets it too. at is the time since the run began.
func (r *recorder) collect(at time.Duration, recent *tally) {
	before := r.total.answered
	for _, s := range r.shards {
		s.mu.Lock()
		s.tally, r.spare = r.spare, s.tally
		s.mu.Unlock()
		r.total.add(r.spare)
		if recent != nil {
			recent.add(r.spare)
		}
		r.spare.reset()
	}
	r.course.add(at, r.total.answered-before)
}

// A course is how many calls were answered in each stretch of time.
type course struct {
	width  time.Duration // of a stretch
	last   time.Duration // up to when they are counted
	counts []float64
}

// add counts calls that were answered since the last time, evenly over the stretches until at.
func (c *course) add(at time.Duration, count int64) {
	for at > c.width*maxSeries {
		for i := range (len(c.counts) + 1) / 2 {
			c.counts[i] = c.counts[2*i]
			if 2*i+1 < len(c.counts) {
				c.counts[i] += c.counts[2*i+1]
			}
		}
		c.counts = c.counts[:(len(c.counts)+1)/2]
		c.width *= 2
	}
	if len(c.counts) == 0 {
		c.counts = append(c.counts, 0)
	}
	if at <= c.last { // no time has passed
		c.counts[len(c.counts)-1] += float64(count)
		return
	}
	each := float64(count) / float64(at-c.last)
	for c.last < at {
		i := int(c.last / c.width)
		for len(c.counts) <= i {
			c.counts = append(c.counts, 0)
		}
		until := min(at, time.Duration(i+1)*c.width)
		c.counts[i] += each * float64(until-c.last)
		c.last = until
	}
}

// end makes a short last stretch part of the one before: a rate of a moment would look like a collapse.
func (c *course) end(took time.Duration) {
	last := len(c.counts) - 1
	if last > 0 && took-time.Duration(last)*c.width < c.width/2 {
		c.counts[last-1] += c.counts[last]
		c.counts = c.counts[:last]
	}
}

// rate is the answered calls a second in stretch i of a run that took so long. The last stretch is what is left.
func (c *course) rate(i int, took time.Duration) float64 {
	width := c.width
	if i == len(c.counts)-1 {
		width = took - time.Duration(i)*c.width
	}
	if width <= 0 {
		return 0
	}
	return c.counts[i] / width.Seconds()
}
