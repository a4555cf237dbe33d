package transport

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"os"
	"slices"
	"strings"
)

// The cases of a client: what a server, or somebody who poses as one, may answer.

const (
	aClient  = "role: client; pin-key: server; protocol: test/1; max-streams: 100"
	anAlice  = aClient + "; key: client"
	aChooser = "role: client; pin: SHA256:5m3Y/EeMbdEkFwmJQv9B6YpLe0VrbkDx7mAeqQQ0c08; protocol: test/1; max-streams: 100"
)

// chooser is a client that knows several servers by their fingerprints.
func chooser(names ...string) string {
	setup := []string{"role: client", "protocol: test/1", "max-streams: 100"}
	for _, name := range names {
		setup = append(setup, "pin: "+vectorKey(name).Fingerprint().String())
	}
	return strings.Join(setup, "; ")
}

func offer(name string) speech { return plainMessage(typeKeyOffer, vectorKey(name).Public().spki...) }

// spkiOf is the SubjectPublicKeyInfo in a file, good or not.
func spkiOf(file string) []byte {
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		panic(err)
	}
	block, _ := pem.Decode(text)
	return block.Bytes
}

func alert(code byte, more ...byte) speech {
	return plainMessage(typeAlert, append([]byte{code}, more...)...)
}

// params is what a ServerHello says: flags, and MaxStreams.
func params(flags byte, streams uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{flags}, streams)
}

// oversized is a header that declares a body of one byte more than there may be.
func oversized(typ byte) []byte { return appendHeader(nil, typ, maxBody+1) }

// ticketRecord is the data of an accept with a ticket.
func ticketRecord(lifetime uint32, size int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, lifetime), bytes.Repeat([]byte{0x7e}, size)...)
}

// lowOrder is a point of order 8 (RFC 7748's curve): every exchange with it gives zeros.
var lowOrder = []byte{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
	0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00}

