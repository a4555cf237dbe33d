package load

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/sealmux/sealmux/internal/termtext"
)

// showProgress draws a bar on a terminal while the run goes on, with the rate and the 99th percentile of the last second. The run's
// collector draws, so that no caller waits for the terminal. done takes the bar away.
func (r *Run) showProgress(out io.Writer, what string) (done func()) {
	const whole = 1000
	bar := progressbar.NewOptions(whole,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetWidth(24),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionSetDescription(what),
	)
	r.recent = newTally()
	since := time.Duration(0)
	r.show = func(at time.Duration) {
		if span := at - since; span >= time.Second {
			bar.Describe(fmt.Sprintf("%s: %s calls/s, p99 %s ms", what, number(float64(r.recent.answered)/span.Seconds()), termtext.Milliseconds(r.recent.at(99))))
			r.recent.reset()
			since = at
		}
		bar.Set(int(whole * r.progress(at))) // an error of the terminal is no reason to stop
	}
	return func() { bar.Clear() }
}

// progress is how much of the run is done, from 0 to 1; short of 1, at which the bar would end its line.
func (r *Run) progress(at time.Duration) (part float64) {
	if r.load.Duration > 0 {
		part = at.Seconds() / r.load.Duration.Seconds()
	}
	if t := r.record.total; r.load.Calls > 0 {
		part = max(part, float64(t.answered+t.failed)/float64(r.load.Calls))
	}
	return min(part, 0.999)
}
