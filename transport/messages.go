package transport

import (
	"crypto/mlkem"
	"encoding/binary"
	"errors"
)

// Sizes on the wire (SPEC.md, section 3).
const (
	magic   = "SMUX"
	version = 1

	messageHeader = 8       // magic, version, type, length
	maxMessage    = 4 << 10 // rule H2; header included
	maxBody       = maxMessage - messageHeader

	shareSize   = 32 // X25519
	tagSize     = 16 // AES-GCM
	maxKeyIDs   = 16 // ids in a KeyRequest
	paramsSize  = 4  // MaxStreams
	serverSize  = 1 + paramsSize
	sealedHello = serverSize + tagSize
)

// Handshake message types.
const (
	typeClientHello    = 1
	typeServerHello    = 2
	typeClientFinished = 3
	typeKeyRequest     = 4
	typeKeyOffer       = 5
	typeAlert          = 6
	typeResumeHello    = 7
	typeTicketRefused  = 8
)

// An Alert is a reason that one side tells the other for ending a handshake or a session.
type Alert uint8

// Alerts, with their numbers on the wire (SPEC.md, section 7).
const (
	AlertUnknownKey          Alert = 1 // the server does not hold the key asked for
	AlertApplicationProtocol Alert = 2 // the two sides name different application protocols
	AlertVersion             Alert = 3 // another version of sealmux
	AlertHandshake           Alert = 4 // a message was malformed or failed its check
	AlertUnauthorized        Alert = 5 // the client's key is not admitted, or it has none
	AlertMisbehaved          Alert = 6 // a rule of the protocol was broken after the handshake
	AlertInternal            Alert = 7 // the sender cannot go on, through no fault of the receiver
	AlertBusy                Alert = 8 // no handshakes from this source for now
)

// String returns the alert in words.
func (a Alert) String() string {
	names := [...]string{AlertUnknownKey: "unknown key", AlertApplicationProtocol: "other application protocol",
		AlertVersion: "other version", AlertHandshake: "handshake failed", AlertUnauthorized: "not authorized",
		AlertMisbehaved: "broke the protocol", AlertInternal: "internal error",
		AlertBusy: "busy"}
	if int(a) >= len(names) || names[a] == "" {
		return "unknown alert"
	}
	return names[a]
}

// errMalformed is the one error of every parser here: which byte was wrong is nobody's business.
var errMalformed = errors.New("malformed message")

// appendHeader starts a message: 4 magic "SMUX", 1 version, 1 type, 2 length of the body.
func appendHeader(b []byte, typ byte, bodySize int) []byte {
	b = append(b, magic...)
	b = append(b, version, typ)
	return binary.BigEndian.AppendUint16(b, uint16(bodySize))
}

// message frames a body.
func message(typ byte, body []byte) []byte {
	return append(appendHeader(make([]byte, 0, messageHeader+len(body)), typ, len(body)), body...)
}

// clientHello (rule H5):
//
//	32   id of the server's key
//	32   X25519 share
//	1184 ML-KEM-768 encapsulation key
//	1+n  application protocol
//	2+n  RSA-OAEP ciphertext of the secret S; in a ResumeHello (rule H12) a ticket
type clientHello struct {
	keyID    Fingerprint
	share    [shareSize]byte
	kem      [mlkem.EncapsulationKeySize768]byte
	protocol []byte
	secret   []byte
}

func (m *clientHello) append(b []byte) []byte {
	b = append(b, m.keyID[:]...)
	b = append(b, m.share[:]...)
	b = append(b, m.kem[:]...)
	b = append(b, byte(len(m.protocol)))
	b = append(b, m.protocol...)
	return appendBytes16(b, m.secret)
}

func parseClientHello(b []byte) (*clientHello, error) {
	m, r := new(clientHello), reader(b)
	ok := r.fill(m.keyID[:]) && r.fill(m.share[:]) && r.fill(m.kem[:]) &&
		r.bytes8(&m.protocol) && r.bytes16(&m.secret)
	if !ok || len(r) != 0 || len(m.secret) == 0 {
		return nil, errMalformed
	}
	return m, nil
}

// serverHello (rule H6):
//
//	32   X25519 share
//	1088 ML-KEM-768 ciphertext
//	21   sealed: 1 flags (bit 0: a client key is required), 4 MaxStreams, 16 tag
type serverHello struct {
	share  [shareSize]byte
	kem    [mlkem.CiphertextSize768]byte
	sealed [sealedHello]byte
}

// appendShares appends what the handshake keys depend on: all but the sealed block.
func (m *serverHello) appendShares(b []byte) []byte {
	return append(append(b, m.share[:]...), m.kem[:]...)
}

