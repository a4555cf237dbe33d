package jsonmsg

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/sealmux/sealmux/internal/termtext"
	"github.com/sealmux/sealmux/rpc"
)

// A writer turns msgpack into JSON. The bytes say what each value is. The shape is followed beside, to refuse a
// description that refers to nothing and to write floats as people do where no reader could take them for integers.
type writer struct {
	*describer
	dec *msgpack.Decoder
	out bytes.Buffer
	enc *json.Encoder // to out
}

// To returns value, a message in a shape of d, as JSON on one line without its end, of which a terminal obeys nothing. It takes
// any value that passes rpc.Check, also one that is not of the shape: a peer may be newer than its description. It fails if
// rpc.Check does, or if d refers to a type that it does not have or to keys that JSON cannot have. A map with the integer 1 and
// the text "1" as keys comes out with the key "1" twice.
func To(d *rpc.Description, shape int, value rpc.Raw) ([]byte, error) {
	if err := rpc.Check(value); err != nil { // after this, lengths are true and nothing is deeper than 32
		return nil, fmt.Errorf("the message cannot be read: %s; tell the owner of the server", reason(err))
	}
	w := writer{describer: newDescriber(d), dec: msgpack.NewDecoder(bytes.NewReader(value))}
	w.enc = json.NewEncoder(&w.out)
	w.enc.SetEscapeHTML(false)
	s, err := w.shape(shape)
	if err != nil {
		return nil, err
	}
	if s.Kind == "coded" {
		if text, ok := toCoded(value); ok {
			return text, nil
		}
	}
	if err := w.value(s); err != nil {
		return nil, err
	}
	return w.out.Bytes(), nil
}

func (w *writer) value(s *rpc.Shape) error {
	c, err := w.dec.PeekCode()
	if err != nil {
		return err
	}
	switch {
	case c == msgpcode.Nil:
		w.out.WriteString("null")
		return w.dec.DecodeNil()
	case c == msgpcode.False || c == msgpcode.True:
		v, err := w.dec.DecodeBool()
		w.out.WriteString(strconv.FormatBool(v))
		return err
	case msgpcode.IsString(c):
		_, err := w.string()
		return err
	case msgpcode.IsBin(c):
		b, err := w.dec.DecodeBytes()
		w.out.WriteByte('"')
		w.out.Write(base64.StdEncoding.AppendEncode(w.out.AvailableBuffer(), b))
		w.out.WriteByte('"')
		return err
	case c == msgpcode.Float:
		f, err := w.dec.DecodeFloat32()
		w.float(float64(f), 32, s)
		return err
	case c == msgpcode.Double:
		f, err := w.dec.DecodeFloat64()
		w.float(f, 64, s)
		return err
	case msgpcode.IsExt(c):
		t, err := w.dec.DecodeTime()
		w.out.WriteString(t.UTC().Format(`"` + time.RFC3339Nano + `"`))
		return err
	case msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32:
		return w.array(s)
	case msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32:
		return w.object(s)
	}
	return w.integer(c)
}

func (w *writer) integer(c byte) error {
	if c == msgpcode.Uint64 {
		n, err := w.dec.DecodeUint64()
		w.out.Write(strconv.AppendUint(w.out.AvailableBuffer(), n, 10))
		return err
	}
	n, err := w.dec.DecodeInt64()
	w.out.Write(strconv.AppendInt(w.out.AvailableBuffer(), n, 10))
	return err
}

// string writes a text and returns it. It escapes what a terminal would obey.
func (w *writer) string() (string, error) {
	text, err := w.dec.DecodeString()
	if err != nil {
		return "", err
	}
	start := w.out.Len()
	if err := w.enc.Encode(text); err != nil {
		return "", err
	}
	w.out.Truncate(w.out.Len() - 1) // the newline
	if termtext.Quiet(text) != text {
		quoted := string(w.out.Bytes()[start:])
		w.out.Truncate(start)
		w.out.WriteString(termtext.Quiet(quoted))
	}
	return text, nil
}

// name writes a map's key, which in JSON is always a string, and returns it if it is text, as the names of fields are.
func (w *writer) name() (text string, isText bool, err error) {
	c, err := w.dec.PeekCode()
	if err != nil {
		return "", false, err
	}
	if msgpcode.IsString(c) {
		text, err = w.string()
		return text, true, err
	}
	w.out.WriteByte('"')
	err = w.integer(c)
	w.out.WriteByte('"')
	return "", false, err
}

// float writes f so that it is read back as a float of the same value. Only where the shape says float is that without a point.
func (w *writer) float(f float64, bits int, s *rpc.Shape) {
	switch {
	case math.IsNaN(f):
		w.out.WriteString(`"NaN"`)
		return
	case math.IsInf(f, 1):
		w.out.WriteString(`"Infinity"`)
		return
	case math.IsInf(f, -1):
		w.out.WriteString(`"-Infinity"`)
		return
	}
	form := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		form = 'e'
	}
	text := strconv.FormatFloat(f, form, -1, bits)
	w.out.WriteString(text)
	if s.Kind != "float" && !strings.ContainsAny(text, ".e") {
		w.out.WriteString(".0")
	}
}

func (w *writer) array(s *rpc.Shape) error {
	n, err := w.dec.DecodeArrayLen()
	if err != nil {
		return err
	}
	elem, err := w.elem(s, "list")
	if err != nil {
		return err
	}
	w.out.WriteByte('[')
	for i := range n {
		if i > 0 {
			w.out.WriteByte(',')
		}
		if err := w.value(elem); err != nil {
			return err
		}
	}
	w.out.WriteByte(']')
	return nil
}

func (w *writer) object(s *rpc.Shape) error {
	n, err := w.dec.DecodeMapLen()
	if err != nil {
		return err
	}
	elem, err := w.elem(s, "map")
	if err != nil {
		return err
	}
	if _, err := w.key(s); err != nil {
		return err
	}
	w.out.WriteByte('{')
	for i := range n {
		if i > 0 {
			w.out.WriteByte(',')
		}
		name, isText, err := w.name()
		if err != nil {
			return err
		}
		w.out.WriteByte(':')
		inner := elem
		if s.Kind == "struct" && isText {
			if field, ok := w.fields(s)[name]; ok {
				if inner, err = w.shape(s.Fields[field].Type); err != nil {
					return err
				}
			}
		}
		if err := w.value(inner); err != nil {
			return err
		}
	}
	w.out.WriteByte('}')
	return nil
}
