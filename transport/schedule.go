package transport

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"hash"
)

// Suite names the one set of algorithms of this version, for people.
const Suite = "RSA-OAEP-SHA256 + X25519 + ML-KEM-768, HKDF-SHA256, AES-256-GCM"

// Labels, one a purpose (SPEC.md, section 4). Each is unlike every other, so that no secret serves twice.
const (
	labelOAEP            = "sealmux/1 wrapped secret"
	labelEarly           = "sealmux/1"
	labelResumed         = "sealmux/1 resumed"
	labelServerHandshake = "sealmux/1 server handshake"
	labelClientHandshake = "sealmux/1 client handshake"
	labelServerTraffic   = "sealmux/1 server traffic"
	labelClientTraffic   = "sealmux/1 client traffic"
	labelExporter        = "sealmux/1 exporter"
	labelExport          = "sealmux/1 export"
	labelResumption      = "sealmux/1 resumption"
	labelKey             = "sealmux/1 key"
	labelIV              = "sealmux/1 iv"
	labelUpdate          = "sealmux/1 update"
	labelSignature       = "sealmux/1 client authentication"
)

const (
	secretSize = 32 // S, and every derived secret
	keySize    = 32 // AES-256
	ivSize     = 12
	// maxExport is HKDF-SHA256's limit: 255 blocks of 32 bytes (RFC 5869, section 2.3).
	maxExport = 255 * sha256.Size
)

// transcript hashes every byte of the handshake in the order it was sent.
type transcript struct{ hash hash.Hash }

func newTranscript() transcript { return transcript{sha256.New()} }

func (t transcript) add(b []byte) { t.hash.Write(b) }

// sum leaves the running hash as it is.
func (t transcript) sum() []byte { return t.hash.Sum(nil) }

// handshakeSecret mixes the three secrets, of which the first came wrapped, or is of a session that is resumed. Whoever lacks any
// one of them has nothing.
func handshakeSecret(secret, kem, dh []byte, resumed bool) *expander {
	salt := labelEarly
	if resumed {
		salt = labelResumed
	}
	early := extract([]byte(salt), secret)
	both := append(append(make([]byte, 0, len(kem)+len(dh)), kem...), dh...)
	defer clear(both)
	defer clear(early)
	handshake := extract(early, both)
	defer clear(handshake)
	return newExpander(handshake)
}

func extract(salt, secret []byte) []byte {
	prk, err := hkdf.Extract(sha256.New, secret, salt)
	if err != nil {
		panic(err) // only FIPS mode refuses, and never these sizes
	}
	return prk
}

// An expander is HKDF-Expand (RFC 5869, section 2.3) of one secret. crypto/hkdf's makes the HMAC anew for each label, which was
// 40 % of all that a handshake allocates.
type expander struct {
	mac  hash.Hash
	info []byte
}

func newExpander(secret []byte) *expander {
	return &expander{mac: hmac.New(sha256.New, secret), info: make([]byte, 0, 96)}
}

// expand returns size bytes, at most maxExport, for label || context.
func (e *expander) expand(label string, context []byte, size int) []byte {
	blocks := (size + sha256.Size - 1) / sha256.Size
	out := make([]byte, 0, blocks*sha256.Size)
	e.info = append(append(append(e.info[:0], label...), context...), 0)
	for i := 1; i <= blocks; i++ {
		e.info[len(e.info)-1] = byte(i)
		e.mac.Reset()
		e.mac.Write(out[max(len(out)-sha256.Size, 0):])
		e.mac.Write(e.info)
		out = e.mac.Sum(out)
	}
	clear(out[size:])
	return out[:size]
}

// blockKey is the key of one block sealed within the handshake.
func blockKey(handshake *expander, label string, hash []byte) (cipher.AEAD, []byte) {
	secret := handshake.expand(label, hash, keySize+ivSize)
	defer clear(secret[:keySize])
	return newAEAD(secret[:keySize]), secret[keySize:]
}

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the size is a constant
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// sessionKeys is what the handshake leaves behind.
type sessionKeys struct {
	client, server []byte // traffic secrets, by sender
	exporter       []byte
}

func deriveSession(handshake *expander, hash []byte) sessionKeys {
	return sessionKeys{
		client:   handshake.expand(labelClientTraffic, hash, secretSize),
		server:   handshake.expand(labelServerTraffic, hash, secretSize),
		exporter: handshake.expand(labelExporter, hash, secretSize),
	}
}

// resumptionSecret is what a ticket for the session is worth (rule K6).
func resumptionSecret(handshake *expander, hash []byte) []byte {
	return handshake.expand(labelResumption, hash, secretSize)
}

// export derives keying material for the application (rule K5).
func export(exporter []byte, label string, context []byte, size int) []byte {
	sum := sha256.Sum256(context)
	info := append([]byte{byte(len(label))}, label...)
	return newExpander(exporter).expand(labelExport, append(info, sum[:]...), size)
}

// signatureInput is what a client's key signs: a context that no other protocol uses, and the transcript.
func signatureInput(hash []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(labelSignature+"\x00"), hash...))
}
