package rpc

import "strings"

func (g *generator) callee(name, title, expect, rule string, parts ...part) {
	g.add(name, title, "callee", expect, rule, parts...)
}

// calleeError is callee with one error at the end.
func (g *generator) calleeError(name, title, rule string, code Code, outcome Outcome, parts ...part) {
	g.callee(name, title, "call-error", rule, append(outcomeOf(int(code), int(outcome)), parts...)...)
}

// partsOf are the parts of a reply with that body, and the reply (C10).
func partsOf(id uint64, body []byte) (all []byte) {
	for len(body) > partSize {
		all = append(all, partOf(id, string(body[:partSize]))...)
		body = body[partSize:]
	}
	return append(all, replyOf(id, string(body))...)
}

func (g *generator) calleeCalls() {
	rep := strings.Repeat
	for _, c := range [][3]string{
		{"text", "text is answered with the prefix and the text", textOf("你好!!!")},
		{"text-empty", "empty text is answered with the prefix", textOf("")},
		{"text-wide", "the answer's head is the smallest, whatever the request's was", "\xdb\x00\x00\x00\x01a"},
		{"text-5", "an answer of 31 bytes of text has a head of one byte", textOf("12345")},
		{"text-6", "an answer of 32 bytes of text has a head of two bytes", textOf("123456")},
		{"binary", "binary is answered with binary: the prefix and the bytes", "\xc4\x03\x00\xff\x80"},
		{"binary-empty", "empty binary is answered with the prefix as binary", "\xc4\x00"},
		{"binary-229", "an answer of 255 bytes has a head of two bytes", string(appendBin(nil, rep("\x01", 229)))},
		{"binary-230", "an answer of 256 bytes has a head of three bytes", string(appendBin(nil, rep("\x01", 230)))},
	} {
		g.callee("echo-"+c[0], c[1], "ok", "E1", in(callOf(1, "echo", c[2])), out(echoed(1, c[2])))
	}
	for _, c := range [][3]string{
		{"nil", "nil is no text and no binary", "\xc0"},
		{"integer", "a number is no text and no binary", "\x07"},
		{"array", "an array of texts is no text", "\x91\xa1a"},
		{"map", "a map is no text", "\x80"},
		{"time", "a time is no text", "\xd6\xff\x00\x00\x00\x00"},
	} {
		g.calleeError("echo-"+c[0], c[1], "E1", InvalidArgument, Executed,
			in(callOf(1, "echo", c[2])), out(errorMessage(1, InvalidArgument, Executed, "echo takes text or binary")))
	}
	g.callee("any-method", "a method of any name is an echo, also one with a timeout, of the largest there is", "ok", "W6",
		in(appendCall(nil, 1, "方法", maxTimeout, []byte("\xa1a"))), out(echoed(1, "\xa1a")))
	head := callHead{method: "echo", flags: flagPack, requestID: "r", header: oneOfEach}
	g.callee("call12", "a call with flags, a request id and metadata: the answer has none", "ok", "W4",
		in(appendCall2(nil, 1, &head, 0, []byte("\xa1a"))), out(echoed(1, "\xa1a")))
	g.callee("ids-grow", "ids grow, not by one each time, up to the largest", "ok", "C2",
		in(callOf(7, "echo", "\xa1a")), out(echoed(7, "\xa1a")), in(callOf(300, "echo", "\xa1b")), out(echoed(300, "\xa1b")),
		in(callOf(lastID, "echo", "\xa1c")), out(echoed(lastID, "\xa1c")))
	g.callee("in-pieces", "a call whose bytes come in two pieces", "ok", "W1",
		in(callOf(1, "echo", "\xa1a")[:3]), out(), in(callOf(1, "echo", "\xa1a")[3:]), out(echoed(1, "\xa1a")))
	whole := string(appendString(nil, strings.Repeat("x", partSize-3-26)))
	g.callee("reply-32753", "a reply with a body of 32,753 bytes comes whole", "ok", "C10", in(callOf(1, "echo", whole)), out(echoed(1, whole)))
	more := string(appendString(nil, strings.Repeat("x", partSize-3-25)))
	g.callee("reply-32754", "a reply with a body of 32,754 bytes comes as a part of all but one, and the reply with that", "ok", "C10",
		in(callOf(1, "echo", more)), out(partsOf(1, echoOf(more))))
	g.callee("large", "a call with a body of 70,005 bytes, whose reply comes in two parts and the rest", "ok", "C10",
		in(callOf(1, "echo", string(appendString(nil, longText)))), out(partsOf(1, echoOf(string(appendString(nil, longText))))))
	g.callee("nothing", "a stream that ends without a message", "ok", "W1")
	g.callee("cut-length", "a stream that ends within a length", "cut", "W1", in([]byte{0, 0}))
	g.callee("cut-payload", "a stream that ends within a payload: the call before it was answered", "cut", "W1",
		in(callOf(1, "echo", "\xa1a")), out(echoed(1, "\xa1a")), in(callOf(2, "echo", "\xa1a")[:8]))
	g.callee("cut-longest", "a length of 2^30, which is allowed, and little behind it", "cut", "W2", in([]byte{0x40, 0, 0, 0, 0x95, 1, 1}))
	g.calleeError("over-limit", "a call over the receiver's limit is answered, and so is the next", "W2", ResourceExhausted, NotExecuted, also("limit", "65536"),
		in(callOf(1, "echo", string(appendString(nil, rep("x", 100_000))))),
		out(errorMessage(1, ResourceExhausted, NotExecuted, "a request of 100014 bytes, limit 65536")),
		in(callOf(2, "echo", "\xa1a")), out(echoed(2, "\xa1a")))
	over := framed(append([]byte{0x95, 1, 0, 0xa1, 'm', 0}, make([]byte, 100_000)...))
	g.callee("refused-over-limit-id-0", "a call over the receiver's limit with id 0: what is not kept is judged all the same", "refused", "W5", also("limit", "65536"), in(over))
	full := textOf(rep("x", 70_000-5))
	g.callee("at-limit", "a call whose body is as long as the receiver's limit", "ok", "W2", also("limit", "70000"), in(callOf(1, "echo", full)), out(partsOf(1, echoOf(full))))
	g.methods()
}

