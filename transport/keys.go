package transport

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Key sizes in bits. 2048 is the least that NIST SP 800-131A still admits; 3072 is worth about 128 bits of
// security (SP 800-57 part 1, table 2); above 8192 the private operation takes a server tens of milliseconds.
const (
	MinKeyBits     = 2048
	DefaultKeyBits = 3072
	MaxKeyBits     = 8192
)

// minExponent refuses the small exponents that made RSA fragile, maxExponent those that crypto/rsa refuses to use. Every current
// tool makes 65537.
const (
	minExponent = 65537
	maxExponent = 1<<31 - 1
)

// maxKeyFile bounds what is read from a key file; an 8192-bit private key in PEM has 6.4 KiB.
const maxKeyFile = 64 << 10

// ErrKey is matched (errors.Is) by every error about a key or a key file: missing, unreadable, readable by
// others, of the wrong kind or size, encrypted, damaged.
var ErrKey = errors.New("transport: unusable key")

// A Fingerprint names a public key: the SHA-256 of its SubjectPublicKeyInfo in DER.
// It is comparable and may be a map key.
type Fingerprint [sha256.Size]byte

const fingerprintPrefix = "SHA256:"

// String returns `SHA256:` and the unpadded base64 of the hash, as ssh prints it.
func (f Fingerprint) String() string {
	return fingerprintPrefix + base64.RawStdEncoding.EncodeToString(f[:])
}

// ParseFingerprint reads what Fingerprint.String writes. Its errors match ErrKey.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	text, ok := strings.CutPrefix(s, fingerprintPrefix)
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	// The decoder skips line ends, wherever they are: hence the length of the text too.
	if !ok || err != nil || len(raw) != len(f) || len(text) != base64.RawStdEncoding.EncodedLen(len(f)) {
		return f, fmt.Errorf("%w: a fingerprint is SHA256: and 43 base64 characters", ErrKey)
	}
	return Fingerprint(raw), nil
}

// A PublicKey is the RSA key a peer is known by. It is immutable and may be shared.
type PublicKey struct {
	rsa  *rsa.PublicKey
	spki []byte
	id   Fingerprint
}

// A PrivateKey is an identity: the half that must stay secret. It is immutable and may be shared.
type PrivateKey struct {
	rsa *rsa.PrivateKey
	pub *PublicKey
}

// GenerateKey makes a new identity of so many bits (a multiple of 8, MinKeyBits to MaxKeyBits); 0 means
// DefaultKeyBits. The randomness is crypto/rand's. Errors match ErrKey.
func GenerateKey(bits int) (*PrivateKey, error) {
	if bits == 0 {
		bits = DefaultKeyBits
	}
	if err := checkBits(bits); err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return newPrivateKey(key)
}

func checkBits(bits int) error {
	if bits < MinKeyBits || bits > MaxKeyBits || bits%8 != 0 {
		return fmt.Errorf("%w: RSA of %d bits; use a multiple of 8 from %d to %d", ErrKey, bits, MinKeyBits, MaxKeyBits)
	}
	return nil
}

func newPrivateKey(key *rsa.PrivateKey) (*PrivateKey, error) {
	pub, err := newPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &PrivateKey{rsa: key, pub: pub}, nil
}

func newPublicKey(key *rsa.PublicKey) (*PublicKey, error) {
	if err := checkBits(key.N.BitLen()); err != nil {
		return nil, err
	}
	if key.E < minExponent || key.E > maxExponent || key.E%2 == 0 {
		return nil, fmt.Errorf("%w: RSA exponent %d; use 65537", ErrKey, key.E)
	}
	if key.N.Bit(0) == 0 { // no product of two large primes, and refused by crypto/rsa only when it is used
		return nil, fmt.Errorf("%w: RSA modulus that is even", ErrKey)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &PublicKey{rsa: key, spki: spki, id: sha256.Sum256(spki)}, nil
}

// parseSPKI reads a key from the wire. What it accepts re-encodes to the same bytes, so that one key has one
// fingerprint.
func parseSPKI(der []byte) (*PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: not a SubjectPublicKeyInfo", ErrKey)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: not an RSA key", ErrKey)
	}
	pub, err := newPublicKey(key)
	if err == nil && !bytes.Equal(pub.spki, der) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrKey)
	}
	return pub, err
}

// Public returns the half that may be given to anybody.
func (k *PrivateKey) Public() *PublicKey { return k.pub }

// Fingerprint names the key pair.
func (k *PrivateKey) Fingerprint() Fingerprint { return k.pub.id }

// String never shows the secret: it is the fingerprint of the public half.
func (k *PrivateKey) String() string { return k.pub.id.String() }

// GoString keeps %#v from printing the secret.
func (k *PrivateKey) GoString() string { return "transport.PrivateKey(" + k.String() + ")" }

// Fingerprint names the key.
func (p *PublicKey) Fingerprint() Fingerprint { return p.id }

// Bits returns the size of the modulus in bits.
func (p *PublicKey) Bits() int { return p.rsa.N.BitLen() }

// String returns the fingerprint.
func (p *PublicKey) String() string { return p.id.String() }

