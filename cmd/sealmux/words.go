package main

import (
	"strings"

	"github.com/tyler-smith/go-bip39"

	"github.com/sealmux/sealmux/transport"
)

// wordsLine is how many words a line of fingerprintWords has.
const wordsLine = 8

// fingerprintWords spells a fingerprint for reading it aloud: 24 words of BIP 39's English list, whose first four letters are enough to tell
// them apart. They are all 256 bits, and 8 more that tell of one misheard. Three lines, without a last newline.
func fingerprintWords(print transport.Fingerprint) string {
	mnemonic, err := bip39.NewMnemonic(print[:])
	if err != nil {
		panic(err) // 256 bits are one of the sizes that there are
	}
	words := strings.Fields(mnemonic)
	var lines []string
	for len(words) > 0 {
		n := min(wordsLine, len(words))
		lines = append(lines, strings.Join(words[:n], " "))
		words = words[n:]
	}
	return strings.Join(lines, "\n")
}
