package transport

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// The cases of records, in one direction, and of sessions.

// keyUpdate is one; from the next record on the opponent uses the next key.
func keyUpdate(o *opponent) []byte {
	b := sealed(o.cipher(), recordUpdate, nil)
	o.cipher().update()
	return b
}

// dataRecord is one with whole frames.
func dataRecord(frames ...[]byte) speech { return record(recordData, slices.Concat(frames...)...) }

// numbered is a record under another number than is due.
func numbered(n uint64, typ byte, data ...byte) speech {
	return func(o *opponent) []byte {
		o.cipher().records = n
		return sealed(o.cipher(), typ, data)
	}
}

// lengthened is a record whose length field says so much more.
func lengthened(step speech, by int) speech {
	return changed(step, func(b []byte) []byte {
		binary.BigEndian.PutUint16(b, uint16(int(binary.BigEndian.Uint16(b))+by))
		return b
	})
}

func recordVectors() []maker {
	// All end as truncated unless they end before, for nothing here is a session's end.
	first := func(name, title, rule, expect string, steps ...speech) maker {
		return maker{"records-" + name, title, rule, "role: records", expect, steps}
	}
	one, two := record(recordData, []byte("one")...), record(recordData, []byte("two")...)
	swapped := func(o *opponent) []byte {
		a, b := one(o), two(o)
		return append(b, a...)
	}
	twice := func(o *opponent) []byte {
		a := one(o)
		return append(a, a...)
	}
	dropped := func(o *opponent) []byte {
		one(o)
		return two(o)
	}
	oldKey := func(o *opponent) []byte { // says that it updates, and does not
		return slices.Concat(one(o), sealed(o.cipher(), recordUpdate, nil), two(o))
	}
	return []maker{
		first("of-every-type", "a record of each type that has a meaning, and one that has none", "R1 R3", "truncated",
			record(recordData, 1, 2, 3), record(recordClose), record(recordAlert, 6), record(recordPing), record(recordPong), record(recordAccept), record(99, 0)),
		first("smallest", "records without data", "R1", "truncated", record(recordPing), record(recordPing)),
		first("largest", "a record of 33024 bytes of data", "R1", "truncated", record(recordData, bytes.Repeat([]byte{0xa5}, maxData)...)),
		first("update", "a key update between records", "R3 K4", "truncated", one, keyUpdate, two),
		first("updates", "three key updates, each behind a record", "R3 R7 K4", "truncated", one, keyUpdate, two, keyUpdate, one, keyUpdate, two),
		first("hundred", "a hundred records: the counter is more than a byte's half", "R1", "truncated", slices.Repeat([]speech{one}, 100)...),
		first("three-hundred", "three hundred records: the counter is more than a byte", "R1", "truncated", slices.Repeat([]speech{record(recordPing)}, 300)...),
		first("cut-length", "the connection ends in a record's length", "R5", "truncated", one, changed(two, cut(1))),
		first("cut-record", "the connection ends in a record", "R5", "truncated", one, changed(two, cut(12))),
		first("length-16", "a length of 16: no room for a type", "R2", "record", raw(append([]byte{0, 16}, make([]byte, 16)...)...)),
		first("length-0", "a length of nothing", "R2", "record", raw(0, 0)),
		first("length-33042", "a length of one more than there may be", "R2", "record", raw(0x81, 0x12)),
		first("length-65535", "a length of 65535", "R2", "record", raw(0xff, 0xff)),
		first("flipped-type", "one bit of the sealed type is another", "R4", "record", one, changed(two, flipped(2)), one),
		first("flipped-data", "one bit of the sealed data is another", "R4", "record", one, changed(two, flipped(4)), one),
		first("flipped-tag", "one bit of the tag is another", "R4", "record", one, changed(two, flipped(-1)), one),
		first("length-less", "the length is one less: it is authenticated too", "R1 R4", "record", lengthened(one, -1)),
		first("length-more", "the length is one more", "R1 R4", "record", lengthened(one, 1), two),
		first("repeated", "a record comes twice", "R1 R4", "record", twice),
		first("swapped", "two records come in the other order", "R1 R4", "record", swapped),
		first("dropped", "a record is missing", "R1 R4", "record", dropped),
		first("other-direction", "a record under another secret", "R4", "record", one, func(o *opponent) []byte {
			return sealed(newCipherState(bytes.Repeat([]byte{9}, secretSize)), recordData, []byte("two"))
		}),
		first("next-number", "a record whose counter is one too far", "R1 R4", "record", numbered(1, recordData, 1)),
		first("update-first", "a key update as the first record under a key", "R7", "broke R7", keyUpdate),
		first("update-twice", "a key update behind a key update", "R7", "broke R7", one, keyUpdate, keyUpdate),
		first("update-with-data", "a key update with data", "R3", "broke R7", one, record(recordUpdate, 0)),
		first("update-kept-key", "a record under the old key behind an update", "R3 R4", "record", oldKey),
		first("update-unannounced", "a record under the next key without an update", "R4", "record", one, func(o *opponent) []byte {
			o.cipher().update()
			return two(o)
		}),
	}
}

