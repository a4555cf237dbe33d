package transport

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The cases of a server: what a client, or somebody who poses as one, may say. And those of tickets, of both sides.

const (
	aServer  = "role: server; key: server; admit: anyone; protocol: test/1; max-streams: 64"
	aFriend  = "role: server; key: server; admit: client; protocol: test/1; max-streams: 64"
	aKeyring = "role: server; key: server; key: other; admit: anyone; protocol: test/1; max-streams: 64"
)

func ask(names ...string) speech {
	ids := make([]Fingerprint, len(names))
	for i, name := range names {
		ids[i] = vectorKey(name).Fingerprint()
	}
	return plainMessage(typeKeyRequest, appendKeyRequest(nil, ids)...)
}

// badSignature proves a key wrongly: by sign, or with a changed SubjectPublicKeyInfo or signature.
func badSignature(change func(spki, signature []byte) ([]byte, []byte)) speech {
	return proof(clientProof{key: "client", sign: func(o *opponent, key *PrivateKey, hash []byte) ([]byte, []byte) {
		p := new(clientParams)
		if err := p.sign(bytes.NewReader(o.draw("their pss", 32)), key, hash); err != nil {
			panic(err)
		}
		return change(slices.Clone(p.spki), p.signature)
	}})
}

func signedOtherwise(sign func(o *opponent, key *rsa.PrivateKey, hash []byte) ([]byte, error)) speech {
	return proof(clientProof{key: "client", sign: func(o *opponent, key *PrivateKey, hash []byte) ([]byte, []byte) {
		signature, err := sign(o, key.rsa, hash)
		if err != nil {
			panic(err)
		}
		return key.pub.spki, signature
	}})
}

func pss(o *opponent, key *rsa.PrivateKey, input []byte, salt int) ([]byte, error) {
	digest := sha256.Sum256(input)
	return rsa.SignPSS(bytes.NewReader(o.draw("their pss", 64)), key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: salt})
}

func signatureText(hash []byte) []byte { return append([]byte(labelSignature+"\x00"), hash...) }