func (g *generator) methods() {
	g.callee("health", "the server as a whole serves", "ok", "M", in(callOf(1, "sealmux.Health", "\xa0")), out(replyOf(1, textOf("serving"))))
	g.callee("health-nil", "nil is empty text: the server as a whole", "ok", "B8", in(callOf(1, "sealmux.Health", "\xc0")), out(replyOf(1, textOf("serving"))))
	g.callee("health-unknown", "nobody has said how that service is", "ok", "M", in(callOf(1, "sealmux.Health", textOf("kv"))), out(replyOf(1, textOf("unknown"))))
	g.calleeError("health-integer", "a service's name that is a number does not fit", "B8", InvalidArgument, NotExecuted,
		in(callOf(1, "sealmux.Health", "\x01")), out(errorMessage(1, InvalidArgument, NotExecuted, "the request: bad message: not text at byte 0")))
	g.calleeError("unknown-method", "no method has that name; those of that beginning are no echo", "C4", Unimplemented, NotExecuted,
		in(callOf(1, "sealmux.None", "\xa1a")), out(errorMessage(1, Unimplemented, NotExecuted, "no such method")))
	g.calleeError("call-of-stream", "a call of a method that is a stream", "C4", Unimplemented, NotExecuted,
		in(callOf(1, "sealmux.WatchHealth", "\xa0")), out(errorMessage(1, Unimplemented, NotExecuted, "the method is of the form server stream, not unary")))
	g.calleeError("open-of-unary", "a stream to a method that is called", "C4", Unimplemented, NotExecuted,
		in(openOf(1, "sealmux.Health", formStream)), out(errorMessage(1, Unimplemented, NotExecuted, "the method is of the form unary, not a stream")))
	g.calleeError("open-conn", "a connection to a method that takes none", "S6", Unimplemented, NotExecuted,
		in(openOf(1, "echo", formConn)), out(errorMessage(1, Unimplemented, NotExecuted, "the method is of the form unary, not a connection")))
	// {methods: [{name: ..., form: ..., request: 0, reply: 1}], types: [{kind: "text"}, {kind: "text"}]}
	list := func(name, form string) []byte {
		text := "\x81" + textOf("kind") + textOf("text")
		return replyOf(1, "\x82"+textOf("methods")+"\x91\x84"+textOf("name")+textOf(name)+textOf("form")+textOf(form)+
			textOf("request")+"\x00"+textOf("reply")+"\x01"+textOf("types")+"\x92"+text+text)
	}
	g.callee("methods", "the methods whose names begin with sealmux.H", "ok", "M", in(callOf(1, "sealmux.Methods", textOf("sealmux.H"))), out(list("sealmux.Health", "unary")))
	g.callee("methods-stream", "the methods whose names begin with sealmux.W", "ok", "M", in(callOf(1, "sealmux.Methods", textOf("sealmux.W"))), out(list("sealmux.WatchHealth", "server stream")))
	g.callee("methods-none", "no method begins so; that a server without methods is an echo is not told", "ok", "M", in(callOf(1, "sealmux.Methods", textOf("echo"))),
		out(replyOf(1, "\x82"+textOf("methods")+"\xc0"+textOf("types")+"\xc0")))
}

