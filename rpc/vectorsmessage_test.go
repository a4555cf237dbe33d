package rpc

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// What fills fields to their limits.
var (
	method255    = strings.Repeat("方", 85)
	request255   = strings.Repeat("r", 255)
	fullMetadata = metadataOf(64, 64, 64)
	oneOfEach    = Metadata{"k": {"v"}}
)

// metadataOf is metadata of n values, with keys and values of so many bytes.
func metadataOf(n, key, value int) Metadata {
	md := make(Metadata)
	for i := range n {
		k := fmt.Sprintf("%02d-%s", i, strings.Repeat("k", key-3))
		md[k] = []string{strings.Repeat(string(rune('a'+i%26)), value)}
	}
	return md
}

// message makes a case of a message that is accepted.
func (g *generator) message(name, title, rule string, m message) {
	c := []part{}
	for _, h := range describeMessage(&m) {
		c = append(c, also(h.Name, h.Value))
	}
	g.add(name, title, "message", "ok", rule, append(c, in(appendMessage(nil, m)))...)
}

func (g *generator) messages() {
	text, body := []byte("\xa9你好!!!"), []byte("\x81\xa1k\x93\x01\xc0\xc3")
	md := func(m Metadata) []byte { return appendMetadata(nil, m) }
	empty := md(nil)
	full := md(fullMetadata)
	one := md(Metadata{"a": {"", "\xff"}, "trace-id": {"4bf92f35"}})

	g.message("call-smallest", "a call with the least there can be", "W4", message{kind: kindCall, id: 1, method: []byte("m"), body: nilBody})
	g.message("call-typical", "a call with a timeout of 1 ms and a text in UTF-8", "W4", message{kind: kindCall, id: 1, method: []byte("echo"), timeout: 1000, body: text})
	g.message("call-largest", "a call with the largest id, method and timeout", "W6", message{kind: kindCall, id: math.MaxUint64, method: []byte(method255), timeout: maxTimeout, body: body})
	g.message("reply-smallest", "a reply with the least there can be", "W4", message{kind: kindReply, id: 1, body: nilBody})
	g.message("reply-typical", "a reply with a map", "W4", message{kind: kindReply, id: 1000, body: body})
	g.message("reply-largest", "a reply with the largest id and a body of 4,000 bytes", "W11", message{kind: kindReply, id: math.MaxUint64, body: appendBin(nil, strings.Repeat("\x00", 3997))})
	g.message("reply-bad-body", "a message whose body breaks B is a good message", "W11", message{kind: kindReply, id: 1, body: []byte{0xc1}})
	g.message("error-smallest", "an error with the least there can be", "W4", message{kind: kindError, id: 1, code: Canceled, outcome: NotExecuted})
	g.message("error-typical", "an error that tells of a method that is not there", "W4", message{kind: kindError, id: 1, code: Unimplemented, outcome: NotExecuted, text: []byte("no such method")})
	g.message("error-largest", "an error with the largest id, code, outcome and text", "W8", message{kind: kindError, id: math.MaxUint64, code: Unauthenticated, outcome: Executed, text: bytes.Repeat([]byte("t"), maxErrorText)})
	g.message("goaway", "a goaway, which has nothing but its kind", "W4", message{kind: kindGoaway})
	g.message("end", "an end, which has nothing but its kind", "W4", message{kind: kindEnd})
	g.message("part-smallest", "a part of one byte, which need not be a value", "W11", message{kind: kindPart, id: 1, body: []byte{0xc1}})
	g.message("part-typical", "a part of three bytes", "W4", message{kind: kindPart, id: 1, body: []byte{1, 2, 3}})
	g.message("part-largest", "a part of 32,753 bytes with the largest id", "C10", message{kind: kindPart, id: math.MaxUint64, body: make([]byte, partSize)})
	g.message("open-smallest", "an open of a stream with the least there can be", "W4", message{kind: kindOpen, id: 1, method: []byte("m"), form: formStream, header: empty})
	g.message("open-typical", "an open of a connection with a request id and metadata", "W9", message{kind: kindOpen, id: 3, method: []byte("http"), form: formConn, request: []byte("r-1"), header: one})
	g.message("open-largest", "an open with all fields at their limits", "W6", message{kind: kindOpen, id: math.MaxUint64, method: []byte(method255), timeout: maxTimeout, form: formStream, flags: flagPack, request: []byte(request255), header: full})
	g.message("item-smallest", "an item of one byte", "W4", message{kind: kindItem, body: nilBody})
	g.message("item-typical", "an item with a map", "W4", message{kind: kindItem, body: body})
	g.message("item-large", "an item of 70,000 bytes, which no part divides", "W11", message{kind: kindItem, body: appendBin(nil, strings.Repeat("\x00", 69_995))})
	g.message("header-smallest", "a header without values", "W7", message{kind: kindHeader, header: empty})
	g.message("header-typical", "a header with two values of one key, of which one is empty, and another key", "W7", message{kind: kindHeader, header: one})
	g.message("header-largest", "a header of 64 values, with keys of 64 bytes, of 8,192 bytes together", "W7", message{kind: kindHeader, header: full})
	g.message("header-one-value", "a header with one value of 8,191 bytes under a key of one", "W7", message{kind: kindHeader, header: md(Metadata{"k": {strings.Repeat("\x00", maxMetadata-1)}})})
	g.message("header-every-character", "a key of every character that keys have", "W7", message{kind: kindHeader, header: md(Metadata{"-.0123456789_abcdefghijklmnopqrstuvwxyz": {"v"}})})
	g.message("header-16-elements", "eight values are 16 elements: the array's head has three bytes", "W3", message{kind: kindHeader, header: md(metadataOf(8, 3, 1))})
	g.message("header-same-key-unsorted-values", "the values of one key keep their order, whatever they are", "W7", message{kind: kindHeader, header: md(Metadata{"k": {"2", "1", "2"}})})
	g.message("done-smallest", "a done without values", "W4", message{kind: kindDone, trailer: empty})
	g.message("done-typical", "a done with metadata", "W4", message{kind: kindDone, trailer: one})
	g.message("done-largest", "a done with the most metadata", "W7", message{kind: kindDone, trailer: full})
	g.message("call12-smallest", "a call of kind 12 for the sake of its flags alone", "W9", message{kind: kindCall2, id: 1, method: []byte("m"), flags: flagPack, header: empty, body: nilBody})
	g.message("call12-typical", "a call with a request id and metadata", "W4", message{kind: kindCall2, id: 300, method: []byte("kv.Get"), timeout: 5_000_000, request: []byte("r-1"), header: one, body: body})
	g.message("call12-largest", "a call of kind 12 with all fields at their limits", "W6", message{kind: kindCall2, id: math.MaxUint64, method: []byte(method255), timeout: maxTimeout, flags: flagPack, request: []byte(request255), header: full, body: body})
	g.message("reply13-smallest", "a reply of kind 13 for the sake of one value in its trailer", "W4", message{kind: kindReply2, id: 1, header: empty, trailer: md(oneOfEach), body: nilBody})
	g.message("reply13-typical", "a reply with header and trailer", "W4", message{kind: kindReply2, id: 77, header: one, trailer: md(oneOfEach), body: body})
	g.message("reply13-largest", "a reply with the most metadata in header and trailer", "W7", message{kind: kindReply2, id: math.MaxUint64, header: full, trailer: full, body: body})
	g.errorMessages()
	g.compressedMessages()
	g.encodings()
}

