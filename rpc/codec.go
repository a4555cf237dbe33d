package rpc

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// Raw is one encoded msgpack value. As a request or reply type it passes through untouched.
type Raw []byte

// The pools are ours: msgpack's own hand on the state that a failed decode leaves behind.
var (
	encoders = sync.Pool{New: func() any { return &encoder{enc: msgpack.NewEncoder(nil)} }}
	decoders = sync.Pool{New: func() any { return &decoder{dec: msgpack.NewDecoder(nil)} }}
	checkers = sync.Pool{New: func() any { return &checker{keys: make([]token, 0, 2*pairs)} }}
)

type encoder struct {
	enc *msgpack.Encoder
	buf bytes.Buffer
}

type decoder struct {
	dec *msgpack.Decoder
	src bytes.Reader
}

// keepBuffer is the largest buffer, in bytes, that goes back to a pool: one of a large call of default size. The garbage
// collector empties pools.
const keepBuffer = 1<<20 + 64<<10

// Check reports whether b is exactly one msgpack value that this package carries; otherwise the error matches
// ErrBadMessage. It takes time linear in len(b), and little memory but for maps of more than 16 keys, at most about 200
// bytes a key and one copy of b. Rules: lengths within the bytes there are, at most 32 containers deep, at most 100,000 values,
// text in UTF-8, map keys that are text or integers and differ, no extension but the timestamp, nothing after the value.
func Check(b []byte) error {
	if t, err := next(b, 0); err != nil || t.kind != tokArray && t.kind != tokMap { // most echoes, without a checker
		if err == nil && t.end != len(b) {
			err = &badMessage{"bytes after the value", t.end}
		}
		return err
	}
	c := checkers.Get().(*checker)
	c.b = b
	err := c.run()
	c.clear()
	checkers.Put(c)
	return err
}

// encode returns v as one msgpack value. Strings, byte slices and Raw take no reflection.
func encode(v any) (Raw, error) {
	if raw, ok := v.(Raw); ok {
		return raw, nil
	}
	return appendAny(nil, v)
}

// appendAny appends v as one msgpack value.
func appendAny(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case Raw:
		return append(b, v...), nil
	case string:
		return appendString(slices.Grow(b, 5+len(v)), v), nil
	case []byte:
		return appendBytes(b, v), nil
	case nil:
		return append(b, 0xc0), nil
	}
	t := reflect.TypeOf(v)
	if _, err := planOf(t); err != nil {
		return nil, err
	}
	if t.Kind() == reflect.Struct { // its methods, and those of its fields, may have pointer receivers, as those of url.URL have
		p := reflect.New(t)
		p.Elem().Set(reflect.ValueOf(v))
		v = p.Interface()
	}
	e := encoders.Get().(*encoder)
	e.buf.Reset()
	e.enc.Reset(&e.buf)
	e.enc.UseCompactInts(true)
	if err := e.enc.Encode(v); err != nil { // the encoder's state is unknown: let it go
		return nil, fmt.Errorf("rpc: encode %T: %w", v, err)
	}
	b = append(b, e.buf.Bytes()...)
	if e.buf.Cap() <= keepBuffer {
		encoders.Put(e)
	}
	return b, nil
}

func appendBytes(b, v []byte) []byte {
	return append(appendBinHeader(slices.Grow(b, 5+len(v)), len(v)), v...)
}

// decode stores a body that passed Check in what v points to. Its errors match ErrBadMessage.
func decode(b Raw, v any) (err error) {
	switch v := v.(type) {
	case *Raw:
		*v = b
		return nil
	case *string:
		*v, err = decodeString(b)
		return err
	case *[]byte:
		*v, err = decodeBytes(b)
		return err
	}
	if isCoded(b) {
		return errCoded
	}
	t := reflect.TypeOf(v).Elem()
	p, err := planOf(t)
	if err != nil {
		return err
	}
	if _, err := p.fit(b, 0); err != nil {
		return err
	}
	if b[0] == 0xc0 { // nil is the zero value, and of a pointer type a new zero value: no handler meets a nil request
		if t.Kind() == reflect.Pointer {
			reflect.ValueOf(v).Elem().Set(reflect.New(t.Elem()))
		}
		return nil
	}
	return decodeMsgpack(b, v)
}

func decodeString(b Raw) (string, error) {
	t, err := next(b, 0)
	if err != nil || t.kind != tokStr && t.kind != tokNil {
		return "", notPlain(b, "not text")
	}
	return string(b[t.start:t.end]), nil
}

func notPlain(b Raw, reason string) error {
	if isCoded(b) {
		return errCoded
	}
	return &badMessage{reason, 0}
}

// decodeBytes returns a view of b.
func decodeBytes(b Raw) ([]byte, error) {
	t, err := next(b, 0)
	if err != nil || t.kind != tokBin && t.kind != tokNil {
		return nil, notPlain(b, "not binary")
	}
	return b[t.start:t.end:t.end], nil
}

func decodeMsgpack(b Raw, v any) (err error) {
	d := decoders.Get().(*decoder)
	d.src.Reset(b)
	d.dec.Reset(&d.src) // clears every flag; none is wanted
	defer func() {
		// msgpack panics on some values, such as nil for a time; a type's own decoder may too. Such a decoder is let go.
		if p := recover(); p != nil {
			err = &badMessage{"it does not fit the Go type", -1}
		}
	}()
	if err := d.dec.Decode(v); err != nil || d.src.Len() != 0 {
		return &badMessage{"it does not fit the Go type", -1}
	}
	d.src.Reset(nil)
	decoders.Put(d)
	return nil
}
