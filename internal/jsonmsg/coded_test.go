package jsonmsg

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// Where the types of codedTypes are.
const (
	tJSON = iota
	tGob
	tLong
)

// codedTypes is what a server tells of methods that have a codec.
func codedTypes() *rpc.Description {
	return &rpc.Description{Types: []rpc.Shape{
		tJSON: {Kind: "coded", Name: "json"}, tGob: {Kind: "coded", Name: "gob"}, tLong: {Kind: "coded", Name: strings.Repeat("长", 1000)},
	}}
}

// body is a map with one pair, whose key and value are as given: of a coded body they are 0x636f6465 and a list of two.
func body(t testing.TB, key, value any) rpc.Raw {
	return append(rpc.Raw{0x81}, pack(t, key, value)...)
}

func TestFromCoded(t *testing.T) {
	for _, row := range []struct {
		shape int
		text  string
		want  rpc.Raw
	}{
		{tJSON, "", pack(t, nil)},
		{tJSON, " null\n", pack(t, nil)},
		{tGob, "null", pack(t, nil)},
		{tJSON, "{\"a\":\n[1.50, 2e400, \"<\u202e\"], \"a\": 1}", body(t, uint32(codedKey), []string{"json", "{\"a\":[1.50,2e400,\"<\u202e\"],\"a\":1}"})},
	} {
		got, err := From(codedTypes(), row.shape, []byte(row.text))
		if err != nil || !bytes.Equal(got, row.want) {
			t.Errorf("%s as %d: %x %v, want %x", row.text, row.shape, got, err, row.want)
		}
		if err := rpc.Check(got); err != nil {
			t.Errorf("%s as %d: %v", row.text, row.shape, err)
		}
	}
	for _, row := range []struct {
		shape      int
		text, want string
	}{
		{tJSON, "{", "request: the JSON ends within the value"},
		{tJSON, strings.Repeat("[", 33) + strings.Repeat("]", 33), "request: the JSON is nested deeper than 32"},
		{tGob, "1", "request: its messages are in gob, which sealmux does not write; call it from a Go program with that rpc.Codec"},
		{tLong, "1", "request: its messages are in 长"},
	} {
		got, err := From(codedTypes(), row.shape, []byte(row.text))
		if err == nil || !strings.HasPrefix(err.Error(), row.want) || len(err.Error()) > 200 {
			t.Errorf("%.100s as %d: %x %v, want %s", row.text, row.shape, got, err, row.want)
		}
	}
}

// TestToCoded: JSON comes out as it is, but on one line of which a terminal obeys nothing; what only looks like it, as msgpack.
func TestToCoded(t *testing.T) {
	for _, row := range []struct {
		value rpc.Raw
		want  string
	}{
		{pack(t, nil), "null"},
		{body(t, uint32(codedKey), []string{"json", "{\"a\": \n[1.50, \"<\u202e\u009b\U000e0001\"]}\n"}), `{"a":[1.50,"<\u202e\u009b\udb40\udc01"]}`},
		{body(t, uint32(codedKey), []string{"json", "{"}), `{"1668244581":["json","{"]}`},
		{body(t, uint32(codedKey), []string{"json"}), `{"1668244581":["json"]}`},
		{body(t, uint32(codedKey), []any{"json", 1}), `{"1668244581":["json",1]}`},
		{body(t, uint32(codedKey), "json"), `{"1668244581":"json"}`},
		{body(t, uint32(codedKey), []any{"gob", []byte{1}}), `{"1668244581":["gob","AQ=="]}`},
		{body(t, uint32(codedKey+1), []string{"json", "1"}), `{"1668244582":["json","1"]}`},
		{body(t, "json", []string{"json", "1"}), `{"json":["json","1"]}`},
		{rpc.Raw{0x80}, "{}"},
		{pack(t, "1"), `"1"`},
	} {
		if got, err := To(codedTypes(), tJSON, row.value); err != nil || string(got) != row.want {
			t.Errorf("%x: %s %v, want %s", row.value, got, err, row.want)
		}
	}
	cut := body(t, uint32(codedKey), []string{"json", "1"})
	if got, err := To(codedTypes(), tJSON, cut[:len(cut)-1]); err == nil || !strings.HasPrefix(err.Error(), "the message cannot be read: bad message: a length over the bytes left") {
		t.Errorf("%s %v", got, err)
	}
}
