package load

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealmux/sealmux/internal/termtext"
	"github.com/sealmux/sealmux/rpc"
)

// A Report tells what was asked of a server, and what came of it.
type Report struct {
	Load        *Load
	Call        string        // each call in words that a terminal may show: its method, and how large its message is
	Addr        string        // of the server
	Fingerprint string        // of the server's key
	Handshakes  time.Duration // how long those of all sessions took, one after the other

	Run *Run // what Measure returned; Header does without
}

// A Style gives text a look, or returns it as it is. All of its functions are needed.
type Style struct {
	Bold, Dim, Red, Yellow func(string) string
}

// percentiles are those that are printed, in percent.
var percentiles = []struct {
	name string
	at   float64
}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}}

// Header says in two lines what will be done.
func (r *Report) Header(s Style) string {
	return fmt.Sprintf("bench %s key %s: %s in %s ms\n%s\n", s.Bold(r.Addr), r.Fingerprint,
		termtext.Plural(int64(len(r.Load.Clients)), "session"), termtext.Milliseconds(r.Handshakes), r.what())
}

// what is the load in one line.
func (r *Report) what() string {
	l := r.Load
	var b strings.Builder
	fmt.Fprintf(&b, "%s a call, ", r.Call)
	if l.Streams > 0 {
		fmt.Fprintf(&b, "%s, ", termtext.Plural(int64(l.Streams), "stream"))
	}
	if l.Rate > 0 {
		fmt.Fprintf(&b, "open loop: %s calls/s, at most %d in flight", number(l.Rate), l.Callers)
	} else {
		fmt.Fprintf(&b, "closed loop: %d in flight", l.Callers)
	}
	if l.Calls > 0 {
		fmt.Fprintf(&b, ", %s", termtext.Plural(l.Calls, "call"))
	}
	if l.Duration > 0 {
		fmt.Fprintf(&b, ", %v", l.Duration)
	}
	if l.WarmUp > 0 {
		fmt.Fprintf(&b, " after %v of warm-up", l.WarmUp)
	}
	return b.String()
}

// Text shows a person what was measured, and which errors there were.
func (r *Report) Text(s Style) string {
	var b strings.Builder
	t := r.Run.record.total
	switch {
	case r.Run.cold:
		fmt.Fprintf(&b, "\nit ended in the warm-up: nothing was measured\n")
	case r.Run.broken:
		fmt.Fprintf(&b, "\ninterrupted; so far\n")
	case r.Run.noHope:
		fmt.Fprintf(&b, "\ngiven up, for every call of the first second failed\n")
	default:
		b.WriteByte('\n')
	}
	if !r.Run.cold {
		r.totals(&b, s)
		r.latencies(&b, s)
	}
	if len(t.failures) > 0 {
		fmt.Fprintf(&b, "\n%s\n", s.Red("errors"))
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, kind := range t.failures.sorted() {
			f := t.failures[kind]
			fmt.Fprintf(table, "%d\t  %s\n", f.count, kind.text()+": "+f.first)
		}
		table.Flush()
	}
	return b.String()
}

func (f failure) text() string {
	if f == failureRest {
		return "others"
	}
	return f.code.String() + ", " + outcomeText(f.outcome)
}

func outcomeText(o rpc.Outcome) string {
	if o == rpc.OutcomeUnknown {
		return "may have run"
	}
	return o.String()
}

// totals are the calls and the bytes, and what became of them.
func (r *Report) totals(b *strings.Builder, s Style) {
	t, secs := r.Run.record.total, r.seconds()
	fmt.Fprintf(b, "%s in %.2f s: %s", termtext.Plural(t.answered, "call"), r.Run.took.Seconds(), s.Bold(number(float64(t.answered)/secs)+" calls/s"))
	if t.failed > 0 {
		fmt.Fprintf(b, "; %s", s.Red(fmt.Sprintf("%s failed", termtext.Count(t.failed))))
	}
	if t.abandoned > 0 {
		fmt.Fprintf(b, "; %d abandoned in flight", t.abandoned)
	}
	fmt.Fprintf(b, "\n%s sent, %s received\n", bytesRate(float64(t.sent)/secs), bytesRate(float64(t.received)/secs))
	if n := r.Run.NotBegun(); n > 0 {
		fmt.Fprintf(b, "%s\n", s.Yellow(fmt.Sprintf("%s of the schedule did not begin by its end: the rate is too much for the server, or for --callers; their latency is not in this report", termtext.Plural(n, "call"))))
	}
}

