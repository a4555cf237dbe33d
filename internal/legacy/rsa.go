package legacy

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"filippo.io/bigmod"
)

// Sizes of keys in bits. The scripts' own keys may have 1024, which is too small for anything else and the least that crypto/rsa works
// with; of larger ones this file asks what package transport asks of the size and the exponent.
const (
	minKeyBits  = 1024
	maxKeyBits  = 8192
	minExponent = 65537
	maxExponent = 1<<31 - 1
)

// A PublicKey is a server's key as its clients have it. It is immutable and may be shared.
type PublicKey struct {
	rsa  *rsa.PublicKey
	size int // of a ciphertext in bytes
	id   [sha256.Size]byte
}

// A PrivateKey is a server's key. It is immutable and may be shared.
type PrivateKey struct {
	pub        *PublicKey
	n, p, q    *bigmod.Modulus
	dp, dq     []byte // exponents modulo p-1 and q-1
	qInv       *bigmod.Nat
	rejections [sha256.Size]byte // the hash of the private exponent, from which made-up plaintexts are derived
}

func newPublicKey(key *rsa.PublicKey) (*PublicKey, error) {
	switch bits := key.N.BitLen(); {
	case bits < minKeyBits || bits > maxKeyBits || bits%8 != 0:
		return nil, fmt.Errorf("%w: RSA of %d bits; use a multiple of 8 from %d to %d", ErrKey, bits, minKeyBits, maxKeyBits)
	case key.E < minExponent || key.E > maxExponent || key.E%2 == 0:
		return nil, fmt.Errorf("%w: RSA exponent %d; use 65537", ErrKey, key.E)
	case key.N.Bit(0) == 0: // refused by crypto/rsa only when it is used
		return nil, fmt.Errorf("%w: RSA modulus that is even", ErrKey)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return &PublicKey{rsa: key, size: key.Size(), id: sha256.Sum256(spki)}, nil
}

func newPrivateKey(key *rsa.PrivateKey) (*PrivateKey, error) {
	pub, err := newPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	if len(key.Primes) != 2 {
		return nil, fmt.Errorf("%w: RSA of %d primes; use a key of two", ErrKey, len(key.Primes))
	}
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key.Precompute()
	k := &PrivateKey{pub: pub, dp: key.Precomputed.Dp.Bytes(), dq: key.Precomputed.Dq.Bytes(),
		rejections: sha256.Sum256(key.D.FillBytes(make([]byte, pub.size)))}
	var errs [3]error
	k.n, errs[0] = bigmod.NewModulus(key.N.Bytes())
	k.p, errs[1] = bigmod.NewModulus(key.Primes[0].Bytes())
	k.q, errs[2] = bigmod.NewModulus(key.Primes[1].Bytes())
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if k.qInv, err = bigmod.NewNat().SetBytes(key.Precomputed.Qinv.FillBytes(make([]byte, k.p.Size())), k.p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return k, nil
}

// parsePrivateDER and parsePublicDER read the four encodings of keys that Python's libraries and openssl write.
func parsePrivateDER(der []byte, pkcs1 bool) (*PrivateKey, error) {
	var parsed any
	var err error
	if pkcs1 {
		parsed, err = x509.ParsePKCS1PrivateKey(der)
	} else {
		parsed, err = x509.ParsePKCS8PrivateKey(der)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: private key that is damaged, or of less than %d bits", ErrKey, minKeyBits)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: not an RSA key", ErrKey)
	}
	return newPrivateKey(key)
}

func parsePublicDER(der []byte, pkcs1 bool) (*PublicKey, error) {
	var parsed any
	var err error
	if pkcs1 {
		parsed, err = x509.ParsePKCS1PublicKey(der)
	} else {
		parsed, err = x509.ParsePKIXPublicKey(der)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: damaged public key", ErrKey)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: not an RSA key", ErrKey)
	}
	return newPublicKey(key)
}

// wrap encrypts text, which must have at most 117 bytes.
func (p *PublicKey) wrap(text []byte) ([]byte, error) {
	//lint:ignore SA1019 this is the wire there is
	return rsa.EncryptPKCS1v15(rand.Reader, p.rsa, text)
}

