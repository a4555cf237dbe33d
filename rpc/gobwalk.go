package rpc

import "math"

// This file is pure. It holds rule B12 of SPEC.md: it walks through a gob by the types that the gob itself describes, as a decoder does,
// and believes no count. encoding/gob does: of 24 bytes that speak of 2^24 pairs it makes a map of 850 MiB.

// A gobWalk goes through messages to the first value. The first fault is kept, and ends all.
type gobWalk struct {
	b      []byte
	off    int
	end    int // of the message that off is in
	types  map[int64]*gobType
	values int
	bad    string

	lax    bool     // of our own encoder: descriptions may stand within the value, and lengths there mean nothing
	defs   [][]byte // the descriptions, if lax
	inside bool     // there was one within the value
}

// A gobType is a type that was described.
type gobType struct {
	kind   gobKind
	key    int64   // gobMap
	elem   int64   // gobList, gobMap
	fields []int64 // gobStruct
}

type gobKind uint8

const (
	gobOpaque gobKind = iota // bytes for the type's own method
	gobList
	gobStruct
	gobMap
)

// The types that need no description.
const (
	gobBool      = 1
	gobInt       = 2
	gobUint      = 3
	gobFloat     = 4
	gobBytes     = 5
	gobString    = 6
	gobComplex   = 7
	gobInterface = 8
	gobUser      = 64 // and above: described ones
)

func checkGob(b []byte) error {
	w := gobWalk{b: b}
	if w.run(); w.bad != "" {
		return &badMessage{"not a gob that is taken: " + w.bad, w.off}
	}
	return nil
}

func (w *gobWalk) fail(reason string) {
	if w.bad == "" {
		w.bad = reason
	}
	w.end = w.off // nothing is left
}

// run takes descriptions, and one value to the end of b.
func (w *gobWalk) run() {
	w.types = make(map[int64]*gobType)
	for w.bad == "" {
		w.message()
		id := w.int()
		if id >= 0 {
			w.learn()
			w.encoded(id, 0)
			break
		}
		w.define(-id)
		if w.off != w.end {
			w.fail("bytes behind a description")
		}
	}
	if w.off != len(w.b) {
		w.fail("bytes behind the value")
	}
}

// message goes into the next message.
func (w *gobWalk) message() {
	w.end = len(w.b)
	n := w.uint()
	if n > uint64(len(w.b)-w.off) {
		w.fail("a length over the bytes left")
		return
	}
	w.end = w.off + int(n)
}

func (w *gobWalk) left() int { return w.end - w.off }

func (w *gobWalk) uint() (v uint64) {
	if w.left() < 1 {
		w.fail("cut short")
		return 0
	}
	c := w.b[w.off]
	w.off++
	if c < 0x80 {
		return uint64(c)
	}
	n := 0x100 - int(c)
	if n > 8 || n > w.left() {
		w.fail("cut short")
		return 0
	}
	for _, d := range w.b[w.off : w.off+n] {
		v = v<<8 | uint64(d)
	}
	w.off += n
	return v
}

func (w *gobWalk) int() int64 {
	v := w.uint()
	if v&1 != 0 {
		return ^int64(v >> 1)
	}
	return int64(v >> 1)
}

func (w *gobWalk) bytes() {
	if n := w.count(); w.bad == "" {
		w.off += n
	}
}

// count reads how many bytes, or elements of at least one byte, follow.
func (w *gobWalk) count() int {
	n := w.uint()
	if n > uint64(w.left()) {
		w.fail("a length over the bytes left")
		return 0
	}
	return int(n)
}

// one counts a value.
func (w *gobWalk) one() {
	if w.values++; w.values > maxElements {
		w.fail("more than 100,000 values")
	}
}

// structure reads the fields of a struct that are there; field reads one.
func (w *gobWalk) structure(fields int, field func(i int)) {
	at := -1
	for w.bad == "" {
		delta := w.uint()
		if delta == 0 {
			return
		}
		if delta > uint64(fields-1-at) {
			w.fail("a field that was not described")
			return
		}
		at += int(delta)
		field(at)
	}
}

