package legacy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKeyFiles(t *testing.T) {
	curve, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	curveDER, _ := x509.MarshalPKCS8PrivateKey(curve)
	curvePublic, _ := x509.MarshalPKIXPublicKey(&curve.PublicKey)
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	public := func(n func(*rsa.PublicKey)) []byte {
		key := *keyForTest().pub.rsa
		n(&key)
		der, err := x509.MarshalPKIXPublicKey(&key)
		if err != nil {
			t.Fatal(err)
		}
		return block(pemPublic, der)
	}
	server, small := testdata(t, "server.pem"), testdata(t, "small.pem")
	for name, c := range map[string]struct {
		data   []byte
		mode   os.FileMode
		public bool
		want   string // "" for a good key
	}{
		"PKCS#8":               {server, 0o600, false, ""},
		"PKCS#1, 1024 bits":    {small, 0o600, false, ""},
		"CRLF":                 {bytes.ReplaceAll(server, []byte("\n"), []byte("\r\n")), 0o600, false, ""},
		"others may read":      {server, 0o644, false, "chmod 600"},
		"group may read":       {server, 0o640, false, "chmod 600"},
		"public for private":   {testdata(t, "server.pub.pem"), 0o600, false, "public half"},
		"elliptic":             {block(pemPrivate, curveDER), 0o600, false, "not an RSA key"},
		"encrypted":            {block("ENCRYPTED PRIVATE KEY", []byte("x")), 0o600, false, "encrypted"},
		"certificate":          {block("CERTIFICATE", []byte("x")), 0o600, false, "another kind"},
		"damaged":              {block(pemPrivate, []byte("x")), 0o600, false, "damaged"},
		"PKCS#8 called PKCS#1": {bytes.ReplaceAll(server, []byte("PRIVATE"), []byte("RSA PRIVATE")), 0o600, false, "damaged"},
		"two keys":             {append(bytes.Clone(server), small...), 0o600, false, "follows"},
		"empty":                {nil, 0o600, false, "no PEM block"},
		"huge":                 {make([]byte, maxKeyFile+1), 0o600, false, "not a key file"},

		"PKIX":                {testdata(t, "server.pub.pem"), 0o644, true, ""},
		"public PKCS#1":       {testdata(t, "small.pub.pem"), 0o644, true, ""},
		"private for public":  {server, 0o600, true, "private half"},
		"public certificate":  {block("CERTIFICATE", []byte("x")), 0o600, true, "another kind"},
		"public elliptic":     {block(pemPublic, curvePublic), 0o600, true, "not an RSA key"},
		"public damaged":      {block(pemPublic, []byte("x")), 0o600, true, "damaged"},
		"exponent 3":          {public(func(k *rsa.PublicKey) { k.E = 3 }), 0o644, true, "exponent"},
		"even modulus":        {public(func(k *rsa.PublicKey) { k.N = new(big.Int).SetBit(k.N, 0, 0) }), 0o644, true, "even"},
		"1016 bits":           {public(func(k *rsa.PublicKey) { k.N = new(big.Int).Rsh(k.N, 2048-1016) }), 0o644, true, "1016 bits"},
		"2047 bits":           {public(func(k *rsa.PublicKey) { k.N = new(big.Int).Rsh(k.N, 1) }), 0o644, true, "2047 bits"},
		"more than 8192 bits": {public(func(k *rsa.PublicKey) { k.N = new(big.Int).Lsh(k.N, 8192) }), 0o644, true, "10240 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, c.data, c.mode); err != nil {
				t.Fatal(err)
			}
			read := func(path string) error { _, err := ReadPrivateKey(path); return err }
			if c.public {
				read = func(path string) error { _, err := ReadPublicKey(path); return err }
			}
			err := read(path)
			switch {
			case c.want == "" && err != nil:
				t.Fatal(err)
			case c.want != "" && (!errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path)):
				t.Fatal(err)
			}
		})
	}
	if _, err := ReadPrivateKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if _, err := ReadPublicKey(t.TempDir()); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
}

// Keys that crypto/x509 or crypto/rsa would take, and this wire does not.
func TestPrivateKeysRefused(t *testing.T) {
	three, err := rsa.GenerateMultiPrimeKey(rand.Reader, 3, 1032) //lint:ignore SA1019 it is what must be refused
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newPrivateKey(three); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "3 primes") {
		t.Error(err)
	}
	odd, err := rsa.GenerateKey(rand.Reader, 1026)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newPrivateKey(odd); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "1026 bits") {
		t.Error(err)
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, keyForTest()); !strings.Contains(text, fmt.Sprintf("%x", keyForTest().Fingerprint())) || len(text) > 100 {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

// Keys and IVs are letters and digits, all of them equally likely.
func TestPairs(t *testing.T) {
	counts := make(map[byte]int)
	const pairs = 2000
	for range pairs {
		p := newPair()
		again, ok := parsePair(p.literal())
		if !ok || string(again.key) != string(p.key) || string(again.iv) != string(p.iv) || len(p.key) != keySize {
			t.Fatalf("%q %q", p.key, p.iv)
		}
		for _, c := range append(bytes.Clone(p.key), p.iv...) {
			counts[c]++
		}
	}
	mean := pairs * (keySize + ivSize) / len(letters) // 1548, with a deviation of 39
	for _, c := range []byte(letters) {
		if counts[c] < mean*3/4 || counts[c] > mean*5/4 {
			t.Errorf("%c came %d times, want about %d", c, counts[c], mean)
		}
	}
}

// No other bytes than letters and digits pass, in either.
func TestPairsOfOtherBytes(t *testing.T) {
	for _, at := range []int{0, keySize} {
		for c := range 256 {
			text := bytes.Repeat([]byte("a"), keySize+ivSize)
			text[at] = byte(c)
			_, ok := parsePair(pair{text[:keySize], text[keySize:]}.literal())
			if want := bytes.IndexByte([]byte(letters), byte(c)) >= 0; ok != want {
				t.Errorf("%q at %d: %v", byte(c), at, ok)
			}
		}
	}
}
