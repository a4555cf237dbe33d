package rpc

import (
	"fmt"
	"strings"
)

func (g *generator) caller(name, title, expect, rule string, parts ...part) {
	g.add(name, title, "caller", expect, rule, parts...)
}

// came is a header that tells what came of a call.
func came(what, format string, args ...any) part { return also(what, fmt.Sprintf(format, args...)) }

func call1() part { return out(callOf(1, "get", "\xa1k")) }

// lostCall is what a call is that has no answer.
func lostCall() part { return came("call", "1 error 14 unknown") }

func (g *generator) callerCalls() {
	refused := func(name, title, rule string, b ...[]byte) {
		g.caller("refused-"+name, title, "refused", rule, lostCall(), call1(), in(b...))
	}
	g.caller("reply", "a reply", "ok", "C3", came("call", "1 reply a176"), call1(), in(replyOf(1, "\xa1v")))
	g.caller("reply13", "a reply with header and trailer", "ok", "W7", came("header", "1 a="), came("header", "1 a=ff"), came("trailer", "1 k=76"), came("call", "1 reply c0"),
		call1(), in(appendReply2(nil, 1, Metadata{"a": {"", "\xff"}}, oneOfEach, 0, nilBody)))
	g.caller("call12", "a call with a request id and metadata", "ok", "W4", came("call", "1 reply c0"),
		out(appendCall2(nil, 1, &callHead{method: "get", requestID: "r", header: oneOfEach}, 0, nilBody)), in(replyOf(1, "\xc0")))
	g.caller("in-pieces", "a reply whose bytes come in two pieces", "ok", "W1", came("call", "1 reply c0"), call1(), in(replyOf(1, "\xc0")[:5]), out(), in(replyOf(1, "\xc0")[5:]))
	g.caller("error", "an error of the handler", "call-error", "W8", came("text", "1 no such key"), came("call", "1 error 5 executed"),
		call1(), in(errorMessage(1, NotFound, Executed, "no such key")))
	g.caller("error-not-executed", "an error instead of the handler", "call-error", "C4", came("text", "1 no such method"), came("call", "1 error 12 not executed"),
		call1(), in(errorMessage(1, Unimplemented, NotExecuted, "no such method")))
	g.caller("error14", "an error with everything, and details that the caller does not know: one that breaks B, one empty", "call-error", "W8",
		came("header", "1 k=76"), came("trailer", "1 k=76"), came("text", "1 later"), came("retry", "1 250000"), came("detail", "1 unknown=c1"), came("detail", "1 empty="), came("call", "1 error 8 executed"),
		call1(), in(appendError(nil, 1, &wireStatus{ResourceExhausted, Executed, "later", 250_000, []Detail{{"unknown", []byte{0xc1}}, {"empty", nil}}, oneOfEach, oneOfEach})))
	g.caller("error-draining", "a refusal by a drain, without a goaway: the session goes on", "call-error", "C4",
		came("text", "1 the server is draining"), came("detail", "1 sealmux.draining="), came("call", "1 error 14 not executed"), call1(), in(appendError(nil, 1, drainingStatus())))
	three := out(callOf(1, "a", "\xc0"), callOf(2, "b", "\xc0"), callOf(3, "c", "\xc0"))
	g.caller("any-order", "answers in another order than the calls'", "call-error", "C1", came("call", "1 reply 01"), came("text", "2 x"), came("call", "2 error 2 executed"), came("call", "3 reply 03"),
		three, in(replyOf(3, "\x03"), errorMessage(2, Unknown, Executed, "x"), replyOf(1, "\x01")))
	g.caller("not-all", "two calls of three are answered, and the third waits", "ok", "C1", came("call", "1 waiting"), came("call", "2 reply 02"), came("call", "3 reply 03"),
		three, in(replyOf(3, "\x03"), replyOf(2, "\x02")))
	g.caller("answer-twice", "a second answer to the same call is dropped", "ok", "C3", came("call", "1 reply 01"), call1(), in(replyOf(1, "\x01"), replyOf(1, "\x02")))
	given := came("call", "1 error 1 unknown")
	g.caller("given-up", "the answer to a call that the caller gave up is dropped", "call-error", "C3", given, call1(), out(cancelOf(1)), in(replyOf(1, "\xc0")))
	g.caller("given-up-part", "and so are the parts of one", "call-error", "C3", given, call1(), out(cancelOf(1)), in(partOf(1, "\xa1"), replyOf(1, "v")))
	g.caller("given-up-unanswered", "a call that the caller gave up may stay without an answer", "call-error", "C3", given, call1(), out(cancelOf(1)))
	refused("unknown-id", "a reply to a call that was never made", "C3", replyOf(2, "\xc0"))
	refused("unknown-id-error", "an error of a call that was never made", "C3", errorMessage(2, Internal, Executed, ""))
	refused("unknown-id-part", "a part of a reply to a call that was never made", "C3", partOf(2, "x"))
	refused("call", "a call from a callee", "W4", callOf(1, "get", "\xc0"))
	refused("cancel", "a cancel from a callee", "W4", cancelOf(1))
	refused("open", "an open from a callee", "W4", openOf(1, "get", formStream))
	refused("end", "an end from a callee", "W4", ending)
	refused("call12", "a call of kind 12 from a callee", "W4", appendCall2(nil, 1, &callHead{method: "m", flags: 1}, 0, nilBody))
	refused("item", "an item on a stream of calls", "C1", itemOf("\xc0"))
	refused("header", "a header on a stream of calls", "C1", none)
	refused("done", "a done on a stream of calls", "C1", done)
	bad := came("call", "1 error 13 executed")
	g.caller("bad-body", "a reply that breaks B fails its call alone", "call-error", "B1", bad, call1(), in(replyOf(1, "\xc1")))
	g.caller("bad-body-trailing", "a reply with a byte behind its value fails its call alone", "call-error", "B7", bad, call1(), in(replyOf(1, "\xc0\xc0")))
	packedReply := appendReply2(nil, 1, nil, nil, packed, deflated40)
	g.caller("compressed-not-set-up", "a compressed reply to a caller that is not set up for it fails its call alone", "call-error", "W10", bad, call1(), in(packedReply))
	accept, asks := also("compress", "accept"), out(appendCall2(nil, 1, &callHead{method: "get", flags: flagPack}, 0, nilBody))
	g.caller("compressed", "a compressed reply to a caller that has asked for it", "ok", "W10", accept, came("call", "1 reply d928%s", strings.Repeat("61", 40)), asks, in(packedReply))
	g.caller("compressed-cut", "a compressed reply that lacks its last byte", "call-error", "W10", accept, bad, asks, in(appendReply2(nil, 1, nil, nil, packed, deflated40[:6])))
	g.callerEnds()
}

