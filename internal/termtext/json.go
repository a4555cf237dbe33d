package termtext

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Quiet escapes in JSON what a terminal would obey. Outside of its strings JSON has no such characters.
func Quiet(text string) string {
	if !strings.ContainsFunc(text, obeyed) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !obeyed(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// obeyed are the characters that JSON lets through and a terminal acts on: it is told what to do, or in what order to show text.
func obeyed(r rune) bool { return r >= 0x7f && r <= 0x9f || unicode.Is(unicode.Cf, r) }
