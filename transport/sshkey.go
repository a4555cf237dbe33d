package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
)

// sshRSA is the name of an RSA public key in OpenSSH's one-line form: sshRSA, a space, and the base64 of three fields, each after its length in
// four bytes: the name again, the exponent, the modulus (RFC 4253, section 6.6).
const sshRSA = "ssh-rsa"

// MarshalLine returns the key as one line of OpenSSH's form, `ssh-rsa`, base64 and the comment, without a newline, to paste where a PEM file does
// not fit. ParsePublicKey reads it. Control characters in comment become spaces. The form is ssh's; the key should not be used for both.
func (p *PublicKey) MarshalLine(comment string) string {
	var blob []byte
	for _, field := range [][]byte{[]byte(sshRSA), mpint(big.NewInt(int64(p.rsa.E))), mpint(p.rsa.N)} {
		blob = binary.BigEndian.AppendUint32(blob, uint32(len(field)))
		blob = append(blob, field...)
	}
	line := sshRSA + " " + base64.StdEncoding.EncodeToString(blob) + " " + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, comment)
	return strings.TrimRight(line, " ")
}

// mpint is a positive number as ssh writes it: no byte more than it needs, and a zero before a first bit that would be a sign.
func mpint(n *big.Int) []byte {
	b := n.Bytes()
	if len(b) > 0 && b[0] >= 0x80 {
		b = append([]byte{0}, b...)
	}
	return b
}

// isSSHLine reports whether a file is to be read as parseSSHLine does. No PEM begins in that way.
func isSSHLine(data []byte) bool { return bytes.HasPrefix(data, []byte(sshRSA+" ")) }

// parseSSHLine returns the exponent and the modulus in a line of MarshalLine's or of a .pub file of ssh-keygen's. The blob has one form
// for a key.
func parseSSHLine(data []byte) (exponent, modulus *big.Int, err error) {
	line, rest, _ := strings.Cut(strings.TrimRight(string(data), "\r\n"), "\n")
	if rest != "" {
		return nil, nil, fmt.Errorf("%w: something follows the first line; keep one key a file", ErrKey)
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(line, sshRSA+" "), " ")
	blob, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(text, "\r"))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: damaged base64 after %s", ErrKey, sshRSA)
	}
	var fields [3][]byte
	for i := range fields {
		if len(blob) < 4 || uint64(binary.BigEndian.Uint32(blob)) > uint64(len(blob)-4) {
			return nil, nil, fmt.Errorf("%w: damaged %s key", ErrKey, sshRSA)
		}
		end := 4 + binary.BigEndian.Uint32(blob)
		fields[i], blob = blob[4:end], blob[end:]
	}
	exponent, modulus = new(big.Int).SetBytes(fields[1]), new(big.Int).SetBytes(fields[2])
	if len(blob) > 0 || string(fields[0]) != sshRSA || !bytes.Equal(mpint(exponent), fields[1]) || !bytes.Equal(mpint(modulus), fields[2]) {
		return nil, nil, fmt.Errorf("%w: damaged %s key", ErrKey, sshRSA)
	}
	return exponent, modulus, nil
}
