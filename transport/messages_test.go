package transport

import (
	"bytes"
	"testing"
	"time"
)

// Every parser: what it accepts re-encodes to the same bytes.
func FuzzMessages(f *testing.F) {
	f.Add((&clientHello{protocol: []byte("p"), secret: []byte("w")}).append(nil))
	f.Add(append(new(serverHello).appendShares(nil), make([]byte, sealedHello)...))
	f.Add(serverParams{true, 7}.append(nil))
	f.Add((&clientParams{maxStreams: 1, spki: []byte("k"), signature: []byte("s")}).append(nil))
	f.Add(appendKeyRequest(nil, make([]Fingerprint, 2)))
	f.Add(alertMessage{code: AlertUnknownKey}.append(nil))
	f.Add(serverKeyForTest().pub.spki)
	f.Add((&ticketState{end: time.Unix(1, 0), secret: make([]byte, secretSize), client: clientKeyForTest().pub}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(name string, again []byte) {
			if !bytes.Equal(again, b) {
				t.Errorf("%s is malleable: %x became %x", name, b, again)
			}
		}
		if m, err := parseClientHello(b); err == nil {
			same("ClientHello", m.append(nil))
		}
		if m, err := parseServerHello(b); err == nil {
			same("ServerHello", append(m.appendShares(nil), m.sealed[:]...))
		}
		if m, err := parseServerParams(b); err == nil {
			same("server parameters", m.append(nil))
		}
		if m, err := parseClientParams(b); err == nil {
			same("client parameters", m.append(nil))
		}
		if ids, err := parseKeyRequest(b); err == nil {
			same("KeyRequest", appendKeyRequest(nil, ids))
		}
		if m, err := parseAlert(b); err == nil {
			same("alert", m.append(nil))
		}
		if state, err := parseTicketState(b); err == nil {
			same("ticket", state.append(nil))
		}
		if key, err := parseSPKI(b); err == nil {
			same("SubjectPublicKeyInfo", key.spki)
		}
	})
}

// Each message, cut short or with something behind it, is refused.
func TestMessagesExactLength(t *testing.T) {
	for name, m := range map[string]struct {
		whole []byte
		parse func([]byte) error
	}{
		"ClientHello": {(&clientHello{protocol: []byte("p"), secret: []byte("w")}).append(nil),
			func(b []byte) error { _, err := parseClientHello(b); return err }},
		"ServerHello": {append(new(serverHello).appendShares(nil), make([]byte, sealedHello)...),
			func(b []byte) error { _, err := parseServerHello(b); return err }},
		"server parameters": {serverParams{true, 7}.append(nil),
			func(b []byte) error { _, err := parseServerParams(b); return err }},
		"client parameters": {(&clientParams{maxStreams: 1, spki: []byte("k"), signature: []byte("s")}).append(nil),
			func(b []byte) error { _, err := parseClientParams(b); return err }},
		"KeyRequest": {appendKeyRequest(nil, make([]Fingerprint, 2)),
			func(b []byte) error { _, err := parseKeyRequest(b); return err }},
		"alert": {alertMessage{code: AlertUnknownKey}.append(nil),
			func(b []byte) error { _, err := parseAlert(b); return err }},
	} {
		if err := m.parse(m.whole); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n := range m.whole {
			if m.parse(m.whole[:n]) == nil {
				t.Errorf("%s of %d bytes accepted", name, n)
			}
		}
		if m.parse(append(m.whole, 0)) == nil {
			t.Errorf("%s with a byte too many accepted", name)
		}
	}
}
