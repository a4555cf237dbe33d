package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "private.pem"), filepath.Join(dir, "public.pem")
	key := serverKeyForTest()
	if err := errors.Join(key.WriteFile(private), key.Public().WriteFile(public)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	again, err := ReadPrivateKey(private)
	if err != nil || again.Fingerprint() != key.Fingerprint() {
		t.Fatal(again, err)
	}
	pub, err := ReadPublicKey(public)
	if err != nil || !pub.Equal(key.Public()) {
		t.Fatal(pub, err)
	}
	if err := key.WriteFile(private); !errors.Is(err, fs.ErrExist) || !errors.Is(err, ErrKey) {
		t.Fatalf("overwriting: %v", err)
	}
	if print, err := ParseFingerprint(pub.String()); err != nil || print != key.Fingerprint() {
		t.Fatal(print, err)
	}
}

func TestKeyFileFaults(t *testing.T) {
	good, err := serverKeyForTest().MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	public := serverKeyForTest().Public().MarshalPEM()
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	smallDER, _ := x509.MarshalPKCS8PrivateKey(small)
	curve, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	curveDER, _ := x509.MarshalPKCS8PrivateKey(curve)
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	for name, test := range map[string]struct {
		data []byte
		want string
		mode os.FileMode
	}{
		"CRLF":          {bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), "", 0o600},
		"PKCS#1":        {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(serverKeyForTest().rsa)), "", 0o600},
		"others may":    {good, "chmod 600", 0o644},
		"group may":     {good, "chmod 600", 0o640},
		"public half":   {public, "public half", 0o600},
		"1024 bits":     {block("PRIVATE KEY", smallDER), "1024 bits", 0o600},
		"elliptic":      {block("PRIVATE KEY", curveDER), "not an RSA key", 0o600},
		"encrypted":     {block("ENCRYPTED PRIVATE KEY", []byte("x")), "encrypted", 0o600},
		"certificate":   {block("CERTIFICATE", []byte("x")), "another kind", 0o600},
		"damaged":       {block("PRIVATE KEY", []byte("x")), "damaged", 0o600},
		"trailing junk": {append(bytes.Clone(good), "junk"...), "follows", 0o600},
		"empty":         {nil, "no PEM block", 0o600},
		"huge":          {make([]byte, maxKeyFile+1), "not a key file", 0o600},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, test.data, test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := ReadPrivateKey(path)
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Fatal(err)
			}
		})
	}
	if _, err := ReadPrivateKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if _, err := ReadPrivateKey(t.TempDir()); !errors.Is(err, ErrKey) {
		t.Error(err)
	}
	if _, err := ParsePublicKey(good); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "private half") {
		t.Error(err)
	}
	for _, bits := range []int{1024, 2049, 8200, -1} {
		if _, err := GenerateKey(bits); !errors.Is(err, ErrKey) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	for _, text := range []string{"", "SHA256:", "MD5:abc", serverKeyForTest().String() + "=", serverKeyForTest().String() + "\n",
		serverKeyForTest().String()[1:]} {
		if _, err := ParseFingerprint(text); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Keys that crypto/rsa would refuse only when they are used, in the middle of a handshake, are refused when they are read.
func TestUselessPublicKeys(t *testing.T) {
	good := serverKeyForTest().Public().rsa
	even := new(big.Int).SetBit(good.N, 0, 0)
	for name, key := range map[string]*rsa.PublicKey{
		"even modulus":   {N: even, E: good.E},
		"exponent 3":     {N: good.N, E: 3},
		"even exponent":  {N: good.N, E: 65538},
		"large exponent": {N: good.N, E: math.MaxInt},
	} {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseSPKI(der); !errors.Is(err, ErrKey) && !(name == "large exponent" && math.MaxInt == maxExponent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	key := serverKeyForTest()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, key); !strings.Contains(text, key.Fingerprint().String()) || len(text) > 100 {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func TestAuthorizedKeys(t *testing.T) {
	dir := t.TempDir()
	add := func(name string, key *PrivateKey) {
		if err := key.Public().WriteFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	add("alice.pem", clientKeyForTest())
	os.WriteFile(filepath.Join(dir, "README"), []byte("not a key"), 0o600)
	trust, err := AuthorizedKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(key *PrivateKey) (string, error) { return trust.admits(context.Background(), key.Public()) }
	if name, err := ask(clientKeyForTest()); name != "alice" || err != nil {
		t.Fatal(name, err)
	}
	if _, err := ask(otherKeyForTest()); err == nil {
		t.Fatal("a stranger came in")
	}
	add("bob.pem", otherKeyForTest())
	if name, err := ask(otherKeyForTest()); name != "bob" || err != nil {
		t.Fatal(name, err)
	}
	os.Remove(filepath.Join(dir, "alice.pem"))
	if _, err := ask(clientKeyForTest()); err == nil {
		t.Fatal("alice was removed")
	}
	// A file that cannot be used refuses everybody: a half-read list must not decide.
	os.WriteFile(filepath.Join(dir, "carol.pem"), []byte("damaged"), 0o600)
	if _, err := ask(otherKeyForTest()); !errors.Is(err, ErrKey) {
		t.Fatal(err)
	}
	if _, err := AuthorizedKeys(dir); !errors.Is(err, ErrKey) {
		t.Fatal(err)
	}
	if _, err := AuthorizedKeys(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
