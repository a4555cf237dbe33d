package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
)

// drawChart writes a bar for each peer's rate into a file of the folder.
func drawChart(folder string, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	const line, label, bar, figure = 26, 110, 420, 110
	first := rows[0]
	most := 0.0
	for _, r := range rows {
		most = max(most, r.PerSecond)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n",
		label+bar+figure, line*(len(rows)+2))
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	fmt.Fprintf(&b, `<text x="8" y="18" font-weight="bold">%s: %d bytes, %d callers, per second</text>`+"\n", html.EscapeString(first.Work), first.Bytes, first.Callers)
	for i, r := range rows {
		y, width := line*(i+1)+8, 0.0
		if most > 0 {
			width = r.PerSecond / most * bar
		}
		colour := "#9db4c8"
		switch {
		case r.Peer == "sealmux":
			colour = "#d2691e"
		case !r.isRPC:
			colour = "#dddddd"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%.0f</text>`+"\n",
			label-6, y+14, html.EscapeString(r.Peer), label, y, width, line-8, colour, label+width+6, y+14, r.PerSecond)
	}
	b.WriteString("</svg>\n")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%d-%d.svg", first.Work, first.Bytes, first.Callers)
	return os.WriteFile(filepath.Join(folder, name), []byte(b.String()), 0o644)
}
