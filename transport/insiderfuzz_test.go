package transport

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// What a peer can say that has all the keys which an honest one has: FuzzClientFinished, FuzzServerHello, FuzzReceive.

// A stub is a connection to a peer that says the same whatever it hears.
type stub struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *stub) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *stub) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *stub) RemoteAddr() net.Addr        { return nil }

// A readerFunc reads what a function returns, which is called when it is needed.
type readerFunc struct {
	f func() []byte
	r io.Reader
}

func (r *readerFunc) Read(b []byte) (int, error) {
	if r.r == nil {
		r.r = bytes.NewReader(r.f())
	}
	return r.r.Read(b)
}

// said is the one record in b, which an end that has that secret has sealed.
func said(t *testing.T, secret, b []byte) (typ byte, data []byte) {
	t.Helper()
	typ, data, err := readRecord(&stub{in: bytes.NewReader(b)}, newCipherState(secret))
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return typ, data
}

// soFar is the transcript, and handshakeForTest the secret, of a handshake that has come to its last steps.
func soFar() transcript {
	log := newTranscript()
	log.add([]byte("what was said before"))
	return log
}

func handshakeForTest() *expander { return newExpander(bytes.Repeat([]byte{1}, secretSize)) }

// What a client that knows the secret seals into its ClientFinished, anything at all, is right in every byte, or refused.
func FuzzClientFinished(f *testing.F) {
	client, config := configs()
	config.TicketKeys = NewTicketKeys()
	server, err := config.forServer()
	if err != nil {
		f.Fatal(err)
	}
	for _, key := range []*PrivateKey{client.Keys[0], otherKeyForTest(), nil} {
		p := clientParams{maxStreams: 7, wantTicket: key != nil}
		if key != nil {
			p.sign(noFresh.forPSS(), key, soFar().sum())
		}
		f.Add(p.append(nil), false)
		p.spki, p.signature = nil, nil
		f.Add(p.append(nil), true)
	}
	hello := &clientHello{keyID: server.Keys[0].Fingerprint(), protocol: []byte(server.Protocol)}
	shares := []byte("T1")
	f.Fuzz(func(t *testing.T, plain []byte, resumed bool) {
		if len(plain) > maxBody-tagSize {
			return
		}
		log := soFar()
		aead, iv := blockKey(handshakeForTest(), labelClientHandshake, shares)
		m := message(typeClientFinished, aead.Seal(nil, iv, plain, log.sum()))
		conn := &stub{in: bytes.NewReader(m)}
		h := &serverRole{ctx: t.Context(), raw: conn, cfg: server, log: log, key: server.Keys[0]}
		if resumed {
			h.ticket = &ticketState{client: client.Keys[0].Public(), end: time.Now().Add(time.Hour)}
		}
		out, err := h.finish(hello, handshakeForTest(), shares, serverParams{true, 1})

		log = soFar()
		hash := log.sum()
		log.add(m)
		keys := deriveSession(handshakeForTest(), log.sum())
		p, bad := parseClientParams(plain)
		var key *PublicKey
		switch {
		case bad != nil:
		case resumed && len(p.spki) > 0:
			bad = errMalformed
		case resumed:
			key = client.Keys[0].Public()
		default:
			key, bad = p.verify(hash)
		}
		if bad == nil && !bytes.Equal(p.append(nil), plain) {
			t.Fatalf("%x became %x", plain, p.append(nil))
		}
		switch {
		case bad != nil:
			if !errors.Is(err, ErrHandshake) || !bytes.Equal(conn.out.Bytes(), message(typeAlert, []byte{byte(AlertHandshake)})) {
				t.Fatalf("%v: %v, %x", bad, err, conn.out.Bytes())
			}
		case !key.Equal(client.Keys[0].Public()):
			typ, data := said(t, keys.server, conn.out.Bytes())
			if !errors.Is(err, ErrUnauthorized) || typ != recordAlert || string(data) != string(rune(AlertUnauthorized)) {
				t.Fatalf("%v: %v, %d %x", key, err, typ, data)
			}
		default:
			if err != nil || !out.peer.Key.Equal(key) || out.maxStreams != int(p.maxStreams) || out.ticket != nil || out.resumed != resumed {
				t.Fatalf("%+v, %v", out, err)
			}
			typ, data := said(t, keys.server, conn.out.Bytes())
			if typ != recordAccept || (len(data) > 0) != p.wantTicket {
				t.Fatalf("%d %x", typ, data)
			}
			if p.wantTicket {
				next := *hello
				next.secret = data[4:]
				ticket := server.TicketKeys.open(&next)
				if ticket == nil || !ticket.client.Equal(key) || !bytes.Equal(ticket.secret, resumptionSecret(handshakeForTest(), log.sum())) {
					t.Fatalf("the ticket says %+v", ticket)
				}
			}
		}
	})
}

