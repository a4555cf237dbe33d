package termtext

import (
	"encoding/json"
	"testing"
	"unicode"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuiet(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`{"a":"é 語 😀"}`, `{"a":"é 語 😀"}`},
		{"\"\x7f\u0080\u009f\u00a0\"", "\"\\u007f\\u0080\\u009f\u00a0\""},
		{"\"a\u202eb\u2066c\ufeff\"", `"a\u202eb\u2066c\ufeff"`},
		{"\"\U000e0001\"", `"\udb40\udc01"`}, // two units of UTF-16
	} {
		if got := Quiet(test.text); got != test.want {
			t.Errorf("%q became %q, want %q", test.text, got, test.want)
		}
	}
}

// Every character that Unicode has, but what JSON itself escapes: none is obeyed, and none becomes another.
func TestQuietAll(t *testing.T) {
	for r := rune(' '); r <= unicode.MaxRune; r++ {
		if r >= 0xd800 && r < 0xe000 || r == '"' || r == '\\' {
			continue
		}
		quiet := Quiet(`"` + string(r) + `"`)
		var back string
		if err := json.Unmarshal([]byte(quiet), &back); err != nil || back != string(r) {
			t.Fatalf("%U became %q: %v", r, quiet, err)
		}
		for _, shown := range quiet {
			if unicode.IsControl(shown) || unicode.Is(unicode.Bidi_Control, shown) {
				t.Fatalf("%U became %q", r, quiet)
			}
		}
	}
}