func (g *generator) errorMessages() {
	details := func(d ...Detail) []byte { return appendDetails(nil, d) }
	none := appendMetadata(nil, nil)
	g.message("error14-smallest", "an error of kind 14 for the sake of the time after which to repeat", "W8", message{kind: kindError2, id: 1, code: Unavailable, outcome: NotExecuted, retry: 1, details: details(), header: none, trailer: none})
	g.message("error14-typical", "an error with a detail and a trailer", "W8", message{kind: kindError2, id: 9, code: ResourceExhausted, outcome: Executed, text: []byte("quota"), retry: 250_000,
		details: details(Detail{"kv.quota", []byte("\x81\xa5limit\x0a")}), header: none, trailer: appendMetadata(nil, oneOfEach)})
	g.message("error14-draining", "the refusal of a drain: a detail without a body", "C4", message{kind: kindError2, id: 9, code: Unavailable, outcome: NotExecuted, text: []byte("the server is draining"),
		details: details(Detail{drainingDetail, nil}), header: none, trailer: none})
	var most []Detail
	for i := range maxDetails { // 16 times 1,024 bytes
		most = append(most, Detail{fmt.Sprintf("detail-%03d", i), bytes.Repeat([]byte{byte(i)}, 1014)})
	}
	g.message("error14-largest", "an error with the largest retry, and 16 details of 16,384 bytes together", "W8", message{kind: kindError2, id: math.MaxUint64, code: Unauthenticated, outcome: Executed, text: []byte("t"),
		retry: maxTimeout, details: details(most...), header: none, trailer: none})
	g.message("error14-name-255", "a detail's name of 255 bytes, and another of one", "W8", message{kind: kindError2, id: 1, code: Unknown, outcome: Executed,
		details: details(Detail{method255, []byte{0xc0}}, Detail{"d", nil}), header: none, trailer: none})
}

