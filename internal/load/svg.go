package load

import (
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sealmux/sealmux/internal/termtext"
)

// The picture, in pixels: a head, and two plots one above the other.
const (
	svgWidth, svgHeight = 860, 640
	plotLeft, plotWidth = 80, 750
	latencyTop          = 92
	rateTop             = 420
	plotHeight          = 230
	ratePlotHeight      = 150
)

// svgHead needs no script, no font and no other file. Its colours follow the reader's.
const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="title desc">
<title id="title">%s</title>
<desc id="desc">%s</desc>
<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .head { font-size: 16px; font-weight: 600 } .faint { fill: #59636e }
.paper { fill: #ffffff } .grid { stroke: #d1d9e0; stroke-width: 1 } polyline { fill: none; stroke-width: 2; stroke-linejoin: round }
#latency { stroke: #b3450b } #rate { stroke: #0b62c4 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .faint { fill: #9198a1 } .paper { fill: #0d1117 } .grid { stroke: #3d444d }
#latency { stroke: #ff9a5c } #rate { stroke: #6cb2ff }
}
</style>
<rect class="paper" width="100%%" height="100%%"/>
`

// SVG draws latency by percentile, as HDR histograms are plotted: each step to the right is a tenth of the calls that are left. Below, the
// calls a second in the course of the run. It is "" if nothing was measured.
func (r *Report) SVG() string {
	t := r.Run.record.total
	if r.Run.cold || t.latency.TotalCount() == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, svgHead, svgWidth, svgHeight, escape("sealmux bench "+r.Addr), escape(r.what()))
	svgText(&b, plotLeft, 30, `class="head"`, "sealmux bench "+r.Addr)
	svgText(&b, plotLeft, 50, `class="faint"`, r.what())
	sum := fmt.Sprintf("%s calls/s; p50 %s, p99 %s, p99.9 %s, max %s ms; %d failed", number(float64(t.answered)/r.seconds()),
		termtext.Milliseconds(t.at(50)), termtext.Milliseconds(t.at(99)), termtext.Milliseconds(t.at(99.9)), termtext.Milliseconds(t.max), t.failed)
	if n := r.Run.NotBegun(); n > 0 {
		sum += fmt.Sprintf("; %d not begun", n)
	}
	svgText(&b, plotLeft, 68, `class="faint"`, sum)
	r.plotLatency(&b)
	r.plotRate(&b)
	b.WriteString("</svg>\n")
	return b.String()
}

func (r *Report) plotLatency(b *strings.Builder) {
	t := r.Run.record.total
	decades := min(max(math.Ceil(math.Log10(float64(t.latency.TotalCount()))), 1), 9)
	f := frame{top: latencyTop, height: plotHeight, mostX: decades, mostY: float64(t.max) / 1e6}
	f.grid(b, "latency, ms")
	for d := range int(decades) + 1 {
		f.tickX(b, float64(d), percentText(d))
	}
	svgText(b, plotLeft+plotWidth/2, latencyTop+plotHeight+36, `class="faint" text-anchor="middle"`, "percentile of calls")
	f.begin(b, "latency")
	f.point(b, 0, float64(t.min)/1e6)
	for _, bracket := range t.latency.CumulativeDistributionWithTicks(10) {
		x := decades
		if bracket.Quantile < 100 {
			x = min(math.Log10(100/(100-bracket.Quantile)), decades)
		}
		f.point(b, x, float64(min(time.Duration(bracket.ValueAt), t.max))/1e6)
	}
	b.WriteString("\"/>\n")
}

// percentText is 0%, 90%, 99%, 99.9% and so on.
func percentText(nines int) string {
	if nines < 3 {
		return []string{"0%", "90%", "99%"}[nines]
	}
	return "99." + strings.Repeat("9", nines-2) + "%"
}

func (r *Report) plotRate(b *strings.Builder) {
	c, took := &r.Run.record.course, r.Run.took
	rates, most := make([]float64, len(c.counts)), 0.0
	for i := range rates {
		rates[i] = c.rate(i, took)
		most = max(most, rates[i])
	}
	f := frame{top: rateTop, height: ratePlotHeight, mostX: max(took.Seconds(), 1e-9), mostY: most}
	f.grid(b, "calls/s")
	step := niceStep(f.mostX)
	for i := 0; float64(i)*step <= f.mostX; i++ {
		f.tickX(b, float64(i)*step, strconv.FormatFloat(float64(i)*step, 'g', 6, 64))
	}
	svgText(b, plotLeft+plotWidth/2, rateTop+ratePlotHeight+36, `class="faint" text-anchor="middle"`, "seconds")
	f.begin(b, "rate")
	for i, rate := range rates {
		f.point(b, float64(i)*c.width.Seconds(), rate)
		until := float64(i+1) * c.width.Seconds()
		if i == len(rates)-1 {
			until = f.mostX
		}
		f.point(b, until, rate)
	}
	b.WriteString("\"/>\n")
}

// A frame is one plot: x from 0 to mostX, y from 0 to the first line of the grid at or above mostY.
type frame struct {
	top, height  int
	mostX, mostY float64
}

// grid draws the lines across, and makes mostY the uppermost.
func (f *frame) grid(b *strings.Builder, title string) {
	if f.mostY <= 0 {
		f.mostY = 1
	}
	step := niceStep(f.mostY)
	lines := int(math.Ceil(f.mostY/step - 1e-9))
	f.mostY = float64(lines) * step
	svgText(b, plotLeft, f.top-8, `class="faint"`, title)
	for i := range lines + 1 {
		y := f.y(float64(i) * step)
		fmt.Fprintf(b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1[2]f"/>`+"\n", plotLeft, y, plotLeft+plotWidth)
		svgText(b, plotLeft-8, int(y)+4, `text-anchor="end"`, strconv.FormatFloat(float64(i)*step, 'g', 6, 64))
	}
}

func (f *frame) tickX(b *strings.Builder, x float64, text string) {
	fmt.Fprintf(b, `<line class="grid" x1="%.1f" y1="%d" x2="%.1[1]f" y2="%[3]d"/>`+"\n", f.x(x), f.top, f.top+f.height)
	svgText(b, int(f.x(x)), f.top+f.height+18, `text-anchor="middle"`, text)
}

func (f *frame) x(x float64) float64 { return plotLeft + plotWidth*x/f.mostX }
func (f *frame) y(y float64) float64 { return float64(f.top) + float64(f.height)*(1-y/f.mostY) }

func (f *frame) begin(b *strings.Builder, id string) {
	fmt.Fprintf(b, `<polyline id="%s" points="`, id)
}

func (f *frame) point(b *strings.Builder, x, y float64) {
	fmt.Fprintf(b, "%.1f,%.1f ", f.x(x), f.y(y))
}

// niceStep divides up to most into 3 to 7 parts of 1, 2 or 5 and noughts.
func niceStep(most float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(most/3)))
	for _, n := range []float64{5, 2} {
		if n*unit <= most/3 {
			return n * unit
		}
	}
	return unit
}

func svgText(b *strings.Builder, x, y int, attributes, text string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" %s>%s</text>`+"\n", x, y, attributes, escape(text))
}

// escape makes text fit for XML, whatever it is.
func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a Builder does not fail
	return b.String()
}
