package rpc

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// A Codec is how the values of a method are written where msgpack does not carry their types well: interfaces, types with JSON
// or gob methods, maps of any keys. It is the Codec of a Unary, a ServerStream, a ClientStream or a Bidi, or that of
// RegisterCodec; both sides must set the same. JSON and Gob are two; others, of protocol buffers for example, are a type with
// these methods. A request that is not in the method's codec, or in one where there is none, is refused with InvalidArgument,
// not executed; a reply or a message of a stream fails as one does that does not fit its type.
//
// Whatever the codec, a Raw passes untouched, a nil pointer and a struct without fields cross as nil, and nil makes the zero
// value, of a pointer type a pointer to it. Interceptors and raw handlers see what SPEC.md calls a coded body (B10). All
// methods may be called by many goroutines at once. What they make of a peer's bytes, of which there are at most
// Options.MaxReceive, is theirs to bound.
type Codec interface {
	// Name has 1 to 32 bytes of a-z, 0-9, - and _. The peer is told it, and Methods lists it.
	Name() string
	// Marshal returns the bytes of the value that v, a single pointer, points to. The codec does not keep them.
	Marshal(v any) ([]byte, error)
	// Unmarshal stores such bytes, all of them, in the zero value that v, a single pointer, points to. It may keep the
	// bytes, but not change them. If it panics, as a type's own method may, the message is refused.
	Unmarshal(b []byte, v any) error
}

const (
	// codedHead begins a coded body (B10), and no other: a map with one pair, whose key is the number 0x636f6465 and whose value an
	// array of two. No struct, text, number or list takes such a map, so that the wrong side refuses it.
	codedHead = "\x81\xce\x63\x6f\x64\x65\x92"
	maxCodec  = 32 // bytes of a codec's name
)

func isCoded(b []byte) bool {
	return len(b) > len(codedHead) && string(b[:len(codedHead)]) == codedHead
}

// errCoded refuses a coded body where there is no codec.
var errCoded = &badMessage{"it is in a codec, of which this side has none; set the method's Codec on both sides", -1}

// appendCoded appends the value that p points to.
func appendCoded(b []byte, c Codec, p any) ([]byte, error) {
	if raw, ok := p.(*Raw); ok {
		return append(b, *raw...), nil
	}
	name := c.Name()
	if err := checkCodec(name); err != nil {
		return nil, err
	}
	v := reflect.ValueOf(p)
	if isNothing(v.Elem()) {
		return append(b, 0xc0), nil
	}
	for v.Elem().Kind() == reflect.Pointer {
		v = v.Elem()
	}
	data, err := c.Marshal(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("rpc: encode %v as %s: %w", v.Type().Elem(), name, err)
	}
	b = appendString(append(b, codedHead...), name)
	if isText(c) {
		return append(appendStringHeader(b, len(data)), data...), nil
	}
	return appendBytes(b, data), nil
}

// isNothing reports whether v is sent as nil. gob has no form for what it is.
func isNothing(v reflect.Value) bool {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface { // what is in an interface is more than nothing: it has a type
		return v.IsNil()
	}
	return v.Kind() == reflect.Struct && v.NumField() == 0
}

// decodeCoded stores a body that passed Check in the zero value that p points to. Its errors match ErrBadMessage.
func decodeCoded(b Raw, c Codec, p any) error {
	if raw, ok := p.(*Raw); ok {
		*raw = b
		return nil
	}
	v := reflect.ValueOf(p)
	for v.Elem().Kind() == reflect.Pointer { // no handler meets a nil request
		v.Elem().Set(reflect.New(v.Elem().Type().Elem()))
		v = v.Elem()
	}
	if len(b) == 1 && b[0] == 0xc0 {
		return nil
	}
	data, err := openCoded(b, c)
	if err != nil {
		return err
	}
	return unmarshal(data, c, v.Interface())
}

// openCoded returns what the codec has written.
func openCoded(b Raw, c Codec) ([]byte, error) {
	due := c.Name() + " is due; set the same Codec on both sides"
	if !isCoded(b) {
		return nil, &badMessage{"it is in no codec, " + due, -1}
	}
	name, err := next(b, len(codedHead))
	if err != nil {
		return nil, err
	}
	if name.kind != tokStr || string(b[name.start:name.end]) != c.Name() {
		return nil, &badMessage{"it is in another codec, " + due, -1}
	}
	data, err := next(b, name.end)
	if err != nil {
		return nil, err
	}
	want := tokBin
	if isText(c) {
		want = tokStr
	}
	if data.kind != want {
		return nil, &badMessage{"JSON is text and every other codec binary", name.end}
	}
	return b[data.start:data.end:data.end], nil
}

// isText reports whether what the codec writes is text to SPEC.md.
func isText(c Codec) bool {
	_, ok := c.(jsonCodec)
	return ok
}

func unmarshal(data []byte, c Codec, p any) (err error) {
	defer func() {
		if recover() != nil {
			err = &badMessage{"it does not fit the Go type", -1}
		}
	}()
	err = c.Unmarshal(data, p)
	if _, ours := errors.AsType[*badMessage](err); err != nil && !ours { // which may quote what the peer sent
		err = &badMessage{"it does not fit the Go type", -1}
	}
	return err
}

func checkCodec(name string) error {
	bad := func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r) }
	if name == "" || len(name) > maxCodec || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("rpc: a codec's name has 1 to %d bytes of a-z, 0-9, - and _", maxCodec)
	}
	return nil
}

// encodeBy is encodeValue by a codec, if there is one.
func encodeBy[T any](c Codec, s *scratch, from *T) (Raw, error) {
	if c == nil {
		return encodeValue(s, from)
	}
	return encodeCoded(c, s, *from)
}

// encodeCoded is apart for the reason that decodeOther is.
func encodeCoded[T any](c Codec, s *scratch, v T) (Raw, error) {
	if s == nil {
		return appendCoded(nil, c, &v)
	}
	b, err := appendCoded(s.b[:0], c, &v)
	if err == nil {
		s.b = b
	}
	return b, err
}

// decodeBy is decodeValue by a codec, if there is one.
func decodeBy[T any](c Codec, b Raw) (T, error) {
	if c == nil {
		return decodeValue[T](b)
	}
	return decodeCodedValue[T](c, b)
}

func decodeCodedValue[T any](c Codec, b Raw) (T, error) {
	var v, none T
	if err := decodeCoded(b, c, &v); err != nil {
		return none, err
	}
	return v, nil
}

// decodeInto is decode by a codec, if there is one.
func decodeInto(c Codec, b Raw, p any) error {
	if c == nil {
		return decode(b, p)
	}
	return decodeCoded(b, c, p)
}

// carriedBy is carried by a codec, if there is one. What its types are is the codec's to say, when there is a value.
func carriedBy[T any](c Codec) error {
	if c == nil {
		return carried[T]()
	}
	return checkCodec(c.Name())
}
