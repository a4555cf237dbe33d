package rpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// appendCall and appendReply write the short kinds.
func appendCall(b []byte, id uint64, method string, timeout uint64, body []byte) []byte {
	return appendCall2(b, id, &callHead{method: method, timeout: timeout}, 0, body)
}

func appendReply(b []byte, id uint64, body []byte) []byte {
	return appendReply2(b, id, Metadata{}, Metadata{}, 0, body)
}

// appendMessage writes what parseMessage read.
func appendMessage(b []byte, m message) []byte {
	pack := byte(0)
	if m.packed {
		pack = packed
	}
	h := callHead{string(m.method), m.timeout, m.form, m.flags, string(m.request), decodeMetadata(m.header), nil}
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
		return appendPart(b, m.id, nil, m.body)
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

// specVectors returns those of SPEC.md: what they are, and the bytes.
func specVectors(t testing.TB) map[string][]byte {
	spec, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(spec), "## Vectors")
	line := regexp.MustCompile(`(?m)^(\w+ .*?) {2,}([0-9a-f]{8}( [0-9a-f]+)+)`)
	found := make(map[string][]byte)
	for _, m := range line.FindAllStringSubmatch(block, -1) {
		if found[m[1]], err = hex.DecodeString(strings.ReplaceAll(m[2], " ", "")); err != nil {
			t.Fatal(m[1], err)
		}
	}
	return found
}

func TestSpecVectors(t *testing.T) {
	names := map[byte]string{kindCall: "call", kindReply: "reply", kindError: "error", kindCancel: "cancel", kindGoaway: "goaway", kindPart: "part", kindOpen: "open",
		kindItem: "item", kindEnd: "end", kindHeader: "header", kindDone: "done", kindCall2: "call", kindReply2: "reply", kindError2: "error"}
	kinds := make(map[byte]bool)
	for what, b := range specVectors(t) {
		m, err := parseMessage(b[frameHeader:])
		if err != nil || !bytes.Equal(appendMessage(nil, m), b) {
			t.Errorf("%s: %+v, %v", what, m, err)
			continue
		}
		if word, _, _ := strings.Cut(what, " "); names[m.kind] != word {
			t.Errorf("%s is of kind %d", what, m.kind)
		}
		kinds[m.kind] = true
		for n := range len(b) - frameHeader { // a truncation is refused, or cuts the body, which is Check's to refuse
			if m, err := parseMessage(b[frameHeader : frameHeader+n]); err == nil && len(m.body) == 0 {
				t.Errorf("%s accepted at %d bytes", what, n)
			}
		}
	}
	if len(kinds) != len(layouts)-1 {
		t.Errorf("SPEC.md has vectors of %d kinds, of %d", len(kinds), len(layouts)-1)
	}
	b := specVectors(t)[`call     id 1, "echo", 1000 us, "你好!!!"`]
	m, err := parseMessage(b[frameHeader:])
	if err != nil || m.id != 1 || string(m.method) != "echo" || m.timeout != 1000 || string(m.body) != "\xa9你好!!!" {
		t.Errorf("%+v, %v", m, err)
	}
	b = specVectors(t)[`error    id 1, 8, executed, retry 1 ms, detail`]
	m, err = parseMessage(b[frameHeader:])
	if err != nil || m.code != ResourceExhausted || m.outcome != Executed || m.retry != 1000 || decodeDetails(m.details)[0].Name != "q" {
		t.Errorf("%+v, %v", m, err)
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
		"array 16 for 2":        "dc00029204",
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
		"compressed cancel":     "924401",
		"compressed short call": "954101a16d00c0",
		"long call, needless":   "980c01a16d0000a090c0",
		"long reply, needless":  "950d019090c0",
		"long error, needless":  "990e010803a000909090",
		"form 0":                "980701a16d000000a090",
		"form 3":                "980701a16d000300a090",
		"flags 2":               "980701a16d000102a090",
		"request id too long":   "980701a16d000100da0100" + strings.Repeat("61", 256) + "90",
		"key alone":             "920a91a16b",
		"key empty":             "920a92a0c40176",
		"key in capitals":       "920a92a14bc40176",
		"key too long":          "920a92d941" + strings.Repeat("61", 65) + "c40176",
		"value is text":         "920a92a16ba176",
		"keys not sorted":       "920a94a16bc400a16ac400",
		"65 pairs":              "920adc0082" + strings.Repeat("a161c400", 65),
		"metadata over 8 KiB":   "920a92a161c52000" + strings.Repeat("00", 0x2000),
		"array not canonical":   "920adc0002a16bc40176",
		"binary not canonical":  "920a92a16bc5000176",
		"detail alone":          "990e0108030091a1719090",
		"detail without name":   "990e010803a00092a0c4019090",
		"17 details":            "990e010803a000dc0022" + strings.Repeat("a171c400", 17) + "9090",
		"part empty":            "930601",
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
	for _, b := range specVectors(f) {
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
		if m.kind != kindError && m.kind != kindError2 {
			return
		}
		e := errorOf(&m, []ErrorKind{Sentinel("q", NotFound, io.ErrNoProgress), ErrorType[*quotaError]("sealmux.draining", Aborted)})
		if s := statusOf(e, nil); s.code != m.code || s.text != string(m.text) || s.retry != m.retry || !errors.Is(e, m.code) || e.Error() == "" {
			t.Fatalf("%x became %+v, and then %+v", p, e, s)
		}
	})
}
