package rpc

import (
	"encoding/hex"
	"fmt"
	"strings"
)

func (g *generator) value(name, title, rule, body, value string) {
	parts := []part{}
	if value != "" {
		parts = append(parts, also("value", value))
	}
	g.add(name, title, "body", "ok", rule, append(parts, in(g.unhex(body)))...)
}

// elements are n values, in hex.
func elements(n int) string { return strings.Repeat("c0", n) }

func (g *generator) bodies() {
	rep := strings.Repeat
	for _, c := range [][5]string{
		{"nil", "nil", "B1", "c0", "nil"},
		{"booleans", "false and true", "B1", "92 c2 c3", "[false, true]"},
		{"integers", "the largest and the least of each width", "B1", "9e 00 7f ccff cdffff ceffffffff cfffffffffffffffff ff e0 d080 d18000 d280000000 d38000000000000000 d07f d37fffffffffffffff",
			"[0, 127, 255, 65535, 4294967295, 18446744073709551615, -1, -32, -128, -32768, -2147483648, -9223372036854775808, 127, 9223372036854775807]"},
		{"integers-wide", "1 in every width: a body need not be smallest", "B1", "99 01 cc01 cd0001 ce00000001 cf0000000000000001 d001 d10001 d200000001 d30000000000000001", "[1, 1, 1, 1, 1, 1, 1, 1, 1]"},
		{"floats", "1.5 in both widths, and infinity", "B1", "93 ca3fc00000 cb3ff8000000000000 cb7ff0000000000000", "[float(3ff8000000000000), float(3ff8000000000000), float(7ff0000000000000)]"},
		{"text", "text in UTF-8, with a quote and a character beyond 16 bits", "B5", "aa 22 e4bda0 5c f09f9880 0a", `"\"你\\😀\n"`},
		{"text-wide", "text with heads of every size", "B1", "94 a161 d90161 da000161 db0000000161", `["a", "a", "a", "a"]`},
		{"text-empty", "no text, which is not nil", "B1", "a0", `""`},
		{"text-nul", "text with a NUL", "B5", "a36100 62", `"a\u0000b"`},
		{"binary-wide", "binary with heads of every size, of bytes that are no UTF-8", "B5", "93 c401ff c50001ff c600000001ff", "[h'ff', h'ff', h'ff']"},
		{"containers-wide", "arrays and maps with heads of every size", "B1", "96 90 dc0000 dd00000000 80 de0000 df00000000", "[[], [], [], {}, {}, {}]"},
		{"map", "a map with keys of both kinds, in the order that they have", "B6", "83 a162 01 02 a163 a161 90", `{"b": 1, 2: "c", "a": []}`},
		{"map-1-and-text-1", "1, text 1 and empty text are different keys", "B6", "83 01 c0 a131 c0 a0 c0", `{1: nil, "1": nil, "": nil}`},
		{"map-minus-1", "-1 and 2^64-1 are different keys", "B6", "82 ff c0 cfffffffffffffffff c0", "{-1: nil, 18446744073709551615: nil}"},
		{"map-same-key-deeper", "the same key in a map and in one inside it", "B6", "81 a161 81 a161 01", `{"a": {"a": 1}}`},
		{"depth-32", "arrays nested 32 deep", "B2", rep("91", 31) + "90", rep("[", 32) + rep("]", 32)},
		{"depth-32-value", "a value in 32 arrays", "B2", rep("91", 32) + "c0", rep("[", 32) + "nil" + rep("]", 32)},
		{"depth-32-maps", "maps nested 32 deep", "B2", rep("8101", 31) + "80", rep("{1: ", 31) + "{}" + rep("}", 31)},
		{"values-100000", "100,000 values, the array included", "B3", "dd0001869f" + elements(99_999), ""},
		{"values-100000-map", "100,000 values: an array, 49,999 and a map in it with its 49,999", "B3", "dd0000c350" + elements(49_999) + "81 01 dd0000c34c" + elements(49_996), ""},
		{"time-32", "a time of 4 bytes: 2023-11-14 22:13:20 UTC", "B4", "d6ff 6553f100", "time(1700000000, 0)"},
		{"time-64", "a time of 8 bytes, with nanoseconds", "B4", "d7ff 00000014 6553f100", "time(1700000000, 5)"},
		{"time-64-most", "a time of 8 bytes with 999,999,999 nanoseconds and the most seconds", "B4", "d7ff ee6b27ff ffffffff", "time(17179869183, 999999999)"},
		{"time-96", "a time of 12 bytes before 1970", "B4", "c70cff 3b9ac9ff ffffffffffffffff", "time(-1, 999999999)"},
		{"time-wide", "a time of 12 bytes where 4 would do", "B4", "c70cff 00000000 0000000000000001", "time(1, 0)"},
	} {
		g.value(c[0], c[1], c[2], c[3], c[4])
	}
	keys, values := "", []string{}
	for i := range 300 {
		keys += fmt.Sprintf("cd%04x 01", i)
		values = append(values, fmt.Sprintf("%d: 1", i))
	}
	g.value("map-300", "a map of 300 keys", "B6", "de012c"+keys, short("{"+strings.Join(values, ", ")+"}"))
}

