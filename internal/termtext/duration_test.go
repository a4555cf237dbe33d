package termtext

import (
	"testing"
	"time"
)

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                          "0.000",
		1499 * time.Nanosecond:     "0.001",
		123_456 * time.Nanosecond:  "0.123",
		time.Millisecond:           "1.00",
		12_345 * time.Microsecond:  "12.3",
		99_940 * time.Microsecond:  "99.9",
		123_456 * time.Microsecond: "123",
		12 * time.Second:           "12000",
	} {
		if got := Milliseconds(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestInMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]float64{0: 0, 499: 0, 1_234_567: 1.235, 3 * time.Second: 3000} {
		if got := InMilliseconds(d); got != want {
			t.Errorf("%v: %v, want %v", d, got, want)
		}
	}
}
