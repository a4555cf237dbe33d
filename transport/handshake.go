package transport

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"time"
)

// outcome is what a handshake yields: keys by direction, who the peer is, and what it allows.
type outcome struct {
	send, receive *cipherState
	exporter      []byte
	peer          Peer
	maxStreams    int // the peer's limit on our open streams
}

// withDeadline runs a handshake against one deadline and the context, on any exit of which no goroutine is
// left behind and, on success, the connection has no deadline.
func withDeadline(ctx context.Context, raw net.Conn, timeout time.Duration, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrHandshakeTimeout)
	defer cancel()
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		raw.SetDeadline(time.Unix(1, 0)) // unblocks what is blocked
	})
	err := run(ctx)
	if !stop() {
		<-interrupted
		err = context.Cause(ctx)
		if err != ErrHandshakeTimeout {
			err = fmt.Errorf("transport: handshake: %w", err)
		}
	}
	if err != nil {
		raw.Close()
		return err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		raw.Close()
		return readError(err) // the peer is gone already
	}
	return nil
}

// clientHandshake is the client's role, SPEC.md section 3 in order.
func clientHandshake(ctx context.Context, raw net.Conn, cfg *Config) (*outcome, error) {
	log := newTranscript()
	server, name, err := serverKey(ctx, raw, cfg.Peers, log) // H3, H4
	if err != nil {
		return nil, err
	}
	// H5: our shares, and a secret that only the holder of the server's key can read.
	secret := make([]byte, secretSize)
	rand.Read(secret)
	defer clear(secret)
	dhKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	kemKey, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, server.rsa, secret, []byte(labelOAEP))
	if err != nil {
		return nil, err
	}
	hello := &clientHello{keyID: server.id, protocol: []byte(cfg.Protocol), wrapped: wrapped}
	copy(hello.share[:], dhKey.PublicKey().Bytes())
	copy(hello.kem[:], kemKey.EncapsulationKey().Bytes())
	if err := send(raw, log, typeClientHello, hello.append(nil)); err != nil {
		return nil, err
	}
	// H6: the server's shares, and the block that proves it could read the secret.
	body, err := receive(raw, typeServerHello)
	if err != nil {
		return nil, explain(err, cfg.Peers)
	}
	reply, err := parseServerHello(body)
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	dh, err := exchange(dhKey, reply.share[:])
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	defer clear(dh)
	kem, err := kemKey.Decapsulate(reply.kem[:])
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	defer clear(kem)
	handshake := handshakeSecret(secret, kem, dh)
	defer clear(handshake)
	log.add(reply.appendShares(appendHeader(nil, typeServerHello, serverHelloSize)))
	shares := log.sum()
	aead, iv := blockKey(handshake, labelServerHandshake, shares)
	plain, err := aead.Open(nil, iv, reply.sealed[:], shares)
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	params, err := parseServerParams(plain)
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	log.add(reply.sealed[:])
	// H7: our proof that we know the secret and, if we have a key, who we are.
	finished := clientParams{maxStreams: uint32(cfg.MaxStreams)}
	if len(cfg.Keys) > 0 {
		if err := finished.sign(cfg.Keys[0], log.sum()); err != nil {
			return nil, err
		}
	}
	aead, iv = blockKey(handshake, labelClientHandshake, shares)
	if err := send(raw, log, typeClientFinished, aead.Seal(nil, iv, finished.append(nil), log.sum())); err != nil {
		return nil, err
	}
	if params.clientKeyRequired && len(cfg.Keys) == 0 {
		return nil, ErrClientKeyRequired // the server has been told, under encryption
	}
	keys := deriveSession(handshake, log.sum())
	out := &outcome{send: newCipherState(keys.client), receive: newCipherState(keys.server), exporter: keys.exporter,
		peer: Peer{Key: server, Name: name, Addr: raw.RemoteAddr()}, maxStreams: int(params.maxStreams)}
	if params.clientKeyRequired {
		err = awaitVerdict(raw, out.receive) // H9
	}
	return out, err
}

