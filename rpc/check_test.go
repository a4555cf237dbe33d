package rpc

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

func TestCheck(t *testing.T) {
	rep := strings.Repeat
	bigMap := func(n int, last string) string { // n keys, all different but the last
		b := []byte{0xde, byte((n + 1) >> 8), byte(n + 1)}
		for i := range n {
			b = append(b, 0xcd, byte(i>>8), byte(i), 0xc0)
		}
		return string(b) + last + "\xc0"
	}
	for _, row := range []struct {
		name, b string
		ok      bool
	}{
		{"nil", "\xc0", true},
		{"numbers", "\x9a\x00\xff\xcc\x01\xcd\x00\x01\xce\x00\x00\x00\x01\xd0\xff\xd1\xff\xff\xca\x00\x00\x00\x00\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xd3\x00\x00\x00\x00\x00\x00\x00\x01", true},
		{"nothing", "", false},
		{"two values", "\xc0\xc0", false},
		{"an array and more", "\x90\xc0", false},
		{"a map and more", "\x81\x01\x02\xc0", false},
		{"never used", "\xc1", false},
		{"array32 of 2^32-1", "\xdd\xff\xff\xff\xff", false},
		{"map32 of 2^32-1", "\xdf\xff\xff\xff\xff", false},
		{"bin32 of 200 M", "\xc6\x0b\xeb\xc2\x00abc", false},
		{"str8 cut", "\xd9\x03ab", false},
		{"str8 of no length", "\xd9", false},
		{"map one value short", "\x82\x01\x02\x03", false},
		{"depth 32", rep("\x91", 32) + "\xc0", true},
		{"depth 33", rep("\x91", 33) + "\xc0", false},
		{"depth 32, empty", rep("\x91", 31) + "\x90", true},
		{"depth 33, empty", rep("\x91", 32) + "\x90", false},
		{"nesting 100,000", rep("\x91", 100_000) + "\xc0", false},
		{"map nesting", rep("\x81\x01", 33) + "\xc0", false},
		{"100,000 values", "\xdd\x00\x01\x86\x9f" + rep("\xc0", 99_999), true},
		{"100,001 values", "\xdd\x00\x01\x86\xa0" + rep("\xc0", 100_000), false},
		{"100,001 values in parts", "\x92\xdd\x00\x01\x86\x9d" + rep("\xc0", 99_997) + "\x91\xc0", false},
		{"text", "\xa6你好", true},
		{"text not UTF-8", "\xa1\xff", false},
		{"binary not UTF-8", "\xc4\x01\xff", true},
		{"twice", "\x82\xa1a\x01\xa1a\x02", false},
		{"twice, written differently", "\x82\xa1a\x01\xd9\x01a\x02", false},
		{"integer twice, written differently", "\x82\x01\x01\xcc\x01\x02", false},
		{"integer twice, signed", "\x82\x01\x01\xd0\x01\x02", false},
		{"-1 and 2^64-1 differ", "\x82\xff\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x02", true},
		{"1 and \"\" and \"1\" differ", "\x83\x01\x01\xa0\x01\xa11\x02", true},
		{"same key at two levels", "\x82\xa1a\x81\xa1a\x01\xa1b\x81\xa1a\x01", true},
		{"nil key", "\x81\xc0\x01", false},
		{"binary key", "\x81\xc4\x01a\x01", false},
		{"array key", "\x81\x90\x01", false},
		{"float key", "\x81\xca\x00\x00\x00\x00\x01", false},
		{"301 keys", bigMap(300, "\xa1a"), true},
		{"301 keys, one twice", bigMap(300, "\x07"), false},
		{"17 keys, one twice", bigMap(16, "\x07"), false},
		{"16 keys, one twice", bigMap(15, "\x07"), false},
		{"timestamp 32", "\xd6\xff1234", true},
		{"timestamp 64", "\xd7\xff\x00\x00\x00\x001234", true},
		{"timestamp 96", "\xc7\x0c\xff\x3b\x9a\xc9\xff12345678", true},
		{"timestamp 96, too many ns", "\xc7\x0c\xff\x3b\x9a\xca\x0012345678", false},
		{"timestamp 64, too many ns", "\xd7\xff\xff\xff\xff\xff1234", false},
		{"timestamp cut", "\xd6\xff123", false},
		{"ext 1", "\xd6\x011234", false},
		{"fixext 1", "\xd4\xff1", false},
		{"ext 8 of 4", "\xc7\x04\xff1234", false},
		{"ext 32", "\xc9\xff\xff\xff\xff\xff", false},
		{"interned string", "\xd4\x80\x00", false},
	} {
		if err := Check(Raw(row.b)); (err == nil) != row.ok || err != nil && !errors.Is(err, ErrBadMessage) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

type narrow struct {
	I8  int8
	U32 uint32
	I64 int64
	T   time.Time
	S   string
	B   []byte
	M   map[string]any
	L   []map[string]int16
	P   *narrow
	embedded
	Renamed int `msgpack:"r,omitempty"`
}

type embedded struct{ E uint8 }

func TestDecodeRefuses(t *testing.T) {
	m := func(k string, v any) Raw {
		b, err := msgpack.Marshal(map[string]any{k: v})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	now := time.Unix(0x81a0dc00, 0) // its first bytes would be a map's head
	bomb := Raw("\x81\xa1M\xd7\xff\xdf\xff\xff\xff\xff\xff\xff\xff")
	for name, row := range map[string]struct {
		b  Raw
		ok bool
	}{
		"300 in int8":        {m("I8", 300), false},
		"-128 in int8":       {m("I8", -128), true},
		"-1 in uint32":       {m("U32", -1), false},
		"2^32 in uint32":     {m("U32", int64(1<<32)), false},
		"2^32-1 in uint32":   {m("U32", int64(1<<32-1)), true},
		"2^63 in int64":      {m("I64", uint64(1<<63)), false},
		"min in int64":       {m("I64", int64(math.MinInt64)), true},
		"float in int64":     {m("I64", 1.5), false},
		"nil for a time":     {m("T", nil), false},
		"a time":             {m("T", now), true},
		"binary for text":    {m("S", []byte("x")), false},
		"text for binary":    {m("B", "x"), false},
		"timestamp for map":  {m("M", now), false},
		"timestamp bomb":     {bomb, false},
		"2^15 in a list":     {m("L", []any{map[string]int{"x": 1 << 15}}), false},
		"nested":             {m("P", map[string]any{"I8": 128}), false},
		"nested, good":       {m("P", map[string]any{"I8": 127}), true},
		"embedded":           {m("E", 256), false},
		"embedded, good":     {m("E", 255), true},
		"embedded by name":   {m("embedded", map[string]any{"E": 256}), false},
		"renamed":            {m("r", "x"), false},
		"unknown":            {m("zzz", []any{now, 1}), true},
		"integer field name": {Raw("\x81\x01\x01"), false},
		"array":              {Raw("\x91\x01"), false},
	} {
		if err := Check(row.b); err != nil {
			t.Fatal(name, err)
		}
		var v narrow
		if err := decode(row.b, &v); (err == nil) != row.ok || err != nil && !errors.Is(err, ErrBadMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, v := range []any{struct{ F func() }{}, struct{ E error }{}, struct{ *narrow }{}, map[float64]int{}, complex(1, 1), new(chan int),
		struct {
			A string `msgpack:",intern"`
		}{}, struct {
			A int `msgpack:"x"`
			B int `msgpack:"x"`
		}{}} {
		if _, err := encode(v); err == nil {
			t.Errorf("%T accepted", v)
		}
	}
}

func TestCodecRoundTrip(t *testing.T) {
	in := narrow{I8: -3, U32: 7, I64: 1 << 40, T: time.Unix(1700000000, 5).UTC(), S: "你", B: []byte{0xff}, M: map[string]any{"k": "v"},
		L: []map[string]int16{{"x": -300}}, P: &narrow{S: "in", T: time.Unix(1, 0).UTC()}, embedded: embedded{9}, Renamed: 4}
	b, err := encode(in)
	if err != nil || Check(b) != nil {
		t.Fatal(err, Check(b))
	}
	var out *narrow
	if err := decode(b, &out); err != nil {
		t.Fatal(err)
	}
	out.T, out.P.T = out.T.UTC(), out.P.T.UTC()
	if !reflect.DeepEqual(in, *out) {
		t.Errorf("%+v\n%+v", in, *out)
	}
}

// FuzzCheck: what Check accepts decodes into any, or fails typed; bytes and type agree on where a value ends.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"\xc0", "\x82\xa1a\x01\xa1b\x92\xc0\xc3", "\xd6\xff1234", "\x81\xa1M\xd7\xff\xdf\xff\xff\xff\xff\xff\xff\xff", "\xc4\x02ab",
		"\x81\xa1L\x91\x81\xa1x\xd1\x01\x00", "\x81\xa1P\x81\xa1T\xc0", "\x81\xa1B\xd6\xff\x81\xa0\xdd\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := Check(b); err != nil {
			if !errors.Is(err, ErrBadMessage) {
				t.Fatal(err)
			}
			return
		}
		if end, err := skip(b, 0); err != nil || end != len(b) {
			t.Fatal(end, err)
		}
		var v any
		err := decode(b, &v)
		var n narrow
		err2 := decode(b, &n)
		var ms map[string]map[string]string
		err3 := decode(b, &ms)
		for _, err := range []error{err, err2, err3} {
			if err != nil && !errors.Is(err, ErrBadMessage) {
				t.Fatal(err)
			}
		}
	})
}

// A head says no more values than there are bytes left, since whoever reads it may make room for them.
func TestCheckOfHeads(t *testing.T) {
	for _, b := range []string{"\xdd\x00\x00\x00\x03\x01\x02", "\xdf\x00\x00\x00\x02\x01\x02\x03", "\xdc\x00\x01", "\x91", "\x81\x01"} {
		if head, err := next([]byte(b), 0); err == nil {
			t.Errorf("%x: %d values", b, head.count)
		}
	}
}

func TestCheckMemory(t *testing.T) {
	b := append([]byte{0xdd, 0, 1, 0x86, 0x9f}, bytes.Repeat([]byte{0xc0}, 99_999)...)
	type wide struct{ A [10]int64 }
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var v []wide
	if err := decode(b, &v); err != nil || len(v) != 99_999 {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	grown := after.TotalAlloc - before.TotalAlloc
	if limit := uint64(100_000 * 80 * 5 / 2); grown > limit { // the documented twice, and size classes
		t.Errorf("decoding took %d bytes, documented %d", grown, limit)
	}
}
