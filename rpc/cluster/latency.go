package cluster

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// averaged is the time over which ewma averages.
const averaged = 2 * time.Second

// An ewma is an exponentially weighted moving average of latencies, that takes on a higher value at once and fades while there
// are none.
type ewma struct {
	mean atomic.Uint64 // the bits of a float64, in nanoseconds, as it was at last
	last atomic.Int64  // in Unix nanoseconds

	mu sync.Mutex // protects changes of both; readers may see one of them changed before the other
}

// at is the average, in nanoseconds.
func (e *ewma) at(now time.Time) float64 {
	mean := math.Float64frombits(e.mean.Load())
	if mean == 0 {
		return 0
	}
	return mean * fade(now.UnixNano()-e.last.Load())
}

// fade is the weight that what was known so many nanoseconds ago has now.
func fade(age int64) float64 { return math.Exp(-float64(max(age, 0)) / float64(averaged)) }

// observe adds how long a call took.
func (e *ewma) observe(took time.Duration) {
	e.add(func(float64) float64 { return float64(max(took, 1)) })
}

// atLeast is observe for a call that would have taken longer.
func (e *ewma) atLeast(took time.Duration) {
	e.add(func(mean float64) float64 { return max(mean, float64(took)) })
}

// punish is observe for a failure: as twice what is usual, within 10 ms and 1 s, so that who fails quickly does not draw the load.
func (e *ewma) punish(took time.Duration) {
	e.add(func(mean float64) float64 {
		return max(float64(took), min(max(2*mean, float64(10*time.Millisecond)), float64(time.Second)))
	})
}

func (e *ewma) add(sample func(mean float64) float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	mean := math.Float64frombits(e.mean.Load())
	keep := fade(now.UnixNano() - e.last.Load())
	// What has faded is still what it would be measured against.
	took := sample(mean * keep)
	if took < mean {
		took = mean*keep + took*(1-keep)
	}
	e.last.Store(now.UnixNano())
	e.mean.Store(math.Float64bits(took))
}
