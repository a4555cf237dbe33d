package main

import (
	"strings"

	"github.com/sealmux/sealmux/transport"
)

// The field of OpenSSH's random art. People are used to its size, and so to how much two pictures that look alike have in common.
const (
	artWidth  = 17
	artHeight = 9
)

// artMarks are how often a place was visited; the last two are where the walk began and ended.
const artMarks = " .o+=*BOX@%&#/^SE"

// fingerprintArt draws a fingerprint as ssh does, so that a person sees that two keys differ: a bishop walks the field, two bits a step.
// It ends in a newline. Two pictures that look the same prove nothing: for that, compare the text or the words.
func fingerprintArt(print transport.Fingerprint, title string) string {
	var field [artHeight][artWidth]int
	x, y := artWidth/2, artHeight/2
	for _, b := range print {
		for range 4 {
			x = min(max(x+int(b&1)*2-1, 0), artWidth-1)
			y = min(max(y+int(b>>1&1)*2-1, 0), artHeight-1)
			field[y][x] = min(field[y][x]+1, len(artMarks)-3)
			b >>= 2
		}
	}
	field[artHeight/2][artWidth/2] = len(artMarks) - 2
	field[y][x] = len(artMarks) - 1

	var art strings.Builder
	art.WriteString(artEdge(title))
	for _, row := range field {
		art.WriteByte('|')
		for _, visits := range row {
			art.WriteByte(artMarks[visits])
		}
		art.WriteString("|\n")
	}
	art.WriteString(artEdge("SHA256"))
	return art.String()
}

func artEdge(title string) string {
	title = "[" + title + "]"
	left := (artWidth - len(title)) / 2
	return "+" + strings.Repeat("-", left) + title + strings.Repeat("-", artWidth-left-len(title)) + "+\n"
}