func (g *generator) calleeBodies() {
	refusal := func(id uint64, text string) []byte { return errorMessage(id, InvalidArgument, NotExecuted, text) }
	g.calleeError("bad-body", "a call with a bad body is refused, and the next is answered", "B7", InvalidArgument, NotExecuted,
		in(callOf(1, "echo", "\xc0\xc0")), out(refusal(1, "bad message: bytes after the value at byte 1")),
		in(callOf(2, "echo", "\xa1a")), out(echoed(2, "\xa1a")))
	pack := func(id uint64, deflated string) []byte {
		return appendCall2(nil, id, &callHead{method: "echo"}, packed, []byte(deflated))
	}
	text40 := textOf(strings.Repeat("a", 40))
	accept := also("compress", "accept")
	g.callee("compressed", "a compressed call, answered without compression: its flags do not ask for it", "ok", "W10", accept,
		in(pack(1, string(deflated40))), out(echoed(1, text40)))
	g.calleeError("compressed-not-set-up", "a compressed call to a server that is not set up for it", "W10", InvalidArgument, NotExecuted,
		in(pack(1, string(deflated40))), out(refusal(1, "bad message: it is compressed, and Options.CompressOver is not set here")))
	for _, c := range [][3]string{
		{"nothing", "deflate of nothing", "\x03\x00"},
		{"trailing", "a byte behind what is compressed", string(deflated40) + "\x00"},
		{"cut", "what is compressed lacks its last byte", string(deflated40[:6])},
		{"garbage", "what is compressed has a block of a type that there is not", "\x07"},
	} {
		g.calleeError("compressed-"+c[0], c[1], "W10", InvalidArgument, NotExecuted, accept, in(pack(1, c[2])), out(refusal(1, "bad message: not compressed as it says")))
	}
	g.calleeError("compressed-bad-body", "a compressed call whose body is text that is not UTF-8", "B5", InvalidArgument, NotExecuted, accept,
		in(pack(1, "\xbb\xa9\xf1\x9f\x48\x00\x00")), out(refusal(1, "bad message: text that is not UTF-8 at byte 0")))
	g.calleeError("compressed-bomb", "142 bytes that are 131,077, over the receiver's limit", "W10", ResourceExhausted, NotExecuted, accept, also("limit", "65536"),
		in(pack(1, string(g.unhex(bomb131077)))), out(errorMessage(1, ResourceExhausted, NotExecuted, "a request of more than 65536 bytes")))
}

// bomb131077 is text of 131,072 bytes, compressed.
var bomb131077 = "edc1411100000c0220cffeb9ccb5df52004b03" + strings.Repeat("00", 121) + "f00e"

