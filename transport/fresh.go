package transport

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"io"
)

// A fresh has what must be new in each handshake. A nil one, which is all that this package itself uses, draws from crypto/rand;
// the test that replays vectors gives the values that they name.
type fresh struct {
	x25519 []byte // private key: 32 bytes
	mlkem  []byte // a client's decapsulation key: d || z, 64 bytes
	secret []byte // S, or what a server puts in its place: 32 bytes
	oaep   []byte // seed of RSA-OAEP: 32 bytes
	pss    []byte // salt of RSA-PSS: 32 bytes

	encapsulate func(*mlkem.EncapsulationKey768) (shared, ciphertext []byte) // a server's
}

func (f *fresh) exchangeKey() (*ecdh.PrivateKey, error) {
	if f == nil {
		return ecdh.X25519().GenerateKey(rand.Reader)
	}
	return ecdh.X25519().NewPrivateKey(f.x25519)
}

func (f *fresh) decapsulationKey() (*mlkem.DecapsulationKey768, error) {
	if f == nil {
		return mlkem.GenerateKey768()
	}
	return mlkem.NewDecapsulationKey768(f.mlkem)
}

func (f *fresh) encapsulated(to *mlkem.EncapsulationKey768) (shared, ciphertext []byte) {
	if f == nil {
		return to.Encapsulate()
	}
	return f.encapsulate(to)
}

func (f *fresh) newSecret() []byte {
	secret := make([]byte, secretSize)
	if f == nil {
		rand.Read(secret)
	} else {
		copy(secret, f.secret)
	}
	return secret
}

func (f *fresh) forOAEP() io.Reader {
	if f == nil {
		return rand.Reader
	}
	return bytes.NewReader(f.oaep)
}

func (f *fresh) forPSS() io.Reader {
	if f == nil {
		return rand.Reader
	}
	return bytes.NewReader(f.pss)
}
