package jsonmsg

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Where the types of testTypes are.
const (
	tAny = iota
	tBool
	tInt8
	tInt64
	tUint8
	tUint64
	tFloat32
	tFloat64
	tText
	tBinary
	tTime
	tInts
	tByInt
	tRequest
	tItems
	tItem
	tEmpty
	tCount
)

// testTypes is a description that holds together.
func testTypes() *rpc.Description {
	return &rpc.Description{Types: []rpc.Shape{
		tAny: {Kind: "any"}, tBool: {Kind: "bool"}, tInt8: {Kind: "int", Bits: 8}, tInt64: {Kind: "int", Bits: 64},
		tUint8: {Kind: "uint", Bits: 8}, tUint64: {Kind: "uint", Bits: 64}, tFloat32: {Kind: "float", Bits: 32},
		tFloat64: {Kind: "float", Bits: 64}, tText: {Kind: "text"}, tBinary: {Kind: "binary"}, tTime: {Kind: "time"},
		tInts:  {Kind: "list", Elem: tInt64},
		tByInt: {Kind: "map", Key: tInt8, Elem: tFloat64},
		tRequest: {Kind: "struct", Name: "Request", Fields: []rpc.Field{
			{Name: "Name", Type: tText}, {Name: "Items", Type: tItems}, {Name: "Any", Type: tAny}, {Name: "Next", Type: tRequest},
		}},
		tItems: {Kind: "list", Elem: tItem},
		tItem: {Kind: "struct", Name: "Item", Fields: []rpc.Field{
			{Name: "Count", Type: tUint8}, {Name: "At", Type: tTime}, {Name: "Data", Type: tBinary}, {Name: "By", Type: tByInt},
		}},
		tEmpty: {Kind: "struct"},
	}}
}