// deflated40 is deflate of a text of 40 bytes, "aaa...".
var deflated40 = []byte{0xbb, 0xa9, 0x91, 0x48, 0x24, 0x00, 0x00}

func (g *generator) compressedMessages() {
	none := appendMetadata(nil, nil)
	g.message("compressed-reply", "kind 66: a reply whose body is compressed", "W10", message{kind: kindReply, packed: true, id: 1, body: deflated40})
	g.message("compressed-item", "kind 72: an item whose body is compressed", "W10", message{kind: kindItem, packed: true, body: deflated40})
	g.message("compressed-call", "kind 76: a call whose body is compressed, with nothing else that needs kind 12", "W10", message{kind: kindCall2, packed: true, id: 1, method: []byte("m"), header: none, body: deflated40})
	g.message("compressed-reply13", "kind 77: a reply with metadata whose body is compressed", "W10", message{kind: kindReply2, packed: true, id: 1, header: none, trailer: appendMetadata(nil, oneOfEach), body: deflated40})
	g.message("compressed-nothing", "what does not decompress is a good message all the same", "W11", message{kind: kindItem, packed: true, body: []byte{3, 0}})
}

// encodings are the smallest encodings at each change of width.
func (g *generator) encodings() {
	for _, n := range []uint64{1, 127, 128, 255, 256, 1<<16 - 1, 1 << 16, 1<<32 - 1, 1 << 32, math.MaxUint64} {
		g.message(fmt.Sprintf("cancel-%d", n), fmt.Sprintf("a cancel of id %d, in %d bytes", n, uintSize(n)), "W5", message{kind: kindCancel, id: n})
	}
	for _, n := range []int{31, 32, 255} {
		g.message(fmt.Sprintf("method-%d", n), fmt.Sprintf("a method of %d bytes, whose head has %d", n, stringHeader(n)), "W6",
			message{kind: kindCall, id: 1, method: bytes.Repeat([]byte("m"), n), body: nilBody})
	}
	for _, n := range []int{0, 255, 256} {
		g.message(fmt.Sprintf("value-%d", n), fmt.Sprintf("metadata with a value of %d bytes", n), "W3",
			message{kind: kindHeader, header: appendMetadata(nil, Metadata{"k": {strings.Repeat("v", n)}})})
	}
	g.message("text-256", "an error's text of 256 bytes, whose head has three", "W3", message{kind: kindError, id: 1, code: Internal, outcome: Executed, text: bytes.Repeat([]byte("t"), 256)})
}

// refused makes a case of a payload that is refused.
func (g *generator) refused(name, title, rule, payload string) {
	g.add("refused-"+name, title, "message", "refused", rule, in(framed(g.unhex(payload))))
}