func serverVectors() []maker {
	hello, done := greeting(clientGreeting{}), proof(clientProof{})
	// hidden is a hello whose secret does not open, with what comes of it.
	hidden := func(name, title string, g clientGreeting) maker {
		return maker{"server-secret-" + name, title + ", which shows at ClientFinished only", "H5", aServer, "handshake", []speech{greeting(g), done}}
	}
	first := func(name, title, rule, setup, expect string, steps ...speech) maker {
		return maker{"server-" + name, title, rule, setup, expect, steps}
	}
	modulus := vectorKey("server").rsa.N.Bytes()
	return []maker{
		first("anonymous", "a client without a key, and anyone is admitted", "H5 H6 H7 K1 K2 K3 K4 K5", aServer, "ok", hello, done),
		first("alice", "a client proves the key that is demanded", "H7 H9", aFriend, "ok", hello, proof(clientProof{key: "client"})),
		first("alice-unasked", "a client proves its key though none is demanded", "H7", aServer, "ok", hello, proof(clientProof{key: "client"})),
		first("large-keys", "keys of 4096 bits on both sides", "I1 H5 H7", "role: server; key: large; admit: large; protocol: test/1; max-streams: 64", "ok",
			greeting(clientGreeting{key: "large"}), proof(clientProof{key: "large"})),
		first("second-key", "a client that pins the server's second key", "H5", aKeyring, "ok", greeting(clientGreeting{key: "other"}), done),
		first("no-protocol", "an application protocol of no bytes", "H5", "role: server; key: server; admit: anyone; max-streams: 64", "ok",
			greeting(clientGreeting{body: func(b []byte) []byte { return append(append(b[:1248:1248], 0), b[1255:]...) }}), done),
		first("streams-least", "both sides allow one stream", "H6 H7", "role: server; key: server; admit: anyone; protocol: test/1; max-streams: 1", "ok",
			hello, proof(clientProof{plain: finishedText(0, 1, nil, nil)})),
		first("streams-most", "both sides allow 50000 streams", "H6 H7", "role: server; key: server; admit: anyone; protocol: test/1; max-streams: 50000", "ok",
			hello, proof(clientProof{plain: finishedText(0, 50000, nil, nil)})),
		first("wants-ticket", "a client that wants a ticket of a server that gives none", "H15", aFriend, "ok", hello, proof(clientProof{key: "client", flags: 1})),
		first("asked", "a client asks for the key", "H3 H4", aServer, "ok", ask("server"), hello, done),
		first("asked-for-second", "of three that the client trusts, the server has its second", "H4", aKeyring, "ok",
			ask("client", "other", "server"), greeting(clientGreeting{key: "other"}), done),
		first("asked-for-none", "the server has none of what the client trusts, and offers its first", "H4", aKeyring, "truncated", ask("client")),
		first("asked-for-any", "a client that names no id", "H4", aKeyring, "ok", ask(), hello, done),
		first("asked-for-sixteen", "a client that trusts 16 keys", "H4", aServer, "ok",
			ask(append(slices.Repeat([]string{"client"}, 15), "server")...), hello, done),

		first("nothing", "the connection ends before it has begun", "R5", aServer, "truncated"),
		first("http", "the peer speaks HTTP", "H1", aServer, "not sealmux", text("GET / HTTP/1.1\r\n")),
		first("tls", "the peer speaks TLS", "H1", aServer, "not sealmux", raw(0x16, 3, 1, 2, 0, 1)),
		first("version-0", "another version", "H1", aServer, "version", raw('S', 'M', 'U', 'X', 0)),
		first("version-2", "another version", "H1", aServer, "version", raw('S', 'M', 'U', 'X', 2, typeClientHello, 0, 0)),
		first("type-0", "a type that does not exist", "H1 H8", aServer, "handshake", plainMessage(0)),
		first("finished-first", "ClientFinished where a hello is due", "H3 H8", aServer, "handshake", plainMessage(typeClientFinished, make([]byte, 25)...)),
		first("hello-twice", "a second ClientHello where ClientFinished is due", "H3", aServer, "handshake", hello, greeting(clientGreeting{})),
		first("asked-twice", "a second KeyRequest", "H3", aServer, "handshake", ask("server"), ask("server")),
		first("asked-for-seventeen", "a KeyRequest with 17 ids", "H4", aServer, "handshake", ask(slices.Repeat([]string{"client"}, 17)...)),
		first("ids-short", "a KeyRequest that lacks its last byte", "H4", aServer, "handshake",
			plainMessage(typeKeyRequest, append([]byte{1}, make([]byte, 31)...)...)),
		first("ids-long", "a KeyRequest with a byte too many", "H4", aServer, "handshake", plainMessage(typeKeyRequest, 0, 0)),
		first("too-long", "a message longer than 4096 bytes", "H2", aServer, "handshake", raw(oversized(typeClientHello)...)),
		first("cut-header", "the connection ends in a header", "R5", aServer, "truncated", changed(hello, cut(6))),
		first("cut-body", "the connection ends in a body", "R5", aServer, "truncated", changed(hello, cut(100))),
		first("alert", "a client that gives up", "H8", aServer, "handshake", alert(4)),

		first("protocol", "another application protocol", "H5", aServer, "application protocol", greeting(clientGreeting{protocol: "test/2"})),
		first("protocol-longer", "an application protocol of which the server's is the beginning", "H5", aServer, "application protocol",
			greeting(clientGreeting{protocol: "test/10"})),
		first("unknown-key", "a key that the server does not hold", "H5", aServer, "unknown key", greeting(clientGreeting{key: "other"})),
		first("zero-share", "an X25519 share of zeros", "H10", aServer, "handshake", greeting(clientGreeting{share: make([]byte, 32)})),
		first("low-order", "an X25519 share of low order", "H10", aServer, "handshake", greeting(clientGreeting{share: lowOrder})),
		first("kem-not-canonical", "an ML-KEM key with a coefficient of 4095", "H10", aServer, "handshake",
			greeting(clientGreeting{kem: []byte{0xff, 0xff, 0xff}})),
		first("secret-none", "a ciphertext of no bytes", "H5", aServer, "handshake", greeting(clientGreeting{wrapped: []byte{}})),
		first("secret-short", "a ciphertext that is a byte shorter than the modulus", "H5", aServer, "handshake",
			greeting(clientGreeting{change: func(b []byte) []byte { return b[1:] }})),
		first("secret-long", "a ciphertext that is a byte longer than the modulus", "H5", aServer, "handshake",
			greeting(clientGreeting{change: func(b []byte) []byte { return append([]byte{0}, b...) }})),
		first("hello-short", "a ClientHello that lacks its last byte", "H5", aServer, "handshake",
			greeting(clientGreeting{body: func(b []byte) []byte { return b[:len(b)-1] }})),
		first("hello-long", "a ClientHello with a byte too many", "H5", aServer, "handshake",
			greeting(clientGreeting{body: func(b []byte) []byte { return append(b, 0) }})),
		hidden("flipped", "one bit of the ciphertext is another", clientGreeting{change: flipped(9)}),
		hidden("label", "a ciphertext made with another label", clientGreeting{label: "sealmux/2 wrapped secret"}),
		hidden("zero", "a ciphertext of zeros", clientGreeting{wrapped: make([]byte, 256)}),
		hidden("modulus", "a ciphertext that is the modulus", clientGreeting{wrapped: modulus}),
		hidden("over-modulus", "a ciphertext over the modulus", clientGreeting{wrapped: bytes.Repeat([]byte{0xff}, 256)}),
		hidden("of-31", "a secret of 31 bytes", clientGreeting{secret: make([]byte, 31)}),
		hidden("of-33", "a secret of 33 bytes", clientGreeting{secret: make([]byte, 33)}),

		first("replayed", "a ClientHello that somebody repeats, who can say no more", "H7", aServer, "truncated", hello),
		first("finished-without-secret", "a ClientFinished by somebody who does not know the secret", "H7", aServer, "handshake",
			hello, proof(clientProof{secret: make([]byte, 32)})),
		first("finished-flipped", "one bit of ClientFinished is another", "H7", aServer, "handshake", hello, proof(clientProof{body: flipped(0)})),
		first("finished-empty", "a ClientFinished of nothing", "H7", aServer, "handshake", hello, plainMessage(typeClientFinished)),
		first("finished-cut", "the connection ends in ClientFinished", "R5", aServer, "truncated", hello, changed(done, cut(20))),
		first("finished-flags-2", "a flag that does not exist", "H7", aServer, "handshake", hello, proof(clientProof{flags: 2})),
		first("finished-streams-none", "no streams are allowed", "H7", aServer, "handshake", hello, proof(clientProof{plain: finishedText(0, 0, nil, nil)})),
		first("finished-streams-over", "50001 streams are allowed", "H7", aServer, "handshake", hello, proof(clientProof{plain: finishedText(0, 50001, nil, nil)})),
		first("finished-trailing", "a byte behind the fields", "H7", aServer, "handshake", hello, proof(clientProof{plain: append(finishedText(0, 64, nil, nil), 0)})),
		first("finished-short", "the last field is missing", "H7", aServer, "handshake", hello, proof(clientProof{plain: finishedText(0, 64, nil, nil)[:7]})),
		first("key-unsigned", "a key without a signature", "H7", aServer, "handshake", hello,
			badSignature(func(spki, _ []byte) ([]byte, []byte) { return spki, nil })),
		first("signature-of-nobody", "a signature without a key", "H7", aServer, "handshake", hello,
			badSignature(func(_, signature []byte) ([]byte, []byte) { return nil, signature })),
		first("signature-flipped", "one bit of the signature is another", "H7", aServer, "handshake", hello,
			badSignature(func(spki, signature []byte) ([]byte, []byte) { return spki, flipped(3)(signature) })),
		first("signature-by-other", "a signature by another key", "H7", aFriend, "handshake", hello,
			badSignature(func(_, signature []byte) ([]byte, []byte) { return vectorKey("other").pub.spki, signature })),
		first("signature-old", "a signature of another transcript", "H7", aFriend, "handshake", hello,
			signedOtherwise(func(o *opponent, key *rsa.PrivateKey, hash []byte) ([]byte, error) {
				return pss(o, key, signatureText(make([]byte, 32)), 32)
			})),
		first("signature-context", "a signature without its context", "H7", aFriend, "handshake", hello,
			signedOtherwise(func(o *opponent, key *rsa.PrivateKey, hash []byte) ([]byte, error) { return pss(o, key, hash, 32) })),
		first("signature-salt", "a signature with 20 bytes of salt", "H7", aFriend, "handshake", hello,
			signedOtherwise(func(o *opponent, key *rsa.PrivateKey, hash []byte) ([]byte, error) {
				return pss(o, key, signatureText(hash), 20)
			})),
		first("signature-pkcs1", "a signature of PKCS #1 v1.5", "H7", aFriend, "handshake", hello,
			signedOtherwise(func(_ *opponent, key *rsa.PrivateKey, hash []byte) ([]byte, error) {
				digest := sha256.Sum256(signatureText(hash))
				return rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
			})),
		first("key-trailing", "a key with a byte behind it", "I2", aFriend, "handshake", hello,
			badSignature(func(spki, signature []byte) ([]byte, []byte) { return append(spki, 0), signature })),
		first("key-weak", "a key of 1024 bits", "I1", aFriend, "handshake", hello,
			badSignature(func(_, signature []byte) ([]byte, []byte) { return spkiOf("weak.pub.pem"), signature[:128] })),
		first("key-p256", "a key that is not RSA", "I1", aFriend, "handshake", hello,
			badSignature(func(_, signature []byte) ([]byte, []byte) { return spkiOf("p256.pub.pem"), signature[:64] })),
		first("refused-stranger", "a key that is not admitted", "H9", aFriend, "unauthorized", hello, proof(clientProof{key: "other"})),
		first("refused-nobody", "a key is demanded, and the client has none", "H9", aFriend, "unauthorized", hello, done),
	}
}

