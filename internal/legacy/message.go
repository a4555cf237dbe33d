package legacy

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// A request:  base64({"key":"K", "data":"D"}) #
//
//	K   base64(RSA PKCS#1 v1.5({"aes_key":"<16, 24 or 32 letters and digits>", "aes_iv":"<16 letters and digits>"}))
//	D   hex(AES-CBC(the text in UTF-8, and NULs up to a multiple of 16))
//
// A reply:    base64(hex(AES-CBC(the text in UTF-8, and NULs up to a multiple of 16))) #
//
// Its key and IV are the request's. base64 may have line ends, as Python's encodebytes writes them.
const (
	// MaxText is the longest text that the client sends, in bytes. A server takes that, and a little more.
	MaxText = 1 << 20
	// maxMessage limits a request or a reply without its #: a text of MaxText bytes takes 2.7 MiB.
	maxMessage = 3 << 20

	ending = '#'
)

// A pair is what one request and its reply are encrypted with.
type pair struct{ key, iv []byte }

const (
	keySize = 32 // of the keys we make, in letters and digits: 190 bits
	ivSize  = aes.BlockSize
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

func newPair() pair {
	text := make([]byte, 0, keySize+ivSize)
	for b := make([]byte, 64); len(text) < cap(text); {
		rand.Read(b)
		for _, c := range b {
			if i := int(c & 63); i < len(letters) && len(text) < cap(text) { // no letter is likelier than another
				text = append(text, letters[i])
			}
		}
	}
	return pair{text[:keySize:keySize], text[keySize:]}
}

// literal is the pair as it is wrapped.
func (p pair) literal() []byte {
	return fmt.Appendf(nil, `{"aes_key":"%s", "aes_iv":"%s"}`, p.key, p.iv)
}

func parsePair(literal []byte) (pair, bool) {
	key, iv, ok := parseLiteral(literal, "aes_key", "aes_iv")
	if !ok || len(iv) != ivSize || len(key) != 16 && len(key) != 24 && len(key) != 32 {
		return pair{}, false
	}
	for _, text := range [][]byte{key, iv} {
		for _, c := range text {
			if !bytes.ContainsRune([]byte(letters), rune(c)) {
				return pair{}, false
			}
		}
	}
	return pair{key, iv}, true
}

// spareSize is what a pair is made of that stands for one that cannot be used.
const spareSize = keySize + ivSize

func (p pair) mode(of func(cipher.Block, []byte) cipher.BlockMode) cipher.BlockMode {
	block, err := aes.NewCipher(p.key)
	if err != nil {
		panic("legacy: a key of another size than AES has") // parsePair and newPair make none
	}
	return of(block, p.iv)
}

// encrypt pads the text with NULs, and an empty one to a whole block: the scripts read that as they read nothing at all, and no
// program or library has to cope with data of no bytes.
func (p pair) encrypt(text string) []byte {
	size := max(1, (len(text)+aes.BlockSize-1)/aes.BlockSize) * aes.BlockSize
	data := make([]byte, size)
	copy(data, text)
	p.mode(cipher.NewCBCEncrypter).CryptBlocks(data, data)
	return data
}

// decrypt works in place. data has whole blocks, maybe none. NULs at the end of the text are lost.
func (p pair) decrypt(data []byte) (text []byte, ok bool) {
	p.mode(cipher.NewCBCDecrypter).CryptBlocks(data, data)
	text = bytes.TrimRight(data, "\x00")
	return text, utf8.Valid(text)
}

// parseRequest takes the outer layers off a request. What it looks at is no secret, but if it finds something wrong it
// returns as much to work on as if it were not: a request that is no good costs what one costs that is.
func parseRequest(request []byte) (wrapped, data []byte, ok bool) {
	literal := make([]byte, base64.StdEncoding.DecodedLen(len(request)))
	n, err := base64.StdEncoding.Decode(literal, request)
	key, digits, parsed := parseLiteral(literal[:n], "key", "data")
	ok = err == nil && parsed
	if !ok {
		key, digits = nil, literal
	}
	wrapped = make([]byte, base64.StdEncoding.DecodedLen(len(key)))
	n, err = base64.StdEncoding.Decode(wrapped, key)
	wrapped, ok = wrapped[:n], ok && err == nil

	data = make([]byte, len(digits)/2)
	_, err = hex.Decode(data, digits[:len(digits)&^1])
	whole := len(digits) / 2 &^ (aes.BlockSize - 1)
	return wrapped, data[:whole], ok && err == nil && len(digits) == 2*whole
}

// open decrypts a request. Whatever is wrong with it, and wherever, all of its steps are taken: see PrivateKey.unwrap. step, if
// it is not nil, is told of each, for tests.
func (k *PrivateKey) open(request []byte, step func(name string, bytes int)) (text string, p pair, ok bool) {
	if step == nil {
		step = func(string, int) {}
	}
	step("parse", len(request))
	wrapped, data, formed := parseRequest(request)
	step("rsa", k.pub.size)
	plaintext, spare := k.unwrap(wrapped)
	p, known := parsePair(plaintext)
	if !known {
		p = pair{spare[:keySize], spare[keySize:spareSize]}
	}
	step("aes", len(data))
	plain, valid := p.decrypt(data)
	return string(plain), p, formed && known && valid
}

// seal makes a request of a text, without its #.
func (k *PublicKey) seal(text string) ([]byte, pair, error) {
	p := newPair()
	wrapped, err := k.wrap(p.literal())
	if err != nil {
		return nil, pair{}, err
	}
	literal := fmt.Appendf(nil, `{"key":"%s", "data":"%x"}`, base64.StdEncoding.EncodeToString(wrapped), p.encrypt(text))
	return base64.StdEncoding.AppendEncode(nil, literal), p, nil
}

// writeReply writes a reply, and its #, as it is encoded.
func writeReply(w io.Writer, p pair, text string) error {
	encoder := base64.NewEncoder(base64.StdEncoding, w)
	if _, err := hex.NewEncoder(encoder).Write(p.encrypt(text)); err != nil {
		return err
	}
	if err := encoder.Close(); err != nil {
		return err
	}
	_, err := w.Write([]byte{ending})
	return err
}

var errReply = errors.New("the reply does not decrypt to text")

// openReply decrypts a reply without its #.
func openReply(reply []byte, p pair) (string, error) {
	digits := make([]byte, base64.StdEncoding.DecodedLen(len(reply)))
	n, err := base64.StdEncoding.Decode(digits, reply)
	if err != nil || n%(2*aes.BlockSize) != 0 {
		return "", errReply
	}
	data := make([]byte, n/2)
	if _, err := hex.Decode(data, digits[:n]); err != nil {
		return "", errReply
	}
	text, ok := p.decrypt(data)
	if !ok {
		return "", errReply
	}
	return string(text), nil
}
