package transport

import (
	"context"
	"crypto/ecdh"
	"crypto/mlkem"
	"fmt"
	"net"
)

// A clientRole is the client's role, SPEC.md section 3.
type clientRole struct {
	ctx   context.Context
	raw   net.Conn
	cfg   *Config
	log   transcript
	fresh *fresh // nil but in tests

	server *PublicKey
	name   string
	guest  *guest
	dh     *ecdh.PrivateKey
	kem    *mlkem.DecapsulationKey768

	secret  []byte // S or, when resumed, the ticket's; ours
	resumed bool
}

// clientHandshake plays it with secrets that nobody has seen.
func clientHandshake(ctx context.Context, raw net.Conn, cfg *Config) (*outcome, error) {
	return (&clientRole{ctx: ctx, raw: raw, cfg: cfg, log: newTranscript()}).play()
}

func (h *clientRole) play() (out *outcome, err error) {
	defer func() {
		clear(h.secret)
		if err != nil {
			h.cfg.Peers.dismiss(h.guest)
		}
	}()
	if err := h.shares(); err != nil {
		return nil, err
	}
	body, err := h.greet()
	if err != nil {
		return nil, err
	}
	return h.finish(body)
}

func (h *clientRole) shares() (err error) {
	if h.dh, err = h.fresh.exchangeKey(); err != nil {
		return err
	}
	h.kem, err = h.fresh.decapsulationKey()
	return err
}

// greet returns the server's ServerHello: to a ticket if there is one (H12), else to a secret that only the holder of the
// server's key can read (H5).
func (h *clientRole) greet() ([]byte, error) {
	trust, tried := h.cfg.Peers, false
	for _, pin := range trust.pins {
		body, used, err := h.resume(pin)
		if body != nil || err != nil {
			return body, err
		}
		if tried = used; used {
			break // and refused: a second might be too, and would cost another round trip
		}
	}
	if err := h.serverKey(); err != nil { // H3, H4
		return nil, err
	}
	if !tried && len(trust.pins) == 0 { // who the server is had to be asked first
		if body, _, err := h.resume(h.server.id); body != nil || err != nil {
			return body, err
		}
	}
	h.secret = h.fresh.newSecret()
	wrapped, err := wrap(h.fresh.forOAEP(), h.server, h.secret)
	if err != nil {
		return nil, err
	}
	if err := h.hello(typeClientHello, wrapped); err != nil {
		return nil, err
	}
	body, err := receive(h.raw, typeServerHello)
	return body, explain(err, trust)
}

func (h *clientRole) hello(typ byte, secret []byte) error {
	hello := &clientHello{keyID: h.server.id, protocol: []byte(h.cfg.Protocol), secret: secret}
	copy(hello.share[:], h.dh.PublicKey().Bytes())
	copy(hello.kem[:], h.kem.EncapsulationKey().Bytes())
	return send(h.raw, h.log, typ, hello.append(nil))
}

// resume uses a ticket of the server with that key, if there is one. It returns the ServerHello, or nil if it must be done
// without.
func (h *clientRole) resume(server Fingerprint) (body []byte, used bool, err error) {
	owner := h.owner(server)
	t, ok := h.cfg.Tickets.take(owner)
	if !ok {
		return nil, false, nil
	}
	h.server, h.secret, h.resumed = t.server, t.secret, true
	if err := h.hello(typeResumeHello, t.ticket); err != nil {
		return nil, true, err
	}
	typ, body, err := receiveAny(h.raw, typeServerHello, typeTicketRefused)
	switch {
	case err != nil:
		return nil, true, explain(err, h.cfg.Peers)
	case typ == typeServerHello:
		return body, true, nil
	case len(body) != 0:
		return nil, true, reject(h.raw, ErrHandshake)
	}
	h.log.add(message(typ, body))
	h.cfg.Tickets.forget(owner) // the others are as old
	clear(h.secret)
	h.resumed = false
	return nil, true, nil
}

// owner is for whom our tickets are, with a server that has that key.
func (h *clientRole) owner(server Fingerprint) ticketOwner {
	owner := ticketOwner{server: server, protocol: h.cfg.Protocol}
	if len(h.cfg.Keys) > 0 {
		owner.client = h.cfg.Keys[0].pub.id
	}
	return owner
}

