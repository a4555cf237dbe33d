package transport

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"
)

// The expander is crypto/hkdf's Expand, label after label.
func TestExpander(t *testing.T) {
	secret := testSecret()
	e := newExpander(secret)
	for _, size := range []int{0, 1, 31, 32, 33, 44, 64, 1000, maxExport} {
		for _, context := range [][]byte{nil, {1}, bytes.Repeat([]byte{2}, 32), bytes.Repeat([]byte{3}, 300)} {
			want, err := hkdf.Expand(sha256.New, secret, labelKey+string(context), size)
			if got := e.expand(labelKey, context, size); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, context of %d: %x, want %x, %v", size, len(context), got, want, err)
			}
		}
	}
}
