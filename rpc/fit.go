package rpc

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// This file holds rules B8 and B9 of SPEC.md: a checked body is compared with the Go type before msgpack decodes it. msgpack
// would store 300 in an int8 as 44 and -1 in a uint32 as 4294967295, take binary for text, and, where a map is due, step
// into the bytes of a timestamp and read them as values that Check never saw: ten bytes then ask for a map of 2^32 entries.

// A plan says which values a Go type takes. It is made once a type and kept.
type plan struct {
	kind   planKind
	bits   int              // planInt, planUint
	elem   *plan            // planList, planMap
	key    *plan            // planMap
	fields map[string]*plan // planStruct
	list   []*plan          // planStruct, in order
	hollow bool             // planStruct: it has fields, and msgpack writes none
}

// solid refuses a hollow type: it would come out empty, and nobody be told.
func (p *plan) solid(t reflect.Type) error {
	if p.hollow {
		return fmt.Errorf("%v has no exported fields and no methods for msgpack; set a Codec that can write it, or leave it out", t)
	}
	return nil
}

type planKind uint8

const (
	planAny planKind = iota // decided by the bytes or by the type's own decoder
	planInt
	planUint
	planText
	planBytes
	planList
	planMap
	planStruct
)

var (
	plans       sync.Map // reflect.Type to *plan or error
	ownDecoders = []reflect.Type{
		reflect.TypeFor[msgpack.CustomDecoder](), reflect.TypeFor[msgpack.Unmarshaler](),
		reflect.TypeFor[encoding.BinaryUnmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
	}
)

// planOf returns the plan of t, or why values of t cannot be carried.
func planOf(t reflect.Type) (*plan, error) {
	if v, ok := plans.Load(t); ok {
		if p, ok := v.(*plan); ok {
			return p, nil
		}
		return nil, v.(error)
	}
	p, err := makePlan(t, make(map[reflect.Type]*plan))
	if err == nil {
		err = p.solid(t)
	}
	if err != nil {
		err = fmt.Errorf("rpc: type %v cannot be carried: %w", t, err)
		plans.Store(t, err)
		return nil, err
	}
	plans.Store(t, p)
	return p, nil
}

// makePlan walks t. seen ends the recursion of types that hold themselves.
func makePlan(t reflect.Type, seen map[reflect.Type]*plan) (*plan, error) {
	if p, ok := seen[t]; ok {
		return p, nil
	}
	p := &plan{}
	seen[t] = p
	if t == reflect.TypeFor[time.Time]() || hasOwnDecoder(t) {
		return p, nil
	}
	var err error
	switch t.Kind() {
	case reflect.Bool, reflect.Float32, reflect.Float64:
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.kind, p.bits = planInt, t.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.kind, p.bits = planUint, t.Bits()
	case reflect.String:
		p.kind = planText
	case reflect.Interface:
		if t.NumMethod() != 0 {
			return nil, fmt.Errorf("%v is an interface with methods; use any or a concrete type", t)
		}
	case reflect.Pointer:
		inner, err := makePlan(t.Elem(), seen)
		if err != nil {
			return nil, err
		}
		if inner.kind == planAny && t.Elem().Kind() == reflect.Pointer {
			return nil, fmt.Errorf("%v is a pointer to a pointer", t)
		}
		*p = *inner
		seen[t] = inner
		return inner, nil
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			p.kind = planBytes
			break
		}
		p.kind = planList
		if p.elem, err = makePlan(t.Elem(), seen); err == nil {
			err = p.elem.solid(t.Elem())
		}
	case reflect.Map:
		p.kind = planMap
		if p.key, err = makePlan(t.Key(), seen); err == nil {
			if p.key.kind != planInt && p.key.kind != planUint && p.key.kind != planText {
				return nil, fmt.Errorf("%v has keys that are neither text nor integers", t)
			}
			if p.elem, err = makePlan(t.Elem(), seen); err == nil {
				err = p.elem.solid(t.Elem())
			}
		}
	case reflect.Struct:
		p.kind = planStruct
		p.fields = make(map[string]*plan)
		err = planFields(t, p, seen)
		p.hollow = isHollow(t, p)
	default:
		return nil, fmt.Errorf("%v is not a type of data", t)
	}
	return p, err
}