func (g *generator) callerEnds() {
	g.caller("goaway", "behind a goaway the call that runs is answered, and no other is made", "goaway", "C9", came("call", "1 reply c0"), call1(), in(goaway), out(), in(replyOf(1, "\xc0")))
	g.caller("goaway-twice", "a goaway again says nothing new", "goaway", "C9", came("call", "1 reply c0"), call1(), in(goaway, goaway, replyOf(1, "\xc0")))
	g.caller("goaway-refused", "a goaway and the refusal of the call that was on its way", "goaway", "C9", came("text", "1 the server is draining"), came("detail", "1 sealmux.draining="), came("call", "1 error 14 not executed"),
		call1(), in(goaway, appendError(nil, 1, drainingStatus())))
	g.caller("cut", "a stream that ends without an answer", "cut", "C5", lostCall(), call1())
	g.caller("cut-message", "a stream that ends within an answer", "cut", "W1", lostCall(), call1(), in(replyOf(1, "\xc0")[:6]))
	g.caller("cut-part", "a stream that ends behind a part", "cut", "C10", lostCall(), call1(), in(partOf(1, "\xa1")))
	g.caller("cut-some", "a stream that ends behind one answer of two", "cut", "C5", lostCall(), came("call", "2 reply c0"),
		out(callOf(1, "a", "\xc0"), callOf(2, "b", "\xc0")), in(replyOf(2, "\xc0")))
}