// latencies are a line of figures and a histogram.
func (r *Report) latencies(b *strings.Builder, s Style) {
	t := r.Run.record.total
	if t.latency.TotalCount() == 0 {
		return
	}
	names, values := []string{"latency", "min", "mean"}, []string{"ms", termtext.Milliseconds(t.min), termtext.Milliseconds(t.mean())}
	for _, p := range percentiles {
		names, values = append(names, p.name), append(values, termtext.Milliseconds(t.at(p.at)))
	}
	names, values = append(names, "max"), append(values, termtext.Milliseconds(t.max))
	b.WriteByte('\n')
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s\t\n%s\t\n", strings.Join(names, "\t"), strings.Join(values, "\t"))
	table.Flush()
	if r.Load.Rate > 0 {
		fmt.Fprintf(b, "of that, late beginnings: p50 %s, p99 %s, max %s ms\n",
			termtext.Milliseconds(t.lateAt(50)), termtext.Milliseconds(t.lateAt(99)), termtext.Milliseconds(t.lateAt(100)))
	}
	b.WriteByte('\n')
	bins := t.bins()
	most := int64(0)
	for _, bin := range bins {
		most = max(most, bin.count)
	}
	table = tabwriter.NewWriter(b, 0, 0, 1, ' ', tabwriter.AlignRight)
	for _, bin := range bins {
		bar := strings.Repeat("#", int(math.Ceil(40*float64(bin.count)/float64(most))))
		fmt.Fprintf(table, "to %s ms\t%d\t%.3g%%\t %s\n", boundText(bin.to), bin.count, 100*float64(bin.count)/float64(t.latency.TotalCount()), s.Dim(bar))
	}
	table.Flush()
}

// lateAt is how late so many of a hundred calls began at most.
func (t *tally) lateAt(percentile float64) time.Duration {
	return time.Duration(t.late.ValueAtQuantile(percentile))
}

// A bin is how many latencies were above the bin before, and at most to.
type bin struct {
	to    time.Duration
	count int64
}

// bins are the latencies between bounds of 1, 2, 5, 10, ...
func (t *tally) bins() (all []bin) {
	bound, steps := time.Duration(1), 0
	next := func() {
		bound = bound * []time.Duration{2, 5, 4}[steps%3] / []time.Duration{1, 2, 2}[steps%3]
		steps++
	}
	for _, bar := range t.latency.Distribution() {
		if bar.Count == 0 {
			continue
		}
		for bar.From > int64(bound) { // by its lowest value: a bar of the histogram may span a bound
			next()
			if len(all) > 0 {
				all = append(all, bin{to: bound})
			}
		}
		if len(all) == 0 {
			all = append(all, bin{to: bound})
		}
		all[len(all)-1].count += bar.Count
	}
	return all
}

// boundText is the bound of a bin in milliseconds.
func boundText(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', -1, 64) }

func (r *Report) seconds() float64 { return max(r.Run.took.Seconds(), 1e-9) }

// number is n with three digits at least, and none behind the point that say nothing.
func number(n float64) string {
	if n >= 100 {
		return termtext.Count(int64(math.Round(n)))
	}
	return fmt.Sprintf("%.3g", n)
}

func bytesRate(n float64) string {
	unit := 0
	for ; n >= 1000 && unit < 3; unit++ {
		n /= 1000
	}
	return number(n) + " " + []string{"B", "kB", "MB", "GB"}[unit] + "/s"
}
