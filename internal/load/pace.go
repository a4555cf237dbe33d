package load

import "time"

// napping is how long before a call's time the pacer changes from a timer to naps: Go's timers are up to a millisecond late in a program
// that is otherwise idle, which would be most of the latency that is to be measured.
const napping = 1500 * time.Microsecond

// pace hands the calls of the schedule to whoever is free, each when its time has come. If nobody is it waits, and goes on from there:
// what is late keeps its place in the schedule. Those that nobody took by the end do not begin.
func (r *Run) pace() {
	defer close(r.dues)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for k := int64(0); r.load.Calls == 0 || k < r.load.Calls; k++ {
		due := r.due(k)
		if r.load.Duration > 0 && due >= r.load.Duration || !r.sleep(timer, due) {
			return
		}
		select {
		case r.dues <- due: // before a look at the end, which may have come while this slept
		default:
			select {
			case r.dues <- due:
			case <-r.shut:
				return
			}
		}
	}
}

// sleep waits until due, and reports whether the run has not been stopped.
func (r *Run) sleep(timer *time.Timer, due time.Duration) bool {
	wait := due - time.Since(r.begin)
	if r.nap != nil {
		wait -= napping
	}
	if wait > 0 {
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-r.halt.Done():
			return false
		}
	}
	for r.nap != nil {
		wait := due - time.Since(r.begin)
		if wait <= 0 {
			break
		}
		r.nap(wait)
	}
	return r.halt.Err() == nil
}

// due is when call k of the schedule is to begin.
func (r *Run) due(k int64) time.Duration {
	return time.Duration(float64(k) / r.load.Rate * float64(time.Second))
}

// NotBegun is how many calls of the schedule did not begin by its end, for all callers were busy. In a closed loop it is 0.
func (r *Run) NotBegun() int64 {
	if r.load.Rate == 0 {
		return 0
	}
	t := r.record.total
	scheduled := int64(r.opened.Seconds()*r.load.Rate) + 1
	if r.due(scheduled-1) >= r.opened { // the first one that is not
		scheduled--
	}
	if r.load.Calls > 0 {
		scheduled = min(scheduled, r.load.Calls)
	}
	return max(scheduled-t.answered-t.failed-t.abandoned, 0)
}