func (g *generator) refusedMessages() {
	rep := strings.Repeat
	for _, c := range [][3]string{
		{"length-over", "a length of 2^30+1", "40000001"},
		{"length-most", "a length of 2^32-1", "ffffffff"},
		{"length-0", "a length of 0", "00000000"},
		{"length-1", "a payload of one byte", "00000001 91"},
		{"length-http", "the first bytes of HTTP, as a length", "47455420"},
	} {
		g.add("refused-"+c[0], c[1], "message", "refused", "W2", in(g.unhex(c[2])))
	}
	for _, c := range [][4]string{
		{"not-array", "the payload is a map", "W3", "8105c0"},
		{"array-16", "the array's head in three bytes where one will do", "W3", "dc0002 04 01"},
		{"array-32", "the array's head in five bytes where one will do", "W3", "dd00000002 04 01"},
		{"kind-not-smallest", "the kind in two bytes where one will do", "W3", "91 cc05"},
		{"kind-0", "kind 0", "W4", "91 00"},
		{"kind-15", "kind 15", "W4", "91 0f"},
		{"kind-negative", "a kind below 0", "W4", "91 ff"},
		{"goaway-2-elements", "an array of two elements for a goaway, which has one", "W4", "92 05 01"},
		{"cancel-1-element", "an array of one element for a cancel, which has two", "W4", "91 04"},
		{"goaway-trailing", "a byte behind the array", "W3", "91 05 00"},
		{"cancel-trailing", "a value behind the array", "W3", "92 04 01 c0"},
		{"error-trailing", "a byte behind the array of an error", "W3", "95 03 01 01 03 a0 00"},
		{"header-trailing", "a byte behind the array of a header", "W3", "92 0a 90 c0"},
		{"cancel-cut", "an array that ends before its last element", "W3", "92 04"},
		{"open-cut", "an open that ends behind its request id", "W3", "98 07 01 a16d 00 01 00 a0"},
		{"id-0", "id 0", "W5", "92 04 00"},
		{"id-negative", "an id below 0", "W5", "92 04 ff"},
		{"id-signed", "an id in the encoding of signed numbers", "W3", "92 04 d001"},
		{"id-float", "an id that is a float", "W5", "92 04 ca3f800000"},
		{"id-text", "an id that is text", "W5", "92 04 a131"},
		{"id-nil", "an id that is nil", "W5", "92 04 c0"},
		{"id-8-bit", "127 in two bytes", "W3", "92 04 cc7f"},
		{"id-16-bit", "255 in three bytes", "W3", "92 04 cd00ff"},
		{"id-32-bit", "65,535 in five bytes", "W3", "92 04 ce0000ffff"},
		{"id-64-bit", "2^32-1 in nine bytes", "W3", "92 04 cf00000000ffffffff"},
		{"id-cut", "a number that ends before its last byte", "W3", "92 04 cd01"},
		{"method-empty", "a method without a name", "W6", "95 01 01 a0 00 c0"},
		{"method-256", "a method of 256 bytes", "W6", "95 01 01 da0100" + rep("6d", 256) + "00 c0"},
		{"method-binary", "a method that is binary", "W6", "95 01 01 c4016d 00 c0"},
		{"method-not-utf8", "a method that is not UTF-8", "W12", "95 01 01 a1ff 00 c0"},
		{"method-surrogate", "a method with half a surrogate pair, which is not UTF-8", "W12", "95 01 01 a3eda080 00 c0"},
		{"method-overlong", "a method with an overlong encoding, which is not UTF-8", "W12", "95 01 01 a2c0af 00 c0"},
		{"method-8-bit", "a method of one byte with a head of two", "W3", "95 01 01 d9016d 00 c0"},
		{"method-16-bit", "a method of 255 bytes with a head of three", "W3", "95 01 01 da00ff" + rep("6d", 255) + "00 c0"},
		{"method-cut", "a method that is longer than the payload", "W3", "95 01 01 a56d"},
		{"timeout-over", "a timeout of one microsecond more than there may be", "W6", "95 01 01 a16d cf0020c49ba5e353f8 c0"},
		{"timeout-negative", "a timeout below 0", "W6", "95 01 01 a16d e0 c0"},
		{"request-id-256", "a request id of 256 bytes", "W6", "98 07 01 a16d 00 01 00 da0100" + rep("61", 256) + "90"},
		{"request-id-not-utf8", "a request id that is not UTF-8", "W12", "98 07 01 a16d 00 01 00 a180 90"},
		{"form-0", "form 0", "W9", "98 07 01 a16d 00 00 00 a0 90"},
		{"form-3", "form 3", "W9", "98 07 01 a16d 00 03 00 a0 90"},
		{"flags-2", "flags 2", "W9", "98 07 01 a16d 00 01 02 a0 90"},
		{"flags-12", "flags 2 in a call", "W9", "98 0c 01 a16d 00 02 a0 90 c0"},
		{"code-0", "code 0", "W8", "95 03 01 00 03 a0"},
		{"code-17", "code 17", "W8", "95 03 01 11 03 a0"},
		{"outcome-0", "outcome 0", "W8", "95 03 01 01 00 a0"},
		{"outcome-1", "outcome 1", "W8", "95 03 01 01 01 a0"},
		{"outcome-4", "outcome 4", "W8", "95 03 01 01 04 a0"},
		{"text-4097", "an error's text of 4,097 bytes", "W8", "95 03 01 01 03 da1001" + rep("74", 4097)},
		{"text-not-utf8", "an error's text that is not UTF-8", "W12", "95 03 01 01 03 a1ff"},
		{"text-nil", "an error's text that is nil", "W8", "95 03 01 01 03 c0"},
		{"retry-over", "a time to repeat of one microsecond more than there may be", "W8", "99 0e 01 08 03 a0 cf0020c49ba5e353f8 90 90 90"},
		{"call12-needless", "kind 12 for what kind 1 says", "W3", "98 0c 01 a16d 00 00 a0 90 c0"},
		{"reply13-needless", "kind 13 for what kind 2 says", "W3", "95 0d 01 90 90 c0"},
		{"error14-needless", "kind 14 for what kind 3 says", "W3", "99 0e 01 08 03 a0 00 90 90 90"},
		{"compressed-call1", "kind 65: a compressed call is of kind 12", "W10", "95 41 01 a16d 00 c0"},
		{"compressed-cancel", "kind 68: a cancel has no body", "W10", "92 44 01"},
		{"compressed-part", "kind 70: a part is not compressed by itself", "W10", "93 46 01 c0"},
		{"compressed-error", "kind 67: an error has no body", "W10", "95 43 01 01 03 a0"},
		{"call-no-body", "a call without a body", "W11", "95 01 01 a16d 00"},
		{"reply-no-body", "a reply without a body", "W11", "93 02 01"},
		{"part-empty", "a part without bytes", "W11", "93 06 01"},
		{"item-empty", "an item without a body", "W11", "92 08"},
	} {
		g.refused(c[0], c[1], c[2], c[3])
	}
	g.refusedMetadata()
}

