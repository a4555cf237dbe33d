package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// A report is what bench found.
type report struct {
	options     *benchOptions
	addr        string
	fingerprint string
	handshakes  time.Duration // of all sessions, one after the other
	body        int           // bytes of a call's message, encoded
	run         *benchRun
}

// percentiles are those that are printed, in percent.
var percentiles = []struct {
	name string
	at   float64
}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}}

// header says what will be done.
func (r *report) header(out io.Writer) error {
	_, err := fmt.Fprintf(out, "bench %s key %s: %s in %s\n%s\n", newStyle(out).bold(r.addr), r.fingerprint,
		plural(int64(r.options.sessions), "session"), milliseconds(r.handshakes), r.what())
	return err
}

// what is the load in one line.
func (r *report) what() string {
	o := r.options
	var b strings.Builder
	size := plural(int64(o.bytes), "byte") + " of data"
	if o.data != "" {
		size = plural(int64(r.body), "byte") // as it is encoded
	}
	fmt.Fprintf(&b, "%s, %s a call, ", oneLine(errors.New(o.method)), size)
	if o.streams > 0 {
		fmt.Fprintf(&b, "%s, ", plural(int64(o.streams), "stream"))
	}
	if o.rate > 0 {
		fmt.Fprintf(&b, "open loop: %s calls/s, at most %d in flight", number(o.rate), o.callers)
	} else {
		fmt.Fprintf(&b, "closed loop: %d in flight", o.callers)
	}
	if o.calls > 0 {
		fmt.Fprintf(&b, ", %s", plural(o.calls, "call"))
	}
	if o.duration > 0 {
		fmt.Fprintf(&b, ", %v", o.duration)
	}
	if o.warmUp > 0 {
		fmt.Fprintf(&b, " after %v of warm-up", o.warmUp)
	}
	return b.String()
}

// print shows what was measured.
func (r *report) print(out io.Writer) error {
	if r.options.asJSON {
		return printJSON(out, r.json())
	}
	var b strings.Builder
	t, s := r.run.record.total, newStyle(out)
	switch {
	case r.run.cold:
		fmt.Fprintf(&b, "\nit ended in the warm-up: nothing was measured\n")
	case r.run.broken:
		fmt.Fprintf(&b, "\ninterrupted; so far\n")
	case r.run.noHope:
		fmt.Fprintf(&b, "\ngiven up, for every call of the first second failed\n")
	default:
		b.WriteByte('\n')
	}
	if !r.run.cold {
		r.totals(&b, s)
		r.latencies(&b, s)
	}
	if len(t.failures) > 0 {
		fmt.Fprintf(&b, "\n%s\n", s.red("errors"))
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, kind := range t.failures.sorted() {
			f := t.failures[kind]
			fmt.Fprintf(table, "%d\t  %s\n", f.count, kind.text()+": "+f.first)
		}
		table.Flush()
	}
	_, err := io.WriteString(out, b.String())
	return err
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
func (r *report) totals(b *strings.Builder, s style) {
	t, secs := r.run.record.total, r.seconds()
	fmt.Fprintf(b, "%s in %.2f s: %s", plural(t.answered, "call"), r.run.took.Seconds(), s.bold(number(float64(t.answered)/secs)+" calls/s"))
	if t.failed > 0 {
		fmt.Fprintf(b, "; %s", s.red(fmt.Sprintf("%s failed", count(t.failed))))
	}
	if t.abandoned > 0 {
		fmt.Fprintf(b, "; %d abandoned in flight", t.abandoned)
	}
	fmt.Fprintf(b, "\n%s sent, %s received\n", bytesRate(float64(t.sent)/secs), bytesRate(float64(t.received)/secs))
	if n := r.run.notBegun(); n > 0 {
		fmt.Fprintf(b, "%s\n", s.yellow(fmt.Sprintf("%s of the schedule did not begin by its end: the rate is too much for the server, or for --callers; their latency is not in this report", plural(n, "call"))))
	}
}

// latencies are a line of figures and a histogram.
func (r *report) latencies(b *strings.Builder, s style) {
	t := r.run.record.total
	if t.latency.TotalCount() == 0 {
		return
	}
	names, values := []string{"latency", "min", "mean"}, []string{"ms", threeDigits(t.min), threeDigits(t.mean())}
	for _, p := range percentiles {
		names, values = append(names, p.name), append(values, threeDigits(t.at(p.at)))
	}
	names, values = append(names, "max"), append(values, threeDigits(t.max))
	b.WriteByte('\n')
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%s\t\n%s\t\n", strings.Join(names, "\t"), strings.Join(values, "\t"))
	table.Flush()
	if r.run.rate > 0 {
		fmt.Fprintf(b, "of that, late beginnings: p50 %s, p99 %s, max %s ms\n",
			threeDigits(t.lateAt(50)), threeDigits(t.lateAt(99)), threeDigits(t.lateAt(100)))
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
		fmt.Fprintf(table, "to %s ms\t%d\t%.3g%%\t %s\n", boundText(bin.to), bin.count, 100*float64(bin.count)/float64(t.latency.TotalCount()), s.dim(bar))
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

func (r *report) seconds() float64 { return max(r.run.took.Seconds(), 1e-9) }

// number is n with three digits at least, and none behind the point that say nothing.
func number(n float64) string {
	if n >= 100 {
		return count(int64(math.Round(n)))
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