// What a server that knows the secret seals into its ServerHello and its first record, and a change to the rest, gives a session if
// it is right in every byte, and otherwise a typed error.
// fuzz: 10000x
func FuzzServerHello(f *testing.F) {
	dh, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{2}, 32))
	if err != nil {
		f.Fatal(err)
	}
	kem, err := mlkem.NewDecapsulationKey768(bytes.Repeat([]byte{3}, 64))
	if err != nil {
		f.Fatal(err)
	}
	kemShared, kemCiphertext := kem.EncapsulationKey().Encapsulate()
	dhShared, err := exchange(dh, dh.PublicKey().Bytes()) // the server's is the same, for simplicity
	if err != nil {
		f.Fatal(err)
	}
	ticket := append(binary.BigEndian.AppendUint32(nil, 60), "some ticket"...)
	for _, required := range []bool{false, true} {
		params := serverParams{required, 7}.append(nil)
		for _, key := range []bool{false, true} {
			f.Add(0, params, byte(recordAccept), ticket, key)
			f.Add(0, params, byte(recordAccept), []byte(nil), key)
		}
		f.Add(40, params, byte(recordAccept), ticket, true)
		f.Add(0, params, byte(recordAlert), []byte{byte(AlertUnauthorized)}, true)
	}
	f.Fuzz(func(t *testing.T, flip int, params []byte, typ byte, data []byte, key bool) {
		if len(params) > 64 || len(data) > maxData {
			return
		}
		client, _ := configs()
		client.Tickets = NewTicketCache(1)
		if !key {
			client.Keys = nil
		}
		secret := bytes.Repeat([]byte{4}, secretSize)
		handshake := handshakeSecret(secret, bytes.Clone(kemShared), bytes.Clone(dhShared), key)

		hello := new(serverHello)
		copy(hello.share[:], dh.PublicKey().Bytes())
		copy(hello.kem[:], kemCiphertext)
		body := hello.appendShares(nil)
		log := soFar()
		log.add(appendHeader(nil, typeServerHello, serverHelloSize))
		log.add(body)
		shares := log.sum()
		aead, iv := blockKey(handshake, labelServerHandshake, shares)
		sealed := aead.Seal(nil, iv, params, shares)
		log.add(sealed)
		if body = append(body, sealed...); flip != 0 {
			body[uint(flip)%uint(len(body))] ^= max(byte(uint(flip)/uint(len(body))), 1)
		}

		conn := new(stub)
		conn.in = &readerFunc{f: func() []byte {
			log.add(conn.out.Bytes())
			rec := new(stub)
			writeRecord(rec, newCipherState(deriveSession(handshake, log.sum()).server), typ, data)
			return rec.out.Bytes()
		}}
		// With a key it resumes, so that it need not sign.
		h := &clientRole{ctx: t.Context(), raw: conn, cfg: client, log: soFar(), server: serverKeyForTest().Public(),
			dh: dh, kem: kem, secret: secret, resumed: key}
		out, err := h.finish(bytes.Clone(body))

		p, bad := parseServerParams(params)
		if bad == nil && !bytes.Equal(p.append(nil), params) {
			t.Fatalf("%x became %x", params, p.append(nil))
		}
		given := ticketRecordIsGood(data) && typ == recordAccept
		want := error(nil)
		switch {
		case bad != nil || flip != 0:
			want = ErrHandshake
		case !p.clientKeyRequired:
		case !key:
			want = ErrClientKeyRequired
		case typ == recordAlert && len(data) == 1 && data[0] == byte(AlertUnauthorized):
			want = ErrUnauthorized
		case typ != recordAccept || !given && len(data) > 0:
			want = ErrHandshake
		}
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
		if err != nil {
			given = false
		} else if out.maxStreams != int(p.maxStreams) || (out.awaited == nil) != p.clientKeyRequired {
			t.Fatalf("%+v", out)
		}
		held, _ := client.Tickets.take(h.owner(serverKeyForTest().Fingerprint()))
		if given = given && p.clientKeyRequired; given && !bytes.Equal(held.ticket, data[4:]) || !given && held.ticket != nil {
			t.Fatalf("%x is kept of %x", held.ticket, data)
		}
	})
}

