package transport

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	goflag "flag"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"
)

var timing = goflag.Int("timing", 0, "how many times TestTiming measures each kind of wrapped secret")

// TestTiming prints how long the server takes for wrapped secrets that are good, and for those that are bad in each way there is.
// It passes no verdict, for a noisy machine would fail it: |t| beyond 4.5 over many runs would be a leak (dudect's threshold,
// Reparaz, Balasch and Verbauwhede, 2016). go test ./transport -run Timing -timing 20000 -v
func TestTiming(t *testing.T) {
	if *timing == 0 {
		t.Skip("not asked for: -timing 20000")
	}
	key := serverKeyForTest()
	kinds := []struct {
		name string
		make func() []byte
	}{
		{"good", func() []byte { return wrapped(t, key, secretSize, labelOAEP) }},
		{"good again", func() []byte { return wrapped(t, key, secretSize, labelOAEP) }}, // what noise alone gives
		{"bad padding", func() []byte { return below(key) }},
		{"other label", func() []byte { return wrapped(t, key, secretSize, "other") }},
		{"short secret", func() []byte { return wrapped(t, key, 16, labelOAEP) }},
		{"zero", func() []byte { return make([]byte, key.rsa.Size()) }},
		{"not below the modulus", func() []byte { return slices.Repeat([]byte{0xff}, key.rsa.Size()) }},
	}
	took := make([][]float64, len(kinds))
	order := make([]int, 0, len(kinds)**timing)
	for i := range kinds {
		order = append(order, slices.Repeat([]int{i}, *timing)...)
	}
	mathrand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, i := range order {
		input := kinds[i].make()
		begin := time.Now()
		unwrap(key, input, noFresh.newSecret())
		took[i] = append(took[i], float64(time.Since(begin).Nanoseconds()))
	}
	for i, kind := range kinds {
		slices.Sort(took[i])
		took[i] = took[i][:len(took[i])*9/10] // what was interrupted says nothing
		t.Logf("%-22s p10 %7.0f ns  p50 %7.0f ns  p90 %7.0f ns  t against good %6.2f", kind.name,
			took[i][len(took[i])/9], took[i][len(took[i])*5/9], took[i][len(took[i])-1], welch(took[0], took[i]))
	}
}

func wrapped(t *testing.T, key *PrivateKey, size int, label string) []byte {
	b, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.rsa.PublicKey, make([]byte, size), []byte(label))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// below is a random ciphertext below the modulus.
func below(key *PrivateKey) []byte {
	b := make([]byte, key.rsa.Size())
	rand.Read(b)
	b[0] = 0
	return b
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
