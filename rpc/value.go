package rpc

import (
	"reflect"
	"sync"
)

// Typed values are encoded and decoded through pointers that do not escape, and into memory that is used again: of a call with
// text or bytes nothing is allocated here but what the program gets.

// A scratch is memory for a value that is encoded, copied onto a stream, and forgotten.
type scratch struct {
	b     []byte
	split bool   // lead may be used
	lead  []byte // what stands before the result of encodeValue, which then is large and the program's own
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func newScratch() *scratch {
	s := scratches.Get().(*scratch)
	s.split, s.lead = false, s.lead[:0]
	return s
}

// free gives the memory to others. A nil scratch has none.
func (s *scratch) free() {
	if s != nil && cap(s.b) <= keepBuffer {
		scratches.Put(s)
	}
}

func (s *scratch) len() int {
	if s == nil {
		return 0
	}
	return len(s.b)
}

// add appends p. What a pool takes stays so.
func (s *scratch) add(p []byte) {
	if need := len(s.b) + len(p); need > cap(s.b) {
		n := max(2*cap(s.b), need)
		if need <= keepBuffer {
			n = min(n, keepBuffer)
		}
		s.b = append(make([]byte, 0, n), s.b...)
	}
	s.b = append(s.b, p...)
}

// before returns what stands before the result of encodeValue.
func (s *scratch) before() []byte {
	if s == nil {
		return nil
	}
	return s.lead
}

// checkBehind is Check, but for binary data, which may be anything, behind its header.
func checkBehind(lead, body []byte) error {
	if len(lead) > 0 {
		return nil
	}
	return Check(body)
}

// encodeValue is encode, into s unless that is nil: then the result is valid until s is freed, and s.lead stands before it.
func encodeValue[T any](s *scratch, from *T) (_ Raw, err error) {
	if raw, ok := any(from).(*Raw); ok {
		return *raw, nil
	}
	var b []byte
	if s != nil {
		b = s.b[:0]
	}
	switch v := any(from).(type) {
	case *string:
		b = appendString(b, *v)
	case *[]byte:
		if s != nil && s.split && len(*v) > partSize { // a copy saved
			s.lead = appendBinHeader(s.lead, len(*v))
			return *v, nil
		}
		b = appendBytes(b, *v)
	default:
		b, err = appendOther(b, *from)
	}
	if s != nil && err == nil {
		s.b = b
	}
	return b, err
}

// appendOther is appendAny.
func appendOther[T any](b []byte, v T) ([]byte, error) {
	if reflect.TypeFor[T]().Kind() == reflect.Struct {
		return appendStruct(b, v)
	}
	return appendAny(b, v)
}

// appendStruct copies the struct to the heap once, as a value that it has the address of. It is apart so that no other value goes there.
func appendStruct[T any](b []byte, v T) ([]byte, error) { return appendAny(b, &v) }

// decodeValue is decode.
func decodeValue[T any](b Raw) (T, error) {
	var v T
	var err error
	switch p := any(&v).(type) {
	case *Raw:
		*p = b
		return v, nil
	case *string:
		*p, err = decodeString(b)
		return v, err
	case *[]byte:
		*p, err = decodeBytes(b)
		return v, err
	}
	return decodeOther[T](b)
}

// decodeOther is apart so that the value is only on the heap where reflection needs it there.
func decodeOther[T any](b Raw) (T, error) {
	var v T
	err := decode(b, &v)
	return v, err
}

// carried reports that T cannot be encoded and decoded.
func carried[T any]() error {
	switch any((*T)(nil)).(type) {
	case *Raw, *string, *[]byte:
		return nil
	}
	_, err := planOf(reflect.TypeFor[T]())
	return err
}