// finishedText is what ClientFinished says.
func finishedText(flags byte, streams uint32, spki, signature []byte) []byte {
	p := &clientParams{maxStreams: streams, spki: spki, signature: signature}
	b := p.append(nil)
	b[0] = flags
	return b
}

var (
	vectorTicketBytes  = bytes.Repeat([]byte{0x1d, 0x5e}, 24) // 16 id, 32 key
	vectorTicketSecret = bytes.Repeat([]byte{0x5e, 0xc2, 0xe7, 0x00}, 8)
)

const (
	farAway = 7258118400 // a time in 2200, in Unix seconds
	longAgo = 900000000  // in 1998: tests with a clock of their own begin in 2000
)

// vectorTicket is a ticket as this implementation makes them (H15), with one thing otherwise.
func vectorTicket(client *PublicKey, change func(*ticketState)) []byte {
	t := &ticketState{server: vectorKey("server").Fingerprint(), protocol: sha256.Sum256([]byte("test/1")), secret: vectorTicketSecret, client: client}
	t.end = time.Unix(farAway, 0)
	if change != nil {
		change(t)
	}
	nonce := []byte("twelve bytes")
	b := append(bytes.Clone(vectorTicketBytes[:ticketKeyID]), nonce...)
	return newAEAD(vectorTicketBytes[ticketKeyID:]).Seal(b, nonce, t.append(nil), vectorTicketBytes[:ticketKeyID])
}

