package rpc

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// This file is pure: bytes in, bytes out. It holds rules W1 to W9 of SPEC.md.

// The kinds of message (W4). Others are for later versions, which the session's application protocol name tells apart.
const (
	kindCall   = 1 // [1, id, method, timeout, body]        client to server
	kindReply  = 2 // [2, id, body]                         server to client
	kindError  = 3 // [3, id, code, outcome, text]          server to client
	kindCancel = 4 // [4, id]                               client to server
	kindGoaway = 5 // [5]                                   server to client
)

const (
	frameHeader  = 4                    // W1: a u32, big endian
	maxMethod    = 255                  // W6: bytes
	maxErrorText = 4096                 // W8: bytes
	maxTimeout   = math.MaxInt64 / 1000 // W6: microseconds; a time.Duration holds it
	// callOverhead and errorOverhead are no less than what surrounds method and body, or the text, with its frame.
	callOverhead  = frameHeader + 1 + 1 + 9 + 3 + 9
	errorOverhead = frameHeader + 1 + 1 + 9 + 1 + 1 + 3
	replyOverhead = frameHeader + 1 + 1 + 9
)

// A message is one parsed payload. method, text and body are views of the payload.
type message struct {
	kind    byte
	id      uint64  // all but goaway
	method  []byte  // call
	timeout uint64  // call: microseconds, 0 for none
	code    Code    // error
	outcome Outcome // error
	text    []byte  // error
	body    []byte  // call, reply: not empty, not checked yet
}

// wireError is a payload refused by rules W2 to W9. It matches ErrProtocol. Nothing the peer sent is quoted in it.
type wireError struct{ reason string }

func (e *wireError) Error() string { return ErrProtocol.Error() + ": " + e.reason }
func (e *wireError) Unwrap() error { return ErrProtocol }

func violation(format string, args ...any) error { return &wireError{fmt.Sprintf(format, args...)} }

// beginFrame leaves room for the length, which endFrame fills in.
func beginFrame(b []byte) ([]byte, int) { return append(b, 0, 0, 0, 0), len(b) }

func endFrame(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-frameHeader))
	return b
}

func appendCall(b []byte, id uint64, method string, timeout uint64, body []byte) []byte {
	b, start := beginFrame(b)
	b = appendUint(append(b, 0x95, kindCall), id)
	b = appendString(b, method)
	b = appendUint(b, timeout)
	return endFrame(append(b, body...), start)
}

func appendReply(b []byte, id uint64, body []byte) []byte {
	b, start := beginFrame(b)
	b = appendUint(append(b, 0x93, kindReply), id)
	return endFrame(append(b, body...), start)
}

func appendError(b []byte, id uint64, code Code, outcome Outcome, text string) []byte {
	b, start := beginFrame(b)
	b = appendUint(append(b, 0x95, kindError), id)
	b = append(b, byte(code), byte(outcome))
	return endFrame(appendString(b, text), start)
}

func appendCancel(b []byte, id uint64) []byte {
	b, start := beginFrame(b)
	return endFrame(appendUint(append(b, 0x92, kindCancel), id), start)
}

func appendGoaway(b []byte) []byte {
	b, start := beginFrame(b)
	return endFrame(append(b, 0x91, kindGoaway), start)
}

// callSize and replySize are the payload's exact size, which rule W2 limits.
func callSize(id uint64, method string, timeout uint64, body []byte) int {
	return 2 + uintSize(id) + stringHeader(len(method)) + len(method) + uintSize(timeout) + len(body)
}

func replySize(id uint64, body []byte) int { return 2 + uintSize(id) + len(body) }

// parseMessage accepts exactly what the append functions write, less the frame (W3): what it accepts re-encodes to the same
// bytes. The body is the rest of the payload; Check judges it, and a bad one fails the call alone (C4).
func parseMessage(p []byte) (message, error) {
	if len(p) < 2 {
		return message{}, violation("a message of %d bytes", len(p))
	}
	m := message{kind: p[1]}
	want := byte(0)
	switch m.kind {
	case kindCall, kindError:
		want = 0x95
	case kindReply:
		want = 0x93
	case kindCancel:
		want = 0x92
	case kindGoaway:
		want = 0x91
	}
	if want == 0 || p[0] != want {
		return message{}, violation("not a message of a known kind")
	}
	r := reader{b: p[2:]}
	if m.kind != kindGoaway {
		if m.id = r.uint(); m.id == 0 {
			r.fail("id missing, not canonical or 0")
		}
	}
	switch m.kind {
	case kindCall:
		if m.method = r.string(maxMethod); len(m.method) == 0 {
			r.fail("method name missing, empty, too long or not UTF-8")
		}
		if m.timeout = r.uint(); m.timeout > maxTimeout {
			r.fail("timeout out of range")
		}
		m.body = r.rest()
	case kindReply:
		m.body = r.rest()
	case kindError:
		code, outcome := r.uint(), r.uint()
		if code == 0 || code > uint64(Unauthenticated) {
			r.fail("code out of range")
		}
		if outcome != uint64(NotExecuted) && outcome != uint64(Executed) {
			r.fail("outcome out of range")
		}
		m.code, m.outcome = Code(code), Outcome(outcome)
		m.text = r.string(maxErrorText)
	}
	if len(r.b) != 0 {
		r.fail("trailing bytes")
	}
	if r.bad != "" {
		return message{}, violation("kind %d: %s", m.kind, r.bad)
	}
	return m, nil
}

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
