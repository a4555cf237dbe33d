package main

import (
	"strings"

	"github.com/sealmux/sealmux/transport"
)

// The field of a key's picture, as OpenSSH draws it: its size, and the signs of squares that were visited 0, 1, 2... times.
const (
	artWidth  = 17
	artHeight = 9
	artSigns  = " .o+=*BOX@%&#/^"
	artStart  = 'S'
	artEnd    = 'E'
	artTitle  = "[sealmux RSA]"
	artFooter = "[SHA256]"
)

// fingerprintArt is a picture of a fingerprint, by which a person notices that a key is another: the walk of the drunken bishop that
// ssh-keygen -lv draws. It is 11 lines of 19 characters, the last without its end. It is no proof of equality: pictures of different
// keys can be alike.
func fingerprintArt(f transport.Fingerprint) string {
	var visits [artHeight][artWidth]int
	x, y := artWidth/2, artHeight/2
	for _, b := range f {
		for range 4 { // two bits a step, the lowest first: right or left, down or up, sliding along the walls
			x = min(max(x+int(b&1)*2-1, 0), artWidth-1)
			y = min(max(y+int(b>>1&1)*2-1, 0), artHeight-1)
			visits[y][x]++
			b >>= 2
		}
	}
	lines := []string{artBorder(artTitle)}
	for row := range visits {
		line := make([]byte, artWidth)
		for column, n := range visits[row] {
			line[column] = artSigns[min(n, len(artSigns)-1)]
		}
		if row == artHeight/2 {
			line[artWidth/2] = artStart
		}
		if row == y { // last: a walk may end where it began
			line[x] = artEnd
		}
		lines = append(lines, "|"+string(line)+"|")
	}
	return strings.Join(append(lines, artBorder(artFooter)), "\n")
}

func artBorder(label string) string {
	left := (artWidth - len(label)) / 2
	return "+" + strings.Repeat("-", left) + label + strings.Repeat("-", artWidth-left-len(label)) + "+"
}