// Equal reports whether both are the same key. It takes the same time whatever they are.
func (p *PublicKey) Equal(o *PublicKey) bool {
	return p != nil && o != nil && subtle.ConstantTimeCompare(p.id[:], o.id[:]) == 1
}

const (
	pemPrivate = "PRIVATE KEY" // PKCS#8
	pemPublic  = "PUBLIC KEY"  // PKIX
	pemPKCS1   = "RSA PRIVATE KEY"
)

// MarshalPEM returns the key as PKCS#8 in PEM. The result is a secret.
func (k *PrivateKey) MarshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.rsa)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// MarshalPEM returns the key as PKIX (SubjectPublicKeyInfo) in PEM.
func (p *PublicKey) MarshalPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: p.spki})
}

// ParsePrivateKey reads one PEM block, PKCS#8 or PKCS#1, with nothing after it. Errors match ErrKey.
func ParsePrivateKey(data []byte) (*PrivateKey, error) {
	block, err := onePEM(data)
	if err != nil {
		return nil, err
	}
	defer clear(block.Bytes)
	var parsed any
	switch block.Type {
	case pemPrivate:
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case pemPKCS1:
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case pemPublic:
		return nil, fmt.Errorf("%w: this is the public half; give the private key", ErrKey)
	default:
		return nil, fmt.Errorf("%w: a PEM block of another kind; want %q", ErrKey, pemPrivate)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: damaged private key", ErrKey)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: not an RSA key; make one with sealmux keygen", ErrKey)
	}
	return newPrivateKey(key)
}

// ParsePublicKey reads one PEM block of kind PUBLIC KEY, with nothing after it, or one line of MarshalLine's. Errors match ErrKey.
func ParsePublicKey(data []byte) (*PublicKey, error) {
	if isSSHLine(data) {
		exponent, modulus, err := parseSSHLine(data)
		if err != nil {
			return nil, err
		}
		if !exponent.IsInt64() || exponent.Int64() > maxExponent {
			return nil, fmt.Errorf("%w: RSA exponent %v; use 65537", ErrKey, exponent)
		}
		return newPublicKey(&rsa.PublicKey{N: modulus, E: int(exponent.Int64())})
	}
	block, err := onePEM(data)
	if err != nil {
		return nil, err
	}
	switch block.Type {
	case pemPublic:
		return parseSPKI(block.Bytes)
	case pemPrivate, pemPKCS1:
		clear(block.Bytes)
		return nil, fmt.Errorf("%w: this is the private half, which nobody else should hold; give the public key", ErrKey)
	}
	return nil, fmt.Errorf("%w: a PEM block of another kind; want %q", ErrKey, pemPublic)
}

func onePEM(data []byte) (*pem.Block, error) {
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%w: no PEM block found", ErrKey)
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, fmt.Errorf("%w: the key is encrypted; store it decrypted with mode 0600 (openssl pkcs8 -nocrypt)", ErrKey)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("%w: something follows the first PEM block; keep one key a file", ErrKey)
	}
	return block, nil
}

// ReadPrivateKey reads an identity from a PEM file. On systems with permission bits it refuses a file that
// group or others may read; of a file of root's, read by somebody else, the group may (so do systemd and
// Kubernetes hand keys to services). Errors match ErrKey, and fs.ErrNotExist and the like where they apply.
func ReadPrivateKey(path string) (*PrivateKey, error) {
	data, err := readKeyFile(path, true)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ReadPublicKey reads a peer's key from a file as ParsePublicKey takes it. Errors match ErrKey, and fs.ErrNotExist and the like
// where they apply.
func ReadPublicKey(path string) (*PublicKey, error) {
	data, err := readKeyFile(path, false)
	if err != nil {
		return nil, err
	}
	key, err := ParsePublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func readKeyFile(path string, secret bool) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // to open a pipe might wait for ever
		return nil, fmt.Errorf("%w: %s is not a key file", ErrKey, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer file.Close()
	info, err := file.Stat() // of the open file: what is checked is what is read
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%w: %s is not a key file", ErrKey, path)
	}
	if secret && exposed(info) {
		return nil, fmt.Errorf("%w: others may read %s (mode %04o); run chmod 600 on it, and replace the key if they may have", ErrKey, path, info.Mode().Perm())
	}
	data := make([]byte, info.Size())
	n, err := file.ReadAt(data, 0)
	if n < len(data) {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	return data, nil
}

// WriteFile stores the key as PKCS#8 PEM in a new file of mode 0600. It never replaces a file: the error
// then matches fs.ErrExist. After any error no file is left.
func (k *PrivateKey) WriteFile(path string) error {
	data, err := k.MarshalPEM()
	if err != nil {
		return err
	}
	defer clear(data)
	return writeNew(path, data, 0o600)
}

// WriteFile stores the key as PKIX PEM in a new file of mode 0644, with WriteFile's other habits.
func (p *PublicKey) WriteFile(path string) error { return writeNew(path, p.MarshalPEM(), 0o644) }

func writeNew(path string, data []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync() // a full disk may only show here
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}
