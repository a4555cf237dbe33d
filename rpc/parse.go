package rpc

import "math"

// This file is pure. It reads what wire.go writes.

// parseMessage accepts exactly what the append functions write, less the frame (W3): what it accepts re-encodes to the same
// bytes. The body is the rest of the payload; Check judges it, and a bad one fails the call alone (C4).
func parseMessage(p []byte) (message, error) {
	if len(p) < 2 {
		return message{}, violation("a message of %d bytes", len(p))
	}
	m := message{kind: p[1] &^ packed, packed: p[1]&packed != 0}
	if m.kind == 0 || int(m.kind) >= len(layouts) || p[0] != 0x91+byte(len(layouts[m.kind])) {
		return message{}, violation("not a message of a known kind")
	}
	layout := layouts[m.kind]
	if m.packed && (layout == "" || layout[len(layout)-1] != 'b') {
		return message{}, violation("a compressed message without a body")
	}
	r := reader{b: p[2:]}
	for i := range len(layout) {
		m.field(layout[i], &r)
	}
	if len(r.b) != 0 {
		r.fail("trailing bytes")
	}
	if m.needless() {
		r.fail("a kind with more fields than it needs")
	}
	if r.bad != "" {
		return message{}, violation("kind %d: %s", m.kind, r.bad)
	}
	m.envelope = len(p) - len(m.body)
	return m, nil
}

// field reads the field of that letter.
func (m *message) field(letter byte, r *reader) {
	switch letter {
	case 'i':
		if m.id = r.uint(); m.id == 0 {
			r.fail("id missing, not canonical or 0")
		}
	case 'm':
		if m.method = r.string(maxMethod); len(m.method) == 0 {
			r.fail("method name missing, empty, too long or not UTF-8")
		}
	case 't':
		m.timeout = r.limited(maxTimeout, "timeout")
	case 'b', 'p':
		m.body = r.rest()
	case 'c':
		m.code = Code(r.limited(uint64(Unauthenticated), "code"))
		if m.code == 0 {
			r.fail("code out of range")
		}
	case 'o':
		m.outcome = Outcome(r.limited(uint64(Executed), "outcome"))
		if m.outcome < NotExecuted {
			r.fail("outcome out of range")
		}
	case 'x':
		m.text = r.string(maxErrorText)
	case 'f':
		if m.form = byte(r.limited(formConn, "form")); m.form == 0 {
			r.fail("form out of range")
		}
	case 'g':
		m.flags = byte(r.limited(flagPack, "flags"))
	case 'q':
		m.request = r.string(maxRequestID)
	case 'y':
		m.retry = r.limited(math.MaxInt64/1000, "retry")
	case 'd':
		m.details = r.details()
	case 'h':
		m.header = r.metadata()
	case 'r':
		m.trailer = r.metadata()
	}
}

// needless reports whether a shorter kind says the same (W3).
func (m *message) needless() bool {
	const none = 1 // the size of an empty array
	switch m.kind {
	case kindCall2:
		return !m.packed && m.flags == 0 && len(m.request) == 0 && len(m.header) == none
	case kindReply2:
		return len(m.header) == none && len(m.trailer) == none
	case kindError2:
		return m.retry == 0 && len(m.details) == none && len(m.header) == none && len(m.trailer) == none
	case kindCall:
		return m.packed // a packed call has flags
	}
	return false
}

func (r *reader) limited(limit uint64, what string) uint64 {
	v := r.uint()
	if v > limit {
		r.fail(what + " out of range")
		return 0
	}
	return v
}

// metadata reads an array of keys and values in turn, sorted by key (W7), and returns it as it is.
func (r *reader) metadata() []byte {
	all := r.b
	total, last := 0, ""
	n := r.array(2 * maxPairs)
	if n%2 != 0 {
		r.fail("a metadata key without a value")
	}
	for range n / 2 {
		key := r.string(maxKey)
		if !validKey(key) {
			r.fail("a metadata key that is none")
			return nil
		}
		if string(key) < last {
			r.fail("metadata that is not sorted")
		}
		last = string(key)
		total += len(key) + len(r.bin(maxMetadata))
		if total > maxMetadata {
			r.fail("metadata too large")
			return nil
		}
	}
	return all[:len(all)-len(r.b)]
}

// validKey says what a metadata key may be: lower-case letters, digits, '-', '_' and '.'.
func validKey[T string | []byte](key T) bool {
	for i := range len(key) {
		c := key[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(key) > 0 && len(key) <= maxKey
}

// details reads an array of names and bodies in turn, and returns it as it is (W8).
func (r *reader) details() []byte {
	all := r.b
	total := 0
	n := r.array(2 * maxDetails)
	if n%2 != 0 {
		r.fail("an error detail without a body")
	}
	for range n / 2 {
		name := r.string(maxMethod)
		if len(name) == 0 {
			r.fail("an error detail without a name")
			return nil
		}
		total += len(name) + len(r.bin(maxDetailSize))
		if total > maxDetailSize {
			r.fail("error details too large")
			return nil
		}
	}
	return all[:len(all)-len(r.b)]
}

// decodeMetadata makes a Metadata of what reader.metadata accepted; nil if there is none.
func decodeMetadata(b []byte) Metadata {
	r := reader{b: b}
	n := r.array(2 * maxPairs)
	if n == 0 {
		return nil
	}
	md := make(Metadata, n/2)
	for range n / 2 {
		key := string(r.string(maxKey))
		md[key] = append(md[key], string(r.bin(maxMetadata)))
	}
	return md
}

// decodeDetails makes details of what reader.details accepted; nil if there are none.
func decodeDetails(b []byte) []Detail {
	r := reader{b: b}
	n := r.array(2 * maxDetails)
	if n == 0 {
		return nil
	}
	details := make([]Detail, n/2)
	for i := range details {
		details[i] = Detail{Name: string(r.string(maxMethod)), Body: append(Raw(nil), r.bin(maxDetailSize)...)}
	}
	return details
}
