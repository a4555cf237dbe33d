package transport

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// What a server answers to a ClientHello whose form is good and whose content is not: an alert, before it has spent a
// private-key operation.
func TestHelloRefusedBeforeWork(t *testing.T) {
	dh, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	key := serverKeyForTest()
	for name, spoil := range map[string]func(h *clientHello){
		"share of low order":    func(h *clientHello) { h.share = [shareSize]byte{1} },
		"share of zeros":        func(h *clientHello) { h.share = [shareSize]byte{} },
		"KEM key not canonical": func(h *clientHello) { copy(h.kem[:], slices.Repeat([]byte{0xff}, 1152)) },
		"short secret":          func(h *clientHello) { h.secret = h.secret[:10] },
		"long secret":           func(h *clientHello) { h.secret = append(h.secret, 0) },
		"unknown key":           func(h *clientHello) { h.keyID[0]++ },
		"protocol":              func(h *clientHello) { h.protocol = []byte("other") },
	} {
		t.Run(name, func(t *testing.T) {
			wrapped, err := wrap(noFresh.forOAEP(), key.pub, make([]byte, secretSize))
			if err != nil {
				t.Fatal(err)
			}
			h := &clientHello{keyID: key.pub.id, protocol: []byte("test/1"), secret: wrapped}
			copy(h.share[:], dh.PublicKey().Bytes())
			copy(h.kem[:], kem.EncapsulationKey().Bytes())
			spoil(h)
			a, b := net.Pipe()
			defer a.Close()
			_, server := configs()
			full, err := server.forServer()
			if err != nil {
				t.Fatal(err)
			}
			place, err := newGate(full, 0).enter(b.RemoteAddr(), nil, nil) // no private-key operation can begin
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() {
				if _, err := serverHandshake(t.Context(), b, full, place); err == nil {
					t.Error("a session")
				}
				b.Close()
			})
			a.Write(message(typeClientHello, h.append(nil)))
			answer := make([]byte, messageHeader)
			if _, err := io.ReadFull(a, answer); err != nil || answer[5] != typeAlert {
				t.Errorf("answered %x, %v", answer, err)
			}
			a.Close()
			serving.Wait()
		})
	}
}

// A client that shows somebody's key and cannot sign with it is refused, as for any other fault.
func TestForgedClient(t *testing.T) {
	a, b := net.Pipe()
	client, server := configs()
	client.Keys = []*PrivateKey{{pub: clientKeyForTest().pub, rsa: otherKeyForTest().rsa}}
	var said bytes.Buffer
	_, _, cerr, serr := shake(a, &tee{b, &said}, client, server)
	if cerr == nil || !errors.Is(serr, ErrHandshake) {
		t.Fatal(cerr, serr)
	}
	if last := message(typeAlert, []byte{byte(AlertHandshake)}); !bytes.HasSuffix(said.Bytes(), last) {
		t.Errorf("the last word was %x", said.Bytes()[max(0, said.Len()-20):])
	}
}

// Values that no honest peer sends.
func TestParametersRefused(t *testing.T) {
	for name, ok := range map[string]bool{
		"server flags":         parses(parseServerParams, append([]byte{2}, serverParams{false, 7}.append(nil)[1:]...)),
		"server's no streams":  parses(parseServerParams, serverParams{false, 0}.append(nil)),
		"server's too many":    parses(parseServerParams, serverParams{false, MaxMaxStreams + 1}.append(nil)),
		"client flags":         parses(parseClientParams, append([]byte{2}, (&clientParams{maxStreams: 1}).append(nil)[1:]...)),
		"client's no streams":  parses(parseClientParams, (&clientParams{}).append(nil)),
		"client's too many":    parses(parseClientParams, (&clientParams{maxStreams: MaxMaxStreams + 1}).append(nil)),
		"key, no signature":    parses(parseClientParams, (&clientParams{maxStreams: 1, spki: []byte("k")}).append(nil)),
		"signature, no key":    parses(parseClientParams, (&clientParams{maxStreams: 1, signature: []byte("s")}).append(nil)),
		"17 ids in KeyRequest": parses(parseKeyRequest, appendKeyRequest(nil, make([]Fingerprint, maxKeyIDs+1))),
	} {
		if ok {
			t.Error(name, "accepted")
		}
	}
	if !parses(parseKeyRequest, appendKeyRequest(nil, make([]Fingerprint, maxKeyIDs))) {
		t.Error("16 ids refused")
	}
}

func parses[T any](parse func([]byte) (T, error), b []byte) bool {
	_, err := parse(b)
	return err == nil
}

// A peer may not have more streams open than this side allows, accepted or not.
func TestGuardMaxStreams(t *testing.T) {
	p, s := against(t)
	id := uint32(1)
	for range DefaultMaxStreams {
		p.record(recordData, syn(id))
		if _, err := s.Accept(); err != nil {
			t.Fatal(err)
		}
		id += 2
	}
	p.record(recordData, syn(id))
	if <-s.Done(); !errors.Is(s.Err(), ErrMisbehaved) {
		t.Fatal(s.Err())
	}
}

// An Open that waits for the peer returns when the session ends.
func TestCloseUnblocksOpen(t *testing.T) {
	cs, _ := sessions(t)
	for range acceptBacklog {
		if _, err := cs.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	waiting := make(chan error)
	go func() {
		_, err := cs.Open(context.Background())
		waiting <- err
	}()
	eventually(t, func() bool {
		cs.guard.unacked.mu.Lock()
		defer cs.guard.unacked.mu.Unlock()
		return len(cs.guard.unacked.waiters) > 0
	})
	cs.Close()
	if err := <-waiting; err != ErrSessionClosed {
		t.Fatal(err)
	}
}

// A session whose stream ids are used up says so, and serves on.
func TestStreamIDsRunOut(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	cs.guard.mu.Lock()
	cs.guard.lastOurs = math.MaxUint32 - 2
	cs.guard.mu.Unlock()
	for i := range DefaultMaxStreams + 1 { // whoever asks again is not kept waiting either
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := cs.Open(ctx)
		cancel()
		if err != ErrStreamsExhausted {
			t.Fatal(i, err)
		}
	}
	o.Write([]byte("x"))
	if _, err := p.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// After an update nobody can find the key that was.
func TestOldKeyForgotten(t *testing.T) {
	secret := testSecret()
	c := newCipherState(secret)
	c.update()
	if !bytes.Equal(secret, make([]byte, len(secret))) || bytes.Equal(c.secret, secret) {
		t.Errorf("%x, %x", secret, c.secret)
	}
}

// A refusal of a ticket is empty. One that is not ends the handshake, for it is no sealmux server's.
func TestRefusalOfTicketIsEmpty(t *testing.T) {
	_, again := ticketed(t)
	a, b := net.Pipe()
	var dialling sync.WaitGroup
	dialling.Go(func() {
		if _, err := Client(context.Background(), a, again()); !errors.Is(err, ErrHandshake) {
			t.Error(err)
		}
	})
	if _, err := receive(b, typeResumeHello); err != nil {
		t.Fatal(err)
	}
	b.Write(message(typeTicketRefused, []byte{0}))
	answer := make([]byte, messageHeader)
	if _, err := io.ReadFull(b, answer); err != nil || answer[5] != typeAlert {
		t.Errorf("answered %x, %v", answer, err)
	}
	b.Close()
	dialling.Wait()
}
