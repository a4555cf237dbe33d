package main

// rpcMutants are the check before msgpack, and what is around it.
var rpcMutants = []mutant{
	{"B1", "a text or binary longer than what is left", "rpc/check.go", "if t.end > len(b) || t.count > len(b)-t.end {", "if t.end = min(t.end, len(b)); t.count > len(b)-t.end {", checkTests},
	{"B1", "an array or map with more values than bytes are left", "rpc/check.go", "if t.end > len(b) || t.count > len(b)-t.end {", "if t.end > len(b) {", checkTests},
	{"B1", "a length of 2^32-1, where int has 32 bits", "rpc/check.go", "int(min(n, uint64(len(b))+1))", "int(int32(n))", checkTests},
	{"B1", "a head that is cut", "rpc/check.go", "		if t.start > len(b) {\n			return token{}, &badMessage{\"cut short\", off}\n		}\n", "		t.start = min(t.start, len(b))\n", checkTests},
	{"B1", "nothing where a value is due", "rpc/check.go", "	if off >= len(b) {\n		return token{}, &badMessage{\"cut short\", off}\n	}\n", "	if off >= len(b) {\n		return token{start: off, end: off}, nil\n	}\n", checkTests},
	{"B2", "containers in containers, deeper than 32", "rpc/check.go", "	maxDepth    = 32", "	maxDepth    = 64", checkTests},
	{"B3", "more than 100,000 values", "rpc/check.go", "if values++; values > maxElements {", "if values++; values < 0 {", checkTests},
	{"B4", "extensions other than the timestamp", "rpc/check.go", "if size == 0 || nanos > 999_999_999 {", "if size = max(size, 6); nanos > 999_999_999 {", checkTests},
	{"B4", "a timestamp of too many nanoseconds", "rpc/check.go", "nanos > 999_999_999 {", "nanos > 1<<32-1 {", checkTests},
	{"B4", "codes that carry nothing", "rpc/check.go", "if h.kind == tokBad {", "if false {", checkTests},
	{"B5", "text that is not UTF-8", "rpc/check.go", "if t.kind == tokStr && !utf8.Valid(b[t.start:t.end]) {", "if !utf8.Valid(nil) {", checkTests},
	{"B6", "map keys that are neither text nor integer", "rpc/check.go", "	if t.kind != tokStr && t.kind != tokInt {\n", "	if false {\n", checkTests},
	{"B6", "a key twice, among few", "rpc/check.go", "				return &badMessage{\"a map key twice\", off}\n			}\n		}\n		c.keys", "			}\n		}\n		c.keys", checkTests},
	{"B6", "a key twice, among many", "rpc/check.go", "	if _, twice := top.set[k]; twice {", "	if _, twice := top.set[k]; twice && false {", checkTests},
	{"B6", "the first keys, when there are many", "rpc/check.go", "			top.set[c.keyOf(k)] = struct{}{}\n		}\n	}\n	k :=", "			_ = k\n		}\n	}\n	k :=", checkTests},
	{"B6", "keys that differ only in sign", "rpc/check.go", "k.num == t.num && k.neg == t.neg &&", "k.num == t.num &&", checkTests},
	{"B7", "bytes after a container", "rpc/check.go", "			if off != len(c.b) {", "			if false {", checkTests},
	{"B7", "bytes after a plain value", "rpc/codec.go", "if err == nil && t.end != len(b) {", "if false {", checkTests},
	{"W1", "a message longer than anybody may send", "rpc/frame.go", "if n > maxFrame {", "if false {", "RefusedMessages|Hostile|Frame|EveryLimit|Parse|Limits"},
	{"W1", "memory for what was declared and has not come", "rpc/frame.go", "min(n-len(p), max(first, 3*len(p)))", "n-len(p)", "Memory|Frame|Hostile|Slow"},
	{"W2", "a stream that ends inside a message", "rpc/frame.go", "		if err == io.EOF && len(p) > 0 {", "		if false {", "Frame|Stream|Machine|Refused|Fuzz"},
	{"C", "an error that tells: it never ran", "rpc/client.go", "	return fail(Unavailable, NotSent, \"\", err)\n}\n\nvar _", "	return fail(Unavailable, OutcomeUnknown, \"\", err)\n}\n\nvar _", "."},
	{"C", "a drained server that refuses what it did not begin", "rpc/drain.go", "outcome: NotExecuted, text: errDraining.Error()", "outcome: OutcomeUnknown, text: errDraining.Error()", "Drain|Goaway"},
}

const checkTests = "Check|DecodeRefuses|HostileBodies|CodecRoundTrip"
