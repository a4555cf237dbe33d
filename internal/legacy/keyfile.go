package legacy

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"runtime"
)

// ErrKey is matched (errors.Is) by every error about a key or a key file: missing, unreadable, readable by others, of the wrong
// kind or size, encrypted, damaged.
var ErrKey = errors.New("legacy: unusable key")

// maxKeyFile bounds what is read from a key file; an 8192-bit private key in PEM has 6.4 KiB.
const maxKeyFile = 64 << 10

// The kinds of PEM blocks that Python's libraries and openssl write.
const (
	pemPrivate      = "PRIVATE KEY" // PKCS#8
	pemPrivatePKCS1 = "RSA PRIVATE KEY"
	pemPublic       = "PUBLIC KEY" // PKIX
	pemPublicPKCS1  = "RSA PUBLIC KEY"
)

// ReadPrivateKey reads a server's key from a PEM file, PKCS#8 or PKCS#1: RSA of two primes, of 1024 to 8192 bits. On systems with
// permission bits it refuses a file that group or others may read. Errors match ErrKey, and fs.ErrNotExist and the like where they apply.
func ReadPrivateKey(path string) (*PrivateKey, error) {
	block, err := readPEM(path, true)
	if err != nil {
		return nil, err
	}
	defer clear(block.Bytes)
	var key *PrivateKey
	switch block.Type {
	case pemPrivate, pemPrivatePKCS1:
		key, err = parsePrivateDER(block.Bytes, block.Type == pemPrivatePKCS1)
	case pemPublic, pemPublicPKCS1:
		err = fmt.Errorf("%w: this is the public half; give the private key", ErrKey)
	default:
		err = fmt.Errorf("%w: a PEM block of another kind; want %q", ErrKey, pemPrivate)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ReadPublicKey reads a server's public key from a PEM file, PKIX or PKCS#1. Errors match ErrKey, and fs.ErrNotExist and the like where
// they apply.
func ReadPublicKey(path string) (*PublicKey, error) {
	block, err := readPEM(path, false)
	if err != nil {
		return nil, err
	}
	var key *PublicKey
	switch block.Type {
	case pemPublic, pemPublicPKCS1:
		key, err = parsePublicDER(block.Bytes, block.Type == pemPublicPKCS1)
	case pemPrivate, pemPrivatePKCS1:
		clear(block.Bytes)
		err = fmt.Errorf("%w: this is the private half, which nobody else should hold; give the public key", ErrKey)
	default:
		err = fmt.Errorf("%w: a PEM block of another kind; want %q", ErrKey, pemPublic)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// readPEM reads the one PEM block of a file.
func readPEM(path string, secret bool) (*pem.Block, error) {
	data, err := readKeyFile(path, secret)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%s: %w: no PEM block found", path, ErrKey)
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, fmt.Errorf("%s: %w: the key is encrypted; store it decrypted with mode 0600 (openssl pkcs8 -nocrypt)", path, ErrKey)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("%s: %w: something follows the first PEM block; keep one key a file", path, ErrKey)
	}
	return block, nil
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
	if secret && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: others may read %s (mode %04o); run chmod 600 on it, and replace the key if they may have", ErrKey, path, info.Mode().Perm())
	}
	data := make([]byte, info.Size())
	if n, err := file.ReadAt(data, 0); n < len(data) {
		return nil, fmt.Errorf("%w: %s: %w", ErrKey, path, err)
	}
	return data, nil
}

// Fingerprint names the key: the SHA-256 of its SubjectPublicKeyInfo in DER, as transport.Fingerprint does.
func (k *PrivateKey) Fingerprint() [sha256.Size]byte { return k.pub.id }

// Bits returns the size of the modulus in bits.
func (k *PrivateKey) Bits() int { return k.pub.Bits() }

// Bits returns the size of the modulus in bits.
func (p *PublicKey) Bits() int { return 8 * p.size }

// String keeps the secret from being printed.
func (k *PrivateKey) String() string { return fmt.Sprintf("legacy.PrivateKey(%x)", k.pub.id) }

// GoString keeps %#v from printing the secret.
func (k *PrivateKey) GoString() string { return k.String() }
