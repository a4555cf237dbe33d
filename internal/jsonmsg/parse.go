package jsonmsg

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth is how many arrays and objects may lie within each other: as many as a message may hold.
const maxDepth = 32

// An object is one of JSON as it was written, in order.
type object struct {
	keys   []string
	values []any
}

// parse returns the one value of text: nil, bool, json.Number, string, []any or *object.
func parse(text []byte) (any, error) {
	if !utf8.Valid(text) { // encoding/json would put replacement characters in
		return nil, errors.New("the JSON is not in UTF-8; convert it first")
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	value, err := parseValue(dec, 0)
	if err == nil {
		end := dec.InputOffset()
		if _, err := dec.Token(); err != io.EOF {
			return nil, fmt.Errorf("there is more after the value, which ends at byte %d; write one JSON value", end)
		}
		return value, nil
	}
	if bad, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, fmt.Errorf("this is not JSON: %w, near byte %d", bad, bad.Offset)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, errors.New("the JSON ends within the value; write it to its end")
	}
	return nil, err
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == maxDepth {
		return nil, fmt.Errorf("the JSON is nested deeper than %d; flatten it", maxDepth)
	}
	list, o := []any{}, &object{}
	for dec.More() {
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			o.keys = append(o.keys, key.(string)) // Token refuses all else here
		}
		value, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	if _, err := dec.Token(); err != nil { // the closing bracket
		return nil, err
	}
	if open == '{' {
		o.values = list
		return o, nil
	}
	return list, nil
}

// once refuses an object with a key twice: it does not say which value is meant.
func (o *object) once(at *path) error {
	seen := make(map[string]bool, len(o.keys))
	for _, k := range o.keys {
		if seen[k] {
			return at.errorf("the key %q is there twice; keep one", shorten(k))
		}
		seen[k] = true
	}
	return nil
}
