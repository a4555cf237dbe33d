package transport

import (
	"context"
	"crypto/mlkem"
	"fmt"
	"net"
	"slices"
)

// A serverRole is the server's role, SPEC.md section 3.
type serverRole struct {
	ctx   context.Context
	raw   net.Conn
	cfg   *Config
	pass  *pass // its place among the handshakes of a Listener
	log   transcript
	fresh *fresh // nil but in tests

	key    *PrivateKey  // the one that the client asks for
	ticket *ticketState // of a client that resumes
}

// serverHandshake plays it with secrets that nobody has seen.
func serverHandshake(ctx context.Context, raw net.Conn, cfg *Config, pass *pass) (*outcome, error) {
	return (&serverRole{ctx: ctx, raw: raw, cfg: cfg, pass: pass, log: newTranscript()}).play()
}

func (h *serverRole) play() (*outcome, error) {
	defer func() { h.ticket.wipe() }()
	hello, err := h.hello()
	if err != nil {
		return nil, err
	}
	handshake, shares, params, err := h.reply(hello)
	if err != nil {
		return nil, err
	}
	return h.finish(hello, handshake, shares, params)
}

// hello returns the client's, and settles our key that it asks for. Before it a client may ask for a key, and show a ticket,
// once each. Every cheap check comes before the private-key operation (H5).
func (h *serverRole) hello() (*clientHello, error) {
	due := []byte{typeClientHello, typeKeyRequest, typeResumeHello}
	for {
		typ, body, err := receiveAny(h.raw, due...)
		if err != nil {
			return nil, err
		}
		h.log.add(message(typ, body))
		due = slices.DeleteFunc(due, func(t byte) bool { return t == typ })
		if typ == typeKeyRequest {
			if err := h.offer(body); err != nil {
				return nil, err
			}
			continue
		}
		hello, err := parseClientHello(body)
		if err != nil {
			return nil, reject(h.raw, ErrHandshake)
		}
		if string(hello.protocol) != h.cfg.Protocol {
			return nil, rejectWith(h.raw, alertMessage{code: AlertApplicationProtocol}, ErrApplicationProtocol)
		}
		h.key = pickKey(h.cfg.Keys, hello.keyID)
		switch {
		case typ == typeClientHello && h.key == nil:
			return nil, rejectWith(h.raw, alertMessage{AlertUnknownKey, h.cfg.Keys[0].pub.id},
				fmt.Errorf("%w: it asks for %v", ErrUnknownKey, hello.keyID))
		case typ == typeClientHello:
			return hello, nil
		case h.key != nil:
			if h.ticket = h.cfg.TicketKeys.open(hello); h.ticket != nil {
				return hello, nil
			}
		}
		if err := send(h.raw, h.log, typeTicketRefused, nil); err != nil { // H13
			return nil, err
		}
	}
}

// offer answers a KeyRequest (H4).
func (h *serverRole) offer(body []byte) error {
	ids, err := parseKeyRequest(body)
	if err != nil {
		return reject(h.raw, ErrHandshake)
	}
	offer := h.cfg.Keys[0]
	for _, id := range ids {
		if key := pickKey(h.cfg.Keys, id); key != nil {
			offer = key
			break
		}
	}
	return send(h.raw, h.log, typeKeyOffer, offer.pub.spki)
}

func pickKey(keys []*PrivateKey, id Fingerprint) *PrivateKey {
	for _, key := range keys {
		if key.pub.id == id {
			return key
		}
	}
	return nil
}