func resumeVectors() []maker {
	alice := vectorKey("client").Public()
	tickets := fmt.Sprintf("; ticket-key: %x", vectorTicketBytes)
	holds := fmt.Sprintf("; tickets: yes; ticket-of: server; ticket: %s; ticket-secret: %x", strings.Repeat("7e", 60), vectorTicketSecret)
	resume := func(ticket []byte) speech {
		return greeting(clientGreeting{typ: typeResumeHello, wrapped: ticket, secret: vectorTicketSecret})
	}
	good, done := resume(vectorTicket(nil, nil)), proof(clientProof{})
	// useless is a ticket that is refused, and the full handshake behind it.
	useless := func(name, title string, g clientGreeting) maker {
		g.typ = typeResumeHello
		return maker{"server-ticket-" + name, title + ": the full handshake follows", "H13", aServer + tickets, "ok",
			[]speech{greeting(g), greeting(clientGreeting{}), done}}
	}
	refusal := plainMessage(typeTicketRefused)
	demand := serverReply{params: params(1, 64)}
	changedTicket := func(change func(*ticketState)) clientGreeting {
		return clientGreeting{wrapped: vectorTicket(nil, change)}
	}
	return []maker{
		{"server-resumes", "a ticket of a client without a key", "H12 H13 H14 K2", aServer + tickets, "ok", []speech{good, done}},
		{"server-resumes-alice", "a ticket that says who the client is", "H14 H9", aFriend + tickets, "ok", []speech{resume(vectorTicket(alice, nil)), done}},
		{"server-resumes-after-asking", "KeyRequest before ResumeHello", "H3 H12", aServer + tickets, "ok", []speech{ask("server"), good, done}},
		{"server-asked-after-ticket", "KeyRequest behind a ticket that is refused", "H3 H13", aServer, "ok",
			[]speech{resume(vectorTicket(nil, nil)), ask("server"), greeting(clientGreeting{}), done}},
		useless("expired", "a ticket whose time is up", changedTicket(func(t *ticketState) { t.end = time.Unix(longAgo, 0) })),
		useless("of-other-key", "a ticket that was given with another key of the server", changedTicket(func(t *ticketState) { t.server[0] ^= 1 })),
		useless("of-other-protocol", "a ticket for another application protocol", changedTicket(func(t *ticketState) { t.protocol[0] ^= 1 })),
		useless("flipped", "a ticket of which one bit is another", clientGreeting{wrapped: vectorTicket(nil, nil), change: flipped(40)}),
		useless("of-other-id", "a ticket under a ticket key that is gone", clientGreeting{wrapped: vectorTicket(nil, nil), change: flipped(0)}),
		useless("short", "a ticket of one byte", clientGreeting{wrapped: []byte{1}}),
		useless("longest", "a ticket of 2048 bytes", clientGreeting{wrapped: bytes.Repeat([]byte{1}, 2048)}),
		useless("for-key-not-held", "a ticket of a server whose key is not here", clientGreeting{key: "other", wrapped: vectorTicket(nil, nil)}),
		{"server-ticket-twice", "a second ResumeHello", "H3", aServer + tickets, "handshake",
			[]speech{resume([]byte{1}), resume(vectorTicket(nil, nil))}},
		{"server-ticket-protocol", "a ResumeHello with another application protocol", "H13", aServer + tickets, "application protocol",
			[]speech{greeting(clientGreeting{typ: typeResumeHello, wrapped: vectorTicket(nil, nil), protocol: "test/2"})}},
		{"server-ticket-low-order", "a ResumeHello with an X25519 share of zeros", "H10 H12", aServer + tickets, "handshake",
			[]speech{greeting(clientGreeting{typ: typeResumeHello, wrapped: vectorTicket(nil, nil), share: make([]byte, 32)})}},
		{"server-ticket-stolen", "somebody shows a ticket whose secret he does not know", "H12 H7", aServer + tickets, "handshake",
			[]speech{greeting(clientGreeting{typ: typeResumeHello, wrapped: vectorTicket(nil, nil), secret: make([]byte, 32)}), done}},
		{"server-resumes-with-key", "a key in a resumed ClientFinished", "H14", aFriend + tickets, "handshake",
			[]speech{resume(vectorTicket(alice, nil)), proof(clientProof{key: "client"})}},
		{"server-resumes-revoked", "a ticket of a client that is not admitted any more", "H14", aFriend + tickets, "unauthorized",
			[]speech{resume(vectorTicket(vectorKey("other").Public(), nil)), done}},

		{"client-resumes", "a ticket is taken", "H12 K2", aClient + holds, "ok", []speech{answer(serverReply{})}},
		{"client-resumes-alice", "a client with a key resumes, and gets a ticket", "H12 H14 H15", anAlice + holds, "ok",
			[]speech{answer(demand), record(recordAccept, ticketRecord(600, 60)...)}},
		{"client-ticket-refused", "a ticket is refused: the full handshake follows", "H13", aClient + holds, "ok", []speech{refusal, answer(serverReply{})}},
		{"client-ticket-refused-alice", "a ticket is refused, and the client proves its key", "H13", anAlice + holds, "ok",
			[]speech{refusal, answer(demand), record(recordAccept)}},
		{"client-refusal-long", "a TicketRefused that carries something", "H13", aClient + holds, "handshake", []speech{plainMessage(typeTicketRefused, 0)}},
		{"client-refused-twice", "TicketRefused where it was before", "H13", aClient + holds, "handshake", []speech{refusal, refusal}},
		{"client-resumes-impostor", "a server that does not know the ticket's secret", "H6 H12", aClient + holds, "handshake",
			[]speech{answer(serverReply{secret: make([]byte, 32)})}},
		{"client-resumes-busy", "no handshakes from here, in answer to a ticket", "H8", aClient + holds, "busy", []speech{alert(8)}},
		{"client-resumes-revoked", "a client that resumes is not admitted any more", "H14", anAlice + holds, "unauthorized",
			[]speech{answer(demand), record(recordAlert, byte(AlertUnauthorized))}},
	}
}
