package jsonmsg

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/sealmux/sealmux/rpc"
)

// A reader turns JSON into msgpack by a description, which came from a peer and may hold anything. Shapes may refer to
// each other in circles: every step into one is also a step into the JSON, whose depth is bounded.
type reader struct {
	*describer
	enc *msgpack.Encoder
}

// From returns the message that text, one value of JSON, is in a shape of d. No text is null, which every shape has. Of the messages
// of a codec other than rpc.JSON it makes null alone. JSON may be nested 32 deep, and what is returned passes rpc.Check. An error
// begins with "request" and the way to the value that is wrong, such as request.Items[3].Count, and says what to write instead; of
// what is long it quotes the beginning.
func From(d *rpc.Description, shape int, text []byte) (rpc.Raw, error) {
	value, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	var b bytes.Buffer
	r := reader{describer: newDescriber(d), enc: msgpack.NewEncoder(&b)}
	root := &path{text: "request"}
	s, err := r.shape(shape)
	if err != nil {
		return nil, root.errorf("%w", err)
	}
	if s.Kind == "coded" {
		return fromCoded(s.Name, value, text)
	}
	if err := r.value(value, s, root); err != nil {
		return nil, err
	}
	if err := rpc.Check(b.Bytes()); err != nil { // it holds more values than a message may
		return nil, root.errorf("%s; send it in pieces", reason(err))
	}
	return b.Bytes(), nil
}

func (r *reader) value(v any, s *rpc.Shape, at *path) error {
	if v == nil {
		return r.enc.EncodeNil()
	}
	text, isText := v.(string)
	number, isNumber := v.(json.Number)
	switch s.Kind {
	case "any":
		return r.natural(v, at)
	case "bool":
		if v, ok := v.(bool); ok {
			return r.enc.EncodeBool(v)
		}
	case "int", "uint":
		if isNumber && !strings.ContainsAny(string(number), ".eE") {
			return r.integer(string(number), s, at)
		}
	case "float":
		return r.float(v, s, at)
	case "text":
		if isText {
			return r.enc.EncodeString(text)
		}
	case "binary":
		if b, err := base64.StdEncoding.DecodeString(text); isText && err == nil {
			return r.enc.EncodeBytes(b)
		}
	case "time":
		// JSON of another year could not be made of it again.
		if t, err := time.Parse(time.RFC3339, text); isText && err == nil && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 {
			return r.enc.EncodeTime(t)
		}
	case "list":
		if v, ok := v.([]any); ok {
			return r.list(v, s, at)
		}
	case "map":
		if v, ok := v.(*object); ok {
			return r.object(v, s, at)
		}
	case "struct":
		if v, ok := v.(*object); ok {
			return r.structure(v, s, at)
		}
	default:
		return at.errorf("the server describes it as of kind %q, which this sealmux does not know; upgrade it", shorten(s.Kind))
	}
	return wrong(v, s, at)
}

// natural writes what no shape describes: as JSON has only numbers, those without point and exponent are integers.
func (r *reader) natural(v any, at *path) error {
	switch v := v.(type) {
	case bool:
		return r.enc.EncodeBool(v)
	case string:
		return r.enc.EncodeString(v)
	case json.Number:
		text := string(v)
		switch {
		case strings.ContainsAny(text, ".eE"):
			return r.float(v, &rpc.Shape{Kind: "float", Bits: 64}, at)
		case text[0] == '-':
			return r.integer(text, &rpc.Shape{Kind: "int", Bits: 64}, at)
		}
		return r.integer(text, &rpc.Shape{Kind: "uint", Bits: 64}, at)
	case []any:
		return r.list(v, anyShape, at)
	case *object:
		return r.object(v, anyShape, at)
	}
	return wrong(v, anyShape, at) // parseValue makes nothing else
}

