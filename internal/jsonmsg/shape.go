package jsonmsg

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealmux/sealmux/rpc"
)

// anyShape stands where no description says more.
var anyShape = &rpc.Shape{Kind: "any"}

// Shape returns the shape at i in d, such as MethodInfo.Request says. d came from a peer: an error tells of an i that is not in it.
func Shape(d *rpc.Description, i int) (*rpc.Shape, error) {
	if i < 0 || i >= len(d.Types) {
		return nil, fmt.Errorf("the server's description refers to type %d, which is not among its %d; upgrade the server or tell its owner",
			i, len(d.Types))
	}
	return &d.Types[i], nil
}

// A describer looks things up in a description, which came from a peer: what it refers to need not be there.
type describer struct {
	described *rpc.Description
	names     map[*rpc.Shape]map[string]int // the fields of the structs met so far
}

func newDescriber(d *rpc.Description) *describer {
	return &describer{described: d, names: make(map[*rpc.Shape]map[string]int)}
}

func (d *describer) shape(i int) (*rpc.Shape, error) { return Shape(d.described, i) }

// elem returns the shape of what is inside s, which nothing is known of unless s is of that kind.
func (d *describer) elem(s *rpc.Shape, kind string) (*rpc.Shape, error) {
	if s.Kind != kind {
		return anyShape, nil
	}
	return d.shape(s.Elem)
}

// key returns the shape of the keys of s.
func (d *describer) key(s *rpc.Shape) (*rpc.Shape, error) {
	if s.Kind != "map" {
		return &rpc.Shape{Kind: "text"}, nil
	}
	key, err := d.shape(s.Key)
	if err == nil && key.Kind != "text" && key.Kind != "int" && key.Kind != "uint" {
		return nil, fmt.Errorf("the server describes keys of kind %q, where only text and integers can be; upgrade the server or tell its owner",
			shorten(key.Kind))
	}
	return key, err
}

// fields returns where in s.Fields a name is; of two fields of one name, the first.
func (d *describer) fields(s *rpc.Shape) map[string]int {
	names, ok := d.names[s]
	if !ok {
		names = make(map[string]int, len(s.Fields))
		for i, f := range s.Fields {
			if _, twice := names[f.Name]; !twice {
				names[f.Name] = i
			}
		}
		d.names[s] = names
	}
	return names
}

// A path is the way to a value of a request, kept as links because errors, the only ones to read it, are rare.
type path struct {
	up    *path // nil: the request itself
	kind  pathKind
	text  string
	index int
}

type pathKind uint8

const (
	pathField pathKind = iota
	pathKey
	pathIndex
)

func (p *path) String() string {
	switch {
	case p.up == nil:
		return p.text
	case p.kind == pathIndex:
		return p.up.String() + "[" + strconv.Itoa(p.index) + "]"
	case p.kind == pathKey:
		return p.up.String() + "[" + strconv.Quote(shorten(p.text)) + "]"
	}
	return p.up.String() + "." + shorten(p.text)
}

func (p *path) errorf(format string, args ...any) error {
	return fmt.Errorf("%v: %w", p, fmt.Errorf(format, args...))
}

// wrong says that v is not what JSON has for values of shape s.
func wrong(v any, s *rpc.Shape, at *path) error {
	want := map[string]string{
		"bool":   "true or false",
		"int":    "an integer such as 3",
		"uint":   "an integer such as 3",
		"float":  `a number such as 1.5, "NaN", "Infinity" or "-Infinity"`,
		"text":   `a string such as "abc"`,
		"binary": `a string in standard base64 such as "aGk="`,
		"time":   `a time from year 0 to 9999 such as "2006-01-02T15:04:05.5Z"`,
		"list":   "an array",
		"map":    "an object",
		"struct": "an object",
	}[s.Kind]
	got := "this"
	switch v := v.(type) {
	case bool:
		got = strconv.FormatBool(v)
	case json.Number:
		got = shorten(string(v))
	case string:
		got = strconv.Quote(shorten(v))
	case []any:
		got = "an array"
	case *object:
		got = "an object"
	}
	return at.errorf("write %s, not %s", want, got)
}

// fieldList names the fields of s, but not very many.
func fieldList(s *rpc.Shape) string {
	const most = 20
	if len(s.Fields) == 0 {
		return "there are none; leave it out"
	}
	var names []string
	for _, f := range s.Fields[:min(most, len(s.Fields))] {
		names = append(names, shorten(f.Name))
	}
	text := "there are " + strings.Join(names, ", ")
	if len(names) == 1 {
		text = "there is " + names[0]
	}
	if more := len(s.Fields) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// reason is an error of rpc.Check without the name of its package, which means nothing to who reads it.
func reason(err error) string { return strings.TrimPrefix(err.Error(), "rpc: ") }

// shorten keeps an error from holding all of a long text.
func shorten(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}

// isInteger reports whether text is a whole number as strconv writes it.
func isInteger(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return false
	}
	return digits[0] != '0' || text == "0"
}