// unwrap is the private operation, with implicit rejection: for a ciphertext that is not one, it returns a plaintext that it makes up, the same each
// time, of random length and bytes. So nothing after it, however it fails and however long that takes, tells whether
// the padding was right: a made-up plaintext fails as a wrong one does. It takes the same time for all. That is
// draft-irtf-cfrg-rsa-guidance, and what OpenSSL does since 3.2; crypto/rsa has no function that does (its
// DecryptPKCS1v15SessionKey is for plaintexts of one length, and DecryptPKCS1v15 is the oracle), hence the arithmetic here, with
// the numbers of crypto/rsa. spare is 48 more made-up bytes, for the caller to go on with if it cannot use the plaintext.
func (k *PrivateKey) unwrap(ciphertext []byte) (plaintext, spare []byte) {
	c := k.reduced(ciphertext)
	m := k.power(c)
	derive := hmac.New(sha256.New, k.rejections[:])
	derive.Write(c.Bytes(k.n))
	secret := derive.Sum(nil)
	return unpad(m, secret), expand(secret, "spare", 48)
}

// reduced makes a number of a ciphertext. Where it is too long or not below the modulus, which everybody can tell, that is
// another number, so that the work is the same.
func (k *PrivateKey) reduced(ciphertext []byte) *bigmod.Nat {
	b := make([]byte, k.pub.size)
	if len(ciphertext) == len(b) {
		copy(b, ciphertext)
	}
	c, err := bigmod.NewNat().SetBytes(b, k.n)
	if err != nil {
		b[0] = 0
		if c, err = bigmod.NewNat().SetBytes(b, k.n); err != nil {
			panic("legacy: a modulus with a leading zero byte") // newPublicKey has seen that it has none
		}
	}
	return c
}

// power returns c^d mod n, by the Chinese remainder theorem.
func (k *PrivateKey) power(c *bigmod.Nat) []byte {
	t := bigmod.NewNat()
	m := bigmod.NewNat().Exp(t.Mod(c, k.p), k.dp, k.p)
	mq := bigmod.NewNat().Exp(t.Mod(c, k.q), k.dq, k.q)
	m.Sub(t.Mod(mq, k.p), k.p)
	m.Mul(k.qInv, k.p)
	m.ExpandFor(k.n).Mul(t.Mod(k.q.Nat(), k.n), k.n)
	return m.Add(mq.ExpandFor(k.n), k.n).Bytes(k.n)
}

// unpad takes the padding, 0 2 and eight or more bytes and 0, off em, or makes up a plaintext. Until it returns, its time depends on the
// length of em alone.
func unpad(em, secret []byte) []byte {
	valid := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeByteEq(em[1], 2)
	zero, looking := 0, 1
	for i := 2; i < len(em); i++ {
		here := subtle.ConstantTimeByteEq(em[i], 0)
		zero = subtle.ConstantTimeSelect(looking&here, i, zero)
		looking &^= here
	}
	valid &= 1 &^ looking & subtle.ConstantTimeLessOrEq(2+8, zero)

	madeUp := expand(secret, "message", len(em))
	length := subtle.ConstantTimeSelect(valid, len(em)-zero-1, madeUpLength(secret, len(em)-2-8))
	subtle.ConstantTimeCopy(valid, madeUp, em)
	return madeUp[len(em)-length:]
}

// madeUpLength is a length below limit: the last of 128 candidates that is.
func madeUpLength(secret []byte, limit int) int {
	mask := limit
	for shift := 1; shift < 16; shift *= 2 {
		mask |= mask >> shift
	}
	length := 0
	for b := expand(secret, "length", 256); len(b) > 0; b = b[2:] {
		candidate := int(binary.BigEndian.Uint16(b)) & mask
		length = subtle.ConstantTimeSelect(subtle.ConstantTimeLessOrEq(candidate, limit-1), candidate, length)
	}
	return length
}

// expand returns n bytes derived from secret, for a purpose.
func expand(secret []byte, purpose string, n int) []byte {
	var out bytes.Buffer
	for i := 0; out.Len() < n; i++ {
		mac := hmac.New(sha256.New, secret)
		mac.Write(binary.BigEndian.AppendUint16(nil, uint16(i)))
		mac.Write([]byte(purpose))
		mac.Write(binary.BigEndian.AppendUint16(nil, uint16(8*n)))
		out.Write(mac.Sum(nil))
	}
	return out.Bytes()[:n]
}
