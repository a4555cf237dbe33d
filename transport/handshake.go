package transport

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// outcome is what a handshake yields: keys by direction, who the peer is, and what it allows.
type outcome struct {
	send, receive *cipherState
	exporter      []byte
	peer          Peer
	guest         *guest // with the Trust that has admitted it, nil if that never changes
	maxStreams    int    // the peer's limit on our open streams
	resumed       bool
	ticket        []byte         // what a server has still to give; nil if nothing
	awaited       *awaitedTicket // what a client does with it; nil if it has it, or wants none
}

// from is the guest that it admitted, nil if it came to nothing before.
func (out *outcome) from() *guest {
	if out == nil {
		return nil
	}
	return out.guest
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
		if !errors.Is(err, ErrHandshakeTimeout) {
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

func (p *clientParams) sign(random io.Reader, key *PrivateKey, hash []byte) (err error) {
	digest := signatureInput(hash)
	p.spki = key.pub.spki
	p.signature, err = rsa.SignPSS(random, key.rsa, crypto.SHA256, digest[:],
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	return err
}

// wrap seals a secret for the holder of the server's key.
func wrap(random io.Reader, server *PublicKey, secret []byte) ([]byte, error) {
	return rsa.EncryptOAEP(sha256.New(), random, server.rsa, secret, []byte(labelOAEP))
}

// exchange is X25519; crypto/ecdh refuses low-order shares, whose result is all zero (rule H10).
func exchange(key *ecdh.PrivateKey, share []byte) ([]byte, error) {
	peer, err := ecdh.X25519().NewPublicKey(share)
	if err != nil {
		return nil, err
	}
	return key.ECDH(peer)
}

// unwrap opens the RSA-wrapped secret. Whatever is wrong with it, the answer is secret, which is random and was made before
// the operation, after the same work, so that the failure shows only as a bad ClientFinished and says nothing of the padding
// (rule H5). It is overwritten otherwise.
func unwrap(key *PrivateKey, wrapped, secret []byte) []byte {
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
	return secret
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