func (g *generator) refusedMetadata() {
	rep := strings.Repeat
	for _, c := range [][4]string{
		{"key-alone", "a key without a value", "W7", "92 0a 91 a16b"},
		{"key-empty", "an empty key", "W7", "92 0a 92 a0 c40176"},
		{"key-65", "a key of 65 bytes", "W7", "92 0a 92 d941" + rep("61", 65) + "c40176"},
		{"key-capital", "a key with a capital letter", "W7", "92 0a 92 a14b c40176"},
		{"key-space", "a key with a space", "W7", "92 0a 92 a120 c40176"},
		{"key-colon", "a key with a colon, as HTTP/2 has them", "W7", "92 0a 92 a23a61 c40176"},
		{"key-umlaut", "a key with a letter that is not ASCII", "W7", "92 0a 92 a2c3a4 c40176"},
		{"key-binary", "a key that is binary", "W7", "92 0a 92 c4016b c40176"},
		{"value-text", "a value that is text", "W7", "92 0a 92 a16b a176"},
		{"keys-not-sorted", "keys that do not ascend", "W7", "92 0a 94 a16b c400 a16a c400"},
		{"keys-prefix-not-sorted", "a key behind one that it begins", "W7", "92 0a 94 a26b61 c400 a16b c400"},
		{"65-values", "65 values", "W7", "92 0a dc0082" + rep("a161c400", 65)},
		{"metadata-8193", "keys and values of 8,193 bytes together", "W7", "92 0a 92 a161 c52000" + rep("00", 0x2000)},
		{"metadata-array-16", "an array of two elements with a head of three bytes", "W3", "92 0a dc0002 a16b c40176"},
		{"metadata-map", "metadata that is a map", "W7", "92 0a 81 a16b c40176"},
		{"value-16-bit", "a value of one byte with a head of three", "W3", "92 0a 92 a16b c5000176"},
		{"value-32-bit", "a value of one byte with a head of five", "W3", "92 0a 92 a16b c60000000176"},
		{"trailer-not-sorted", "a trailer whose keys do not ascend", "W7", "92 0b 94 a16b c400 a16a c400"},
		{"detail-alone", "a detail's name without a body", "W8", "99 0e 01 08 03 a0 00 91 a171 90 90"},
		{"detail-no-name", "a detail without a name", "W8", "99 0e 01 08 03 a0 00 92 a0 c40190 90 90"},
		{"detail-name-256", "a detail's name of 256 bytes", "W8", "99 0e 01 08 03 a0 00 92 da0100" + rep("64", 256) + "c400 90 90"},
		{"detail-text", "a detail's body that is text", "W8", "99 0e 01 08 03 a0 00 92 a171 a171 90 90"},
		{"17-details", "17 details", "W8", "99 0e 01 08 03 a0 00 dc0022" + rep("a171c400", 17) + "90 90"},
		{"details-16385", "details of 16,385 bytes together", "W8", "99 0e 01 08 03 a0 00 92 a171 c54000" + rep("00", 0x4000) + "90 90"},
	} {
		g.refused(c[0], c[1], c[2], c[3])
	}
}
