package legacy

import (
	goflag "flag"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var timing = goflag.Int("timing", 0, "how many times TestTiming measures each kind of request")

// TestTiming prints how long the server takes to open requests that are good, and such as are bad in each way that a secret decides. It
// passes no verdict, for a noisy machine would fail it: |t| beyond 4.5 over many runs would be a leak (dudect's threshold, Reparaz,
// Balasch and Verbauwhede, 2016). go test ./internal/legacy -run Timing -timing 20000 -v
func TestTiming(t *testing.T) {
	if *timing == 0 {
		t.Skip("not asked for: -timing 20000")
	}
	key := keyForTest()
	kinds := map[string][]byte{
		"good":       []byte(encoded(newParts(t, key.pub, strings.Repeat("x", 32)).literal())),
		"good again": []byte(encoded(newParts(t, key.pub, strings.Repeat("x", 32)).literal())), // what noise alone gives
	}
	for name, request := range spoilt(t, key.pub) {
		if strings.HasPrefix(name, "padding") || strings.HasPrefix(name, "inner") {
			kinds[name] = []byte(request)
		}
	}
	took := make(map[string][]float64)
	var order []string
	for name := range kinds {
		order = append(order, slices.Repeat([]string{name}, *timing)...)
	}
	mathrand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, name := range order {
		begin := time.Now()
		key.open(kinds[name], nil)
		took[name] = append(took[name], float64(time.Since(begin).Nanoseconds()))
	}
	for name, times := range took {
		slices.Sort(times)
		took[name] = times[:len(times)*9/10] // what was interrupted says nothing
	}
	var lines []string
	for name, times := range took {
		lines = append(lines, fmt.Sprintf("%-40s p50 %8.0f ns  t against padding: random 0 %6.2f, against good %6.2f", name,
			times[len(times)*5/9], welch(took["padding: random 0"], times), welch(took["good"], times)))
	}
	slices.Sort(lines)
	t.Log("\n" + strings.Join(lines, "\n"))
}

// welch is the t statistic of two samples with variances of their own.
func welch(a, b []float64) float64 {
	mean := func(x []float64) (m, v float64) {
		for _, f := range x {
			m += f
		}
		m /= float64(len(x))
		for _, f := range x {
			v += (f - m) * (f - m)
		}
		return m, v / float64(len(x)-1)
	}
	ma, va := mean(a)
	mb, vb := mean(b)
	return (ma - mb) / math.Sqrt(va/float64(len(a))+vb/float64(len(b)))
}