func (g *generator) callerParts() {
	text := appendString(nil, longText)
	two := out(callOf(1, "a", "\xc0"), callOf(2, "b", "\xc0"))
	g.caller("parts", "a reply in three parts of different sizes, and the rest", "ok", "C10", came("call", "1 reply a568656c6c6f"),
		call1(), in(partOf(1, "\xa5h"), partOf(1, "e"), partOf(1, "ll"), replyOf(1, "o")))
	g.caller("parts-alternate", "parts of two replies, and another answer between them", "ok", "C10", came("call", "1 reply a26162"), came("call", "2 reply a3313233"), came("call", "3 reply c0"),
		out(callOf(1, "a", "\xc0"), callOf(2, "b", "\xc0"), callOf(3, "c", "\xc0")),
		in(partOf(1, "\xa2"), partOf(2, "\xa3"), partOf(1, "a"), replyOf(3, "\xc0"), partOf(2, "12"), replyOf(2, "3"), replyOf(1, "b")))
	g.caller("parts-metadata", "parts whose reply has a trailer", "ok", "C10", came("trailer", "1 k=76"), came("call", "1 reply a161"),
		call1(), in(partOf(1, "\xa1"), appendReply2(nil, 1, nil, oneOfEach, 0, []byte("a"))))
	g.caller("parts-error", "an error behind parts: they count for nothing", "call-error", "C10", came("text", "1 x"), came("call", "1 error 13 executed"),
		call1(), in(partOf(1, "\xa2a"), errorMessage(1, Internal, Executed, "x")))
	g.caller("parts-bad", "parts that are no value together fail their call alone", "call-error", "B7", came("call", "1 error 13 executed"), call1(), in(partOf(1, "\xa1a"), replyOf(1, "b")))
	g.caller("parts-compressed", "a compressed reply in parts: the last message says that it is", "ok", "W10", also("compress", "accept"), came("call", "1 reply d928%s", strings.Repeat("61", 40)),
		out(appendCall2(nil, 1, &callHead{method: "get", flags: flagPack}, 0, nilBody)), in(partOf(1, string(deflated40[:3])), appendReply2(nil, 1, nil, nil, packed, deflated40[3:])))
	piece := strings.Repeat("x", partSize)
	g.caller("parts-over-limit", "parts over the receiver's limit fail their call, and the rest of them is dropped", "call-error", "W2", also("limit", "65536"), came("call", "1 error 8 executed"), came("call", "2 reply c0"),
		two, in(partOf(1, "\xdb\x00\x01\x7f\xcb"), partOf(1, piece), partOf(1, piece), replyOf(1, piece), replyOf(2, "\xc0")))
	g.caller("large", "a call with a body over 65,600 bytes has a stream of its own, which the caller closes behind the answer", "ok", "C1", came("call", "1 reply c0"),
		out(callOf(1, "put", string(text))), in(replyOf(1, "\xc0")))
	g.caller("largest-answer", "a message of 98,304 bytes is taken", "ok", "C10", came("call", "1 reply c0"), came("call", "2 waiting"),
		two, in(partOf(2, strings.Repeat("x", maxAnswer-3)), replyOf(1, "\xc0")))
	g.caller("refused-answer-over", "a length of 98,305 on a stream of calls", "refused", "C10", lostCall(), call1(), in([]byte{0, 1, 0x80, 1}))
}

func (g *generator) callerStreams() {
	open := openOf(1, "chat", formStream)
	start := out(open)
	x, y := itemOf("\xa1x"), itemOf("\xa1y")
	gotX, gotY := came("item", "1 a178"), came("item", "1 a179")
	isDone := came("call", "1 done")
	header := appendHeader(nil, oneOfEach)
	g.caller("stream", "items both ways, and done", "ok", "S1", gotX, gotY, isDone, out(open, itemOf("\x01")), in(x), out(itemOf("\x02"), ending), in(y, done))
	g.caller("stream-header", "a header before the items, and a trailer with done", "ok", "S1", gotX, came("header", "1 k=76"), came("trailer", "1 k=76"), isDone,
		start, in(header, x, appendDone(nil, oneOfEach)))
	g.caller("stream-done-at-once", "done without items, before the caller has ended its own", "ok", "S1", isDone, start, in(done))
	g.caller("stream-item-behind-done", "what comes behind done is not read", "ok", "S1", gotX, isDone, start, in(x, done, y))
	g.caller("stream-head", "an open with a request id and metadata", "ok", "W9", isDone,
		out(appendOpen(nil, 1, &callHead{method: "chat", form: formStream, requestID: "r", header: oneOfEach})), in(done))
	g.caller("stream-waiting", "a stream that goes on", "ok", "S1", gotX, came("call", "1 waiting"), start, in(x))
	g.caller("stream-error", "an error behind an item ends the stream", "call-error", "S1", gotX, came("trailer", "1 k=76"), came("text", "1 no"), came("call", "1 error 9 executed"),
		start, in(x, appendError(nil, 1, &wireStatus{code: FailedPrecondition, outcome: Executed, text: "no", trailer: oneOfEach})))
	g.caller("stream-refused", "an error instead of the handler", "call-error", "C4", came("text", "1 no such method"), came("call", "1 error 12 not executed"),
		start, in(errorMessage(1, Unimplemented, NotExecuted, "no such method")))
	g.caller("stream-given-up", "a stream that the caller gives up: a cancel on its first stream", "call-error", "S4", gotX, came("call", "1 error 1 unknown"), start, in(x), onFirst(cancelOf(1)))
	broken := came("call", "1 error 13 executed")
	g.caller("stream-item-bad", "an item that breaks B: the caller gives the stream up", "call-error", "B1", gotX, broken, start, in(x, itemOf("\xc1")), onFirst(cancelOf(1)))
	g.caller("stream-item-over-limit", "an item over the receiver's limit: the caller gives the stream up before it has come", "call-error", "W2", also("limit", "65536"), came("call", "1 error 8 executed"),
		start, in([]byte{0, 3, 0, 0, 0x92, 8}), onFirst(cancelOf(1)))
	g.caller("stream-compressed", "a compressed item to a caller that has asked for it", "ok", "W10", also("compress", "accept"), came("item", "1 d928%s", strings.Repeat("61", 40)), isDone,
		out(appendOpen(nil, 1, &callHead{method: "chat", form: formStream, flags: flagPack})), in(appendItem(nil, packed, len(deflated40)), deflated40, done))
	g.caller("stream-goaway", "a goaway before the header: the stream goes on", "goaway", "C9", gotX, came("header", "1 k=76"), isDone, start, in(goaway, header, x, done))
	g.caller("stream-cut", "a stream that ends behind an item, without done", "cut", "S1", gotX, lostCall(), start, in(x))
	g.caller("stream-cut-at-once", "a stream that ends without a message", "cut", "S1", lostCall(), start)
	g.caller("stream-cut-item", "a stream that ends within an item", "cut", "W1", lostCall(), start, in(x[:6]))
	refused := func(name, title, rule string, headers []part, b ...[]byte) {
		g.caller("refused-stream-"+name, title, "refused", rule, append(headers, lostCall(), start, in(b...))...)
	}
	refused("header-twice", "a second header", "S1", nil, header, header)
	refused("header-late", "a header behind an item", "S1", []part{gotX}, x, none)
	refused("goaway-late", "a goaway behind an item", "C9", []part{gotX}, x, goaway)
	refused("other-id", "an error with another id than the open's", "S1", nil, errorMessage(2, Internal, Executed, ""))
	refused("reply", "a reply on a stream of messages", "S1", nil, replyOf(1, "\xc0"))
	refused("part", "a part on a stream of messages", "S1", nil, partOf(1, "x"))
	refused("end", "an end from a callee", "W4", nil, ending)
	refused("open", "an open from a callee on a stream of messages", "W4", nil, open)
	refused("call", "a call from a callee on a stream of messages", "W4", nil, callOf(1, "m", "\xc0"))
	refused("message", "what is no message at all", "W4", []part{gotX}, x, framed([]byte{0x91, 0x0f}))
	refused("length", "a length of 0", "W2", []part{gotX}, x, []byte{0, 0, 0, 0})
}

func (g *generator) callerConns() {
	start := out(openOf(1, "tunnel", formConn))
	g.caller("conn", "a connection that is taken, bytes both ways, and their end", "ok", "S6", came("bytes", "1 00ff"), came("call", "1 taken"),
		start, in(none), out([]byte("hello")), in([]byte{0, 0xff}))
	g.caller("conn-at-once", "bytes right behind the header, with metadata", "ok", "S6", came("header", "1 k=76"), came("bytes", "1 9105"), came("call", "1 taken"),
		start, in(appendHeader(nil, oneOfEach), []byte{0x91, 5}))
	g.caller("conn-refused", "a connection that is refused", "call-error", "S6", came("text", "1 no"), came("call", "1 error 7 not executed"), start, in(errorMessage(1, PermissionDenied, NotExecuted, "no")))
	g.caller("conn-goaway", "a goaway before the header: the connection goes on", "goaway", "C9", came("bytes", "1 61"), came("call", "1 taken"), start, in(goaway, none, []byte("a")))
	g.caller("conn-given-up", "a connection that the caller gives up before it is taken: a cancel on its first stream", "call-error", "S4", came("call", "1 error 1 unknown"), start, onFirst(cancelOf(1)))
	g.caller("conn-cut", "a connection that is closed before it is taken", "cut", "S6", lostCall(), start)
	g.caller("refused-conn-item", "an item where a header is due", "refused", "S6", lostCall(), start, in(itemOf("\xc0")))
	g.caller("refused-conn-done", "a done where a header is due", "refused", "S6", lostCall(), start, in(done))
	g.caller("refused-conn-reply", "a reply where a header is due", "refused", "S6", lostCall(), start, in(replyOf(1, "\xc0")))
}