// reply sends our shares, and our parameters sealed under a key that proves we could read the secret (H6).
func (h *serverRole) reply(hello *clientHello) (handshake *expander, shares []byte, params serverParams, err error) {
	dhKey, err := h.fresh.exchangeKey()
	if err != nil {
		return nil, nil, params, err
	}
	dh, err := exchange(dhKey, hello.share[:])
	if err != nil {
		return nil, nil, params, reject(h.raw, ErrHandshake)
	}
	defer clear(dh)
	kemKey, err := mlkem.NewEncapsulationKey768(hello.kem[:])
	if err != nil || h.ticket == nil && len(hello.secret) != h.key.rsa.Size() {
		return nil, nil, params, reject(h.raw, ErrHandshake)
	}
	kem, kemCiphertext := h.fresh.encapsulated(kemKey)
	defer clear(kem)
	secret, err := h.secret(hello)
	if err != nil {
		return nil, nil, params, err
	}
	defer clear(secret)
	handshake = handshakeSecret(secret, kem, dh, h.ticket != nil)
	reply := new(serverHello)
	copy(reply.share[:], dhKey.PublicKey().Bytes())
	copy(reply.kem[:], kemCiphertext)
	m := reply.appendShares(appendHeader(nil, typeServerHello, serverHelloSize))
	h.log.add(m)
	shares = h.log.sum()
	params = serverParams{clientKeyRequired: !h.cfg.Peers.anyone, maxStreams: uint32(h.cfg.MaxStreams)}
	aead, iv := blockKey(handshake, labelServerHandshake, shares)
	sealed := aead.Seal(nil, iv, params.append(nil), shares)
	h.log.add(sealed)
	if _, err := h.raw.Write(append(m, sealed...)); err != nil {
		return nil, nil, params, readError(err)
	}
	return handshake, shares, params, nil
}

func (h *serverRole) secret(hello *clientHello) (secret []byte, err error) {
	if h.ticket != nil {
		return h.ticket.secret, nil
	}
	err = h.pass.operate(h.ctx, func() { secret = unwrap(h.key, hello.secret, h.fresh.newSecret()) })
	return secret, err
}

// finish reads the client's proof that it knows the secret and, if it has a key, who it is (H7), and decides on it (H9).
func (h *serverRole) finish(hello *clientHello, handshake *expander, shares []byte, params serverParams) (*outcome, error) {
	body, err := receive(h.raw, typeClientFinished)
	if err != nil {
		return nil, err
	}
	aead, iv := blockKey(handshake, labelClientHandshake, shares)
	plain, err := aead.Open(nil, iv, body, h.log.sum())
	if err != nil {
		return nil, reject(h.raw, ErrHandshake)
	}
	finished, err := parseClientParams(plain)
	if err != nil {
		return nil, reject(h.raw, ErrHandshake)
	}
	client, err := h.client(finished)
	if err != nil {
		return nil, reject(h.raw, ErrHandshake)
	}
	h.pass.works(true) // whoever it is has kept nobody waiting
	h.log.add(message(typeClientFinished, body))
	keys := deriveSession(handshake, h.log.sum())
	out := &outcome{send: newCipherState(keys.server), receive: newCipherState(keys.client), exporter: keys.exporter,
		peer: Peer{Key: client, Addr: h.raw.RemoteAddr()}, maxStreams: int(finished.maxStreams), resumed: h.ticket != nil}
	if out.peer.Name, out.guest, err = h.cfg.Peers.ask(h.ctx, client); err != nil {
		return nil, refuse(h.raw, out, err)
	}
	if finished.wantTicket && h.cfg.TicketKeys != nil {
		secret := resumptionSecret(handshake, h.log.sum())
		defer clear(secret)
		out.ticket = h.cfg.TicketKeys.issue(h.ticket, hello, secret, client)
	}
	if params.clientKeyRequired { // H9
		err = writeRecord(h.raw, out.send, recordAccept, out.ticket)
		out.ticket = nil
	}
	return out, err
}

// client returns the key that the client has proven, now or when its ticket was given, nil if it showed none.
func (h *serverRole) client(finished *clientParams) (*PublicKey, error) {
	if h.ticket == nil {
		return finished.verify(h.log.sum())
	}
	if len(finished.spki) > 0 {
		return nil, errMalformed // H14: a ticket says who it is
	}
	return h.ticket.client, nil
}

// refuse tells a client that it may not stay, under encryption (H9).
func refuse(raw net.Conn, out *outcome, refusal error) error {
	writeRecord(raw, out.send, recordAlert, []byte{byte(AlertUnauthorized)})
	who := "it has no key"
	if out.peer.Key != nil {
		who = out.peer.Key.String()
	}
	return fmt.Errorf("%w (%s): %w", ErrUnauthorized, who, refusal)
}
