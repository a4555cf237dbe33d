package jsonmsg

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/sealmux/sealmux/internal/termtext"
	"github.com/sealmux/sealmux/rpc"
)

// codedKey is the key of a coded body (rpc/SPEC.md, B10).
const codedKey = 0x636f6465

// fromCoded returns a message of a method that has a codec. JSON goes as it is: the server knows the types.
func fromCoded(codec string, value any, text []byte) (rpc.Raw, error) {
	if value == nil {
		return rpc.Raw{0xc0}, nil
	}
	if codec != rpc.JSON.Name() {
		return nil, fmt.Errorf("request: its messages are in %s, which sealmux does not write; call it from a Go program with that rpc.Codec", shorten(codec))
	}
	var line, b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	err := errors.Join(json.Compact(&line, text), enc.EncodeMapLen(1), enc.EncodeUint(codedKey), enc.EncodeArrayLen(2), enc.EncodeString(codec),
		enc.EncodeString(line.String()))
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	return b.Bytes(), nil
}

// toCoded returns the JSON in a message that passed rpc.Check; false if it has none.
func toCoded(value rpc.Raw) ([]byte, bool) {
	dec := msgpack.NewDecoder(bytes.NewReader(value))
	pairs, err1 := dec.DecodeMapLen()
	if err1 != nil || pairs != 1 {
		return nil, false
	}
	key, err1 := dec.DecodeUint64()
	n, err2 := dec.DecodeArrayLen()
	if err1 != nil || err2 != nil || key != codedKey || n != 2 {
		return nil, false
	}
	codec, err1 := dec.DecodeString()
	text, err2 := dec.DecodeString()
	if err1 != nil || err2 != nil || codec != rpc.JSON.Name() {
		return nil, false
	}
	var line bytes.Buffer
	if json.Compact(&line, []byte(text)) != nil {
		return nil, false
	}
	return []byte(termtext.Quiet(line.String())), true
}