func (g *generator) calleeStreams() {
	open := openOf(5, "echo", formStream)
	a, b := itemOf("\xa1a"), itemOf("\xc4\x01b")
	g.callee("stream", "items are answered in order; behind the end comes done, and the stream's end", "ok", "S1",
		in(open, a), out(echoedItem("\xa1a")), in(b), out(echoedItem("\xc4\x01b")), in(ending), out(done))
	g.callee("stream-at-once", "the same when everything comes at once", "ok", "S1", in(open, a, b, ending), out(echoedItem("\xa1a"), echoedItem("\xc4\x01b"), done))
	g.callee("stream-empty", "a stream without items", "ok", "S1", in(open, ending), out(done))
	g.callee("stream-head", "an open with a request id and metadata: the answer has none", "ok", "W9",
		in(appendOpen(nil, 5, &callHead{method: "echo", form: formStream, flags: flagPack, timeout: maxTimeout, requestID: "r", header: oneOfEach}), ending), out(done))
	g.callee("stream-item-behind-end", "what comes behind the end is not read", "ok", "S1", in(open, ending, a), out(done))
	failed := func(text string) []byte { return errorMessage(5, InvalidArgument, Executed, text) }
	g.calleeError("stream-item-nil", "an item that the handler does not take ends the stream with its error", "E1", InvalidArgument, Executed,
		in(open, a), out(echoedItem("\xa1a")), in(itemOf("\xc0")), out(failed("echo takes text or binary")))
	g.calleeError("stream-item-bad", "an item that breaks B ends the stream, and not the session", "B1", InvalidArgument, Executed,
		in(open, itemOf("\xc1")), out(failed("the message: rpc: bad message: a type this protocol does not carry at byte 0")))
	g.calleeError("stream-item-over-limit", "an item over the receiver's limit ends the stream before it has come", "W2", ResourceExhausted, Executed, also("limit", "65536"),
		in(open, []byte{0, 3, 0, 0, 0x92, 8}), out(errorMessage(5, ResourceExhausted, Executed, "a message of 196608 bytes: "+ErrTooLarge.Error())))
	g.calleeError("stream-compressed", "a compressed item to a server that is not set up for it", "W10", InvalidArgument, Executed,
		in(open, append(appendItem(nil, packed, len(deflated40)), deflated40...)),
		out(failed("the message: rpc: bad message: it is compressed, and Options.CompressOver is not set here")))
	g.callee("stream-compressed-accept", "a compressed item to a server that is set up for it", "ok", "W10", also("compress", "accept"),
		in(open, append(appendItem(nil, packed, len(deflated40)), deflated40...)), out(echoedItem(textOf(strings.Repeat("a", 40)))), in(ending), out(done))
	g.calleeError("stream-compressed-bomb", "an item of 142 bytes that are 131,077, over the receiver's limit", "W10", ResourceExhausted, Executed,
		also("compress", "accept"), also("limit", "65536"), in(open, append(appendItem(nil, packed, len(bomb131077)/2), g.unhex(bomb131077)...)),
		out(errorMessage(5, ResourceExhausted, Executed, "a message of more than 65536 bytes: "+ErrTooLarge.Error())))
	full := textOf(strings.Repeat("x", 65_536-3))
	g.callee("stream-item-at-limit", "an item as long as the receiver's limit", "ok", "W2", also("limit", "65536"), in(open, itemOf(full)), out(echoedItem(full)), in(ending), out(done))
	watch := openOf(5, "sealmux.WatchHealth", formStream)
	g.callee("stream-one-request", "a method with one request, until a cancel on the first stream ends it without an answer", "ok", "S2",
		in(watch, itemOf("\xa0"), ending), out(itemOf(textOf("serving"))), onFirst(cancelOf(5)), out())
	g.calleeError("stream-two-requests", "two requests where one is due", "S2", InvalidArgument, NotExecuted,
		in(watch, itemOf("\xa0"), itemOf("\xa0")), out(errorMessage(5, InvalidArgument, NotExecuted, "one message was due, more came")))
	g.calleeError("stream-no-request", "an end where a request is due", "S2", InvalidArgument, NotExecuted, in(watch, ending),
		out(errorMessage(5, InvalidArgument, NotExecuted, "one message was due, none came")))
	refused := func(name, title, rule string, b ...[]byte) {
		g.callee("refused-"+name, title, "refused", rule, in(b...))
	}
	refused("stream-call", "a call on a stream of messages", "S1", open, callOf(6, "echo", "\xa1a"))
	refused("stream-open", "a second open on a stream", "S1", open, openOf(6, "echo", formStream))
	refused("stream-cancel", "a cancel on a stream of messages", "S1", open, cancelOf(5))
	refused("stream-goaway", "a goaway from a caller on a stream of messages", "W4", open, goaway)
	refused("stream-header", "a header from a caller", "W4", open, none)
	refused("stream-done", "a done from a caller", "W4", open, done)
	refused("stream-message", "a message on a stream of messages that is no message", "W4", open, framed([]byte{0x91, 0x0f}))
	for _, c := range []struct {
		name, title string
		b           []byte
	}{
		{"reply", "a reply from a caller", replyOf(1, "\xc0")}, {"error", "an error from a caller", errorMessage(1, Internal, Executed, "")},
		{"goaway", "a goaway from a caller", goaway}, {"part", "a part from a caller", partOf(1, "x")},
		{"reply13", "a reply of kind 13 from a caller", appendReply2(nil, 1, oneOfEach, nil, 0, nilBody)},
		{"error14", "an error of kind 14 from a caller", appendError(nil, 1, &wireStatus{code: Internal, outcome: Executed, retry: 1})},
	} {
		refused(c.name, c.title, "W4", c.b)
	}
	refused("header-first", "a header as the first message of a stream", "C1", none)
	refused("done-first", "a done as the first message of a stream", "C1", done)
	refused("item-first", "an item as the first message of a stream", "C1", a)
	refused("end-first", "an end as the first message of a stream", "C1", ending)
	g.callee("refused-open-behind-call", "an open behind a call", "refused", "C1", in(callOf(1, "echo", "\xa1a")), out(echoed(1, "\xa1a")), in(openOf(2, "echo", formStream)))
	g.callee("refused-item-behind-call", "an item behind a call", "refused", "C1", in(callOf(1, "echo", "\xa1a")), out(echoed(1, "\xa1a")), in(a))
	refused("open-behind-cancel", "an open behind a cancel", "C1", cancelOf(1), openOf(2, "echo", formStream))
}

