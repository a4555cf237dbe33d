package termtext

import (
	"fmt"
	"math"
	"time"
)

// Milliseconds writes d in milliseconds, with three digits or to the millisecond, and without the unit: 0.123, 1.23, 1234.
func Milliseconds(d time.Duration) string {
	ms := float64(d) / 1e6
	switch {
	case ms < 1:
		return fmt.Sprintf("%.3f", ms)
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

// InMilliseconds is d in milliseconds, to the microsecond, as a number for JSON.
func InMilliseconds(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }
