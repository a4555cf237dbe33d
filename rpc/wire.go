package rpc

import (
	"encoding/binary"
	"fmt"
	"math"
)

// This file is pure: bytes in, bytes out. It holds rules W1 to W12 of SPEC.md.

// The kinds of message (W4). Others are for later versions, which the session's application protocol name tells apart.
const (
	kindCall   = 1  // caller to callee, as are cancel, open and end
	kindReply  = 2  // callee to caller, as are error, goaway, part, header and done
	kindError  = 3  //
	kindCancel = 4  //
	kindGoaway = 5  //
	kindPart   = 6  // of a reply too large to come at once
	kindOpen   = 7  // first on a stream of messages or of bytes
	kindItem   = 8  // both ways
	kindEnd    = 9  // no more items from the caller
	kindHeader = 10 //
	kindDone   = 11 // the handler has ended well
	kindCall2  = 12 // call, reply and error with all they can have
	kindReply2 = 13 //
	kindError2 = 14 //

	packed = 0x40 // added to the kind of a message whose body is compressed (W10)
)

// layouts says what follows the kind in a message of each kind, a letter a field; the names are in message.
var layouts = [...]string{
	kindCall: "imtb", kindReply: "ib", kindError: "icox", kindCancel: "i", kindGoaway: "", kindPart: "ip",
	kindOpen: "imtfgqh", kindItem: "b", kindEnd: "", kindHeader: "h", kindDone: "r",
	kindCall2: "imtgqhb", kindReply2: "ihrb", kindError2: "icoxydhr",
}

// The forms of an open (W9).
const (
	formStream = 1 // of messages
	formConn   = 2 // of bytes
)

// flagPack is the flag (W9) that asks for compressed answers.
const flagPack = 1

const (
	frameHeader   = 4                    // W1: a u32, big endian
	maxMethod     = 255                  // W6: bytes
	maxRequestID  = 255                  // W6: bytes
	maxErrorText  = 4096                 // W8: bytes
	maxTimeout    = math.MaxInt64 / 1000 // W6: microseconds; a time.Duration holds it
	maxPairs      = 64                   // W7: of metadata
	maxMetadata   = 8 << 10              // W7: bytes of keys and values
	maxKey        = 64                   // W7: bytes
	maxDetails    = 16                   // W8
	maxDetailSize = 16 << 10             // W8: bytes of names and values
	maxFrame      = 1 << 30              // W2: bytes; nobody waits for the end of more

	// replyOverhead is what surrounds the body of a short reply, with its frame; callOverhead besides method and body.
	replyOverhead = frameHeader + 1 + 1 + 9
	callOverhead  = replyOverhead + 3 + 9
	// maxEnvelope is no less than all of a message but its body; maxHead that of a call or an open, which stands in front.
	maxHead     = frameHeader + 2 + 9 + 3 + maxMethod + 9 + 1 + 1 + 3 + maxRequestID + 3 + maxMetadata + 2*maxPairs*3
	maxEnvelope = frameHeader + 2 + 9 + 2 + 3 + maxErrorText + 9 + 3 + maxDetailSize + 2*maxDetails*3 + 2*(3+maxMetadata+2*maxPairs*3)
)

// A message is one parsed payload. Its slices are views of the payload.
type message struct {
	kind     byte    // without packed
	packed   bool    // body is compressed
	id       uint64  // i
	method   []byte  // m
	timeout  uint64  // t: microseconds, 0 for none
	form     byte    // f
	flags    byte    // g
	request  []byte  // q: the request id, empty for none
	code     Code    // c
	outcome  Outcome // o
	text     []byte  // x
	retry    uint64  // y: microseconds, 0 for none
	details  []byte  // d: an array
	header   []byte  // h: an array
	trailer  []byte  // r: an array
	body     []byte  // b, and p the piece of a body: not empty, not checked yet
	envelope int     // how many bytes of the payload are not body
}

// wireError is a payload refused by rules W2 to W12. It matches ErrProtocol. Nothing the peer sent is quoted in it.
type wireError struct{ reason string }

func (e *wireError) Error() string { return ErrProtocol.Error() + ": " + e.reason }
func (e *wireError) Unwrap() error { return ErrProtocol }

func violation(format string, args ...any) error { return &wireError{fmt.Sprintf(format, args...)} }

// begin leaves room for the length, which end fills in, and puts the array's head and the kind.
func begin(b []byte, kind byte) ([]byte, int) {
	return append(b, 0, 0, 0, 0, 0x91+byte(len(layouts[kind&^packed])), kind), len(b)
}

func end(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-frameHeader))
	return b
}

