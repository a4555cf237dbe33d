package rpc

import (
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// A Description tells which methods a server has and of what shapes their messages are. Types refer to each other by index,
// so that recursive ones work. One that came from a peer may hold any index and any text.
type Description struct {
	Methods []MethodInfo `msgpack:"methods"`
	Types   []Shape      `msgpack:"types"`
}

// MethodInfo describes one method.
type MethodInfo struct {
	Name    string `msgpack:"name"`
	Form    string `msgpack:"form"`    // "unary", "server stream", "client stream", "bidi" or "conn"
	Request int    `msgpack:"request"` // index into Description.Types; -1: none
	Reply   int    `msgpack:"reply"`   // as Request
}

// A Shape says what the values of one Go type are on the wire. Of kind any are Raw and types with decoders of their own,
// besides any itself: the bytes say what such a value is.
type Shape struct {
	Kind   string  `msgpack:"kind"`             // "any", "bool", "int", "uint", "float", "text", "binary", "time", "list", "map", "struct" or "coded"
	Bits   int     `msgpack:"bits,omitempty"`   // int, uint, float: 8 to 64
	Name   string  `msgpack:"name,omitempty"`   // struct: the Go type's name, for people, without package path; coded: the Codec's
	Elem   int     `msgpack:"elem,omitempty"`   // list, map: index of what is inside
	Key    int     `msgpack:"key,omitempty"`    // map: index of the keys' shape
	Fields []Field `msgpack:"fields,omitempty"` // struct, in order
}

// A Field is one field of a struct, under its name on the wire.
type Field struct {
	Name string `msgpack:"name"`
	Type int    `msgpack:"type"` // index into Description.Types
}

// shapes builds Description.Types. The zero value is empty.
type shapes struct {
	list  []Shape
	index map[reflect.Type]int // of all in list, pointers and codecs aside
	codec map[string]int       // the same for codecs
}

// coded returns the index of the shape of messages in a codec.
func (s *shapes) coded(name string) int {
	i, ok := s.codec[name]
	if !ok {
		if s.codec == nil {
			s.codec = make(map[string]int)
		}
		i = len(s.list)
		s.codec[name] = i
		s.list = append(s.list, Shape{Kind: "coded", Name: name})
	}
	return i
}

// add returns the index of the shape of messages of type t, which it appends with all it refers to unless it is there.
func (s *shapes) add(t reflect.Type) int {
	// Raw passes untouched only as a message; msgpack knows nothing of it, and writes one inside another type as binary.
	if _, err := planOf(t); err != nil || t == reflect.TypeFor[Raw]() {
		t = reflect.TypeFor[any]()
	}
	return s.walk(t)
}

// walk takes the same turns as makePlan, which accepted t: what is refused there is not met here.
func (s *shapes) walk(t reflect.Type) int {
	for t.Kind() == reflect.Pointer { // of a pointer and its element the wire shows the same
		t = t.Elem()
	}
	if i, ok := s.index[t]; ok {
		return i
	}
	if s.index == nil {
		s.index = make(map[reflect.Type]int)
	}
	i := len(s.list)
	s.index[t] = i
	s.list = append(s.list, Shape{}) // its place, so that types that hold themselves find it
	s.list[i] = s.shapeOf(t)
	return i
}

func (s *shapes) shapeOf(t reflect.Type) Shape {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return Shape{Kind: "time"}
	case hasOwnDecoder(t):
		return Shape{Kind: "any"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return Shape{Kind: "bool"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return Shape{Kind: "int", Bits: t.Bits()}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return Shape{Kind: "uint", Bits: t.Bits()}
	case reflect.Float32, reflect.Float64:
		return Shape{Kind: "float", Bits: t.Bits()}
	case reflect.String:
		return Shape{Kind: "text"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return Shape{Kind: "binary"}
		}
		return Shape{Kind: "list", Elem: s.walk(t.Elem())}
	case reflect.Map:
		key := s.walk(t.Key())
		return Shape{Kind: "map", Key: key, Elem: s.walk(t.Elem())}
	case reflect.Struct:
		return Shape{Kind: "struct", Name: shortName(t.Name()), Fields: s.fields(t)}
	}
	return Shape{Kind: "any"}
}

// fields returns the fields that msgpack writes for struct t: those of embedded structs in the place of these.
func (s *shapes) fields(t reflect.Type) []Field {
	var fields []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("msgpack"), ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if f.Anonymous && f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[time.Time]() && !hasOwnDecoder(f.Type) {
			fields = append(fields, s.fields(f.Type)...)
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields = append(fields, Field{name, s.walk(f.Type)})
	}
	return fields
}

// shortName takes the package paths out of a type's name, where only type arguments have them.
func shortName(name string) string {
	var b strings.Builder
	for len(name) > 0 {
		end := strings.IndexAny(name, "[],*(){}; ")
		if end < 0 {
			end = len(name)
		}
		word := name[:end]
		word, _, _ = strings.Cut(word[strings.LastIndexAny(word, "./")+1:], "·") // which numbers types within functions
		b.WriteString(word)
		if end < len(name) {
			b.WriteByte(name[end])
			end++
		}
		name = name[end:]
	}
	return b.String()
}

// maxTypeText is the length in bytes that Description.String keeps to.
const maxTypeText = 4096

// String returns a type in a form for people, on one line and of at most 4 KiB: {Key text, At time}, []int64,
// map[text]Point{X float64, Y float64}. A struct is told in full once and by its name afterwards; ? stands for an index or
// a kind that means nothing, ... for what is left out.
func (d *Description) String(t int) string {
	w := typeWriter{d: d, told: make(map[int]bool)}
	w.write(t)
	if !w.full() {
		return w.b.String()
	}
	const cut = " ..."
	return strings.ToValidUTF8(w.b.String()[:maxTypeText-len(cut)], "") + cut
}

type typeWriter struct {
	d    *Description
	b    strings.Builder
	told map[int]bool // structs that were told, lists and maps that are being told
}

func (w *typeWriter) full() bool { return w.b.Len() > maxTypeText }

// write ends for any Description: a type is never told within itself, and every call writes something until the text is full.
func (w *typeWriter) write(t int) {
	if w.full() {
		return
	}
	if t < 0 || t >= len(w.d.Types) {
		w.b.WriteByte('?')
		return
	}
	s := &w.d.Types[t]
	switch s.Kind {
	case "any", "bool", "text", "binary", "time":
		w.b.WriteString(s.Kind)
	case "coded":
		w.name(s.Name)
	case "int", "uint", "float":
		w.b.WriteString(s.Kind + strconv.Itoa(s.Bits))
	case "list", "map":
		if w.told[t] {
			w.b.WriteString("...")
			return
		}
		w.told[t] = true
		if s.Kind == "list" {
			w.b.WriteString("[]")
		} else {
			w.b.WriteString("map[")
			w.write(s.Key)
			w.b.WriteByte(']')
		}
		w.write(s.Elem)
		delete(w.told, t)
	case "struct":
		w.structure(t, s)
	default:
		w.b.WriteByte('?')
	}
}

func (w *typeWriter) structure(t int, s *Shape) {
	w.name(s.Name)
	if w.told[t] {
		if s.Name == "" {
			w.b.WriteString("{...}")
		}
		return
	}
	w.told[t] = true
	w.b.WriteByte('{')
	for i, f := range s.Fields {
		if w.full() {
			return
		}
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.name(f.Name)
		w.b.WriteByte(' ')
		w.write(f.Type)
	}
	w.b.WriteByte('}')
}

// name writes what a peer chose without what would leave the line, and no more of it than the text can hold.
func (w *typeWriter) name(name string) {
	w.b.WriteString(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name[:min(len(name), maxTypeText)]))
}