// short is a value if a case shows it.
func short(value string) string {
	if len(value) > maxShown {
		return ""
	}
	return value
}

func (g *generator) badBodies() {
	rep := strings.Repeat
	ints := func(n int) (keys string) {
		for i := range n {
			keys += fmt.Sprintf("cd%04x c0", i)
		}
		return keys
	}
	for _, c := range [][4]string{
		{"never-used", "c1, which msgpack never uses", "B1", "c1"},
		{"array-most", "an array that says it has 2^32-1 elements", "B1", "ddffffffff"},
		{"map-most", "a map that says it has 2^32-1 pairs", "B1", "dfffffffff"},
		{"text-most", "text that says it has 2^32-1 bytes", "B1", "dbffffffff61"},
		{"binary-most", "binary that says it has 2^32-1 bytes", "B1", "c6ffffffff61"},
		{"text-1-short", "text that lacks its last byte", "B1", "a3 6162"},
		{"binary-1-short", "binary that lacks its last byte", "B1", "c403 6162"},
		{"array-1-short", "an array that lacks its last element", "B1", "93 0102"},
		{"map-value-short", "a map that lacks its last value", "B1", "82 01 02 03"},
		{"number-short", "a number that lacks its last byte", "B1", "ce 000000"},
		{"float-short", "a float that lacks its last byte", "B1", "ca 000000"},
		{"head-short", "text whose length lacks its last byte", "B1", "da 00"},
		{"count-over-later", "an array in an array says that it has four elements, and three bytes are left", "B1", "92 dc0004 010203"},
		{"depth-33", "arrays nested 33 deep", "B2", rep("91", 32) + "90"},
		{"depth-33-maps", "maps nested 33 deep", "B2", rep("8101", 32) + "80"},
		{"depth-1000", "arrays nested 1,000 deep", "B2", rep("91", 1000) + "c0"},
		{"values-100001", "100,001 values, the array included", "B3", "dd000186a0" + elements(100_000)},
		{"values-100001-parts", "100,001 values, of which two are arrays", "B3", "92 dd0001869d" + elements(99_997) + "91 c0"},
		{"ext-1", "an extension of type 1", "B4", "d6 01 00000000"},
		{"fixext-1", "an extension of one byte of type -1", "B4", "d4 ff 00"},
		{"fixext-2", "an extension of two bytes of type -1", "B4", "d5 ff 0000"},
		{"fixext-16", "an extension of 16 bytes of type -1", "B4", "d8 ff" + rep("00", 16)},
		{"ext-8-of-4", "a timestamp of 4 bytes that is written as one of any length", "B4", "c7 04 ff 00000000"},
		{"ext-8-of-0", "an extension without bytes", "B4", "c7 00 ff"},
		{"ext-16", "an extension with a head of four bytes", "B4", "c8 000c ff" + rep("00", 12)},
		{"ext-32", "an extension with a head of six bytes", "B4", "c9 0000000c ff" + rep("00", 12)},
		{"time-64-nanoseconds", "a time of 8 bytes with 10^9 nanoseconds", "B4", "d7ff ee6b2800 00000000"},
		{"time-96-nanoseconds", "a time of 12 bytes with 10^9 nanoseconds", "B4", "c70cff 3b9aca00 0000000000000001"},
		{"time-32-short", "a time of 4 bytes that lacks its last", "B4", "d6ff 000000"},
		{"time-as-key", "a map whose key is a time", "B6", "81 d6ff00000000 c0"},
		{"text-not-utf8", "text that is not UTF-8", "B5", "a1 ff"},
		{"text-surrogate", "text with half a surrogate pair", "B5", "a3 eda080"},
		{"text-inside-not-utf8", "text in a map in an array that is not UTF-8", "B5", "91 81 a161 a2c328"},
		{"key-not-utf8", "a key that is not UTF-8", "B5", "81 a180 c0"},
		{"key-twice", "a text key twice", "B6", "82 a161 01 a161 02"},
		{"key-twice-wide", "a text key twice, with heads of different sizes", "B6", "82 a161 01 d90161 02"},
		{"key-twice-integer", "an integer key twice, in different widths", "B6", "82 01 01 cc01 02"},
		{"key-twice-signed", "an integer key twice, once in a signed encoding", "B6", "82 01 01 d001 02"},
		{"key-twice-negative", "a negative key twice, in different widths", "B6", "82 ff 01 d3ffffffffffffffff 02"},
		{"key-twice-300", "a key of 300 twice", "B6", "de012d" + ints(300) + "07 c0"},
		{"key-nil", "a key that is nil", "B6", "81 c0 01"},
		{"key-bool", "a key that is true", "B6", "81 c3 01"},
		{"key-binary", "a key that is binary", "B6", "81 c40161 01"},
		{"key-float", "a key that is a float", "B6", "81 ca00000000 01"},
		{"key-array", "a key that is an array", "B6", "81 90 01"},
		{"two-values", "a value behind the value", "B7", "c0 c0"},
		{"trailing-array", "a byte behind an array", "B7", "91 c0 00"},
		{"trailing-map", "a byte behind a map", "B7", "80 c0"},
	} {
		g.add("bad-"+c[0], c[1], "body", "bad", c[2], in(g.unhex(c[3])))
	}
}