func clientVectors() []maker {
	demand, hello := serverReply{params: params(1, 64)}, answer(serverReply{})
	first := func(name, title, rule, setup, expect string, steps ...speech) maker {
		return maker{"client-" + name, title, rule, setup, expect, steps}
	}
	all := []maker{
		first("anonymous", "a client without a key, a server that admits anyone", "H5 H6 H7 K1 K2 K3 K4 K5", aClient, "ok", hello),
		first("alice", "a client that shows its key; the server demands one and admits it", "H7 H9", anAlice, "ok", answer(demand), record(recordAccept)),
		first("alice-unasked", "a client that shows its key to a server that demands none", "H7", anAlice, "ok", hello),
		first("large-keys", "keys of 4096 bits on both sides", "I1 H5 H7",
			"role: client; pin-key: large; protocol: test/1; max-streams: 100; key: large", "ok", answer(demand), record(recordAccept)),
		first("no-protocol", "an application protocol of no bytes", "H5", "role: client; pin-key: server; max-streams: 100", "ok", hello),
		first("long-protocol", "an application protocol of 255 bytes", "H5",
			"role: client; pin-key: server; max-streams: 100; protocol: "+strings.Repeat("p", 255), "ok", hello),
		first("streams-least", "both sides allow one stream", "H6 H7", "role: client; pin-key: server; protocol: test/1; max-streams: 1", "ok",
			answer(serverReply{params: params(0, 1)})),
		first("streams-most", "both sides allow 50000 streams", "H6 H7", "role: client; pin-key: server; protocol: test/1; max-streams: 50000", "ok",
			answer(serverReply{params: params(0, 50000)})),
		first("asks", "a client that has a fingerprint only asks for the key", "H3 H4", chooser("server"), "ok", offer("server"), hello),
		first("asks-for-two", "a client that trusts two keys gets the second", "H3 H4", chooser("other", "server"), "ok", offer("server"), hello),
		first("ticket", "a ticket comes with accept", "H9 H15 K6", anAlice+"; tickets: yes", "ok", answer(demand), record(recordAccept, ticketRecord(43200, 100)...)),
		first("ticket-longest", "a ticket of the largest size and the longest lifetime", "H15", anAlice+"; tickets: yes", "ok",
			answer(demand), record(recordAccept, ticketRecord(86400, 2048)...)),
		first("no-ticket", "a client that wants a ticket is given none", "H9 H15", anAlice+"; tickets: yes", "ok", answer(demand), record(recordAccept)),
		first("closed-at-once", "the connection ends before an answer", "R5", aClient, "truncated"),
		first("http", "the peer speaks HTTP, which shows at its first byte", "H1", aClient, "not sealmux", text("HTTP/1.1 400 Bad Request\r\n\r\n")),
		first("late-magic", "the magic's last byte is another", "H1", aClient, "not sealmux", text("SMUY")),
		first("version-2", "another version", "H1", aClient, "version", raw('S', 'M', 'U', 'X', 2, typeServerHello, 0, 0)),
		first("cut-header", "the connection ends in a header", "R5", aClient, "truncated", changed(hello, cut(7))),
		first("cut-body", "the connection ends in a body", "R5", aClient, "truncated", changed(hello, cut(1000))),
		first("too-long", "a message longer than 4096 bytes", "H2", aClient, "handshake", raw(oversized(typeServerHello)...)),
		first("other-type", "a KeyOffer where ServerHello is due", "H1 H8", aClient, "handshake", offer("server")),
		first("ticket-refused-unasked", "TicketRefused where none was shown", "H13", aClient, "handshake", plainMessage(typeTicketRefused)),
		first("hello-for-offer", "a ServerHello where KeyOffer is due", "H3 H8", chooser("server"), "handshake",
			plainMessage(typeServerHello, make([]byte, serverHelloSize)...)),

		first("alert-unknown-key", "the server does not hold the key", "H5 H8", aClient, "server key", alert(1, vectorKey("other").pub.id[:]...)),
		first("alert-protocol", "the server speaks another application protocol", "H5 H8", aClient, "application protocol", alert(2)),
		first("alert-version", "the server speaks another version", "H1 H8", aClient, "version", alert(3)),
		first("alert-handshake", "the server refuses", "H8", aClient, "handshake", alert(4)),
		first("alert-busy", "the server takes no handshakes from here", "H8", aClient, "busy", alert(8)),
		first("alert-of-tomorrow", "an alert whose code nobody knows", "H8", aClient, "handshake", alert(99)),
		first("alert-empty", "an alert without a code", "H8", aClient, "handshake", plainMessage(typeAlert)),
		first("alert-long", "an alert with a byte too many", "H8", aClient, "handshake", alert(4, 0)),
		first("alert-no-id", "an unknown key, and no id of another", "H8", aClient, "handshake", alert(1)),
		first("alert-to-request", "no handshakes from here, in place of KeyOffer", "H8", chooser("server"), "busy", alert(8)),

		first("low-order", "an X25519 share of low order", "H10", aClient, "handshake", answer(serverReply{share: lowOrder})),
		first("zero-share", "an X25519 share of zeros", "H10", aClient, "handshake", answer(serverReply{share: make([]byte, 32)})),
		first("kem-flipped", "one bit of the ML-KEM ciphertext is another", "H6", aClient, "handshake",
			answer(serverReply{body: flipped(shareSize + 5)})),
		first("seal-flipped", "one bit of the sealed block is another", "H6", aClient, "handshake", answer(serverReply{body: flipped(-1)})),
		first("no-rsa-key", "a server that could not open the secret", "H5 H6", aClient, "handshake", answer(serverReply{secret: make([]byte, 32)})),
		first("label-of-client", "the block is sealed under the client's label", "K3", aClient, "handshake", answer(serverReply{label: labelClientHandshake})),
		first("flags-2", "a flag that does not exist", "H6", aClient, "handshake", answer(serverReply{params: params(2, 64)})),
		first("streams-none", "no streams are allowed", "H6", aClient, "handshake", answer(serverReply{params: params(0, 0)})),
		first("streams-over", "50001 streams are allowed", "H6", aClient, "handshake", answer(serverReply{params: params(0, 50001)})),
		first("hello-short", "a ServerHello that lacks its last byte", "H6", aClient, "handshake",
			answer(serverReply{body: func(b []byte) []byte { return b[:len(b)-1] }})),
		first("hello-long", "a ServerHello with a byte too many", "H6", aClient, "handshake",
			answer(serverReply{body: func(b []byte) []byte { return append(slices.Clip(b), 0) }})),

		first("offer-stranger", "the key on offer is not trusted", "H4", chooser("server"), "server key", offer("other")),
		first("offer-empty", "an offer of nothing", "H4 I2", chooser("server"), "handshake", plainMessage(typeKeyOffer)),
		first("offer-trailing", "a key with a byte behind it", "I2", chooser("server"), "handshake",
			plainMessage(typeKeyOffer, append(slices.Clone(vectorKey("server").pub.spki), 0)...)),
		first("offer-weak", "a key of 1024 bits", "I1", chooser("server"), "handshake", plainMessage(typeKeyOffer, spkiOf("weak.pub.pem")...)),
		first("offer-p256", "a key that is not RSA", "I1", chooser("server"), "handshake", plainMessage(typeKeyOffer, spkiOf("p256.pub.pem")...)),
		first("offer-changed", "another key than the server's was put into its offer: one that is trusted too, but not its", "H4 K1",
			chooser("other", "server"), "handshake", offer("other"), answer(serverReply{secret: make([]byte, 32)})),

		first("needs-key", "a key is demanded of a client that has none", "H9", aClient, "client key required", answer(demand)),
		first("refused", "the client's key is not admitted", "H9", anAlice, "unauthorized", answer(demand), record(recordAlert, byte(AlertUnauthorized))),
		first("verdict-other-alert", "another alert in place of the verdict", "H9", anAlice, "handshake", answer(demand), record(recordAlert, byte(AlertInternal))),
		first("verdict-data", "data in place of the verdict", "H9", anAlice, "handshake", answer(demand), record(recordData, syn(2)...)),
		first("verdict-close", "an end in place of the verdict", "H9", anAlice, "handshake", answer(demand), record(recordClose)),
		first("verdict-flipped", "a verdict that does not open", "H9 R4", anAlice, "handshake", answer(demand), changed(record(recordAccept), flipped(-1))),
		first("verdict-cut", "the connection ends in the verdict", "R5", anAlice, "truncated", answer(demand), changed(record(recordAccept), cut(10))),
		first("verdict-length", "a verdict with an impossible length", "R2", anAlice, "handshake", answer(demand), raw(0, 16)),
		first("ticket-unasked", "a ticket for a client that wants none", "H15", anAlice, "handshake",
			answer(demand), record(recordAccept, ticketRecord(43200, 100)...)),
		first("ticket-empty", "a ticket of no bytes", "H15", anAlice+"; tickets: yes", "handshake", answer(demand), record(recordAccept, ticketRecord(43200, 0)...)),
		first("ticket-too-long", "a ticket of 2049 bytes", "H15", anAlice+"; tickets: yes", "handshake",
			answer(demand), record(recordAccept, ticketRecord(43200, 2049)...)),
		first("ticket-dead", "a ticket that lives for no time", "H15", anAlice+"; tickets: yes", "handshake",
			answer(demand), record(recordAccept, ticketRecord(0, 100)...)),
		first("ticket-for-ever", "a ticket that lives too long", "H15", anAlice+"; tickets: yes", "handshake",
			answer(demand), record(recordAccept, ticketRecord(86401, 100)...)),
	}
	return all
}
