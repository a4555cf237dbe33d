package legacy

// The braces of this wire are Python literals, which the scripts hand to Python to evaluate. Here they are read: this one form,
// and nothing is evaluated.

// parseLiteral reads {"a": "...", "b": "..."} where the two keys are first and second, in either order, and returns their
// values. Strings are as repr() or a program writes them: in single or double quotes, with \\ \' \" \n \r \t \xNN \uNNNN
// \UNNNNNNNN, of ASCII, for no value on this wire is of anything else. Spaces may stand between the parts. All else is refused: another
// key, a key twice, a trailing comma, prefixes, names, numbers, anything behind the last brace. The values may share src.
func parseLiteral(src []byte, first, second string) (a, b []byte, ok bool) {
	s := scanner{src}
	var keys [2]string
	var values [2][]byte
	for i, before := range []byte("{,") {
		key, value, ok := s.member(before)
		if !ok {
			return nil, nil, false
		}
		keys[i], values[i] = string(key), value
	}
	if !s.take('}') || !s.atEnd() {
		return nil, nil, false
	}
	switch keys {
	case [2]string{first, second}:
		return values[0], values[1], true
	case [2]string{second, first}:
		return values[1], values[0], true
	}
	return nil, nil, false
}

// A scanner holds what has not been read yet.
type scanner struct{ rest []byte }

// member reads what stands before a member of a dict, its key, a colon and its value.
func (s *scanner) member(before byte) (key, value []byte, ok bool) {
	if !s.take(before) {
		return nil, nil, false
	}
	if key, ok = s.text(); !ok || !s.take(':') {
		return nil, nil, false
	}
	value, ok = s.text()
	return key, value, ok
}

func (s *scanner) spaces() {
	for len(s.rest) > 0 && s.rest[0] == ' ' {
		s.rest = s.rest[1:]
	}
}

// take reads c, and spaces before it.
func (s *scanner) take(c byte) bool {
	s.spaces()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) atEnd() bool {
	s.spaces()
	return len(s.rest) == 0
}

// text reads a string. Without escapes, it is a part of the source.
func (s *scanner) text() ([]byte, bool) {
	s.spaces()
	if len(s.rest) == 0 || s.rest[0] != '\'' && s.rest[0] != '"' {
		return nil, false
	}
	quote, src := s.rest[0], s.rest[1:]
	var unescaped []byte // of src[:done]
	done := 0
	for i := 0; i < len(src); {
		switch c := src[i]; {
		case c == quote:
			s.rest = src[i+1:]
			if unescaped == nil {
				return src[:i:i], true
			}
			return append(unescaped, src[done:i]...), true
		case c == '\\':
			value, n := escape(src[i+1:])
			if n == 0 {
				return nil, false
			}
			unescaped = append(append(unescaped, src[done:i]...), value)
			i += 1 + n
			done = i
		case c < ' ' || c > '~':
			return nil, false
		default:
			i++
		}
	}
	return nil, false // no closing quote
}

// escape reads what follows a backslash and returns how long that is, 0 if it is none of those we know.
func escape(src []byte) (value byte, n int) {
	if len(src) == 0 {
		return 0, 0
	}
	switch c := src[0]; c {
	case '\\', '\'', '"':
		return c, 1
	case 'n':
		return '\n', 1
	case 'r':
		return '\r', 1
	case 't':
		return '\t', 1
	case 'x':
		return hexEscape(src[1:], 2)
	case 'u':
		return hexEscape(src[1:], 4)
	case 'U':
		return hexEscape(src[1:], 8)
	}
	return 0, 0
}

// hexEscape reads so many digits, which must stand for ASCII.
func hexEscape(src []byte, digits int) (value byte, n int) {
	if len(src) < digits {
		return 0, 0
	}
	var v uint32
	for _, c := range src[:digits] {
		d, ok := hexDigit(c)
		if !ok {
			return 0, 0
		}
		v = v<<4 | uint32(d)
	}
	if v > 0x7f {
		return 0, 0
	}
	return byte(v), 1 + digits
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
