package rpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// appendMessage writes what parseMessage read.
func appendMessage(b []byte, m message) []byte {
	pack := byte(0)
	if m.packed {
		pack = packed
	}
	h := callHead{string(m.method), m.timeout, m.form, m.flags, string(m.request), decodeMetadata(m.header)}
	switch m.kind {
	case kindCall, kindCall2:
		return appendCall2(b, m.id, &h, pack, m.body)
	case kindReply, kindReply2:
		return appendReply2(b, m.id, h.header, decodeMetadata(m.trailer), pack, m.body)
	case kindError, kindError2:
		return appendError(b, m.id, &wireStatus{m.code, m.outcome, string(m.text), m.retry, decodeDetails(m.details), h.header, decodeMetadata(m.trailer)})
	case kindCancel:
		return appendCancel(b, m.id)
	case kindGoaway:
		return appendGoaway(b)
	case kindPart:
		return appendPart(b, m.id, m.body)
	case kindOpen:
		return appendOpen(b, m.id, &h)
	case kindItem:
		return append(appendItem(b, pack, len(m.body)), m.body...)
	case kindEnd:
		return appendEnd(b)
	case kindHeader:
		return appendHeader(b, h.header)
	}
	return appendDone(b, decodeMetadata(m.trailer))
}

// vectors are those of SPEC.md.
var vectors = map[string]message{
	"00000015" + "95" + "01" + "01" + "a46563686f" + "cd03e8" + "a9" + "e4bda0e5a5bd" + "212121": {
		kind: kindCall, id: 1, method: []byte("echo"), timeout: 1000, body: []byte("\xa9你好!!!")},
	"00000006" + "93" + "02" + "cc80" + "93" + "c0":                   {kind: kindReply, id: 128, body: []byte{0x93, 0xc0}},
	"0000000a" + "95" + "03" + "01" + "0c" + "02" + "a4" + "6e6f2121": {kind: kindError, id: 1, code: Unimplemented, outcome: NotExecuted, text: []byte("no!!")},
	"0000000b" + "92" + "04" + "cf" + "0000000100000000":              {kind: kindCancel, id: 1 << 32},
	"00000002" + "91" + "05":                                          {kind: kindGoaway},
}

func TestVectors(t *testing.T) {
	for text, m := range vectors {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendMessage(nil, m); !bytes.Equal(got, b) {
			t.Errorf("kind %d: %x, want %x", m.kind, got, b)
		}
		got, err := parseMessage(b[frameHeader:])
		if err != nil || !bytes.Equal(appendMessage(nil, got), b) {
			t.Errorf("kind %d: %+v, %v", m.kind, got, err)
		}
		for n := range len(b) - frameHeader { // a truncation is refused, or cuts the body, which is Check's to refuse
			if got, err := parseMessage(b[frameHeader : frameHeader+n]); err == nil && len(got.body) == 0 {
				t.Errorf("kind %d accepted at %d bytes", m.kind, n)
			}
		}
	}
	for _, id := range []uint64{1, 127, 128, 255, 256, 1<<16 - 1, 1 << 16, 1<<32 - 1, 1 << 32, 1<<64 - 1} {
		for _, n := range []int{1, 31, 32, 255} {
			m := strings.Repeat("m", n)
			b := appendCall(nil, id, m, id>>11, []byte{0xc0})
			if size := callSize(id, m, id>>11, []byte{0xc0}); size != len(b)-frameHeader || size > callOverhead+n+1-frameHeader {
				t.Errorf("callSize(%d, %d) is %d, want %d", id, n, size, len(b)-frameHeader)
			}
			if got, err := parseMessage(b[frameHeader:]); err != nil || got.id != id || string(got.method) != m {
				t.Error(got, err)
			}
		}
	}
}

func TestRefusedMessages(t *testing.T) {
	for name, p := range map[string]string{
		"nothing":               "",
		"one byte":              "91",
		"not an array":          "c005",
		"kind 0":                "9100",
		"kind 15":               "910f",
		"kind not canonical":    "91cc05",
		"array not canonical":   "dc00029204",
		"goaway with more":      "920501",
		"goaway trailing":       "910500",
		"id 0":                  "920400",
		"id not canonical":      "9204cc7f",
		"id not canonical 2":    "9204cd00ff",
		"id not canonical 8":    "9204cf00000000ffffffff",
		"id negative":           "9204ff",
		"id cut":                "9204cd01",
		"id text":               "9204a131",
		"cancel trailing":       "920401c0",
		"method empty":          "950101a000c0",
		"method binary":         "950101c4016d00c0",
		"method not UTF-8":      "950101a1ff00c0",
		"method not canonical":  "950101d9016d00c0",
		"method too long":       "950101da0100" + strings.Repeat("6d", 256) + "00c0",
		"timeout too long":      "950101a16dcf0020c49ba5e353f8c0",
		"timeout negative":      "950101a16de0c0",
		"body missing":          "950101a16d00",
		"reply without body":    "930201",
		"error code 0":          "9503010003a0",
		"error code 17":         "9503011103a0",
		"error outcome 0":       "9503010100a0",
		"error outcome 1":       "9503010101a0",
		"error outcome 4":       "9503010104a0",
		"error text too long":   "9503010103da1001" + strings.Repeat("6d", 4097),
		"error text not UTF-8":  "9503010103a1ff",
		"error trailing":        "9503010103a000",
		"length over the bytes": "9503010103a5",
	} {
		b, err := hex.DecodeString(p)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := parseMessage(b); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parseMessage(appendCall(nil, 1, "m", maxTimeout, []byte{0xc0})[frameHeader:]); err != nil {
		t.Error(err)
	}
}

func FuzzParseMessage(f *testing.F) {
	for text := range vectors {
		b, _ := hex.DecodeString(text)
		f.Add(b[frameHeader:])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := parseMessage(p)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			return
		}
		if again := appendMessage(nil, m); !bytes.Equal(again[frameHeader:], p) {
			t.Fatalf("%x became %x", p, again[frameHeader:])
		}
	})
}
