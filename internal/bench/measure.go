package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A row is the median of what was measured of one peer at one work. Of idle, per_second is 0 and bytes_per_op and
// allocs_per_op are the bytes and the goroutines of a session.
type row struct {
	Work      string  `json:"work"`
	Peer      string  `json:"peer"`
	Bytes     int     `json:"bytes"`
	Callers   int     `json:"callers"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	Allocs    float64 `json:"allocs_per_op"`
	Memory    float64 `json:"bytes_per_op"`
	CPU       float64 `json:"cpu_us_per_op"`
	isRPC     bool
}

// steps is how many measurements each will make.
func (p *plan) steps() int {
	n := 0
	for range p.cells {
		n += len(p.peers) * p.reps
	}
	return n
}

// A cell is what the peers are compared at.
type cell struct {
	work           work
	bytes, callers int
}

func (p *plan) cells(yield func(cell) bool) {
	for _, w := range p.works {
		for _, b := range p.bytes {
			for _, c := range p.callers {
				if !yield(cell{w, b, c}) {
					return
				}
				if w.fixed {
					break // sizes or callers mean nothing to it
				}
			}
			if w.fixed {
				break
			}
		}
	}
}

// each measures peer by peer, again and again, and hands over the medians of each cell.
func (p *plan) each(step func(), report func([]row) error) error {
	for c := range p.cells {
		results := make([][]row, len(p.peers))
		for range p.reps {
			for i, peer := range p.peers {
				r, ok, err := c.work.measure(peer, c.bytes, c.callers, p.seconds)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.work.name, peer.name, err)
				}
				if ok {
					results[i] = append(results[i], r)
				}
				step()
			}
		}
		var rows []row
		for i, rs := range results {
			if len(rs) > 0 {
				r := median(rs)
				r.Work, r.Peer, r.Bytes, r.Callers, r.isRPC = c.work.name, p.peers[i].name, c.bytes, c.callers, p.peers[i].rpc
				rows = append(rows, r)
			}
		}
		if err := report(rows); err != nil {
			return err
		}
	}
	return nil
}

// median takes each figure's median by itself.
func median(rs []row) (m row) {
	for _, f := range []func(*row) *float64{
		func(r *row) *float64 { return &r.PerSecond }, func(r *row) *float64 { return &r.P50 }, func(r *row) *float64 { return &r.P99 },
		func(r *row) *float64 { return &r.Allocs }, func(r *row) *float64 { return &r.Memory }, func(r *row) *float64 { return &r.CPU },
	} {
		sorted := slices.SortedFunc(slices.Values(rs), func(a, b row) int { return cmp.Compare(*f(&a), *f(&b)) })
		*f(&m) = *f(&sorted[len(sorted)/2])
	}
	return m
}

// warmUp is how long a load runs before it is measured, at most.
const warmUp = 200 * time.Millisecond

// load has callers make one operation after the other, and measures all of them.
func load(callers int, d time.Duration, op func(caller int) error) (row, error) {
	if err := drive(callers, min(d, warmUp), nil, op); err != nil {
		return row{}, err
	}
	hist := hdrhistogram.New(1, int64(time.Hour), 3)
	before := usageNow()
	if err := drive(callers, d, hist, op); err != nil {
		return row{}, err
	}
	return before.rowOf(hist), nil
}

func drive(callers int, d time.Duration, hist *hdrhistogram.Histogram, op func(caller int) error) error {
	var wg sync.WaitGroup
	var over atomic.Bool
	timer := time.AfterFunc(d, func() { over.Store(true) })
	defer timer.Stop()
	errs := make([]error, callers)
	var mu sync.Mutex
	for i := range callers {
		wg.Go(func() {
			own := hdrhistogram.New(1, int64(time.Minute), 2)
			for done := false; !done; done = over.Load() { // once at least, however short the time
				start := time.Now()
				if errs[i] = op(i); errs[i] != nil {
					over.Store(true)
					break
				}
				own.RecordValue(int64(time.Since(start)))
			}
			mu.Lock()
			defer mu.Unlock()
			if hist != nil {
				hist.Merge(own)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// A usage is what the process has used so far.
type usage struct {
	at     time.Time
	memory runtime.MemStats
	cpu    time.Duration
}

func usageNow() usage {
	var u usage
	runtime.ReadMemStats(&u.memory)
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	u.at = time.Now()
	return u
}

// rowOf says what was used for each operation since u.
func (u usage) rowOf(hist *hdrhistogram.Histogram) row {
	now := usageNow()
	n := float64(max(hist.TotalCount(), 1))
	micros := func(q float64) float64 { return float64(hist.ValueAtQuantile(q)) / 1e3 }
	return row{
		PerSecond: n / now.at.Sub(u.at).Seconds(), P50: micros(50), P99: micros(99),
		Allocs: float64(now.memory.Mallocs-u.memory.Mallocs) / n,
		Memory: float64(now.memory.TotalAlloc-u.memory.TotalAlloc) / n,
		CPU:    float64((now.cpu - u.cpu).Microseconds()) / n,
	}
}