// planFields gives p the fields of struct t under the names that msgpack gives them. What msgpack does with the rarer tag
// options and embeddings is refused, so that both readings of a struct are surely the same.
func planFields(t reflect.Type, p *plan, seen map[reflect.Type]*plan) error {
	add := func(name string, f *plan) error {
		if _, twice := p.fields[name]; twice {
			return fmt.Errorf("%v has the field name %q twice", t, name)
		}
		p.fields[name] = f
		return nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("msgpack")
		if strings.ContainsAny(tag, ":'\"\\ ") {
			return fmt.Errorf("field %s of %v has the tag %q; msgpack reads colons, quotes, backslashes and spaces in its own way", f.Name, t, tag)
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			if option != "" && option != "omitempty" {
				return fmt.Errorf("field %s of %v has the tag option %q; only omitempty is supported", f.Name, t, option)
			}
		}
		if name == "" {
			name = f.Name
		}
		fp, err := makePlan(f.Type, seen)
		if err != nil {
			return err
		}
		if !f.Anonymous {
			if err := fp.solid(f.Type); err != nil {
				return err
			}
		} else {
			// msgpack makes embedded pointers by a goroutine a type that never ends, and cannot set unexported ones.
			if f.Type.Kind() == reflect.Pointer || !f.IsExported() && fp.kind != planStruct {
				return fmt.Errorf("%v embeds %v; name the field", t, f.Type)
			}
			if fp.kind == planStruct {
				inner := &plan{fields: make(map[string]*plan)}
				if err := planFields(f.Type, inner, seen); err != nil {
					return err
				}
				for n, q := range inner.fields {
					if err := add(n, q); err != nil {
						return err
					}
				}
				p.list = append(p.list, inner.list...)
				if err := add(name, fp); err != nil { // msgpack takes the embedded struct under its own name too
					return err
				}
				continue
			}
		}
		if err := add(name, fp); err != nil {
			return err
		}
		p.list = append(p.list, fp)
	}
	return nil
}

// isHollow reports whether t has fields, and p none of them. Blank ones are there for the compiler, and tags leave out what they mean to.
func isHollow(t reflect.Type, p *plan) bool {
	if len(p.fields) > 0 {
		return false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Name != "_" && f.Tag.Get("msgpack") != "-" {
			return true
		}
	}
	return false
}

func hasOwnDecoder(t reflect.Type) bool {
	for _, i := range ownDecoders {
		if t.Implements(i) || t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}

// fit compares the value of b at off with p, and returns where the value ends. b passed Check, which bounds the recursion.
func (p *plan) fit(b []byte, off int) (int, error) {
	t, err := next(b, off)
	if err != nil {
		return 0, err
	}
	if t.kind == tokNil || p.kind == planAny {
		return skip(b, off)
	}
	wrong := func(want string) (int, error) { return 0, &badMessage{"not " + want, off} }
	switch p.kind {
	case planInt:
		if t.kind != tokInt {
			return wrong("an integer")
		}
		v, shift := int64(t.num), 64-p.bits
		if !t.neg && v < 0 || v<<shift>>shift != v {
			return wrong("an integer in range")
		}
	case planUint:
		if t.kind != tokInt {
			return wrong("an integer")
		}
		if shift := 64 - p.bits; t.neg || t.num<<shift>>shift != t.num {
			return wrong("an integer in range")
		}
	case planText:
		if t.kind != tokStr {
			return wrong("text")
		}
	case planBytes:
		if t.kind != tokBin {
			return wrong("binary")
		}
	case planList:
		if t.kind != tokArray {
			return wrong("an array")
		}
		return fitAll(b, t, func(int) *plan { return p.elem })
	case planMap:
		if t.kind != tokMap {
			return wrong("a map")
		}
		return fitAll(b, t, func(i int) *plan {
			if i%2 == 0 {
				return p.key
			}
			return p.elem
		})
	case planStruct:
		return p.fitStruct(b, t, off)
	}
	return t.end, nil
}

func fitAll(b []byte, t token, of func(int) *plan) (off int, err error) {
	off = t.end
	for i := range t.count {
		if off, err = of(i).fit(b, off); err != nil {
			return 0, err
		}
	}
	return off, nil
}

// fitStruct takes a map of fields, or an array of all of them in order, as msgpack does.
func (p *plan) fitStruct(b []byte, t token, start int) (off int, err error) {
	switch {
	case t.kind == tokArray && (t.count == 0 || t.count == len(p.list)):
		return fitAll(b, t, func(i int) *plan { return p.list[i] })
	case t.kind != tokMap:
		return 0, &badMessage{"not a struct", start}
	}
	off = t.end
	for range t.count / 2 {
		k, err := next(b, off)
		if err != nil {
			return 0, err
		}
		if k.kind != tokStr {
			return 0, &badMessage{"not a field name", off}
		}
		if f := p.fields[string(b[k.start:k.end])]; f != nil {
			off, err = f.fit(b, k.end)
		} else {
			off, err = skip(b, k.end)
		}
		if err != nil {
			return 0, err
		}
	}
	return off, nil
}

// skip returns where the value of b at off ends.
func skip(b []byte, off int) (int, error) {
	for left := 1; left > 0; left-- {
		t, err := next(b, off)
		if err != nil {
			return 0, err
		}
		left += t.count
		off = t.end
	}
	return off, nil
}
