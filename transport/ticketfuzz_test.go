package transport

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"
)

// fixedTicketKeys are the same in every process, so that a ticket of a corpus opens in the next. Only tests may know them.
func fixedTicketKeys(t testing.TB) (keys *TicketKeys, seal func(plain []byte) []byte) {
	block, err := aes.NewCipher(bytes.Repeat([]byte{6}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	key := &ticketKey{made: time.Now()}
	if key.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		t.Fatal(err)
	}
	fixed, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, ivSize)
	return &TicketKeys{now: key}, func(plain []byte) []byte {
		return fixed.Seal(append(key.id[:], nonce...), nonce, plain, key.id[:])
	}
}

// A ticket opens if it is, byte by byte, what these keys have sealed, for this key and protocol and not too long ago. With sealed
// its content may be anything, as if other rules had made it.
func FuzzTicket(f *testing.F) {
	keys, seal := fixedTicketKeys(f)
	state := &ticketState{end: time.Unix(1<<33, 0), server: Fingerprint{1}, protocol: sha256.Sum256([]byte("p")), secret: make([]byte, secretSize)}
	for _, client := range []*PublicKey{nil, clientKeyForTest().Public()} {
		state.client = client
		f.Add(seal(state.append(nil)), false)
		f.Add(state.append(nil), true)
	}
	old := *state
	old.end = time.Unix(1, 0)
	f.Add(old.append(nil), true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		hello := &clientHello{keyID: Fingerprint{1}, protocol: []byte("p"), secret: b}
		if sealed {
			hello.secret = seal(b)
		}
		got := keys.open(hello)
		if got != nil && !bytes.Equal(seal(got.append(nil)), hello.secret) {
			t.Fatalf("%x opens as %+v", hello.secret, got)
		}
		want, err := parseTicketState(b)
		good := sealed && err == nil && time.Now().Before(want.end) && want.server == hello.keyID && want.protocol == sha256.Sum256(hello.protocol) &&
			len(hello.secret) <= maxTicket
		if sealed && (got != nil) != good {
			t.Fatalf("%x: %+v", b, got)
		}
	})
}

// What a server sends as a ticket is kept as it came, if it is of the right form.
func FuzzTicketRecord(f *testing.F) {
	for _, seconds := range []uint32{0, 1, 60, 86400, 86401, 1<<32 - 1} {
		f.Add(append(binary.BigEndian.AppendUint32(nil, seconds), "some ticket"...))
		f.Add(binary.BigEndian.AppendUint32(nil, seconds))
	}
	f.Add(append([]byte{0, 0, 0, 1}, make([]byte, maxTicket)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		owner := ticketOwner{protocol: "p"}
		a := &awaitedTicket{NewTicketCache(1), owner, serverKeyForTest().Public(), make([]byte, secretSize)}
		before := time.Now()
		kept := a.keep(data)
		after := time.Now()
		held := a.cache.held[owner]
		if good := ticketRecordIsGood(data); kept != good || (len(held) == 1) != good {
			t.Fatalf("%x: %v, %+v", data, kept, held)
		}
		if kept {
			lifetime := time.Duration(binary.BigEndian.Uint32(data)) * time.Second
			late, early := held[0].end.After(after.Add(lifetime)), held[0].end.Before(before.Add(lifetime))
			if late || early || !bytes.Equal(held[0].ticket, data[4:]) {
				t.Fatalf("%x became %+v", data, held[0])
			}
		}
	})
}