const serverHelloSize = shareSize + mlkem.CiphertextSize768 + sealedHello

func parseServerHello(b []byte) (*serverHello, error) {
	m, r := new(serverHello), reader(b)
	if !(r.fill(m.share[:]) && r.fill(m.kem[:]) && r.fill(m.sealed[:])) || len(r) != 0 {
		return nil, errMalformed
	}
	return m, nil
}

// serverParams is the plaintext sealed in serverHello.
type serverParams struct {
	clientKeyRequired bool
	maxStreams        uint32
}

func (p serverParams) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, flag(p.clientKeyRequired)), p.maxStreams)
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func parseServerParams(b []byte) (p serverParams, err error) {
	if len(b) != serverSize || b[0] > 1 {
		return p, errMalformed
	}
	p.clientKeyRequired = b[0] == 1
	p.maxStreams = binary.BigEndian.Uint32(b[1:])
	return p, checkMaxStreams(p.maxStreams)
}

// clientParams is the plaintext sealed in ClientFinished (rule H7):
//
//	1    flags (bit 0: a ticket is wanted)
//	4    MaxStreams
//	2+n  the client's SubjectPublicKeyInfo, or 0 bytes
//	2+n  its RSA-PSS signature, or 0 bytes
type clientParams struct {
	wantTicket bool
	maxStreams uint32
	spki       []byte
	signature  []byte
}

func (p *clientParams) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, flag(p.wantTicket)), p.maxStreams)
	return appendBytes16(appendBytes16(b, p.spki), p.signature)
}

func parseClientParams(b []byte) (*clientParams, error) {
	p, r := new(clientParams), reader(b)
	var fixed [1 + paramsSize]byte
	ok := r.fill(fixed[:]) && fixed[0] <= 1 && r.bytes16(&p.spki) && r.bytes16(&p.signature)
	if !ok || len(r) != 0 || (len(p.spki) == 0) != (len(p.signature) == 0) {
		return nil, errMalformed
	}
	p.wantTicket = fixed[0] == 1
	p.maxStreams = binary.BigEndian.Uint32(fixed[1:])
	return p, checkMaxStreams(p.maxStreams)
}

func checkMaxStreams(n uint32) error {
	if n < 1 || n > MaxMaxStreams {
		return errMalformed
	}
	return nil
}

// keyRequest (rule H4): 1 count, then so many ids of 32 bytes, none twice in sense but that is not checked.
func appendKeyRequest(b []byte, ids []Fingerprint) []byte {
	b = append(b, byte(len(ids)))
	for _, id := range ids {
		b = append(b, id[:]...)
	}
	return b
}

func parseKeyRequest(b []byte) ([]Fingerprint, error) {
	if len(b) == 0 || b[0] > maxKeyIDs || len(b) != 1+int(b[0])*len(Fingerprint{}) {
		return nil, errMalformed
	}
	ids, r := make([]Fingerprint, b[0]), reader(b[1:])
	for i := range ids {
		r.fill(ids[i][:])
	}
	return ids, nil
}

// alertMessage (rule H8): 1 code; behind AlertUnknownKey the 32-byte id of a key that the server holds.
type alertMessage struct {
	code Alert
	held Fingerprint
}

func (m alertMessage) append(b []byte) []byte {
	b = append(b, byte(m.code))
	if m.code == AlertUnknownKey {
		b = append(b, m.held[:]...)
	}
	return b
}

func parseAlert(b []byte) (m alertMessage, err error) {
	r := reader(b)
	var code [1]byte
	ok := r.fill(code[:])
	m.code = Alert(code[0])
	if ok && m.code == AlertUnknownKey {
		ok = r.fill(m.held[:])
	}
	if !ok || len(r) != 0 {
		return m, errMalformed
	}
	return m, nil
}

func appendBytes16(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

// reader takes fields off the front of a message. What it yields aliases the message.
type reader []byte

func (r *reader) take(n int) ([]byte, bool) {
	if n > len(*r) {
		return nil, false
	}
	v := (*r)[:n]
	*r = (*r)[n:]
	return v, true
}

func (r *reader) fill(dst []byte) bool {
	v, ok := r.take(len(dst))
	copy(dst, v)
	return ok
}

func (r *reader) bytes8(dst *[]byte) (ok bool) {
	n, ok := r.take(1)
	if ok {
		*dst, ok = r.take(int(n[0]))
	}
	return ok
}

func (r *reader) bytes16(dst *[]byte) (ok bool) {
	n, ok := r.take(2)
	if ok {
		*dst, ok = r.take(int(binary.BigEndian.Uint16(n)))
	}
	return ok
}