func pack(t testing.TB, values ...any) rpc.Raw {
	t.Helper()
	var b bytes.Buffer
	enc := msgpack.NewEncoder(&b)
	enc.UseCompactInts(true)
	for _, v := range values {
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestFromJSON(t *testing.T) {
	at := time.Date(2026, 11, 23, 20, 0, 0, 123456789, time.UTC)
	for _, row := range []struct {
		shape int
		text  string
		want  rpc.Raw
		back  string // what To makes of it; "": text
	}{
		{tText, "", pack(t, nil), "null"},
		{tInt8, " \n", pack(t, nil), "null"},
		{tTime, "null", pack(t, nil), ""},
		{tBool, "true", pack(t, true), ""},
		{tInt8, "-128", pack(t, -128), ""},
		{tInt8, "127", pack(t, 127), ""},
		{tInt64, "-9223372036854775808", pack(t, int64(math.MinInt64)), ""},
		{tInt64, "-0", pack(t, 0), "0"},
		{tUint8, "-0", pack(t, 0), "0"},
		{tUint64, "18446744073709551615", pack(t, uint64(math.MaxUint64)), ""},
		{tUint8, "255", rpc.Raw{0xcc, 0xff}, ""},
		{tFloat64, "1", pack(t, 1.0), ""},
		{tFloat64, "-0", pack(t, math.Copysign(0, -1)), ""},
		{tFloat64, "1e300", pack(t, 1e300), "1e+300"},
		{tFloat64, `"NaN"`, pack(t, math.NaN()), ""},
		{tFloat32, "0.1", pack(t, float32(0.1)), ""},
		{tFloat32, `"-Infinity"`, pack(t, float32(math.Inf(-1))), ""},
		{tFloat64, `"Infinity"`, pack(t, math.Inf(1)), ""},
		{tText, `"a\"<b>&\n长\u001b\u009b"`, pack(t, "a\"<b>&\n长\x1b\u009b"), ""},
		{tText, `"\u202eabc\udb40\udc01\ufeff"`, pack(t, "\u202eabc\U000e0001\ufeff"), ""},
		{tBinary, `"/+8="`, pack(t, []byte{0xff, 0xef}), ""},
		{tBinary, `""`, pack(t, []byte{}), ""},
		{tTime, `"2026-11-23T20:00:00.123456789Z"`, pack(t, at), ""},
		{tTime, `"2026-11-23T22:00:00.123456789+02:00"`, pack(t, at), `"2026-11-23T20:00:00.123456789Z"`},
		{tTime, `"0001-01-01T00:00:00Z"`, pack(t, time.Time{}), ""},
		{tInts, "[]", rpc.Raw{0x90}, ""},
		{tInts, "[1,null,-3]", pack(t, []any{1, nil, -3}), ""},
		{tByInt, `{"-5":1,"7":2.5}`, append(rpc.Raw{0x82}, pack(t, -5, 1.0, 7, 2.5)...), ""},
		{tEmpty, `{}`, rpc.Raw{0x80}, ""},
		{tRequest, `{"Items":[{"Data":"aGk=","Count":3}, {}],"Name":"n","Next":{"Next":{"Name":"in"}}}`, // in the order of the shape
			append(append(append(append(append(rpc.Raw{0x83}, pack(t, "Name", "n", "Items")...), 0x92, 0x82),
				append(pack(t, "Count", 3, "Data", []byte("hi")), 0x80)...),
				append(pack(t, "Next"), 0x81)...), append(append(pack(t, "Next"), 0x81), pack(t, "Name", "in")...)...),
			`{"Name":"n","Items":[{"Count":3,"Data":"aGk="},{}],"Next":{"Next":{"Name":"in"}}}`},
		{tAny, `{"z":[1,-1,1.0,18446744073709551615,1e2,true,"x",null],"a":{}}`,
			append(append(append(rpc.Raw{0x82}, pack(t, "z", []any{1, -1, 1.0, uint64(math.MaxUint64), 100.0, true, "x", nil})...), pack(t, "a")...), 0x80),
			`{"z":[1,-1,1.0,18446744073709551615,100.0,true,"x",null],"a":{}}`},
		{tAny, strings.Repeat("[", 32) + strings.Repeat("]", 32), append(bytes.Repeat([]byte{0x91}, 31), 0x90), ""},
	} {
		got, err := From(testTypes(), row.shape, []byte(row.text))
		if err != nil || !bytes.Equal(got, row.want) {
			t.Errorf("%s as %d: %x %v, want %x", row.text, row.shape, got, err, row.want)
			continue
		}
		if row.back == "" {
			row.back = row.text
		}
		if back, err := To(testTypes(), row.shape, got); err != nil || string(back) != row.back {
			t.Errorf("%s as %d: back %s %v, want %s", row.text, row.shape, back, err, row.back)
		}
	}
}

func TestFromJSONErrors(t *testing.T) {
	for _, row := range []struct {
		shape int
		text  string
		want  string
	}{
		{tRequest, `{"Items":[{},{},{},{"Count":300}]}`, "request.Items[3].Count: 300 does not fit a uint8, from 0 to 255"},
		{tInt8, "128", "request: 128 does not fit an int8, from -128 to 127"},
		{tInt8, "-129", "does not fit an int8"},
		{tUint8, "-1", "does not fit a uint8"},
		{tInt64, "9223372036854775808", "does not fit an int64, from -9223372036854775808 to 9223372036854775807"},
		{tUint64, "18446744073709551616", "does not fit a uint64, from 0 to 18446744073709551615"},
		{tInt64, "1.0", "request: write an integer such as 3, not 1.0"},
		{tInt64, "1e2", "an integer"},
		{tInt64, `"1"`, `an integer such as 3, not "1"`},
		{tAny, "18446744073709551616", "does not fit a uint64"},
		{tAny, "1e400", "does not fit a float64"},
		{tFloat32, "1e39", "does not fit a float32"},
		{tFloat64, `"inf"`, `"NaN", "Infinity" or "-Infinity", not "inf"`},
		{tBool, "1", "true or false, not 1"},
		{tText, "{}", "a string such as \"abc\", not an object"},
		{tBinary, `"a"`, "base64"},
		{tBinary, "false", "base64"},
		{tTime, `"yesterday"`, `not "yesterday"`},
		{tTime, `"0000-01-01T00:00:00+01:00"`, "from year 0 to 9999"},
		{tTime, "7", "a time"},
		{tInts, "{}", "request: write an array, not an object"},
		{tByInt, "[]", "an object, not an array"},
		{tByInt, `{"x":1}`, `request["x"]: the key is not an integer`},
		{tByInt, `{"01":1}`, "without zeros"},
		{tByInt, `{"-0":1}`, "without zeros"},
		{tByInt, `{"200":1}`, `request["200"]: 200 does not fit an int8`},
		{tByInt, `{"1":"x"}`, `request["1"]: write a number`},
		{tByInt, `{"1":1,"1":2}`, `request: the key "1" is there twice; keep one`},
		{tRequest, `{"Name":"a","Name":"a"}`, `the key "Name" is there twice`},
		{tRequest, `{"Any":{"a":1,"b":2,"a":3}}`, `request.Any: the key "a" is there twice`},
		{tRequest, `{"Next":{"Nam":1}}`, `request.Next: there is no field "Nam"; there are Name, Items, Any, Next`},
		{tEmpty, `{"a":1}`, `there is no field "a"; there are none`},
		{tRequest, "[]", "an object"},
		{tInt8, "1 2", "request: there is more after the value, which ends at byte 1"},
		{tInt8, "1x", "more after the value"},
		{tAny, "{} ]", "more after the value"},
		{tAny, "[1,", "the JSON ends within the value"},
		{tAny, `{"a"`, "the JSON ends within the value"},
		{tAny, `"a`, "the JSON ends within the value"},
		{tAny, "[1,]", "this is not JSON"},
		{tAny, `{"a":1,}`, "this is not JSON"},
		{tAny, "{1:2}", "this is not JSON"},
		{tAny, "[1}", "this is not JSON"},
		{tAny, "nul", "the JSON ends"},
		{tAny, "01", "more after"},
		{tAny, "\"\xff\"", "not in UTF-8"},
		{tAny, strings.Repeat("[", 33) + strings.Repeat("]", 33), "nested deeper than 32"},
		{tAny, strings.Repeat(`{"a":`, 33), "nested deeper than 32"},
		{tAny, "[" + strings.Repeat("0,", 100_000) + "0]", "more than 100,000 values"},
		{tCount, "1", "type 17, which is not among its 17"},
		{-1, "1", "type -1"},
	} {
		got, err := From(testTypes(), row.shape, []byte(row.text))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%.100s as %d: %.100x %v, want %s", row.text, row.shape, got, err, row.want)
		} else if len(err.Error()) > 400 {
			t.Errorf("%.100s: an error of %d bytes", row.text, len(err.Error()))
		}
	}
}

// TestHostileDescriptions: what a peer says of its types ends in an error.
func TestHostileDescriptions(t *testing.T) {
	long := strings.Repeat("长", 100_000)
	many := make([]rpc.Field, 500)
	for i := range many {
		many[i].Name = long
	}
	for _, row := range []struct {
		name  string
		shape rpc.Shape
		text  string // "": skip From
		value rpc.Raw
		want  string
		reads bool // To takes it
	}{
		{"unknown kind", rpc.Shape{Kind: "color"}, "1", pack(t, 1), "which this sealmux does not know", true},
		{"no bits", rpc.Shape{Kind: "int"}, "1", pack(t, 1), "0 bits", true},
		{"65 bits", rpc.Shape{Kind: "uint", Bits: 65}, "1", pack(t, 1), "65 bits", true},
		{"float16", rpc.Shape{Kind: "float", Bits: 16}, "1", pack(t, 1.5), "16 bits", true},
		{"bad elem", rpc.Shape{Kind: "list", Elem: 9}, "[1]", pack(t, []int{1}), "type 9", false},
		{"negative elem", rpc.Shape{Kind: "map", Key: 1, Elem: -9}, "{}", rpc.Raw{0x80}, "type -9", false},
		{"bad key", rpc.Shape{Kind: "map", Key: 9, Elem: 1}, "{}", rpc.Raw{0x80}, "type 9", false},
		{"key of maps", rpc.Shape{Kind: "map", Elem: 1}, "{}", rpc.Raw{0x80}, `keys of kind "map"`, false},
		{"bad field", rpc.Shape{Kind: "struct", Fields: []rpc.Field{{Name: "A", Type: 2}}}, `{"A":1}`, pack(t, map[string]int{"A": 1}),
			"type 2", false},
		{"long kind", rpc.Shape{Kind: long}, "1", pack(t, 1), "does not know", true},
		{"many long fields", rpc.Shape{Kind: "struct", Fields: many}, `{"A":1}`, pack(t, map[string]int{"A": 1}), "and 480 more", true},
	} {
		d := &rpc.Description{Types: []rpc.Shape{row.shape, {Kind: "text"}}}
		_, err := From(d, 0, []byte(row.text))
		if err == nil || !strings.Contains(err.Error(), row.want) || len(err.Error()) > 2000 {
			t.Errorf("%s: %v", row.name, err)
		}
		got, err := To(d, 0, row.value)
		if (err == nil) != row.reads || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s, out: %s %v", row.name, got, err)
		}
	}
	twice := &rpc.Description{Types: []rpc.Shape{{Kind: "struct", Fields: []rpc.Field{{Name: "A"}, {Name: "A", Type: 7}}}}}
	if b, err := From(twice, 0, []byte(`{"A":{}}`)); err != nil || rpc.Check(b) != nil {
		t.Error(b, err)
	}
	circle := &rpc.Description{Types: []rpc.Shape{{Kind: "list"}}} // of itself, which Go has too
	for depth, ok := range map[int]bool{32: true, 33: false} {
		text := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		if _, err := From(circle, 0, []byte(text)); (err == nil) != ok {
			t.Error(depth, err)
		}
	}
}

