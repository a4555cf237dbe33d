package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"testing"
)

// Key files and fingerprints: refused with ErrKey, or of use, and read again from what is written of them. PEM has more than one text for a
// key: line ends, headers, words before. The DER in a public key's has one, and so has a fingerprint.
// fuzz: 10000x
func FuzzKeys(f *testing.F) {
	for _, name := range []string{"server", "client", "other"} {
		text, err := os.ReadFile("testdata/" + name + ".pem")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	key := serverKeyForTest()
	f.Add(key.Public().MarshalPEM())
	f.Add(append([]byte("words before\n"), bytes.ReplaceAll(key.Public().MarshalPEM(), []byte("\n"), []byte("\r\n"))...))
	f.Add([]byte(key.Public().MarshalLine("me")))
	f.Add([]byte(key.String()))
	f.Add([]byte(key.String() + "\n"))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	curvePrivate, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		f.Fatal(err)
	}
	curvePublic, err := x509.MarshalPKIXPublicKey(&curve.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	for kind, der := range map[string][]byte{pemPrivate: curvePrivate, pemPublic: curvePublic,
		pemPKCS1: x509.MarshalPKCS1PrivateKey(otherKeyForTest().rsa), "ENCRYPTED PRIVATE KEY": {1}} {
		f.Add(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		private, err1 := ParsePrivateKey(text)
		public, err2 := ParsePublicKey(text)
		print, err3 := ParseFingerprint(string(text))
		for _, err := range []error{err1, err2, err3} {
			if err != nil && !errors.Is(err, ErrKey) {
				t.Fatal(err)
			}
		}
		if err1 == nil {
			again, err := private.MarshalPEM()
			if err != nil {
				t.Fatal(err)
			}
			second, err := ParsePrivateKey(again)
			if err != nil || !second.rsa.Equal(private.rsa) || second.Fingerprint() != private.Fingerprint() {
				t.Fatal(second, err)
			}
			useful(t, private.Public(), private)
		}
		if err2 == nil {
			again, err := ParsePublicKey(public.MarshalPEM())
			if err != nil || !again.Equal(public) || err1 == nil {
				t.Fatal(again, err)
			}
			if block, _ := pem.Decode(text); !isSSHLine(text) && !bytes.Equal(public.spki, block.Bytes) {
				t.Fatalf("%x became %x", block.Bytes, public.spki)
			}
			again, err = ParsePublicKey([]byte(public.MarshalLine("")))
			if err != nil || !again.Equal(public) {
				t.Fatal(again, err)
			}
			useful(t, public, nil)
		}
		if err3 == nil && print.String() != string(text) {
			t.Fatalf("%q became %q", text, print)
		}
	})
}

// useful checks that a key which was read does what a handshake needs.
func useful(t *testing.T, public *PublicKey, private *PrivateKey) {
	t.Helper()
	secret := make([]byte, secretSize)
	wrapped, err := wrap(noFresh.forOAEP(), public, secret)
	if err != nil {
		t.Fatal(err)
	}
	if private == nil {
		return
	}
	if opened := unwrap(private, wrapped, noFresh.newSecret()); !bytes.Equal(opened, secret) {
		t.Fatalf("%x", opened)
	}
}
