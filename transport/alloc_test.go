//go:build !race

package transport

import (
	"io"
	"testing"
)

// What passes through records and streams allocates nothing: a promise. (Under the race detector pools forget what they
// were given.)
func TestAllocations(t *testing.T) {
	secret := testSecret()
	out, in := newCipherState(append([]byte(nil), secret...)), newCipherState(secret)
	rec := make([]byte, recordPrefix+100+tagSize)
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	go io.Copy(p, p)
	buf := make([]byte, 16)
	for _, c := range []struct {
		name string
		f    func() error
	}{
		{"record", func() error {
			rec[recordHeader] = recordData
			out.seal(rec)
			_, _, err := in.open(rec)
			return err
		}},
		{"there and back", func() error {
			o.Write(buf)
			_, err := io.ReadFull(o, buf)
			return err
		}},
	} {
		if n := testing.AllocsPerRun(1000, func() {
			if err := c.f(); err != nil {
				t.Fatal(err)
			}
		}); n >= 1 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}