func (g *generator) calleeSession() {
	call := func(id uint64) part { return in(callOf(id, "echo", "\xa1a")) }
	answer := func(id uint64) part { return out(echoed(id, "\xa1a")) }
	g.callee("refused-id-again", "the id of the call before, which was answered", "refused", "C2", call(2), answer(2), call(2))
	g.callee("refused-id-smaller", "an id below that of the call before", "refused", "C2", call(2), answer(2), call(1))
	g.callee("refused-id-running", "a call with the id of a stream that is open", "refused", "C2",
		in(openOf(5, "sealmux.WatchHealth", formStream), itemOf("\xa0"), ending), out(itemOf(textOf("serving"))), onFirst(callOf(5, "echo", "\xa1a")))
	canceled := func(id uint64) part { return out(errorMessage(id, Canceled, NotExecuted, "cancelled before it began")) }
	g.callee("cancel-unknown", "a cancel of a call that there is not yet", "ok", "C7", in(cancelOf(7)), out(), call(8), answer(8))
	g.callee("cancel-late", "a cancel of a call that was answered", "ok", "C7", call(7), answer(7), in(cancelOf(7)), out(), call(8), answer(8))
	g.calleeError("cancel-early", "a cancel before its call, on the same stream", "C7", Canceled, NotExecuted, in(cancelOf(7)), out(), call(7), canceled(7))
	g.calleeError("cancel-early-first", "a cancel on the first stream before its call on another", "C7", Canceled, NotExecuted, onFirst(cancelOf(7)), call(7), canceled(7))
	g.calleeError("cancel-early-open", "a cancel on the first stream before its stream", "C7", Canceled, NotExecuted,
		onFirst(cancelOf(7)), in(openOf(7, "echo", formStream)), canceled(7))
	var many []byte
	for id := range uint64(512) {
		many = append(many, cancelOf(id+1)...)
	}
	g.calleeError("cancel-512", "512 cancels of what there is not yet: the first of them still counts", "C7", Canceled, NotExecuted, in(many), out(), call(1), canceled(1))
	draining := also("state", "draining")
	refusal := func(id uint64) []byte { return appendError(nil, id, drainingStatus()) }
	g.calleeError("draining", "a server that drains says so on a stream of which nothing was read, and refuses calls", "C9", Unavailable, NotExecuted,
		draining, out(goaway), call(1), out(refusal(1)), call(2), out(refusal(2)))
	g.calleeError("draining-open", "a server that drains refuses a stream, behind the goaway", "C9", Unavailable, NotExecuted,
		draining, out(goaway), in(openOf(1, "echo", formStream)), out(refusal(1)))
	g.calleeError("draining-health", "a server that drains refuses its own methods too", "C9", Unavailable, NotExecuted,
		draining, out(goaway), in(callOf(1, "sealmux.Health", "\xa0")), out(refusal(1)))
	g.callee("draining-idle", "a server that drains and is not called closes the session once the stream is", "ok", "C9", draining, out(goaway))
}
