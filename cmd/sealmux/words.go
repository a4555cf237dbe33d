package main

import (
	"fmt"
	"strings"

	"github.com/tyler-smith/go-bip39"

	"github.com/sealmux/sealmux/transport"
)

// wordsInLine is how many of the 24 words stand on a line.
const wordsInLine = 6

// fingerprintWords is a fingerprint for reading aloud: four lines of six English words, the last without its end. They hold all its 256
// bits, and 8 more of a checksum, as BIP 39 makes them of 256 bits; its words differ in their first four letters. Unlike those of a
// wallet they are no secret.
func fingerprintWords(f transport.Fingerprint) string {
	words := strings.Fields(mnemonic(f))
	var lines []string
	for ; len(words) > 0; words = words[wordsInLine:] {
		lines = append(lines, strings.Join(words[:wordsInLine], " "))
	}
	return strings.Join(lines, "\n")
}

func mnemonic(f transport.Fingerprint) string {
	text, err := bip39.NewMnemonic(f[:])
	if err != nil {
		panic(err) // it takes any 32 bytes
	}
	return text
}

// describeKey is all by which a person can compare a fingerprint, in 12 lines, the last without its end: the line that programs take,
// and below it the picture and the words, numbered, side by side.
func describeKey(f transport.Fingerprint) string {
	const wordsInRow, firstRow = 3, 1
	words := strings.Fields(mnemonic(f))
	lines := strings.Split(fingerprintArt(f), "\n")
	for i := range len(words) / wordsInRow {
		for j, word := range words[i*wordsInRow:][:wordsInRow] {
			lines[firstRow+i] += fmt.Sprintf("  %2d %-8s", i*wordsInRow+j+1, word)
		}
		lines[firstRow+i] = strings.TrimRight(lines[firstRow+i], " ")
	}
	return f.String() + "\n" + strings.Join(lines, "\n")
}
