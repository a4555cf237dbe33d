package rpc

import (
	"bytes"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

type (
	point      struct{ X, Y float64 }
	tree       struct{ Left, Right *tree }
	forest     []forest
	level2     struct{ point }
	wideStruct struct {
		level2
		Z       float32
		Skipped int `msgpack:"-"`
		_       int
		MyText
		At      time.Time `msgpack:"at,omitempty"`
		Raw     Raw
		Message msgpack.RawMessage
		Big     *big.Float // has a text decoder
	}
	MyText         string
	generic[T any] struct{ V T }
	overlaid       struct { // no decoder is promoted, for there are two of each
		time.Time
		netip.Addr
	}
)

func TestShapes(t *testing.T) {
	for want, types := range map[string][]reflect.Type{
		"any": {reflect.TypeFor[any](), reflect.TypeFor[Raw](), reflect.TypeFor[msgpack.RawMessage](), reflect.TypeFor[*big.Int](),
			reflect.TypeFor[chan int](), reflect.TypeFor[struct{ time.Time }]()},
		"bool":                                 {reflect.TypeFor[bool](), reflect.TypeFor[*bool]()},
		"int8":                                 {reflect.TypeFor[int8]()},
		"int64":                                {reflect.TypeFor[time.Duration](), reflect.TypeFor[int64]()},
		"uint16":                               {reflect.TypeFor[uint16]()},
		"float32":                              {reflect.TypeFor[float32]()},
		"float64":                              {reflect.TypeFor[float64]()},
		"text":                                 {reflect.TypeFor[string](), reflect.TypeFor[HealthStatus]()},
		"binary":                               {reflect.TypeFor[[]byte](), reflect.TypeFor[[4]byte](), reflect.TypeFor[[]MyByte](), reflect.TypeFor[*Raw]()},
		"time":                                 {reflect.TypeFor[time.Time](), reflect.TypeFor[*time.Time]()},
		"[]text":                               {reflect.TypeFor[[]string](), reflect.TypeFor[[3]MyText](), reflect.TypeFor[[]*string]()},
		"[]binary":                             {reflect.TypeFor[[]Raw]()},
		"[]...":                                {reflect.TypeFor[forest]()},
		"map[text]point{X float64, Y float64}": {reflect.TypeFor[map[string]point](), reflect.TypeFor[map[MyText]*point]()},
		"map[uint8][]int16":                    {reflect.TypeFor[map[uint8][]int16]()},
		"tree{Left tree, Right tree}":          {reflect.TypeFor[tree](), reflect.TypeFor[*tree]()},
		"level2{X float64, Y float64}":         {reflect.TypeFor[level2]()},
		"{}":                                   {reflect.TypeFor[struct{}]()},
		"generic[[]point]{V []point{X float64, Y float64}}": {reflect.TypeFor[generic[[]point]]()},
		"overlaid{Time time, Addr any}":                     {reflect.TypeFor[overlaid]()},
		"wideStruct{X float64, Y float64, Z float32, MyText text, at time, Raw binary, Message any, Big any}": {reflect.TypeFor[wideStruct]()},
	} {
		for _, typ := range types {
			var s shapes
			i := s.add(typ)
			d := Description{Types: s.list}
			if got := d.String(i); got != want || i != 0 {
				t.Errorf("%v is %d: %s, want %s", typ, i, got, want)
			}
		}
	}
}

type MyByte byte

// agree reports where a shape and the plan, by which values are taken, differ.
func agree(t *testing.T, d Description, i int, p *plan, seen map[*plan]bool) {
	if seen[p] {
		return
	}
	seen[p] = true
	s := d.Types[i]
	kinds := map[string]planKind{"any": planAny, "bool": planAny, "float": planAny, "time": planAny, "int": planInt, "uint": planUint,
		"text": planText, "binary": planBytes, "list": planList, "map": planMap, "struct": planStruct}
	if want, ok := kinds[s.Kind]; !ok || want != p.kind || p.bits != 0 && p.bits != s.Bits {
		t.Fatalf("shape %+v, plan %+v", s, p)
	}
	switch p.kind {
	case planMap:
		agree(t, d, s.Key, p.key, seen)
		fallthrough
	case planList:
		agree(t, d, s.Elem, p.elem, seen)
	case planStruct:
		if len(s.Fields) != len(p.list) {
			t.Fatalf("shape %+v, plan of %d fields", s, len(p.list))
		}
		for j, f := range s.Fields {
			if p.fields[f.Name] != p.list[j] {
				t.Fatalf("%s is not field %d", f.Name, j)
			}
			agree(t, d, f.Type, p.list[j], seen)
		}
	}
}

// written returns the names of the fields that msgpack writes for the struct v.
func written(t *testing.T, v any) (names []string) {
	var b bytes.Buffer
	if err := msgpack.NewEncoder(&b).Encode(v); err != nil {
		t.Fatal(err)
	}
	dec := msgpack.NewDecoder(&b)
	n, err := dec.DecodeMapLen()
	for range n {
		name, err := dec.DecodeString()
		if err != nil || dec.Skip() != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestShapesAgreeWithPlansAndMsgpack(t *testing.T) {
	for _, v := range []any{narrow{}, &wideStruct{At: time.Unix(1, 0), Message: []byte{1}}, level2{}, tree{}, Description{}, Shape{}, point{}, overlaid{},
		struct {
			embedded `msgpack:"e"`
			P        *point `msgpack:"p"`
		}{}, generic[map[int8]generic[string]]{}} {
		typ := reflect.TypeOf(v)
		p, err := planOf(typ)
		if err != nil {
			t.Fatal(err)
		}
		var s shapes
		i := s.add(typ)
		agree(t, Description{Types: s.list}, i, p, make(map[*plan]bool))
		var names []string
		for _, f := range s.list[i].Fields {
			names = append(names, f.Name)
		}
		missing := 0
		for _, name := range written(t, v) { // omitempty leaves some out
			for missing < len(names) && names[missing] != name {
				missing++
			}
			if missing == len(names) {
				t.Fatalf("%v: msgpack writes %s, the shape has %q", typ, name, names)
			}
		}
	}
	if got, want := strings.Join(written(t, struct {
		level2
		MyText
		A int
	}{}), " "), "X Y MyText A"; got != want { // what fields is made after
		t.Errorf("msgpack writes %s", got)
	}
}

func TestShapesOnce(t *testing.T) {
	build := func() (s shapes, index []int) {
		for _, typ := range []reflect.Type{reflect.TypeFor[tree](), reflect.TypeFor[[]*tree](), reflect.TypeFor[*tree](), reflect.TypeFor[wideStruct](),
			reflect.TypeFor[Raw](), reflect.TypeFor[any](), reflect.TypeFor[[]Raw](), reflect.TypeFor[Raw]()} {
			index = append(index, s.add(typ))
		}
		return s, index
	}
	s, index := build()
	for range 20 {
		if again, i := build(); !reflect.DeepEqual(again.list, s.list) || !reflect.DeepEqual(i, index) {
			t.Fatal("not the same twice")
		}
	}
	if index[0] != index[2] || index[4] != index[5] || index[4] != index[7] || len(s.list) != len(s.index) || s.list[s.list[index[6]].Elem].Kind != "binary" {
		t.Errorf("%v of %+v", index, s.list)
	}
}

func TestDescriptionTravels(t *testing.T) {
	var s shapes
	in := Description{Methods: []MethodInfo{
		{"conn", "conn", -1, -1},
		{"unary", "unary", s.add(reflect.TypeFor[wideStruct]()), s.add(reflect.TypeFor[map[string]tree]())},
		{"itself", "unary", s.add(reflect.TypeFor[Description]()), s.add(reflect.TypeFor[narrow]())},
	}}
	in.Types = s.list
	b, err := encode(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(b); err != nil {
		t.Fatal(err)
	}
	var out Description
	if err := decode(b, &out); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%v: %+v, sent %+v", err, out, in)
	}
}

func TestStringOfHostileTypes(t *testing.T) {
	long := strings.Repeat("\xff长", 100_000)
	doubling := make([]Shape, 64) // each holds the next twice: 2^64 fields in full
	for i := range doubling {
		doubling[i] = Shape{Kind: "map", Key: i + 1, Elem: i + 1}
	}
	wide := Shape{Kind: "struct", Fields: make([]Field, 90_000)}
	chain := make([]Shape, 90_000)
	for i := range chain {
		chain[i] = Shape{Kind: "list", Elem: i + 1}
	}
	for name, row := range map[string]struct {
		types []Shape
		index int
		want  string // "": anything
	}{
		"none":           {nil, 0, "?"},
		"minus one":      {[]Shape{{Kind: "any"}}, -1, "?"},
		"behind the end": {[]Shape{{Kind: "list", Elem: 1}}, 0, "[]?"},
		"unknown kind":   {[]Shape{{Kind: "color"}}, 0, "?"},
		"list of itself": {[]Shape{{Kind: "list"}}, 0, "[]..."},
		"map of itself":  {[]Shape{{Kind: "map"}}, 0, "map[...]..."},
		"nameless":       {[]Shape{{Kind: "struct", Fields: []Field{{"F", 0}}}}, 0, "{F {...}}"},
		"lines":          {[]Shape{{Kind: "struct", Name: "a\nb\x1b[2J", Fields: []Field{{"\r\u0085", 7}}}}, 0, "a?b?[2J{?? ?}"},
		"long name":      {[]Shape{{Kind: "struct", Name: long}}, 0, ""},
		"long field":     {[]Shape{{Kind: "struct", Fields: []Field{{long, 0}, {long, 0}}}}, 0, ""},
		"doubling":       {doubling, 0, ""},
		"wide":           {[]Shape{wide}, 0, ""},
		"chain":          {chain, 0, ""},
	} {
		d := Description{Types: row.types}
		got := d.String(row.index)
		switch {
		case row.want != "" && got != row.want:
			t.Errorf("%s: %s, want %s", name, got, row.want)
		case row.want == "" && (len(got) > 4096 || len(got) < 4000 || !strings.HasSuffix(got, "...")):
			t.Errorf("%s: %d bytes, ends %s", name, len(got), got[max(0, len(got)-20):])
		case !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl):
			t.Errorf("%s: %q", name, got)
		}
	}
}