// define reads the description of a type: a struct of seven pointers, one of them not nil.
func (w *gobWalk) define(id int64) {
	start := w.off
	if w.one(); w.types[id] != nil || id < gobUser || id > math.MaxInt32 {
		w.fail("a type described twice, or with a number that is none of its")
	}
	t := &gobType{}
	forms := 0
	w.structure(7, func(form int) {
		forms++
		t.kind = [...]gobKind{gobList, gobList, gobStruct, gobMap, gobOpaque, gobOpaque, gobOpaque}[form]
		w.structure([...]int{3, 2, 2, 3, 1, 1, 1}[form], func(i int) { w.detail(t, form, i) })
	})
	if forms != 1 {
		w.fail("a type that is none, or several")
	}
	w.types[id] = t
	if w.lax && w.bad == "" {
		w.defs = append(w.defs, append(appendGobInt(nil, -id), w.b[start:w.off]...))
	}
}

// detail reads field i of a description: array (CommonType, Elem, Len), slice (CommonType, Elem), struct (CommonType, Field), map
// (CommonType, Key, Elem), and three of types with methods (CommonType).
func (w *gobWalk) detail(t *gobType, form, i int) {
	switch {
	case i == 0: // Name, Id
		w.structure(2, func(i int) {
			if i == 0 {
				w.bytes()
			} else {
				w.int()
			}
		})
	case form <= 1 && i == 1:
		t.elem = w.int()
	case form == 2:
		for n := w.count(); n > 0 && w.bad == ""; n-- {
			w.one()
			id := int64(0)
			w.structure(2, func(i int) {
				if i == 0 {
					w.bytes()
				} else {
					id = w.int()
				}
			})
			t.fields = append(t.fields, id)
		}
	case form == 3 && i == 1:
		t.key = w.int()
	case form == 3:
		t.elem = w.int()
	default: // Len
		w.int()
	}
}

// encoded reads a value as it stands in a message or an interface: behind a zero if it is no struct.
func (w *gobWalk) encoded(id int64, depth int) {
	if t := w.types[id]; (t == nil || t.kind != gobStruct) && w.uint() != 0 {
		w.fail("no zero before a value")
	}
	w.value(id, depth)
}

func (w *gobWalk) value(id int64, depth int) {
	if w.one(); w.bad != "" {
		return
	}
	switch id {
	case gobBool, gobInt, gobUint, gobFloat:
		w.uint()
		return
	case gobBytes, gobString:
		w.bytes()
		return
	case gobComplex:
		w.uint()
		w.uint()
		return
	case gobInterface:
		w.anything(depth)
		return
	}
	t := w.types[id]
	if t == nil {
		w.fail("a type that was not described")
		return
	}
	if t.kind == gobOpaque {
		w.bytes()
		return
	}
	if depth == maxDepth {
		w.fail("nested deeper than 32")
		return
	}
	switch t.kind {
	case gobStruct:
		w.structure(len(t.fields), func(i int) { w.value(t.fields[i], depth+1) })
	case gobList:
		for n := w.count(); n > 0 && w.bad == ""; n-- {
			w.value(t.elem, depth+1)
		}
	case gobMap:
		for n := w.count(); n > 0 && w.bad == ""; n-- {
			w.value(t.key, depth+1)
			w.value(t.elem, depth+1)
		}
	}
}

// anything reads a value in an interface: the name of its type, none for nil, the type, a length, the value.
func (w *gobWalk) anything(depth int) {
	n := w.count()
	if w.off += n; n == 0 || w.bad != "" {
		return
	}
	id := w.int()
	if w.lax {
		id = w.described(id)
	}
	if id == gobInterface { // which would not be a level
		w.fail("an interface in an interface")
	}
	n = w.count()
	end := w.off + n
	if w.encoded(id, depth); w.off != end && !w.lax {
		w.fail("a length that is not that of the value")
	}
}

// described reads the descriptions before the id of a value in an interface. Each ends a message: of the outermost, or of one
// inside it, whose length then stands there.
func (w *gobWalk) described(id int64) int64 {
	for ; id < 0 && w.bad == ""; id = w.int() {
		w.inside = true
		w.define(-id)
		if w.left() == 0 && w.off < len(w.b) {
			w.message()
		} else {
			w.uint()
		}
	}
	return id
}

func appendGobUint(b []byte, v uint64) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	n := 1
	for v>>(8*n) != 0 && n < 8 {
		n++
	}
	b = append(b, byte(0x100-n))
	for ; n > 0; n-- {
		b = append(b, byte(v>>(8*(n-1))))
	}
	return b
}

func appendGobInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendGobUint(b, uint64(^v)<<1|1)
	}
	return appendGobUint(b, uint64(v)<<1)
}