// finish takes the ServerHello (H6) and answers with our proof that we know the secret and, if we have a key, who we are (H7).
func (h *clientRole) finish(body []byte) (*outcome, error) {
	handshake, shares, params, err := h.open(body)
	if err != nil {
		return nil, reject(h.raw, ErrHandshake)
	}
	finished := clientParams{maxStreams: uint32(h.cfg.MaxStreams), wantTicket: h.cfg.Tickets != nil}
	if len(h.cfg.Keys) > 0 && !h.resumed {
		if err := finished.sign(h.fresh.forPSS(), h.cfg.Keys[0], h.log.sum()); err != nil {
			return nil, err
		}
	}
	aead, iv := blockKey(handshake, labelClientHandshake, shares)
	if err := send(h.raw, h.log, typeClientFinished, aead.Seal(nil, iv, finished.append(nil), h.log.sum())); err != nil {
		return nil, err
	}
	if params.clientKeyRequired && len(h.cfg.Keys) == 0 {
		return nil, ErrClientKeyRequired // the server has been told, under encryption
	}
	keys := deriveSession(handshake, h.log.sum())
	out := &outcome{send: newCipherState(keys.client), receive: newCipherState(keys.server), exporter: keys.exporter,
		peer: Peer{Key: h.server, Name: h.name, Addr: h.raw.RemoteAddr()}, guest: h.guest, maxStreams: int(params.maxStreams), resumed: h.resumed}
	if h.cfg.Tickets != nil {
		out.awaited = &awaitedTicket{h.cfg.Tickets, h.owner(h.server.id), h.server, resumptionSecret(handshake, h.log.sum())}
	}
	if params.clientKeyRequired {
		err = awaitVerdict(h.raw, out) // H9
	}
	return out, err
}

// open returns the handshake secret, T1, and what the server's block says, which proves that it could read our secret.
func (h *clientRole) open(body []byte) (handshake *expander, shares []byte, params serverParams, err error) {
	reply, err := parseServerHello(body)
	if err != nil {
		return nil, nil, params, err
	}
	dh, err := exchange(h.dh, reply.share[:])
	if err != nil {
		return nil, nil, params, err
	}
	defer clear(dh)
	kem, err := h.kem.Decapsulate(reply.kem[:])
	if err != nil {
		return nil, nil, params, err
	}
	defer clear(kem)
	handshake = handshakeSecret(h.secret, kem, dh, h.resumed)
	h.log.add(reply.appendShares(appendHeader(nil, typeServerHello, serverHelloSize)))
	shares = h.log.sum()
	aead, iv := blockKey(handshake, labelServerHandshake, shares)
	plain, err := aead.Open(nil, iv, reply.sealed[:], shares)
	if err != nil {
		return nil, nil, params, err
	}
	h.log.add(reply.sealed[:])
	params, err = parseServerParams(plain)
	return handshake, shares, params, err
}

// serverKey settles which key the client addresses. With one pinned key it is that one; with several, or
// with fingerprints only, the server is asked, and what it offers is believed only if the Trust admits it.
func (h *clientRole) serverKey() error {
	trust := h.cfg.Peers
	if len(trust.known) == 1 && len(trust.pins) == 1 {
		h.server = trust.known[0]
		return nil
	}
	if err := send(h.raw, h.log, typeKeyRequest, appendKeyRequest(nil, trust.pins)); err != nil {
		return err
	}
	body, err := receive(h.raw, typeKeyOffer)
	if err != nil {
		return explain(err, trust)
	}
	h.log.add(message(typeKeyOffer, body))
	if h.server, err = parseSPKI(body); err != nil {
		return reject(h.raw, ErrHandshake)
	}
	if h.name, h.guest, err = trust.ask(h.ctx, h.server); err != nil {
		return fmt.Errorf("%w: %w", trust.wrongKey(h.server.id), err)
	}
	return nil
}

// awaitVerdict reads the server's first record, which says whether it admits our key. Without it a refused
// client would learn so only from the failure of its first call.
func awaitVerdict(raw net.Conn, out *outcome) error {
	typ, data, err := readRecord(raw, out.receive)
	awaited := out.awaited
	out.awaited = nil
	if err == nil && typ == recordAccept && awaited.keep(data) {
		return nil
	}
	awaited.drop()
	switch {
	case err != nil:
		return err
	case typ == recordAccept && len(data) == 0:
		return nil
	case typ == recordAlert && len(data) == 1 && Alert(data[0]) == AlertUnauthorized:
		return ErrUnauthorized
	}
	return ErrHandshake
}