// A callHead is what an open says, and a call besides its body.
type callHead struct {
	method    string
	timeout   uint64
	form      byte // of an open
	flags     byte
	requestID string
	header    Metadata
	lead      []byte // stands before the body of a call
}

// short reports whether a call has nothing that needs kindCall2.
func (h *callHead) short() bool { return h.flags == 0 && h.requestID == "" && h.header.empty() }

// appendCall2 writes a call of either kind. pack is packed if body is compressed, else 0.
func appendCall2(b []byte, id uint64, h *callHead, pack byte, body []byte) []byte {
	if h.short() && pack == 0 {
		b, start := begin(b, kindCall)
		b = appendUint(appendString(appendUint(b, id), h.method), h.timeout)
		return end(append(append(b, h.lead...), body...), start)
	}
	b, start := begin(b, kindCall2|pack)
	b = appendUint(appendString(appendUint(b, id), h.method), h.timeout)
	b = appendString(append(b, h.flags), h.requestID)
	return end(append(append(appendMetadata(b, h.header), h.lead...), body...), start)
}

func appendOpen(b []byte, id uint64, h *callHead) []byte {
	b, start := begin(b, kindOpen)
	b = appendUint(appendString(appendUint(b, id), h.method), h.timeout)
	b = appendString(append(b, h.form, h.flags), h.requestID)
	return end(appendMetadata(b, h.header), start)
}

// size is no less than what the head takes in a message.
func (h *callHead) size() int {
	return callOverhead + len(h.method) + 2 + 3 + len(h.requestID) + metadataSize(h.header) + len(h.lead)
}

// appendReply2 writes a reply of either kind.
func appendReply2(b []byte, id uint64, header, trailer Metadata, pack byte, body []byte) []byte {
	if header.empty() && trailer.empty() {
		b, start := begin(b, kindReply|pack)
		return end(append(appendUint(b, id), body...), start)
	}
	b, start := begin(b, kindReply2|pack)
	b = appendMetadata(appendMetadata(appendUint(b, id), header), trailer)
	return end(append(b, body...), start)
}

func appendPart(b []byte, id uint64, lead, piece []byte) []byte {
	b, start := begin(b, kindPart)
	return end(append(append(appendUint(b, id), lead...), piece...), start)
}

// appendError writes an error of either kind. e is within the limits of W7 and W8.
func appendError(b []byte, id uint64, e *wireStatus) []byte {
	kind := byte(kindError)
	if e.retry != 0 || len(e.details) > 0 || !e.header.empty() || !e.trailer.empty() {
		kind = kindError2
	}
	b, start := begin(b, kind)
	b = append(appendUint(b, id), byte(e.code), byte(e.outcome))
	b = appendString(b, e.text)
	if kind == kindError2 {
		b = appendDetails(appendUint(b, e.retry), e.details)
		b = appendMetadata(appendMetadata(b, e.header), e.trailer)
	}
	return end(b, start)
}

// A wireStatus is what an error message says.
type wireStatus struct {
	code            Code
	outcome         Outcome
	text            string
	retry           uint64 // microseconds
	details         []Detail
	header, trailer Metadata
}

func appendDetails(b []byte, details []Detail) []byte {
	b = appendArrayHeader(b, 2*len(details))
	for _, d := range details {
		b = appendBin(appendString(b, d.Name), string(d.Body))
	}
	return b
}

func appendCancel(b []byte, id uint64) []byte {
	b, start := begin(b, kindCancel)
	return end(appendUint(b, id), start)
}

func appendGoaway(b []byte) []byte {
	b, start := begin(b, kindGoaway)
	return end(b, start)
}

// appendItem writes the head of an item whose body, of n bytes, is to follow.
func appendItem(b []byte, pack byte, n int) []byte {
	b, start := begin(b, kindItem|pack)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-frameHeader+n))
	return b
}

func appendEnd(b []byte) []byte {
	b, start := begin(b, kindEnd)
	return end(b, start)
}

func appendHeader(b []byte, header Metadata) []byte {
	b, start := begin(b, kindHeader)
	return end(appendMetadata(b, header), start)
}

func appendDone(b []byte, trailer Metadata) []byte {
	b, start := begin(b, kindDone)
	return end(appendMetadata(b, trailer), start)
}

// callSize and replySize are the payload's exact size, which rule W2 limits, of a short call and a short reply.
func callSize(id uint64, method string, timeout uint64, body []byte) int {
	return 2 + uintSize(id) + stringHeader(len(method)) + len(method) + uintSize(timeout) + len(body)
}

func replySize(id uint64, body []byte) int { return 2 + uintSize(id) + len(body) }
