package jsonmsg

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/sealmux/sealmux/rpc"
)

// FuzzFromJSON: what is accepted can be sent, and reads back the same.
func FuzzFromJSON(f *testing.F) {
	for shape := range tCount {
		for _, text := range []string{`{"Name":"a","Items":[{"Count":1,"At":"2026-11-23T20:00:00.5+01:00","By":{"-3":1e9}}],"Any":[1.5,{"a":-0.0}]}`,
			"-1", "0.1", `"NaN"`, `"aGk="`, `"2026-11-23T20:00:00Z"`, "[1,2]", `{"1":null}`, "{}", `"\ud800\u009b"`, "true", "1E5", ""} {
			f.Add(shape, []byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, shape int, text []byte) {
		d := testTypes()
		b, err := From(d, shape, text)
		if err != nil {
			return
		}
		if err := rpc.Check(b); err != nil {
			t.Fatal(err)
		}
		back, err := To(d, shape, b)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := From(d, shape, back); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x, through %s: %x %v", b, back, again, err)
		}
	})
}

// FuzzToJSON: any message of any description ends in one line of JSON of bounded length, or in an error; with a description
// that holds together, only one that rpc.Check refuses ends in an error.
func FuzzToJSON(f *testing.F) {
	described := pack(f, testTypes())
	for _, value := range []string{"\xc0", "\x82\xa1a\x01\x02\x92\xc0\xc3", "\xd6\xff1234", "\x81\xa2At\xc7\x0c\xff\x00\x00\x00\x00\x7f2345678",
		"\xc4\x02ab", "\x91\x81\xa5Count\xd1\x01\x00", "\xca\x7f\x80\x00\x00", "\xa2\xc2\x85", "\xc1", "\x81\xa4Next\x81\xa4Name\x91\x01"} {
		f.Add([]byte(described), tRequest, []byte(value))
		f.Add([]byte("\x81\xa5types\x91\x82\xa4kind\xa4list\xa4elem\x00"), 0, []byte(value))
	}
	f.Fuzz(func(t *testing.T, description []byte, shape int, value []byte) {
		check := func(d *rpc.Description, shape int) error {
			got, err := To(d, shape, value)
			if err == nil && (!json.Valid(got) || bytes.ContainsAny(got, "\n\r\x1b\x7f") || len(got) > 8*len(value)+16) {
				t.Fatalf("%x: %s", value, got)
			}
			From(d, shape, got)
			return err
		}
		if err := check(testTypes(), int(uint(shape)%tCount)); (err == nil) != (rpc.Check(value) == nil) {
			t.Fatal(err)
		}
		var d rpc.Description
		if rpc.Check(description) == nil && msgpack.Unmarshal(description, &d) == nil {
			check(&d, shape)
			From(&d, shape, value)
			if text := d.String(shape); len(text) > 4096 || strings.Contains(text, "\n") {
				t.Fatal(text)
			}
		}
	})
}
