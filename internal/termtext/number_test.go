package termtext

import "testing"

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1: "1 byte", 2: "2 bytes", 999: "999 bytes", 1000: "1,000 bytes",
		999_999: "999,999 bytes", 1_000_000: "1,000,000 bytes", 1<<63 - 1: "9,223,372,036,854,775,807 bytes"} {
		if got := Plural(n, "byte"); got != want {
			t.Errorf("%d became %q, want %q", n, got, want)
		}
	}
}
