package transport

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
)

// Record layout (rule R1): 2 bytes length of what follows, then AES-256-GCM over 1 type byte and the data,
// with the 2 length bytes as associated data, and its 16-byte tag.
const (
	recordHeader = 2
	recordPrefix = recordHeader + 1
	// maxData is the most data in a record: a yamux frame with 32 KiB of body, and room for a few control
	// frames beside it. Measured between 16 and 64 KiB, the size makes no difference to speed.
	maxData    = 32<<10 + 256
	maxRecord  = recordPrefix + maxData + tagSize
	minSealed  = 1 + tagSize
	maxSealed  = 1 + maxData + tagSize
	maxPayload = 32 << 10 // of a yamux data frame (rule S3)
)

// Record types, the first byte of the plaintext.
const (
	recordData   = 1 // whole yamux frames
	recordClose  = 2 // the authenticated end
	recordAlert  = 3 // the end, with a reason: 1 byte Alert
	recordUpdate = 4 // the sender's next record is under its next key
	recordPing   = 5
	recordPong   = 6
	recordAccept = 7 // the server admits the client, and may give it a ticket
)

// Key usage limits (rule R6; SPEC.md, section 6 has the arithmetic): a sender updates its key at the first two,
// a receiver refuses to go on under one key past the third.
const (
	updateRecords = 1 << 22
	updateBytes   = 1 << 36
	maxKeyRecords = 1 << 23
)

var (
	errOpen     = errors.New("record does not open")
	errOveruse  = errors.New("key used past its limit")
	errTooEarly = errors.New("key update with no record before it")
)

// A cipherState seals or opens the records of one direction. It is owned by one goroutine.
type cipherState struct {
	aead    cipher.AEAD
	iv      [ivSize]byte
	next    [ivSize]byte
	secret  []byte
	records uint64 // sealed or opened under this key: the next nonce
	bytes   uint64
	// limits, fields so that tests can reach them
	softRecords, softBytes, hardRecords uint64
}

func newCipherState(secret []byte) *cipherState {
	c := &cipherState{secret: secret, softRecords: updateRecords, softBytes: updateBytes, hardRecords: maxKeyRecords}
	c.rekey()
	return c
}

func (c *cipherState) rekey() {
	secret := newExpander(c.secret)
	key := secret.expand(labelKey, nil, keySize)
	c.aead = newAEAD(key)
	clear(key)
	copy(c.iv[:], secret.expand(labelIV, nil, ivSize))
	c.records, c.bytes = 0, 0
}

// update moves to the next key and forgets the one before (rule R7).
func (c *cipherState) update() {
	next := newExpander(c.secret).expand(labelUpdate, nil, secretSize)
	clear(c.secret)
	c.secret = next
	c.rekey()
}

// due reports that the key has reached its limit of use.
func (c *cipherState) due() bool { return c.records >= c.softRecords || c.bytes >= c.softBytes }

// dueWithin reports that it will, before so many more records of so many bytes together are sealed.
func (c *cipherState) dueWithin(records, bytes int) bool {
	return c.records+uint64(records) > c.softRecords || c.bytes+uint64(bytes) > c.softBytes
}

// nonce returns the next record's, in a buffer of c's own: one on the stack would escape through cipher.AEAD.
func (c *cipherState) nonce() []byte {
	c.next = c.iv
	tail := c.next[ivSize-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^c.records)
	return c.next[:]
}

// seal encrypts a record in place. rec is the whole record: header and tag are still unset, the type and the
// data are there.
func (c *cipherState) seal(rec []byte) {
	binary.BigEndian.PutUint16(rec, uint16(len(rec)-recordHeader))
	c.aead.Seal(rec[recordHeader:recordHeader], c.nonce(), rec[recordHeader:len(rec)-tagSize], rec[:recordHeader])
	c.records++
	c.bytes += uint64(len(rec))
}

// sealedSize checks a record's length field before anything is read or allocated for it (rule R2).
func sealedSize(header []byte) (int, bool) {
	n := int(binary.BigEndian.Uint16(header))
	return n, n >= minSealed && n <= maxSealed
}

// open decrypts a whole record in place and returns its type and data, which alias rec.
func (c *cipherState) open(rec []byte) (typ byte, data []byte, err error) {
	if c.records >= c.hardRecords {
		return 0, nil, errOveruse
	}
	plain, err := c.aead.Open(rec[recordHeader:recordHeader], c.nonce(), rec[recordHeader:], rec[:recordHeader])
	if err != nil {
		return 0, nil, errOpen
	}
	c.records++
	c.bytes += uint64(len(rec))
	return plain[0], plain[1:], nil
}

// updated applies a key update of the peer. One with no other record before it is refused, so that each costs
// the peer at least a record: a storm of them costs us no more than it costs the peer.
func (c *cipherState) updated() error {
	if c.records < 2 { // the update record itself is one
		return errTooEarly
	}
	c.update()
	return nil
}