// TestToJSONOfOthers: values that are not of their shape come out as they are.
func TestToJSONOfOthers(t *testing.T) {
	for _, row := range []struct {
		shape int
		value rpc.Raw
		want  string
	}{
		{tText, pack(t, 1), "1"},
		{tInt8, pack(t, 1.0), "1.0"},
		{tFloat64, pack(t, -300), "-300"},
		{tInt8, pack(t, float32(0.1)), "0.1"},
		{tAny, pack(t, 1e-7), "1e-07"},
		{tInts, pack(t, []byte{1}), `"AQ=="`},
		{tRequest, pack(t, []int{1}), "[1]"},
		{tItem, pack(t, map[string]any{"New": []any{time.Unix(0, 0), "\u007f\u0085"}}), `{"New":["1970-01-01T00:00:00Z","\u007f\u0085"]}`},
		{tItem, append(rpc.Raw{0x82}, pack(t, -1, "a", uint64(math.MaxUint64), nil)...), `{"-1":"a","18446744073709551615":null}`},
		{tInts, append(rpc.Raw{0x81}, pack(t, "<a>&", math.Inf(1))...), `{"<a>&":"Infinity"}`},
		{tByInt, append(rpc.Raw{0x81}, pack(t, "t\u2028", 2.0)...), `{"t\u2028":2}`},
		{tUint8, rpc.Raw{0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, "-2"}, // not the shortest form
		{tBool, rpc.Raw{0xd9, 1, 'a'}, `"a"`},
		{tAny, rpc.Raw{0xdf, 0, 0, 0, 1, 0x01, 0xdd, 0, 0, 0, 0}, `{"1":[]}`},
	} {
		got, err := To(testTypes(), row.shape, row.value)
		if err != nil || string(got) != row.want {
			t.Errorf("%x as %d: %s %v, want %s", row.value, row.shape, got, err, row.want)
		}
		if !json.Valid(got) {
			t.Errorf("%s is not JSON", got)
		}
	}
	for _, bad := range []rpc.Raw{nil, {0xc1}, {0x92, 1}, {1, 1}, {0xd4, 1, 1}} {
		if got, err := To(testTypes(), tAny, bad); err == nil {
			t.Errorf("%x: %s", bad, got)
		}
	}
	if got, err := To(testTypes(), tCount, pack(t, 1)); err == nil {
		t.Error(got)
	}
}

func TestJSONOfLongValues(t *testing.T) {
	data := make([]byte, 1<<20)
	text := `{"Items":[{"Data":"` + base64.StdEncoding.EncodeToString(data) + `"}],"Any":"` + strings.Repeat("长", 1<<18) + `"}`
	b, err := From(testTypes(), tRequest, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := To(testTypes(), tRequest, b); err != nil || string(back) != text {
		t.Error(len(back), err)
	}
}

func TestShape(t *testing.T) {
	d := testTypes()
	for i, want := range d.Types {
		if got, err := Shape(d, i); err != nil || got.Kind != want.Kind {
			t.Errorf("%d: %v %v, want %s", i, got, err, want.Kind)
		}
	}
	for _, i := range []int{-1, tCount} {
		if got, err := Shape(d, i); err == nil {
			t.Errorf("%d: %v", i, got)
		}
	}
}
