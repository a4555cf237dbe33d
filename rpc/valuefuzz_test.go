package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// meaning is a checked body in one text for all of its encodings, which msgpack has several of by design (B1): integers and lengths
// of several widths, floats of two, times of three, and maps in any order.
func meaning(b []byte) string {
	text, end := meaningAt(b, 0)
	if end != len(b) {
		panic("not checked")
	}
	return text
}

func meaningAt(b []byte, off int) (text string, end int) {
	t, err := next(b, off)
	if err != nil {
		panic(err)
	}
	inside := b[t.start:t.end]
	switch t.kind {
	case tokInt:
		if t.neg {
			return strconv.FormatInt(int64(t.num), 10), t.end
		}
		return strconv.FormatUint(t.num, 10), t.end
	case tokFloat:
		bits := b[off+1 : t.end]
		f := math.Float64frombits(numberIn(bits))
		if len(bits) == 4 {
			f = float64(math.Float32frombits(uint32(numberIn(bits))))
		}
		return fmt.Sprintf("float %g", f), t.end
	case tokStr:
		return fmt.Sprintf("%q", inside), t.end
	case tokBin:
		return fmt.Sprintf("0x%x", inside), t.end
	case tokTime:
		return "time " + timeIn(b[off:t.end]), t.end
	case tokArray, tokMap:
		var parts []string
		off = t.end
		for range t.count {
			var part string
			part, off = meaningAt(b, off)
			parts = append(parts, part)
		}
		if t.kind == tokArray {
			return "[" + strings.Join(parts, " ") + "]", off
		}
		var pairs []string
		for pair := range slices.Chunk(parts, 2) {
			pairs = append(pairs, pair[0]+": "+pair[1])
		}
		slices.Sort(pairs)
		return "{" + strings.Join(pairs, " ") + "}", off
	case tokBool:
		return strconv.FormatBool(b[off] == 0xc3), t.end
	}
	return "nil", t.end
}

func numberIn(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func timeIn(b []byte) string {
	switch len(b) {
	case 6:
		return fmt.Sprint(binary.BigEndian.Uint32(b[2:]), "s 0ns")
	case 10:
		n := binary.BigEndian.Uint64(b[2:])
		return fmt.Sprint(n&(1<<34-1), "s ", n>>34, "ns")
	}
	return fmt.Sprint(int64(binary.BigEndian.Uint64(b[7:])), "s ", binary.BigEndian.Uint32(b[3:]), "ns")
}

func TestMeaning(t *testing.T) {
	for want, bodies := range map[string][]string{
		"5":                      {"\x05", "\xcc\x05", "\xcd\x00\x05", "\xd0\x05", "\xd3\x00\x00\x00\x00\x00\x00\x00\x05"},
		"-1":                     {"\xff", "\xd1\xff\xff"},
		"float 1.5":              {"\xca\x3f\xc0\x00\x00", "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"},
		`"a"`:                    {"\xa1a", "\xd9\x01a", "\xda\x00\x01a"},
		"0x61":                   {"\xc4\x01a", "\xc5\x00\x01a"},
		"[nil]":                  {"\x91\xc0", "\xdc\x00\x01\xc0"},
		`{"a": true "b": false}`: {"\x82\xa1a\xc3\xa1b\xc2", "\xde\x00\x02\xd9\x01b\xc2\xa1a\xc3"},
		"time 1s 0ns":            {"\xd6\xff\x00\x00\x00\x01", "\xd7\xff\x00\x00\x00\x00\x00\x00\x00\x01", "\xc7\x0c\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"},
	} {
		for _, b := range bodies {
			if got := meaning([]byte(b)); got != want {
				t.Errorf("%x means %s, want %s", b, got, want)
			}
		}
	}
}

// again takes a body through a Go value of type T and back, twice. fits says whether the type takes it. What came back first means
// what came back second; whether it means what b does, T decides.
func again[T any](t *testing.T, b Raw) (back Raw, fits bool) {
	t.Helper()
	var v, w T
	if err := decode(b, &v); err != nil {
		if !errors.Is(err, ErrBadMessage) {
			t.Fatal(err)
		}
		return nil, false
	}
	back, err := encode(v)
	if err == nil {
		err = Check(back)
	}
	if err == nil {
		err = decode(back, &w)
	}
	if err != nil {
		t.Fatalf("%x became %+v, and then: %v", b, v, err)
	}
	twice, err := encode(w)
	if err != nil || meaning(twice) != meaning(back) {
		t.Fatalf("%x became %s and then %s, %v", b, meaning(back), meaning(twice), err)
	}
	return back, true
}

// What Check accepts, and a Go type takes, means the same when it has been a Go value. In other bytes, perhaps: see meaning.
// fuzz: 10000x
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"\xc0", "\x82\xa1a\x01\xa1b\x92\xc0\xc3", "\xd6\xff1234", "\xd7\xff\x00\x00\x00\x001234", "\xc7\x0c\xff\x3b\x9a\xc9\xff12345678",
		"\xc4\x02ab", "\x81\xa1L\x91\x81\xa1x\xd1\x01\x00", "\x81\xa1P\x81\xa1T\xc0", "\x81\xa1B\xc4\x01\x00", "\xca\x3f\xc0\x00\x00", "\x93\xd0\x05\xcd\x00\x05\xff",
		"\x81\xa1T\xd6\xff\x00\x00\x00\x00", "\x9b\x01\x02\x03\xd6\xff1234\xa1s\xc4\x01b\x81\xa1m\xc0\x90\xc0\x05\x07", "\x81\xa1M\x81\xa1k\x92\x01\xcb\x7f\xf0\x00\x00\x00\x00\x00\x01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if Check(b) != nil {
			return
		}
		for _, whole := range []func(*testing.T, Raw) (Raw, bool){again[any], again[Raw], again[string], again[[]byte], again[int64], again[uint64],
			again[[]any], again[map[string]any], again[map[int32]any]} {
			back, fits := whole(t, b)
			if fits && meaning(back) != meaning(b) && b[0] != 0xc0 { // nil fits all, as their zero value
				t.Fatalf("%s became %s", meaning(b), meaning(back))
			}
		}
		again[float64](t, b) // takes integers
		again[*bool](t, b)
		again[[]int8](t, b) // takes nil inside
		again[map[int32]string](t, b)
		again[narrow](t, b)
		again[wideStruct](t, b)
		again[time.Time](t, b)
		again[Description](t, b)
	})
}

