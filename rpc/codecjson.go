package rpc

import (
	"encoding/json"
	"errors"
)

// JSON is the Codec of encoding/json, by whose rules it reads and writes: tags, MarshalJSON and MarshalText count, unknown fields
// are ignored. Its messages are text that other languages and sealmux call read. One is at most 32 deep and has at most 100,000
// values, counted as SPEC.md says (B11).
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil {
		err = checkJSON(b)
	}
	return b, err
}

func (jsonCodec) Unmarshal(b []byte, v any) error {
	if err := checkJSON(b); err != nil {
		return err
	}
	err := json.Unmarshal(b, v)
	if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &badMessage{"not JSON", int(bad.Offset)}
	}
	if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok { // what it says of the value is the peer's
		return &badMessage{"not a " + bad.Type.String(), int(bad.Offset)}
	}
	return err
}

// checkJSON holds rule B11: encoding/json makes of three bytes an element of a list, of any size, and takes 10,000 levels.
func checkJSON(b []byte) error {
	depth, values, inText := 0, 1, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == ',' || c == ':':
			values++
		case c == '[' || c == '{':
			values++
			if depth++; depth > maxDepth {
				return &badMessage{"nested deeper than 32", i}
			}
		case c == ']' || c == '}':
			depth--
		}
		if values > maxElements {
			return &badMessage{"more than 100,000 values", i}
		}
	}
	return nil
}
