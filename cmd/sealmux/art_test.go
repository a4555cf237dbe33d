package main

import (
	"strings"
	"testing"

	"github.com/sealmux/sealmux/transport"
)

// What ssh-keygen -lv prints of these keys.
var sshArt = map[string]string{
	"SHA256:mWaiRA7/xaOxVcPXmbop1/ot5+ZoRDd9p+QiHFsEh7k": `
+---[RSA 3072]----+
|          .+.    |
|         .o... o |
|  . .     +o. + .|
|   =   . +Eo..o.=|
|    + o S. +.+ o+|
|   . o X .+ .++  |
|    . +   ..+o.  |
|           o .ooo|
|            .oo*+|
+----[SHA256]-----+
`,
	"SHA256:O3GXymCVUU/MSQq3hNtMzu4Y0CEc/6iW66+7KU4moLs": `
+---[RSA 3072]----+
|       ...oo++o. |
|        o.o*.=+  |
|         o+Oo .  |
|        ..oo=.   |
|  .     S.o.+    |
| . .   . O.o.    |
|.   . o * o+     |
| .   +.. +. .    |
|E.   ..oB=.      |
+----[SHA256]-----+
`,
	// A walk that ends where it began, and one that visits a place more often than there are marks; those two keys are Ed25519, but for that border.
	"SHA256:0HVXk/+PlUqR4nEO+tHeX+gEo3H9ZQcjMAXuwyLCW+U": `
+---[RSA 3072]----+
|          =oo .oo|
|       . o + . ..|
|      . o . . + .|
|   .   + o + * o.|
|    o o E B @ o *|
|     + . o B * ==|
|    .     o + =o+|
|           . =..o|
|              . o|
+----[SHA256]-----+
`,
	"SHA256:Ki1/e8+dAgfS9kAOlvaKlkCFikw8EJIIqICBirQAQPo": `
+---[RSA 3072]----+
|^=   o.  .       |
|@=  o   = .      |
|@.oo   o *       |
|=+. .   . B      |
|  E  . oS+ +     |
|     .+.. . o    |
|    o.o    o     |
|     +  . .... . |
|      ...o .o.o  |
+----[SHA256]-----+
`,
}

func TestFingerprintArt(t *testing.T) {
	for text, want := range sshArt {
		print, err := transport.ParseFingerprint(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := "\n" + fingerprintArt(print, "RSA 3072"); got != want {
			t.Errorf("%s: got%s", text, got)
		}
	}
	zero := fingerprintArt(transport.Fingerprint{}, "")
	if strings.Count(zero, "\n") != artHeight+2 || !strings.HasSuffix(zero, "\n") || !strings.Contains(zero, "|E") {
		t.Errorf("all zero:\n%s", zero)
	}
}

func TestFingerprintWords(t *testing.T) {
	// The vectors of BIP 39 for these 256 bits.
	for fill, want := range map[byte]string{
		0x00: strings.Repeat("abandon ", 23) + "art",
		0x7f: "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title",
		0xff: strings.Repeat("zoo ", 23) + "vote",
	} {
		print := transport.Fingerprint([]byte(strings.Repeat(string([]byte{fill}), 32)))
		words := fingerprintWords(print)
		if strings.Join(strings.Fields(words), " ") != want || strings.Count(words, "\n") != 2 {
			t.Errorf("%x: %s", fill, words)
		}
	}
}