func (g *generator) typedBodies() {
	const head = "81 ce636f6465 92" // of a coded body
	const gobMap = "0e ff81 04 01 02 ff82 00 01 0c 01 04 0000"
	rep := strings.Repeat
	for _, c := range [][6]string{
		{"int8", "the least int8", "B8", "int8", "d080", "-128"},
		{"int8-wide", "127 in nine bytes is an int8", "B8", "int8", "d3000000000000007f", "127"},
		{"int8-over", "128 where an int8 is due", "B8", "int8", "cc80", ""},
		{"int8-under", "-129 where an int8 is due", "B8", "int8", "d1ff7f", ""},
		{"int8-nil", "nil where an int8 is due is 0", "B8", "int8", "c0", "0"},
		{"int8-float", "1.0 where an int8 is due", "B8", "int8", "cb3ff0000000000000", ""},
		{"int8-text", "text where an int8 is due", "B8", "int8", "a131", ""},
		{"int64-over", "2^63 where an int64 is due", "B8", "int64", "cf8000000000000000", ""},
		{"uint32", "the largest uint32", "B8", "uint32", "ceffffffff", "4294967295"},
		{"uint32-over", "2^32 where a uint32 is due", "B8", "uint32", "cf0000000100000000", ""},
		{"uint32-negative", "-1 where a uint32 is due", "B8", "uint32", "ff", ""},
		{"text", "text where text is due", "B8", "text", "d90161", `"a"`},
		{"text-nil", "nil where text is due is empty text", "B8", "text", "c0", `""`},
		{"text-binary", "binary where text is due", "B8", "text", "c40161", ""},
		{"binary-text", "text where binary is due", "B8", "binary", "a161", ""},
		{"list", "an array of int8", "B8", "[]int8", "93 01 ff c0", "[1, -1, 0]"},
		{"list-over", "an array whose last element is no int8", "B8", "[]int8", "92 01 cc80", ""},
		{"list-map", "a map where an array is due", "B8", "[]int8", "81 01 01", ""},
		{"map", "a map from text to int8", "B8", "map[text]int8", "81 a161 01", `{"a": 1}`},
		{"map-key", "a map with an integer key where keys are text", "B8", "map[text]int8", "81 01 01", ""},
		{"map-time", "a time where a map is due", "B8", "map[text]int8", "d7ff dfffffff ffffffff", ""},
		{"map-array", "an array where a map is due", "B8", "map[text]int8", "92 a161 01", ""},
		{"struct-map", "a struct as a map", "B9", "{A int8, B text}", "82 a142 a162 a141 01", `{"A": 1, "B": "b"}`},
		{"struct-array", "a struct as an array of all fields", "B9", "{A int8, B text}", "92 01 a162", `{"A": 1, "B": "b"}`},
		{"struct-unknown", "a struct with a field that the receiver does not know", "B9", "{A int8, B text}", "82 a141 01 a15a 93 c0 c0 c0", `{"A": 1, "B": ""}`},
		{"struct-nothing", "a struct without fields: all are empty", "B9", "{A int8, B text}", "80", `{"A": 0, "B": ""}`},
		{"struct-nil", "nil where a struct is due: all fields are empty", "B9", "{A int8, B text}", "c0", `{"A": 0, "B": ""}`},
		{"struct-array-empty", "an empty array where a struct is due: all fields are empty", "B9", "{A int8, B text}", "90", `{"A": 0, "B": ""}`},
		{"struct-array-short", "a struct as an array of one field of two", "B9", "{A int8, B text}", "91 01", ""},
		{"struct-array-long", "a struct as an array of three fields of two", "B9", "{A int8, B text}", "93 01 a162 c0", ""},
		{"struct-field", "a struct whose field is of another kind", "B9", "{A int8, B text}", "81 a141 a131", ""},
		{"coded-text", "JSON where text is due", "B10", "text", head + "a46a736f6e a3226122", ""},
		{"coded-binary", "a gob where binary is due", "B10", "binary", head + "a3676f62 c403 0c0000", ""},
		{"coded-struct", "JSON where a struct is due, by which unknown fields would be ignored", "B10", "{A int8, B text}", head + "a46a736f6e a27b7d", ""},
		{"coded-map", "JSON where a map is due", "B10", "map[text]int8", head + "a46a736f6e a27b7d", ""},
		{"json", "a struct in JSON, with a field that the receiver does not know", "B10", "json {A int8, B text}",
			head + "a46a736f6e b6" + hex.EncodeToString([]byte(`{"A":1,"B":"b","Z":[]}`)), `{"A": 1, "B": "b"}`},
		{"json-wide", "the name and the text with heads that could be smaller", "B10", "json {A int8, B text}", head + "d9046a736f6e db000000027b7d", `{"A": 0, "B": ""}`},
		{"json-nil", "nil where JSON is due: all fields are empty", "B10", "json {A int8, B text}", "c0", `{"A": 0, "B": ""}`},
		{"json-plain", "a struct where JSON is due", "B10", "json {A int8, B text}", "81 a141 01", ""},
		{"json-bare", "JSON without the head where JSON is due", "B10", "json {A int8, B text}", "a27b7d", ""},
		{"json-wide-key", "a head whose key is in nine bytes: it is another", "B10", "json {A int8, B text}", "81 cf00000000636f6465 92 a46a736f6e a27b7d", ""},
		{"json-binary", "JSON that is binary", "B10", "json {A int8, B text}", head + "a46a736f6e c4027b7d", ""},
		{"json-other", "a gob where JSON is due", "B10", "json {A int8, B text}", head + "a3676f62 c403 0c0000", ""},
		{"json-range", "JSON whose A is no int8", "B10", "json {A int8, B text}", head + "a46a736f6e a9" + hex.EncodeToString([]byte(`{"A":128}`)), ""},
		{"json-cut", "JSON that is cut short", "B11", "json {A int8, B text}", head + "a46a736f6e a17b", ""},
		{"json-two", "two values of JSON", "B11", "json {A int8, B text}", head + "a46a736f6e a47b7d7b7d", ""},
		{"json-depth-32", "JSON that is nested 32 deep, in a field that the receiver does not know", "B11", "json {A int8, B text}",
			head + "a46a736f6e d944" + hex.EncodeToString([]byte(`{"Z":`+rep("[", 31)+rep("]", 31)+`}`)), `{"A": 0, "B": ""}`},
		{"json-depth-33", "JSON that is nested 33 deep, in a field that the receiver does not know", "B11", "json {A int8, B text}",
			head + "a46a736f6e d946" + hex.EncodeToString([]byte(`{"Z":`+rep("[", 32)+rep("]", 32)+`}`)), ""},
		{"gob", "a map in a gob", "B10", "gob map[text]int", head + "a3676f62 c417" + gobMap + "07 ff82 00 01 0161 02", `{"a": 1}`},
		{"gob-most", "a map in a gob that says it has 2^32-1 pairs", "B12", "gob map[text]int", head + "a3676f62 c419" + gobMap + "09 ff82 00 fcffffffff 61", ""},
		{"gob-two", "two values in a gob", "B12", "gob map[text]int", head + "a3676f62 c41f" + gobMap + "07 ff82 00 01 0161 02" + "07 ff82 00 01 0162 02", ""},
		{"struct-integer-key", "a struct with a key that is no name", "B9", "{A int8, B text}", "81 01 01", ""},
	} {
		name, expect, parts := "as-"+c[0], "ok", []part{also("as", c[3]), also("value", c[5]), in(g.unhex(c[4]))}
		if c[5] == "" {
			name, expect = "bad-as-"+c[0], "bad"
			parts = append(parts[:1], parts[2])
		}
		g.add(name, c[1], "body", expect, c[2], parts...)
	}
}
