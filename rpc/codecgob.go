package rpc

import (
	"bytes"
	"encoding/gob"
)

// Gob is the Codec of encoding/gob, for programs in Go: interfaces whose types are known to gob.Register, types with GobEncode,
// maps of any keys. Every message has the descriptions of its types with it, which makes a call several times as slow as one
// without codec. A message is at most 32 deep and has at most 100,000 values (B12), for which a peer's bytes are checked before
// gob sees them: gob believes the length of a map. What a type's own GobDecode makes of its bytes is that type's to bound.
var Gob Codec = gobCodec{}

type gobCodec struct{}

func (gobCodec) Name() string { return "gob" }

// Marshal puts the descriptions of types first. gob writes those of values in interfaces into the midst of what they describe, and gives
// lengths there that a reader who wants to skip one cannot use.
func (gobCodec) Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := gob.NewEncoder(&buf)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	first := gobWalk{b: buf.Bytes(), lax: true}
	first.run()
	if first.bad != "" {
		return nil, &badMessage{first.bad, first.off}
	}
	if !first.inside {
		return buf.Bytes(), nil
	}
	var all []byte
	for _, d := range first.defs {
		all = append(appendGobUint(all, uint64(len(d))), d...)
	}
	buf.Reset()
	if err := enc.Encode(v); err != nil { // this time without them
		return nil, err
	}
	all = append(all, buf.Bytes()...)
	return all, checkGob(all)
}

func (gobCodec) Unmarshal(b []byte, v any) error {
	if err := checkGob(b); err != nil {
		return err
	}
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(v); err != nil { // which may quote what the peer sent
		return &badMessage{"it does not fit the Go type, or has a type in an interface that gob.Register was not told of", -1}
	}
	return nil
}
