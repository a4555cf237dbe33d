package transport

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"testing/synctest"
	"time"
)

// helloFor is a ResumeHello with a fresh ticket.
func helloFor(k *TicketKeys) *clientHello {
	hello := &clientHello{keyID: Fingerprint{1}, protocol: []byte("p")}
	hello.secret = k.issue(nil, hello, bytes.Repeat([]byte{7}, secretSize), clientKeyForTest().Public())[4:]
	return hello
}

func TestTicketOpens(t *testing.T) {
	k := NewTicketKeys()
	hello := helloFor(k)
	state := k.open(hello)
	if state == nil || state.server != hello.keyID || state.protocol != sha256.Sum256([]byte("p")) ||
		!state.client.Equal(clientKeyForTest().Public()) || !bytes.Equal(state.secret, bytes.Repeat([]byte{7}, secretSize)) {
		t.Fatalf("%+v", state)
	}
	refused := func(name string, hello *clientHello) {
		if k.open(hello) != nil {
			t.Error(name)
		}
	}
	for i := range hello.secret {
		bad := *hello
		bad.secret = bytes.Clone(hello.secret)
		bad.secret[i] ^= 1
		refused("changed", &bad)
		bad.secret = hello.secret[:i]
		refused("cut", &bad)
	}
	other := *hello
	other.keyID = Fingerprint{2}
	refused("for another key", &other)
	other = *hello
	other.protocol = nil
	refused("for another protocol", &other)
	other = *hello
	other.secret = append(bytes.Clone(hello.secret), 0)
	refused("longer", &other)
	other.secret = make([]byte, maxTicket+1)
	refused("too long", &other)
	if NewTicketKeys().open(hello) != nil || (*TicketKeys)(nil).open(hello) != nil {
		t.Error("opened with other keys")
	}
}

func TestTicketKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := NewTicketKeys()
		first := k.current(time.Now())
		time.Sleep(ticketLifetime - time.Second)
		hello := helloFor(k)
		if k.now != first {
			t.Fatal("replaced early")
		}
		time.Sleep(time.Second)
		if k.current(time.Now()) == first || k.last != first {
			t.Fatal("not replaced")
		}
		time.Sleep(ticketLifetime - 2*time.Second)
		if k.open(hello) == nil {
			t.Error("the key before is forgotten too early")
		}
		time.Sleep(2 * time.Second)
		if k.open(hello) != nil || k.find(first.id[:], time.Now()) != nil {
			t.Error("the key before is still used")
		}
		now := k.current(time.Now())
		now.sealed = ticketsPerKey
		if k.current(time.Now()) == now {
			t.Error("a worn-out key is still used")
		}
	})
}

func TestTicketCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewTicketCache(2)
		owner := func(i byte) ticketOwner { return ticketOwner{server: Fingerprint{i}} }
		put := func(i, ticket byte, lifetime time.Duration) {
			c.put(owner(i), heldTicket{ticket: []byte{ticket}, secret: []byte{ticket}, end: time.Now().Add(lifetime)})
		}
		want := func(i, ticket byte) {
			t.Helper()
			got, ok := c.take(owner(i))
			if ok != (ticket != 0) || ok && got.ticket[0] != ticket {
				t.Errorf("of %d: %v, %v, want %d", i, got.ticket, ok, ticket)
			}
		}
		for n := byte(1); n <= ticketsPerOwner+3; n++ {
			put(1, n, time.Hour)
		}
		for n := byte(ticketsPerOwner + 3); n > 3; n-- { // newest first, the oldest three are gone
			want(1, n)
		}
		want(1, 0)
		put(1, 1, time.Hour)
		put(2, 2, time.Hour)
		put(1, 3, time.Hour)
		put(3, 4, time.Hour) // one server too many: 2 was longest without
		want(2, 0)
		want(3, 4)
		put(1, 5, time.Minute)
		time.Sleep(time.Minute)
		want(1, 3) // 5 is too old
		want(1, 1)
		put(1, 6, time.Hour)
		c.forget(owner(1))
		want(1, 0)
		if len(c.held) > 2 || len(c.order) > 2 {
			t.Error(c.held, c.order)
		}
		if _, ok := (*TicketCache)(nil).take(owner(1)); ok {
			t.Error("no cache has tickets")
		}
	})
}