// serverKey settles which key the client addresses. With one pinned key it is that one; with several, or
// with fingerprints only, the server is asked, and what it offers is believed only if the Trust admits it.
func serverKey(ctx context.Context, raw net.Conn, trust *Trust, log transcript) (*PublicKey, string, error) {
	if len(trust.known) == 1 && len(trust.pins) == 1 {
		return trust.known[0], "", nil
	}
	if err := send(raw, log, typeKeyRequest, appendKeyRequest(nil, trust.pins)); err != nil {
		return nil, "", err
	}
	body, err := receive(raw, typeKeyOffer)
	if err != nil {
		return nil, "", explain(err, trust)
	}
	log.add(message(typeKeyOffer, body))
	key, err := parseSPKI(body)
	if err != nil {
		return nil, "", reject(raw, ErrHandshake)
	}
	name, err := trust.admits(ctx, key)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", &ServerKeyError{Pinned: trust.pins, Offered: key.id}, err)
	}
	return key, name, nil
}

func (p *clientParams) sign(key *PrivateKey, hash []byte) (err error) {
	digest := signatureInput(hash)
	p.spki = key.pub.spki
	p.signature, err = rsa.SignPSS(rand.Reader, key.rsa, crypto.SHA256, digest[:],
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	return err
}

// awaitVerdict reads the server's first record, which says whether it admits our key. Without it a refused
// client would learn so only from the failure of its first call.
func awaitVerdict(raw net.Conn, receive *cipherState) error {
	typ, data, err := readRecord(raw, receive)
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

// exchange is X25519; crypto/ecdh refuses low-order shares, whose result is all zero (rule H10).
func exchange(key *ecdh.PrivateKey, share []byte) ([]byte, error) {
	peer, err := ecdh.X25519().NewPublicKey(share)
	if err != nil {
		return nil, err
	}
	return key.ECDH(peer)
}

// serverHandshake is the server's role, SPEC.md section 3 in order. rsaGate, which may be nil, bounds how many
// private-key operations run at once.
func serverHandshake(ctx context.Context, raw net.Conn, cfg *Config, rsaGate chan struct{}) (*outcome, error) {
	log := newTranscript()
	body, err := receiveHello(raw, cfg.Keys, log) // H3, H4
	if err != nil {
		return nil, err
	}
	// H5: every cheap check comes before the private-key operation.
	hello, err := parseClientHello(body)
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	log.add(message(typeClientHello, body))
	if string(hello.protocol) != cfg.Protocol {
		return nil, rejectWith(raw, alertMessage{code: AlertApplicationProtocol}, ErrApplicationProtocol)
	}
	key := pickKey(cfg.Keys, hello.keyID)
	if key == nil {
		return nil, rejectWith(raw, alertMessage{AlertUnknownKey, cfg.Keys[0].pub.id},
			fmt.Errorf("%w: it asks for %v", ErrUnknownKey, hello.keyID))
	}
	dhKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	dh, err := exchange(dhKey, hello.share[:])
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	defer clear(dh)
	kemKey, err := mlkem.NewEncapsulationKey768(hello.kem[:])
	if err != nil || len(hello.wrapped) != key.rsa.Size() {
		return nil, reject(raw, ErrHandshake)
	}
	kem, kemCiphertext := kemKey.Encapsulate()
	defer clear(kem)
	secret, err := unwrap(ctx, key, hello.wrapped, rsaGate)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	handshake := handshakeSecret(secret, kem, dh)
	defer clear(handshake)
	// H6: our shares, and our parameters sealed under a key that proves we could read the secret.
	reply := new(serverHello)
	copy(reply.share[:], dhKey.PublicKey().Bytes())
	copy(reply.kem[:], kemCiphertext)
	hello2 := reply.appendShares(appendHeader(nil, typeServerHello, serverHelloSize))
	log.add(hello2)
	shares := log.sum()
	params := serverParams{clientKeyRequired: !cfg.Peers.anyone, maxStreams: uint32(cfg.MaxStreams)}
	aead, iv := blockKey(handshake, labelServerHandshake, shares)
	sealed := aead.Seal(nil, iv, params.append(nil), shares)
	log.add(sealed)
	if _, err := raw.Write(append(hello2, sealed...)); err != nil {
		return nil, readError(err)
	}
	// H7: the client proves that it knows the secret and, if it has a key, who it is.
	body, err = receive(raw, typeClientFinished)
	if err != nil {
		return nil, err
	}
	aead, iv = blockKey(handshake, labelClientHandshake, shares)
	plain, err := aead.Open(nil, iv, body, log.sum())
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	finished, err := parseClientParams(plain)
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	client, err := finished.verify(log.sum())
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	log.add(message(typeClientFinished, body))
	keys := deriveSession(handshake, log.sum())
	out := &outcome{send: newCipherState(keys.server), receive: newCipherState(keys.client), exporter: keys.exporter,
		peer: Peer{Key: client, Addr: raw.RemoteAddr()}, maxStreams: int(finished.maxStreams)}
	out.peer.Name, err = cfg.Peers.admits(ctx, client)
	return out, deliverVerdict(raw, out, params.clientKeyRequired, err) // H9
}

// receiveHello reads the ClientHello, after answering a KeyRequest if one comes first.
func receiveHello(raw net.Conn, keys []*PrivateKey, log transcript) ([]byte, error) {
	typ, body, err := receiveAny(raw, typeClientHello, typeKeyRequest)
	if err != nil || typ == typeClientHello {
		return body, err
	}
	ids, err := parseKeyRequest(body)
	if err != nil {
		return nil, reject(raw, ErrHandshake)
	}
	log.add(message(typeKeyRequest, body))
	offer := keys[0]
	for _, id := range ids {
		if key := pickKey(keys, id); key != nil {
			offer = key
			break
		}
	}
	if err := send(raw, log, typeKeyOffer, offer.pub.spki); err != nil {
		return nil, err
	}
	return receive(raw, typeClientHello)
}

func pickKey(keys []*PrivateKey, id Fingerprint) *PrivateKey {
	for _, key := range keys {
		if key.pub.id == id {
			return key
		}
	}
	return nil
}

// unwrap opens the RSA-wrapped secret. Whatever is wrong with it, the answer is a random secret, made before
// the operation and after the same work, so that the failure shows only as a bad ClientFinished and says
// nothing of the padding (rule H5).
func unwrap(ctx context.Context, key *PrivateKey, wrapped []byte, gate chan struct{}) ([]byte, error) {
	if gate != nil {
		select {
		case gate <- struct{}{}:
			defer func() { <-gate }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	secret := make([]byte, secretSize)
	rand.Read(secret)
	inRange := bytes.Compare(wrapped, key.rsa.N.Bytes()) < 0
	if !inRange {
		wrapped = append([]byte{0}, wrapped[1:]...) // not below the modulus: spend the time on a number that is
	}
	opened, err := rsa.DecryptOAEP(sha256.New(), nil, key.rsa, wrapped, []byte(labelOAEP))
	good := inRange && err == nil && len(opened) == secretSize
	use := make([]byte, secretSize)
	copy(use, opened)
	choice := 0
	if good {
		choice = 1
	}
	subtle.ConstantTimeCopy(choice, secret, use)
	clear(opened)
	clear(use)
	return secret, nil
}

// verify returns the key that the client has proven, nil if it showed none.
func (p *clientParams) verify(hash []byte) (*PublicKey, error) {
	if len(p.spki) == 0 {
		return nil, nil
	}
	key, err := parseSPKI(p.spki)
	if err != nil {
		return nil, err
	}
	digest := signatureInput(hash)
	return key, rsa.VerifyPSS(key.rsa, crypto.SHA256, digest[:], p.signature,
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
}

// deliverVerdict tells a client that had to show a key whether it may stay, under encryption.
func deliverVerdict(raw net.Conn, out *outcome, required bool, refusal error) error {
	if refusal != nil {
		writeRecord(raw, out.send, recordAlert, []byte{byte(AlertUnauthorized)})
		who := "it has no key"
		if out.peer.Key != nil {
			who = out.peer.Key.String()
		}
		return fmt.Errorf("%w (%s): %w", ErrUnauthorized, who, refusal)
	}
	if required {
		return writeRecord(raw, out.send, recordAccept, nil)
	}
	return nil
}
