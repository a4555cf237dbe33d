package load

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// reportOf is the report of a server that stalls for a second and refuses the calls of another, over 10 s of virtual time.
func reportOf(t *testing.T, rate float64) (r *Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, 1, func(at time.Duration) (time.Duration, error) {
			if at >= 5*time.Second && at < 6*time.Second {
				return time.Millisecond, rpc.Errorf(rpc.ResourceExhausted, "full")
			}
			return stall(time.Millisecond)(at)
		})
		defer s.stop()
		l := s.load(200, rate)
		r = &Report{Load: l, Call: "kv.<Get>, 16 bytes of data", Addr: "srv:1", Fingerprint: "SHA256:print", Handshakes: 2 * time.Millisecond}
		r.Run = runOf(l, 0, 10*time.Second)
		r.Run.do(t.Context())
	})
	return r
}

// plain gives nothing a look.
var plain = Style{Bold: same, Dim: same, Red: same, Yellow: same}

func same(text string) string { return text }

func TestReport(t *testing.T) {
	r := reportOf(t, 100)
	const want = `bench srv:1 key SHA256:print: 1 session in 2.00 ms
kv.<Get>, 16 bytes of data a call, open loop: 100 calls/s, at most 200 in flight, 10s

900 calls in 9.99 s: 90.1 calls/s; 100 failed
1.62 kB/s sent, 3.96 kB/s received

  latency   min  mean   p50  p90  p99  p99.9   max
       ms  1.00  57.0  1.00  100  910    990  1000
of that, late beginnings: p50 0.000, p99 0.000, max 0.000 ms

    to 1 ms 800  88.9% ########################################
    to 2 ms   0     0% 
    to 5 ms   0     0% 
   to 10 ms   1 0.111% #
   to 20 ms   1 0.111% #
   to 50 ms   3 0.333% #
  to 100 ms   5 0.556% #
  to 200 ms  10  1.11% #
  to 500 ms  30  3.33% ##
 to 1000 ms  50  5.56% ###

errors
  100  ResourceExhausted, executed: full
`
	if got := r.Header(plain) + r.Text(plain); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestReportHasStyle where a person should look, and the same text without.
func TestReportHasStyle(t *testing.T) {
	r := reportOf(t, 100)
	mark := func(tag string) func(string) string {
		return func(text string) string { return "<" + tag + ">" + text + "</" + tag + ">" }
	}
	marked := Style{Bold: mark("bold"), Dim: mark("dim"), Red: mark("red"), Yellow: mark("yellow")}
	got := r.Header(marked) + r.Text(marked)
	for _, want := range []string{"bench <bold>srv:1</bold> key", ": <bold>90.1 calls/s</bold>; <red>100 failed</red>\n", "<dim>##</dim>\n", "\n<red>errors</red>\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestReportJSON(t *testing.T) {
	r := reportOf(t, 100)
	text, err := json.Marshal(r.JSON())
	if err != nil {
		t.Fatal(err)
	}
	var got jsonReport
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	exactly(t, "calls", got.Calls, 900)
	exactly(t, "failed", got.Failed, 100)
	exactly(t, "latency", *got.Latency, jsonLatency{Count: 900, Min: 1, Mean: 57, P50: 1, P90: got.Latency.P90, P99: got.Latency.P99, P999: got.Latency.P999, Max: 1000})
	exactly(t, "an error", got.Errors[0], jsonFailure{"ResourceExhausted", 8, "executed", 100, "full"})
	exactly(t, "loop", got.Config.Loop, "open")
	last, before := got.Percentiles[len(got.Percentiles)-1], jsonBracket{}
	exactly(t, "the last percentile", last, jsonBracket{100, 1000, 900})
	for _, p := range got.Percentiles {
		if p.Percentile < before.Percentile || p.Latency < before.Latency || p.Count < before.Count {
			t.Errorf("%+v after %+v", p, before)
		}
		before = p
	}
	sum := 0.0
	for _, rate := range got.Course.Rate {
		sum += rate * got.Course.Every
	}
	if sum < 899 || sum > 901 { // the last stretch is a little shorter
		t.Errorf("the course has %v calls, want 900", sum)
	}
}

// polyline finds a line of the picture.
func polyline(t *testing.T, svg, id string) (points [][2]float64) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return points
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attributes := make(map[string]string)
		for _, a := range e.Attr {
			attributes[a.Name.Local] = a.Value
		}
		switch {
		case e.Name.Local == "script" || e.Name.Local == "image" || attributes["href"] != "":
			t.Errorf("%s: the picture is not self-contained", e.Name.Local)
		case e.Name.Local == "polyline" && attributes["id"] == id:
			for _, pair := range strings.Fields(attributes["points"]) {
				x, y, _ := strings.Cut(pair, ",")
				px, bad := strconv.ParseFloat(x, 64)
				py, worse := strconv.ParseFloat(y, 64)
				if bad != nil || worse != nil {
					t.Fatalf("point %q", pair)
				}
				points = append(points, [2]float64{px, py})
			}
		}
	}
}

func TestPicture(t *testing.T) {
	r := reportOf(t, 100)
	r.Call = "kv.<Get>&\"\x00\xff\x1b" // what stands in it is the user's
	svg := r.SVG()
	latency := polyline(t, svg, "latency")
	for i, p := range latency {
		if p[0] < plotLeft || p[0] > plotLeft+plotWidth || p[1] < latencyTop || p[1] > latencyTop+plotHeight {
			t.Errorf("point %v is outside", p)
		}
		if i > 0 && (p[0] < latency[i-1][0] || p[1] > latency[i-1][1]) {
			t.Errorf("point %v goes back from %v", p, latency[i-1])
		}
	}
	// 900 latencies: three decades. The Longest is 1000 ms, which is the uppermost line; 1 ms lies on the bottom.
	exactly(t, "the first", latency[0], [2]float64{plotLeft, 321.8})
	exactly(t, "the last", latency[len(latency)-1], [2]float64{plotLeft + plotWidth, latencyTop})
	rate := polyline(t, svg, "rate")
	if n := len(r.Run.record.course.counts); len(rate) != 2*n || n != 50 {
		t.Errorf("%d points of the rate, of %d stretches", len(rate), n)
	}
	if strings.Contains(svg, "%!") {
		t.Errorf("a bad verb in\n%s", svg)
	}
	for _, want := range []string{"<title", "prefers-color-scheme: dark", ">99.9%<", ">90%<", ">1000<", "kv.&lt;Get&gt;&amp;", "p99 910"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in\n%s", want, svg)
		}
	}
}

// TestPictureOfNothing: there is none without a latency.
func TestPictureOfNothing(t *testing.T) {
	l := &Load{Callers: 1}
	exactly(t, "picture", (&Report{Load: l, Run: newRun(l)}).SVG(), "")
}

func TestNiceStep(t *testing.T) {
	for most, want := range map[float64]float64{1: 0.2, 1000: 200, 3: 1, 5.9: 1, 6: 2, 14.9: 2, 15: 5, 0.00031: 0.0001, 7e8: 2e8} {
		if got := niceStep(most); got < want*0.999 || got > want*1.001 {
			t.Errorf("up to %v in steps of %v, want %v", most, got, want)
		}
	}
}