func (r *reader) integer(text string, s *rpc.Shape, at *path) error {
	if s.Bits < 1 || s.Bits > 64 {
		return at.errorf("the server describes it as an integer of %d bits, which there is not; upgrade sealmux or the server", s.Bits)
	}
	if s.Kind == "int" {
		n, err := strconv.ParseInt(text, 10, s.Bits)
		if err == nil {
			return r.enc.EncodeInt(n)
		}
		most := int64(1)<<(s.Bits-1) - 1
		return at.errorf("%s does not fit an int%d, from %d to %d", shorten(text), s.Bits, -most-1, most)
	}
	n, err := strconv.ParseUint(text, 10, s.Bits)
	if err == nil || text == "-0" {
		return r.enc.EncodeUint(n)
	}
	return at.errorf("%s does not fit a uint%d, from 0 to %d", shorten(text), s.Bits, uint64(math.MaxUint64)>>(64-s.Bits))
}

func (r *reader) float(v any, s *rpc.Shape, at *path) error {
	if s.Bits != 32 && s.Bits != 64 {
		return at.errorf("the server describes it as a float of %d bits, which there is not; upgrade sealmux or the server", s.Bits)
	}
	var f float64
	switch v := v.(type) {
	case json.Number:
		var err error
		if f, err = strconv.ParseFloat(string(v), s.Bits); err != nil {
			return at.errorf(`%s does not fit a float%d; "Infinity" and "-Infinity" do`, shorten(string(v)), s.Bits)
		}
	case string:
		switch v {
		case "NaN":
			f = math.NaN()
		case "Infinity":
			f = math.Inf(1)
		case "-Infinity":
			f = math.Inf(-1)
		default:
			return wrong(v, s, at)
		}
	default:
		return wrong(v, s, at)
	}
	if s.Bits == 32 {
		return r.enc.EncodeFloat32(float32(f))
	}
	return r.enc.EncodeFloat64(f)
}

func (r *reader) list(list []any, s *rpc.Shape, at *path) error {
	elem, err := r.elem(s, "list")
	if err != nil {
		return at.errorf("%w", err)
	}
	if err := r.enc.EncodeArrayLen(len(list)); err != nil {
		return err
	}
	for i, v := range list {
		if err := r.value(v, elem, &path{up: at, kind: pathIndex, index: i}); err != nil {
			return err
		}
	}
	return nil
}

// object writes a map, in the order of the JSON.
func (r *reader) object(o *object, s *rpc.Shape, at *path) error {
	key, err := r.key(s)
	if err != nil {
		return at.errorf("%w", err)
	}
	elem, err := r.elem(s, "map")
	if err != nil {
		return at.errorf("%w", err)
	}
	if err := o.once(at); err != nil {
		return err
	}
	if err := r.enc.EncodeMapLen(len(o.keys)); err != nil {
		return err
	}
	for i, k := range o.keys {
		in := &path{up: at, kind: pathKey, text: k}
		if key.Kind == "int" || key.Kind == "uint" {
			// One spelling a number, or two keys would become the same.
			if !isInteger(k) {
				return in.errorf("the key is not an integer; write one such as \"3\", without zeros in front")
			}
			err = r.integer(k, key, in)
		} else {
			err = r.enc.EncodeString(k)
		}
		if err != nil {
			return err
		}
		if err := r.value(o.values[i], elem, in); err != nil {
			return err
		}
	}
	return nil
}

// structure writes the fields that are there, in the order of the shape.
func (r *reader) structure(o *object, s *rpc.Shape, at *path) error {
	if err := o.once(at); err != nil {
		return err
	}
	names := r.fields(s)
	type member struct{ field, value int }
	members := make([]member, len(o.keys))
	for i, k := range o.keys {
		field, ok := names[k]
		if !ok {
			return at.errorf("there is no field %q; %s", shorten(k), fieldList(s))
		}
		members[i] = member{field, i}
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.field, b.field) })
	if err := r.enc.EncodeMapLen(len(members)); err != nil {
		return err
	}
	for _, m := range members {
		f := s.Fields[m.field]
		in := &path{up: at, kind: pathField, text: f.Name}
		fs, err := r.shape(f.Type)
		if err != nil {
			return in.errorf("%w", err)
		}
		if err := r.enc.EncodeString(f.Name); err != nil {
			return err
		}
		if err := r.value(o.values[m.value], fs, in); err != nil {
			return err
		}
	}
	return nil
}
