package load

import (
	"math"
	"time"

	"github.com/sealmux/sealmux/internal/termtext"
)

// A jsonReport is what JSON returns: times in ms but for those in seconds (_s), to the microsecond.
type jsonReport struct {
	Event       string     `json:"event"`
	Addr        string     `json:"addr"`
	Fingerprint string     `json:"fingerprint"`
	Handshakes  float64    `json:"handshakes_ms"` // of all sessions
	Config      jsonConfig `json:"config"`
	Interrupted bool       `json:"interrupted,omitempty"`
	WarmUpOnly  bool       `json:"warm_up_only,omitempty"`

	Took      float64 `json:"took_s"`
	Calls     int64   `json:"calls"` // answered without an error
	Failed    int64   `json:"failed"`
	Abandoned int64   `json:"abandoned"`
	NotBegun  int64   `json:"not_begun"`
	Rate      float64 `json:"calls_per_s"`
	Sent      float64 `json:"sent_bytes_per_s"`
	Received  float64 `json:"received_bytes_per_s"`

	Latency     *jsonLatency  `json:"latency_ms,omitempty"`
	Late        *jsonLate     `json:"late_ms,omitempty"` // open loop
	Percentiles []jsonBracket `json:"percentiles,omitempty"`
	Errors      []jsonFailure `json:"errors,omitempty"`
	Course      *jsonCourse   `json:"course,omitempty"`
}

type jsonConfig struct {
	Loop     string  `json:"loop"`
	Method   string  `json:"method"`
	Body     int     `json:"message_bytes"`
	Callers  int     `json:"callers"`
	Sessions int     `json:"sessions"`
	Streams  int     `json:"streams"`
	Rate     float64 `json:"rate"`
	Calls    int64   `json:"calls"`
	Duration float64 `json:"duration_s"`
	WarmUp   float64 `json:"warm_up_s"`
	Timeout  float64 `json:"timeout_s"`
}

type jsonLatency struct {
	Count int64   `json:"count"`
	Min   float64 `json:"min"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99.9"`
	Max   float64 `json:"max"`
}

type jsonLate struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// A jsonBracket is how many latencies were within ms.
type jsonBracket struct {
	Percentile float64 `json:"percentile"`
	Latency    float64 `json:"ms"`
	Count      int64   `json:"count"`
}

type jsonFailure struct {
	Code    string `json:"code"`
	Number  uint32 `json:"number"`
	Outcome string `json:"outcome"`
	Count   int64  `json:"count"`
	First   string `json:"first"`
}

// A jsonCourse is the answered calls a second in each stretch of time.
type jsonCourse struct {
	Every float64   `json:"every_s"`
	Rate  []float64 `json:"calls_per_s"`
}

// JSON is what was measured, for package json to write.
func (r *Report) JSON() any { return r.json() }

func (r *Report) json() *jsonReport {
	l, run, t := r.Load, r.Run, r.Run.record.total
	loop := "closed"
	if l.Rate > 0 {
		loop = "open"
	}
	j := &jsonReport{
		Event: "summary", Addr: r.Addr, Fingerprint: r.Fingerprint, Handshakes: termtext.InMilliseconds(r.Handshakes),
		Config: jsonConfig{loop, l.Request.Method, len(l.Request.Body), l.Callers, len(l.Clients), l.Streams, l.Rate, l.Calls,
			l.Duration.Seconds(), l.WarmUp.Seconds(), l.Timeout.Seconds()},
		Interrupted: run.broken, WarmUpOnly: run.cold, Took: termtext.InMilliseconds(run.took) / 1e3,
	}
	for _, kind := range t.failures.sorted() {
		f := t.failures[kind]
		j.Errors = append(j.Errors, jsonFailure{kind.code.String(), uint32(kind.code), outcomeText(kind.outcome), f.count, f.first})
	}
	if run.cold {
		return j
	}
	tenth := func(n float64) float64 { return math.Round(n*10) / 10 }
	j.Calls, j.Failed, j.Abandoned, j.NotBegun = t.answered, t.failed, t.abandoned, run.NotBegun()
	j.Rate, j.Sent, j.Received = tenth(float64(t.answered)/r.seconds()), tenth(float64(t.sent)/r.seconds()), tenth(float64(t.received)/r.seconds())
	if n := t.latency.TotalCount(); n > 0 {
		j.Latency = &jsonLatency{n, termtext.InMilliseconds(t.min), termtext.InMilliseconds(t.mean()), termtext.InMilliseconds(t.at(50)), termtext.InMilliseconds(t.at(90)), termtext.InMilliseconds(t.at(99)), termtext.InMilliseconds(t.at(99.9)), termtext.InMilliseconds(t.max)}
		if l.Rate > 0 {
			j.Late = &jsonLate{termtext.InMilliseconds(t.lateAt(50)), termtext.InMilliseconds(t.lateAt(99)), termtext.InMilliseconds(t.lateAt(100))}
		}
		for _, b := range t.latency.CumulativeDistributionWithTicks(5) {
			j.Percentiles = append(j.Percentiles, jsonBracket{b.Quantile, termtext.InMilliseconds(min(time.Duration(b.ValueAt), t.max)), b.Count})
		}
	}
	j.Course = &jsonCourse{Every: run.record.course.width.Seconds(), Rate: []float64{}}
	for i := range run.record.course.counts {
		j.Course.Rate = append(j.Course.Rate, tenth(run.record.course.rate(i, run.took)))
	}
	return j
}