const (
	aSession  = "role: session; side: server; max-streams: 8; allowed-streams: 8"
	ofAClient = "role: session; side: client; max-streams: 8; allowed-streams: 8"
	accepting = aSession + "; accept: yes"
)

func window(flags uint16, id, more uint32) []byte { return frame(frameWindow, flags, id, more) }

func body(id uint32, text string) []byte {
	return frame(frameData, 0, id, uint32(len(text)), []byte(text)...)
}

func sessionVectors() []maker {
	end := record(recordClose)
	made := func(name, title, rule, setup, expect string, steps ...speech) maker {
		return maker{"session-" + name, title, rule, setup, expect, steps}
	}
	// broken breaks a rule with one record; the peer is told with alert 6.
	broken := func(name, title, rule string, frames ...[]byte) maker {
		return made(name, title, rule, aSession, "broke "+rule, dataRecord(frames...))
	}
	odd := func(name, title string, typ byte, data ...byte) maker {
		return made(name, title, "R3", aSession, "broke R3", record(typ, data...))
	}
	full := slices.Repeat([]speech{dataRecord(body(1, string(make([]byte, maxPayload))))}, initialWindow/maxPayload)
	return []maker{
		made("close", "the peer ends the session, and is answered", "R3", aSession, "closed", end),
		made("close-client", "a server ends the session of a client", "R3", ofAClient, "closed", end),
		made("cut", "the connection ends without a close", "R5", aSession, "truncated"),
		made("cut-in-record", "the connection ends in a record", "R5", aSession, "truncated", changed(end, cut(18))),
		made("ping", "a ping is answered by a pong", "R8", aSession, "closed", record(recordPing), end),
		made("pong", "a pong that nobody has asked for", "R3", aSession, "closed", record(recordPong), end),
		made("alert-6", "the peer ends the session with a reason", "R3", aSession, "alert 6", record(recordAlert, 6)),
		made("alert-5", "a key is not trusted any more", "R3", ofAClient, "alert 5", record(recordAlert, 5)),
		made("alert-200", "an alert whose code nobody knows", "R3", aSession, "alert 200", record(recordAlert, 200)),
		made("update", "key updates of the peer", "R3 R7", aSession, "closed", record(recordPing), keyUpdate, record(recordPing), keyUpdate, end),
		made("ticket", "a ticket is a server's first record, if no key was demanded", "H15", ofAClient+"; tickets: yes; resumption: "+hex32(7), "closed",
			record(recordAccept, ticketRecord(600, 50)...), end),
		made("ticket-second", "a ticket that is not the first record", "H15", ofAClient+"; tickets: yes; resumption: "+hex32(7), "broke R3",
			record(recordPing), record(recordAccept, ticketRecord(600, 50)...)),
		made("ticket-unasked", "a ticket for a client that wants none", "H15", ofAClient, "broke R3", record(recordAccept, ticketRecord(600, 50)...)),
		made("ticket-to-server", "a ticket for a server", "H15", aSession, "broke R3", record(recordAccept, ticketRecord(600, 50)...)),
		made("forged", "a record that does not open", "R4", aSession, "record", record(recordPing), changed(end, flipped(-1))),

		made("stream", "a stream is opened, says something, and ends", "S3 S4 S5", accepting, "closed",
			dataRecord(window(flagSYN, 1, 0)), dataRecord(body(1, "hello")), dataRecord(window(flagFIN, 1, 0)), end),
		made("stream-one-record", "frames of a stream in one record", "S1", accepting, "closed",
			dataRecord(window(flagSYN, 1, 0), body(1, "hel"), body(1, "lo")), dataRecord(window(flagFIN, 1, 0)), end),
		made("streams-mixed", "frames of two streams in turn", "S1 S5", accepting, "closed", dataRecord(window(flagSYN, 1, 0), window(flagSYN, 3, 0)),
			dataRecord(body(1, "a"), body(3, "b"), body(1, "c")), dataRecord(window(flagFIN, 3, 0), window(flagFIN, 1, 0)), end),
		made("stream-largest-frame", "a data frame of 32768 bytes", "S3", accepting, "closed", dataRecord(window(flagSYN, 1, 0)),
			dataRecord(body(1, string(bytes.Repeat([]byte{7}, maxPayload)))), dataRecord(window(flagFIN, 1, 0)), end),
		made("stream-window", "a window used to its end", "S6", accepting, "closed",
			append(append([]speech{dataRecord(window(flagSYN, 1, 0))}, full...), dataRecord(window(flagFIN, 1, 0)), end)...),
		made("stream-reset", "a stream is given up", "S5", accepting, "closed",
			dataRecord(window(flagSYN, 1, 0)), dataRecord(body(1, "hel")), dataRecord(window(flagRST, 1, 0)), end),
		made("stream-reset-behind-end", "a reset behind the sender's end takes nothing back", "S9", accepting, "closed",
			dataRecord(window(flagSYN, 1, 0)), dataRecord(body(1, "all")), dataRecord(window(flagFIN, 1, 0)), dataRecord(window(flagRST, 1, 0)), end),
		made("stream-unended", "the session is closed while a stream has had no end: no clean one", "S5", accepting, "closed",
			dataRecord(window(flagSYN, 1, 0)), dataRecord(body(1, "hel")), end),
		made("stream-cut", "the connection is cut behind some data", "R5", accepting, "truncated",
			dataRecord(window(flagSYN, 1, 0)), dataRecord(body(1, "hel"))),
		made("stream-of-client", "a client's stream is accepted, and answered", "S4", ofAClient+"; open: 1", "closed",
			dataRecord(window(flagACK, 1, 0)), dataRecord(body(1, "yes")), dataRecord(window(flagFIN, 1, 0)), end),
		made("stream-acked-by-data", "the first frame that comes back is data with ACK", "S3 S4", ofAClient+"; open: 1", "closed",
			dataRecord(frame(frameData, flagACK, 1, 3, []byte("yes")...)), dataRecord(window(flagFIN, 1, 0)), end),
		made("stream-refused", "the peer refuses a stream", "S4", ofAClient+"; open: 1", "closed", dataRecord(window(flagRST, 1, 0)), end),
		made("stream-of-server", "a server opens a stream to a client", "S5", ofAClient+"; accept: yes", "closed",
			dataRecord(window(flagSYN, 2, 0)), dataRecord(body(2, "push")), dataRecord(window(flagFIN, 2, 0)), end),
		made("windows-in-syn", "a window may grow with the SYN", "S6", accepting, "closed",
			dataRecord(window(flagSYN, 1, 1024)), dataRecord(window(flagFIN, 1, 0)), end),

		broken("half-header", "a record ends inside a frame's header", "S1", syn(1)[:11]),
		broken("half-body", "a record ends inside a frame's body", "S1", syn(1), data(1, 9)[:20]),
		broken("frame-version", "another version of yamux", "S2", append([]byte{1}, syn(1)[1:]...)),
		broken("yamux-ping", "yamux's ping", "S2", frame(2, flagSYN, 0, 1)),
		broken("yamux-goaway", "yamux's go-away", "S2", frame(3, 0, 0, 0)),
		broken("frame-type", "a frame of no type", "S2", frame(9, 0, 1, 0)),
		broken("frame-flag", "a flag that does not exist", "S2", window(16, 1, 0)),
		broken("data-empty", "a data frame without data", "S3", syn(1), frame(frameData, 0, 1, 0)),
		broken("data-too-long", "a data frame over 32768 bytes", "S3", syn(1), frame(frameData, 0, 1, maxPayload+1)),
		broken("data-with-syn", "a data frame that opens a stream", "S3", frame(frameData, flagSYN, 1, 1, 0)),
		broken("data-with-fin", "a data frame that ends a stream", "S3", syn(1), frame(frameData, flagFIN, 1, 1, 0)),
		broken("syn-with-fin", "a stream that is opened and ended at once", "S4", window(flagSYN|flagFIN, 1, 0)),
		broken("ack-of-own", "an ACK for a stream by the side that has opened it", "S4", syn(1), window(flagACK, 1, 0)),
		broken("id-even", "a client opens a stream with an even id", "S5", syn(2)),
		broken("id-zero", "a stream with id 0", "S5", syn(0)),
		broken("id-again", "an id for the second time", "S5", syn(1), syn(1)),
		broken("id-back", "ids that go back", "S5", syn(9), syn(7)),
		broken("too-many-streams", "one stream more than MaxStreams", "S5", slices.Concat(syn(1), syn(3), syn(5), syn(7), syn(9), syn(11), syn(13), syn(15), syn(17))),
		broken("window-too-large", "a window beyond 16777216", "S6", syn(1), window(0, 1, MaxStreamWindow-initialWindow+1)),
		broken("fin-before-ack", "an end before the stream was accepted", "S7", syn(1), window(flagFIN, 1, 0)),
		broken("rst-before-ack", "a reset before the stream was accepted", "S7", syn(1), window(flagRST, 1, 0)),
		broken("unknown-stream", "data of a stream that was never opened", "S8", data(1, 1)),
		broken("window-of-nobody", "a window update of a stream that was never opened", "S8", window(0, 1, 1)),
		made("data-over-window", "a byte beyond the window", "S6", aSession, "broke S6",
			append(append([]speech{dataRecord(syn(1))}, full...), dataRecord(data(1, 1)))...),
		made("data-behind-fin", "data behind the end of a stream", "S6", accepting, "broke S6",
			dataRecord(syn(1)), dataRecord(window(flagFIN, 1, 0)), dataRecord(data(1, 1))),
		made("fin-twice", "a second end of a stream", "S4", accepting, "broke S4",
			dataRecord(syn(1)), dataRecord(window(flagFIN, 1, 0)), dataRecord(window(flagFIN, 1, 0))),
		made("data-before-ack", "data on a stream that the sender has not acknowledged", "S4", ofAClient+"; open: 1", "broke S4", dataRecord(data(1, 1))),
		made("ack-twice", "a second ACK", "S4", ofAClient+"; open: 1", "broke S4", dataRecord(window(flagACK, 1, 0), window(flagACK, 1, 0))),
		odd("empty-data", "a data record without frames", recordData),
		odd("unknown-record", "a record of no type", 99),
		odd("ping-with-data", "a ping with data", recordPing, 1),
		odd("close-with-data", "a close with data", recordClose, 1),
		odd("alert-empty", "an alert without a code", recordAlert),
		odd("alert-of-two", "an alert of two bytes", recordAlert, 6, 6),
		odd("late-accept", "a verdict where none is due", recordAccept),
	}
}

func hex32(b byte) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, secretSize)) }
