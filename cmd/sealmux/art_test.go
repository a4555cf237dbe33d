package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sealmux/sealmux/transport"
)

// TestArt compares with what ssh-keygen -lv of OpenSSH 9.2 drew, between its borders.
func TestArt(t *testing.T) {
	for _, c := range []struct{ what, print, want string }{
		{"plain", "SHA256:/S/hqiOY7/dNB7tW/ZNyhS7rVwsXzaWrbVGE2MnVXCo", `
|             + ==|
|            . =.=|
|            E .+o|
|         .   ...+|
|        S . .  =.|
|           ..+=.+|
|     o     .+*+o=|
|    o . o  o*===.|
|     ooo.+o+=*+ .|
`},
		{"it ends where it began", "SHA256:0HVXk/+PlUqR4nEO+tHeX+gEo3H9ZQcjMAXuwyLCW+U", `
|          =oo .oo|
|       . o + . ..|
|      . o . . + .|
|   .   + o + * o.|
|    o o E B @ o *|
|     + . o B * ==|
|    .     o + =o+|
|           . =..o|
|              . o|
`},
		{"a square visited more often than there are signs", "SHA256:Ki1/e8+dAgfS9kAOlvaKlkCFikw8EJIIqICBirQAQPo", `
|^=   o.  .       |
|@=  o   = .      |
|@.oo   o *       |
|=+. .   . B      |
|  E  . oS+ +     |
|     .+.. . o    |
|    o.o    o     |
|     +  . .... . |
|      ...o .o.o  |
`},
	} {
		print, err := transport.ParseFingerprint(c.print)
		if err != nil {
			t.Fatal(err)
		}
		want := "+--[sealmux RSA]--+" + c.want + "+----[SHA256]-----+"
		if got := fingerprintArt(print); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, got, want)
		}
	}
}

// TestWords compares with the vectors that BIP 39 has for 256 bits.
func TestWords(t *testing.T) {
	for _, c := range []struct {
		bytes byte
		want  string
	}{
		{0x00, strings.Repeat("abandon ", 23) + "art"},
		{0x7f, strings.Repeat("legal winner thank year wave sausage worth useful ", 2) + "legal winner thank year wave sausage worth title"},
		{0x80, strings.Repeat("letter advice cage absurd amount doctor acoustic avoid ", 2) + "letter advice cage absurd amount doctor acoustic bless"},
		{0xff, strings.Repeat("zoo ", 23) + "vote"},
	} {
		got := fingerprintWords(transport.Fingerprint(bytes.Repeat([]byte{c.bytes}, 32)))
		if lines := strings.Split(got, "\n"); len(lines) != 4 || strings.Join(lines, " ") != c.want {
			t.Errorf("%x: %q, want %q", c.bytes, got, c.want)
		}
	}
}

func TestDescribeKey(t *testing.T) {
	const want = `SHA256:f39/f39/f39/f39/f39/f39/f39/f39/f39/f39/f38
+--[sealmux RSA]--+
|                 |   1 legal      2 winner     3 thank
|                 |   4 year       5 wave       6 sausage
|                 |   7 worth      8 useful     9 legal
|                 |  10 winner    11 thank     12 year
|        S        |  13 wave      14 sausage   15 worth
|         .       |  16 useful    17 legal     18 winner
|          . .    |  19 thank     20 year      21 wave
|           . .  E|  22 sausage   23 worth     24 title
|              ..^|
+----[SHA256]-----+`
	if got := describeKey(transport.Fingerprint(bytes.Repeat([]byte{0x7f}, 32))); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