// ticketRecordIsGood is rule H15 in other words.
func ticketRecordIsGood(data []byte) bool {
	if len(data) < 5 || len(data) > 4+2048 {
		return false
	}
	seconds := binary.BigEndian.Uint32(data)
	return seconds >= 1 && seconds <= 86400
}

// Any records at all from an authenticated peer, sealed as they should be, key updates included: a verdict in the end, and streams
// of which every count is right.
func FuzzReceive(f *testing.F) {
	add := func(client bool, records ...[]byte) { // type and data
		var script []byte
		for _, r := range records {
			script = binary.BigEndian.AppendUint16(append(script, r[0]), uint16(len(r)-1))
			script = append(script, r[1:]...)
		}
		f.Add(script, client)
	}
	record := func(typ byte, data ...[]byte) []byte { return append([]byte{typ}, bytes.Join(data, nil)...) }
	ping, update := record(recordPing), record(recordUpdate)
	add(true, record(recordAccept, []byte{0, 0, 0, 60}, []byte("ticket")), ping, record(recordPong), record(recordClose))
	add(false, ping, update, update)
	add(false, ping, update, record(recordData, syn(7), data(7, 9)), record(recordData, frame(frameWindow, flagFIN, 7, 0)))
	add(false, record(recordData, data(1, 9), frame(frameWindow, flagACK, 2, 5)), record(recordAlert, []byte{7}))
	add(true, record(9), record(recordAlert))
	secret := bytes.Repeat([]byte{5}, secretSize)
	f.Fuzz(func(t *testing.T, script []byte, client bool) {
		peer := newCipherState(bytes.Clone(secret))
		var stream []byte
		for r := reader(script); len(r) >= 3; {
			head, _ := r.take(3)
			data, _ := r.take(min(int(binary.BigEndian.Uint16(head[1:])), len(r)))
			stream = append(stream, sealRecord(peer, head[0], data)...)
			if head[0] == recordUpdate {
				peer.update()
			}
		}
		g := busyGuard(t)
		if client {
			g.ticket = &awaitedTicket{NewTicketCache(1), ticketOwner{}, serverKeyForTest().Public(), make([]byte, secretSize)}
		}
		g.conn.rx.raw, g.conn.rx.cipher, g.conn.rx.buf = &stub{in: bytes.NewReader(stream)}, newCipherState(bytes.Clone(secret)), make([]byte, smallBuffer)
		var err error
		for err == nil {
			counted(t, g)
			err = g.receive()
			wholeFrames(t, g.in)
		}
		g.conn.rx.drop()
		_, alert := errors.AsType[*AlertError](err)
		if !alert && !errors.Is(err, ErrMisbehaved) && !errors.Is(err, ErrPeerClosed) && !errors.Is(err, ErrTruncated) {
			t.Fatal(err)
		}
		if len(script) < 3 && err != ErrTruncated {
			t.Fatal(err)
		}
	})
}
