package rpc

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// This file is pure. It holds rules B1 to B7 of SPEC.md: what is refused before msgpack sees it. msgpack v5 trusts
// declared lengths and nesting: five hostile bytes make it ask for 344 GB, two megabytes of nesting overflow its stack.

// The limits of a body (B2, B3).
const (
	maxDepth    = 32
	maxElements = 100_000
)

// badMessage says why bytes are refused, and where. It matches ErrBadMessage. Nothing of the bytes is quoted in it.
type badMessage struct {
	reason string
	offset int // -1: no place
}

func (e *badMessage) Error() string {
	if e.offset < 0 {
		return ErrBadMessage.Error() + ": " + e.reason
	}
	return fmt.Sprintf("%v: %s at byte %d", ErrBadMessage, e.reason, e.offset)
}
func (e *badMessage) Unwrap() error { return ErrBadMessage }

// A token is the head of one value: its kind, where what follows it ends, how many values it holds.
type token struct {
	kind  tokenKind
	start int    // of what follows the head: the text of a str, the data of a bin; end for the rest
	end   int    // of the value; of a container, of its head
	count int    // values inside: n of an array, 2n of a map
	num   uint64 // integers, two's complement
	neg   bool   // num is below 0
}

type tokenKind uint8

const (
	tokNil tokenKind = iota
	tokBool
	tokInt
	tokFloat
	tokStr
	tokBin
	tokTime
	tokArray
	tokMap
)

// next reads the head of the value at off. It checks B1 (lengths), B4 (timestamps) and B5 (text).
func next(b []byte, off int) (token, error) {
	if off >= len(b) {
		return token{}, &badMessage{"cut short", off}
	}
	c := b[off]
	t := token{start: off + 1, end: off + 1}
	switch {
	case c < 0x80:
		t.kind, t.num = tokInt, uint64(c)
	case c >= 0xe0:
		t.kind, t.num, t.neg = tokInt, uint64(int64(int8(c))), true
	case c < 0x90:
		t.kind, t.count = tokMap, 2*int(c&0x0f)
	case c < 0xa0:
		t.kind, t.count = tokArray, int(c&0x0f)
	case c < 0xc0:
		t.kind, t.end = tokStr, t.start+int(c&0x1f)
	default:
		h := heads[c-0xc0]
		if h.kind == tokBad {
			return token{}, &badMessage{"a type this protocol does not carry", off}
		}
		t.kind = h.kind
		t.start += int(h.size)
		if t.start > len(b) {
			return token{}, &badMessage{"cut short", off}
		}
		var n uint64
		for _, d := range b[off+1 : t.start] {
			n = n<<8 | uint64(d)
		}
		t.end = t.start
		declared := int(min(n, uint64(len(b))+1)) // what is over the bytes left stays so, and fits an int
		switch h.kind {
		case tokInt:
			t.num = n
			if c >= 0xd0 { // sign-extend
				shift := 64 - 8*uint(h.size)
				t.num = uint64(int64(n<<shift) >> shift)
				t.neg = int64(t.num) < 0
			}
		case tokStr, tokBin:
			t.end += declared
		case tokArray:
			t.count = declared
		case tokMap:
			t.count = 2 * declared
		case tokTime:
			size, err := timestamp(b, off)
			if err != nil {
				return token{}, err
			}
			t.end = off + size
		}
	}
	if t.end > len(b) || t.count > len(b)-t.end {
		return token{}, &badMessage{"a length over the bytes left", off}
	}
	if t.kind == tokStr && !utf8.Valid(b[t.start:t.end]) {
		return token{}, &badMessage{"text that is not UTF-8", off}
	}
	return t, nil
}

const tokBad tokenKind = 255

// heads describes the codes 0xc0 to 0xdf: the kind, and the size of the number after the code.
var heads = [32]struct {
	kind tokenKind
	size uint8
}{
	{tokNil, 0}, {tokBad, 0}, {tokBool, 0}, {tokBool, 0},
	{tokBin, 1}, {tokBin, 2}, {tokBin, 4},
	{tokTime, 0}, {tokBad, 0}, {tokBad, 0}, // ext 8, 16, 32
	{tokFloat, 4}, {tokFloat, 8},
	{tokInt, 1}, {tokInt, 2}, {tokInt, 4}, {tokInt, 8}, // unsigned
	{tokInt, 1}, {tokInt, 2}, {tokInt, 4}, {tokInt, 8}, // signed
	{tokBad, 0}, {tokBad, 0}, {tokTime, 0}, {tokTime, 0}, {tokBad, 0}, // fixext 1, 2, 4, 8, 16
	{tokStr, 1}, {tokStr, 2}, {tokStr, 4},
	{tokArray, 2}, {tokArray, 4},
	{tokMap, 2}, {tokMap, 4},
}

