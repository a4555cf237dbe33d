package transport

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// How a server gives out tickets (SPEC.md, rules H12 to H16): what it needs to know of a session to resume it, sealed so that it
// alone can read it, and need not remember it.

const (
	// ticketLifetime is for how long after its full handshake a session may be resumed: so often at least a client proves its key.
	// A ticket key seals for as long, and opens for as long again.
	ticketLifetime = 12 * time.Hour
	// ticketsPerKey bounds the tickets under one key, whose nonces are random: among 2^32 two are equal with a
	// probability of at most 2^-32 (NIST SP 800-38D, section 8.3).
	ticketsPerKey = 1 << 32

	ticketKeyID   = 16
	ticketVersion = 1
	// ticketFixed is what each says: 1 version, 8 end, 32 server key's id, 32 hash of the protocol, 32 secret.
	ticketFixed = 1 + 8 + sha256.Size + sha256.Size + secretSize
	// minOwnTicket is the size of one for a client without a key: 16 id of the ticket key, 12 nonce, what it says, 16 tag.
	minOwnTicket = ticketKeyID + ivSize + ticketFixed + tagSize
)

// TicketKeys seal the tickets that servers give to clients that have a TicketCache, and open them when they come back. The
// Listeners that share one, in a process, resume each other's sessions. The keys are made, replaced and forgotten in here, and
// never leave: nobody can use a ticket after the process has ended. Safe for concurrent use.
type TicketKeys struct {
	mu        sync.Mutex // protects all below
	now, last *ticketKey
}

type ticketKey struct {
	id     [ticketKeyID]byte
	aead   cipher.AEAD // puts a random nonce in front
	made   time.Time
	sealed uint64
}

// NewTicketKeys returns fresh keys, for Config.TicketKeys.
func NewTicketKeys() *TicketKeys { return new(TicketKeys) }

func newTicketKey(now time.Time) *ticketKey {
	k := &ticketKey{made: now}
	rand.Read(k.id[:])
	key := make([]byte, keySize)
	rand.Read(key)
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err == nil {
		k.aead, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err != nil {
		panic(err) // the size is a constant
	}
	return k
}

// current returns the key to seal with, after replacing one that is old or worn out.
func (k *TicketKeys) current(now time.Time) *ticketKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == nil || now.Sub(k.now.made) >= ticketLifetime || k.now.sealed >= ticketsPerKey {
		k.last, k.now = k.now, newTicketKey(now)
	}
	k.now.sealed++
	return k.now
}

// find returns the key of that id, nil if it is gone.
func (k *TicketKeys) find(id []byte, now time.Time) *ticketKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range []*ticketKey{k.now, k.last} {
		if key != nil && string(key.id[:]) == string(id) && now.Sub(key.made) < 2*ticketLifetime {
			return key
		}
	}
	return nil
}

// A ticketState is what a ticket says.
type ticketState struct {
	end      time.Time   // of its use, in whole seconds
	server   Fingerprint // the key that the session was made with
	protocol [sha256.Size]byte
	secret   []byte     // resumption secret
	client   *PublicKey // nil for a client without one
}

func (t *ticketState) append(b []byte) []byte {
	b = append(b, ticketVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(t.end.Unix()))
	b = append(append(append(b, t.server[:]...), t.protocol[:]...), t.secret...)
	if t.client != nil {
		b = append(b, t.client.spki...)
	}
	return b
}

func parseTicketState(b []byte) (*ticketState, error) {
	if len(b) < ticketFixed || b[0] != ticketVersion {
		return nil, errMalformed
	}
	t, r := &ticketState{end: time.Unix(int64(binary.BigEndian.Uint64(b[1:])), 0), secret: make([]byte, secretSize)}, reader(b[9:])
	r.fill(t.server[:])
	r.fill(t.protocol[:])
	r.fill(t.secret)
	var err error
	if len(r) > 0 {
		t.client, err = parseSPKI(slices.Clone(r))
	}
	return t, err
}

func (t *ticketState) wipe() {
	if t != nil {
		clear(t.secret)
	}
}

// issue returns the data of a record with a ticket for the session that hello began: u32 lifetime in seconds, and the ticket.
// It is nil if there is none to give. resumed is what the client's own ticket said, if it came with one, whose end it inherits:
// otherwise a session could be resumed for ever.
func (k *TicketKeys) issue(resumed *ticketState, hello *clientHello, secret []byte, client *PublicKey) []byte {
	now := time.Now()
	end := now.Add(ticketLifetime)
	if resumed != nil {
		end = resumed.end
	}
	left := int64(min(end.Sub(now), ticketLifetime) / time.Second) // more only if the clock was set back
	if left <= 0 {
		return nil
	}
	key := k.current(now)
	t := &ticketState{end: end, server: hello.keyID, protocol: sha256.Sum256(hello.protocol), secret: secret, client: client}
	plain := t.append(nil)
	defer clear(plain)
	b := append(binary.BigEndian.AppendUint32(nil, uint32(left)), key.id[:]...)
	return key.aead.Seal(b, nil, plain, key.id[:])
}

// open returns what the ticket in a ResumeHello says, or nil if it is not to be used: for every reason the same.
func (k *TicketKeys) open(hello *clientHello) *ticketState {
	if k == nil || len(hello.secret) < minOwnTicket || len(hello.secret) > maxTicket {
		return nil
	}
	now := time.Now()
	id, sealed := hello.secret[:ticketKeyID], hello.secret[ticketKeyID:]
	key := k.find(id, now)
	if key == nil {
		return nil
	}
	plain, err := key.aead.Open(nil, nil, sealed, id)
	if err != nil {
		return nil
	}
	defer clear(plain)
	t, err := parseTicketState(plain)
	if err != nil || !now.Before(t.end) || t.server != hello.keyID || t.protocol != sha256.Sum256(hello.protocol) {
		t.wipe()
		return nil
	}
	return t
}