// A description may hold anything: as text it is one line, of bounded length.
// fuzz: 10000x
func FuzzDescription(f *testing.F) {
	srv := NewServer(Options{})
	Unary[wideStruct, map[string]tree]{Name: "a"}.Handle(srv, nil)
	Unary[narrow, Description]{Name: "b"}.Handle(srv, nil)
	for _, prefix := range []string{"", "a", "sealmux.", "none"} {
		d, err := srv.describe(bg, prefix)
		if err != nil {
			f.Fatal(err)
		}
		b, err := encode(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b))
	}
	for _, types := range [][]Shape{{{Kind: "list"}}, {{Kind: "map", Elem: 1}, {Kind: "struct", Name: "a\nb", Fields: []Field{{"\x1b", 0}, {"", 1}, {"c", 99}}}},
		{{Kind: "color"}, {Kind: "int", Bits: -8}}} {
		b, err := encode(Description{Types: types})
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Description
		if Check(b) != nil || decode(b, &d) != nil {
			return
		}
		again[Description](t, b)
		for i := range min(len(d.Types), 50) + 2 {
			text := d.String(i - 1)
			if len(text) > 4096 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
				t.Fatalf("%d: %q", i-1, text)
			}
		}
	})
}

// Headers, trailers and details have one encoding each.
// fuzz: 10000x
func FuzzMetadata(f *testing.F) {
	for _, m := range []Metadata{nil, {"k": {"v"}}, {"a": {"", "\xff"}, "b-_.9": {strings.Repeat("x", 300)}}} {
		f.Add(appendMetadata(nil, m))
	}
	f.Add(appendDetails(nil, []Detail{{"q", Raw{5}}, {"长", nil}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader{b: b}
		if r.metadata(); r.bad == "" && len(r.b) == 0 {
			m := decodeMetadata(b)
			if out := appendMetadata(nil, m); !bytes.Equal(out, b) {
				t.Fatalf("%x became %x", b, out)
			}
			if err := m.check(); err != nil || metadataSize(m) < len(b) || m.empty() != (len(b) == 1) || !reflect.DeepEqual(m.clone(), m) {
				t.Fatalf("%x: %v, %d bytes, %q", b, err, metadataSize(m), m)
			}
		}
		r = reader{b: b}
		if r.details(); r.bad == "" && len(r.b) == 0 {
			details := decodeDetails(b)
			if out := appendDetails(nil, details); !bytes.Equal(out, b) || len(clipDetails(details)) != len(details) {
				t.Fatalf("%x became %x", b, out)
			}
		}
	})
}

// What decompresses is within the limit, and is found again after it was compressed here. Deflate has many encodings of one text.
// fuzz: 10000x
func FuzzDecompress(f *testing.F) {
	for _, text := range []string{"a", "hello hello hello", strings.Repeat("\x00", 70000)} {
		b, _ := compress([]byte(text))
		f.Add(b, uint16(0))
		f.Add(b, uint16(len(text)))
		f.Add(append(bytes.Clone(b), 0), uint16(65535))
	}
	f.Add([]byte("\x03\x00"), uint16(1))
	f.Add([]byte("\x01\x02\x00\xfd\xffhi"), uint16(2))
	f.Fuzz(func(t *testing.T, b []byte, most uint16) {
		limit := int(most)
		out, err := decompress(b, limit)
		if err != nil {
			if err != ErrTooLarge && !errors.Is(err, ErrBadMessage) {
				t.Fatal(err)
			}
			return
		}
		if len(out) == 0 || len(out) > limit || len(out) > len(b)*maxRatio {
			t.Fatalf("%d bytes of %d, limit %d", len(out), len(b), limit)
		}
		if _, err := decompress(b, len(out)-1); err != ErrTooLarge {
			t.Fatal(err)
		}
		again, pack := compress(out)
		if pack != packed {
			if !bytes.Equal(again, out) {
				t.Fatal("neither compressed nor left as it was")
			}
			return
		}
		if back, err := decompress(again, len(out)); err != nil || !bytes.Equal(back, out) || len(again) >= len(out) {
			t.Fatalf("%x, %v", again, err)
		}
	})
}