// timestamp returns the size of the extension at off, which must be a timestamp (B4).
func timestamp(b []byte, off int) (int, error) {
	p := b[off:]
	var nanos uint32
	size := 0
	switch {
	case len(p) >= 6 && p[0] == 0xd6 && p[1] == 0xff:
		size = 6
	case len(p) >= 10 && p[0] == 0xd7 && p[1] == 0xff:
		size, nanos = 10, binary.BigEndian.Uint32(p[2:])>>2
	case len(p) >= 15 && p[0] == 0xc7 && p[1] == 12 && p[2] == 0xff:
		size, nanos = 15, binary.BigEndian.Uint32(p[3:])
	}
	if size == 0 || nanos > 999_999_999 {
		return 0, &badMessage{"an extension that is not a timestamp", off}
	}
	return size, nil
}

// pairs is up to how many keys of a map are compared with each other.
const pairs = 16

// A level is one open container.
type level struct {
	left  int // values to come
	isMap bool
	keys  int              // where its keys begin in checker.keys
	set   map[key]struct{} // once there are too many keys to compare in pairs
}

type key struct {
	text string // "" for integers
	num  uint64
	kind tokenKind
	neg  bool
}

type checker struct {
	b     []byte
	text  string // b, once a set needs strings of it
	open  [maxDepth]level
	depth int
	keys  []token // of all open maps, each its first 16
}

// clear forgets what was checked.
func (c *checker) clear() {
	for i := range c.depth { // run has failed
		c.open[i].set = nil
	}
	c.b, c.text, c.depth, c.keys = nil, "", 0, c.keys[:0]
}

func (c *checker) run() error {
	values, off := 0, 0
	for {
		t, err := next(c.b, off)
		if err != nil {
			return err
		}
		if values++; values > maxElements {
			return &badMessage{"more than 100,000 values", off}
		}
		if c.depth > 0 {
			top := &c.open[c.depth-1]
			if top.isMap && top.left%2 == 0 {
				if err := c.key(top, t, off); err != nil {
					return err
				}
			}
			top.left--
		}
		if t.kind == tokArray || t.kind == tokMap {
			if c.depth == maxDepth {
				return &badMessage{"nested deeper than 32", off}
			}
			c.open[c.depth] = level{left: t.count, isMap: t.kind == tokMap, keys: len(c.keys)}
			c.depth++
		}
		off = t.end
		for c.depth > 0 && c.open[c.depth-1].left == 0 {
			c.depth--
			c.keys = c.keys[:c.open[c.depth].keys]
			c.open[c.depth].set = nil
		}
		if c.depth == 0 {
			if off != len(c.b) {
				return &badMessage{"bytes after the value", off}
			}
			return nil
		}
	}
}

// key checks B6. Up to 16 keys are compared in pairs; more go to a set, whose hash is seeded, so no peer can pick
// colliding keys.
func (c *checker) key(top *level, t token, off int) error {
	if t.kind != tokStr && t.kind != tokInt {
		return &badMessage{"a map key that is neither text nor integer", off}
	}
	mine := c.keys[top.keys:]
	if top.set == nil && len(mine) < pairs {
		for _, k := range mine {
			if k.kind == t.kind && k.num == t.num && k.neg == t.neg && string(c.b[k.start:k.end]) == string(c.b[t.start:t.end]) {
				return &badMessage{"a map key twice", off}
			}
		}
		c.keys = append(c.keys, t)
		return nil
	}
	if top.set == nil {
		top.set = make(map[key]struct{}, 2*pairs)
		for _, k := range mine {
			top.set[c.keyOf(k)] = struct{}{}
		}
	}
	k := c.keyOf(t)
	if _, twice := top.set[k]; twice {
		return &badMessage{"a map key twice", off}
	}
	top.set[k] = struct{}{}
	return nil
}

func (c *checker) keyOf(t token) key {
	if t.kind == tokInt {
		return key{num: t.num, kind: tokInt, neg: t.neg}
	}
	if c.text == "" {
		c.text = string(c.b)
	}
	return key{text: c.text[t.start:t.end], kind: tokStr}
}
