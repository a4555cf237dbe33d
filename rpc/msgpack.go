package rpc

import (
	"encoding/binary"
	"unicode/utf8"
)

// This file is pure: canonical msgpack, read and written by hand, for all of a message but its body (W3).

// A reader takes canonical msgpack off the front of b. The first fault is kept; what is read after it means nothing.
type reader struct {
	b   []byte
	bad string
}

func (r *reader) fail(reason string) {
	if r.bad == "" {
		r.bad = reason
	}
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("cut short")
		r.b = nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

// number reads n bytes, big endian, and refuses what a smaller encoding holds: min is the least number that needs n bytes.
func (r *reader) number(n int, min uint64) uint64 {
	var v uint64
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	if v < min {
		r.fail("not the smallest encoding")
	}
	return v
}

func (r *reader) uint() uint64 {
	p := r.take(1)
	if p == nil {
		return 0
	}
	switch c := p[0]; {
	case c < 0x80:
		return uint64(c)
	case c == 0xcc:
		return r.number(1, 0x80)
	case c == 0xcd:
		return r.number(2, 1<<8)
	case c == 0xce:
		return r.number(4, 1<<16)
	case c == 0xcf:
		return r.number(8, 1<<32)
	}
	r.fail("not an unsigned number")
	return 0
}

func (r *reader) string(limit int) []byte {
	p := r.take(1)
	if p == nil {
		return nil
	}
	var n uint64
	switch c := p[0]; {
	case c >= 0xa0 && c < 0xc0:
		n = uint64(c & 0x1f)
	case c == 0xd9:
		n = r.number(1, 32)
	case c == 0xda:
		n = r.number(2, 1<<8)
	default: // no string of this protocol is as long as a str32
		r.fail("not a string")
		return nil
	}
	if n > uint64(limit) {
		r.fail("string too long")
		return nil
	}
	s := r.take(int(n))
	if !utf8.Valid(s) {
		r.fail("string is not UTF-8")
	}
	return s
}

func (r *reader) bin(limit int) []byte {
	p := r.take(1)
	if p == nil {
		return nil
	}
	var n uint64
	switch p[0] {
	case 0xc4:
		n = r.number(1, 0)
	case 0xc5:
		n = r.number(2, 1<<8)
	default: // nothing here is as long as a bin32
		r.fail("not binary")
		return nil
	}
	if n > uint64(limit) {
		r.fail("binary too long")
		return nil
	}
	return r.take(int(n))
}

// array reads an array's head and returns how many values follow.
func (r *reader) array(limit int) int {
	p := r.take(1)
	if p == nil {
		return 0
	}
	var n uint64
	switch c := p[0]; {
	case c >= 0x90 && c < 0xa0:
		n = uint64(c & 0x0f)
	case c == 0xdc:
		n = r.number(2, 16)
	default:
		r.fail("not an array")
		return 0
	}
	if n > uint64(limit) {
		r.fail("array too long")
		return 0
	}
	return int(n)
}

func (r *reader) rest() []byte {
	p := r.b
	r.b = nil
	if len(p) == 0 {
		r.fail("body missing")
	}
	return p
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v < 1<<8:
		return append(b, 0xcc, byte(v))
	case v < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func uintSize(v uint64) int {
	switch {
	case v < 0x80:
		return 1
	case v < 1<<8:
		return 2
	case v < 1<<16:
		return 3
	case v < 1<<32:
		return 5
	}
	return 9
}

func appendString(b []byte, s string) []byte { return append(appendStringHeader(b, len(s)), s...) }

func appendStringHeader(b []byte, n int) []byte {
	switch {
	case n < 32:
		return append(b, 0xa0|byte(n))
	case n < 1<<8:
		return append(b, 0xd9, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
}

func stringHeader(n int) int {
	switch {
	case n < 32:
		return 1
	case n < 1<<8:
		return 2
	case n < 1<<16:
		return 3
	}
	return 5
}

func appendBinHeader(b []byte, n int) []byte {
	switch {
	case n < 1<<8:
		return append(b, 0xc4, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xc5), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
}

func appendBin(b []byte, s string) []byte { return append(appendBinHeader(b, len(s)), s...) }

func appendArrayHeader(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x90|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(n))
}
