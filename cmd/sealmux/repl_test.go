package main

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"testing"
)

// FuzzLines: every line of an input is read once, without its end.
func FuzzLines(f *testing.F) {
	for _, text := range []string{"", "\n", "a", "a\r\n\r\nb\r", "\r\r\n", "a\x00\xff\n\n"} {
		f.Add(text, byte(0))
		f.Add(text, byte(200))
	}
	f.Fuzz(func(t *testing.T, text string, often byte) {
		text = strings.Repeat(text, 1+int(often)) // beyond the reader's buffer
		var want []string
		for line := range strings.Lines(text) {
			want = append(want, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
		}
		in := bufio.NewReaderSize(strings.NewReader(text), 16)
		var got []string
		line, err := readLine(in)
		for ; err == nil; line, err = readLine(in) {
			got = append(got, string(line))
		}
		if err != io.EOF || !slices.Equal(got, want) {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	})
}
