package rpc

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
)

// What hostile bytes and a program's own faulty methods do in a codec.

func coded(c Codec, data string) Raw {
	b := appendString([]byte(codedHead), c.Name())
	if isText(c) {
		return appendString(b, data)
	}
	return appendBytes(b, []byte(data))
}

// allocated is how many bytes the program has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// wire types of gob, as it sends them.
const (
	gobMapOfInt = "\x0e\xff\x81\x04\x01\x02\xff\x82\x00\x01\x0c\x01\x04\x00\x00" // type 65: map[string]int
	gobInts     = "\x0c\xff\x83\x02\x01\x02\xff\x84\x00\x01\x04\x00\x00"         // type 66: []int
)

func TestGobSeeds(t *testing.T) {
	var m map[string]int
	if err := (gobCodec{}).Unmarshal([]byte(gobMapOfInt+"\x07\xff\x82\x00\x01\x01a\x02"), &m); err != nil || m["a"] != 1 {
		t.Error(m, err)
	}
	var s []int
	if err := (gobCodec{}).Unmarshal([]byte(gobInts+"\x06\xff\x84\x00\x02\x02\x04"), &s); err != nil || len(s) != 2 || s[1] != 2 {
		t.Error(s, err)
	}
}

// TestGobHostile: what B12 refuses, before gob sees it.
func TestGobHostile(t *testing.T) {
	decode := func(data string, v any) error { return decodeCoded(coded(Gob, data), Gob, v) }
	for name, c := range map[string]struct {
		data string
		into any
		says string
	}{
		"a map of 2^20":               {gobMapOfInt + "\x07\xff\x82\x00\xfd\x10\x00\x00", new(map[string]int), "length"},
		"a slice of 2^40":             {gobInts + "\x0a\xff\x84\x00\xfa\x01\x00\x00\x00\x00\x00", new([]int), "length"},
		"a map one short":             {gobMapOfInt + "\x07\xff\x82\x00\x02\x01a\x02", new(map[string]int), "cut short"},
		"text of 2^40":                {"\x09\x0c\x00\xfa\x01\x00\x00\x00\x00\x00", new(string), "length"},
		"a message of 2^40":           {"\xfa\x01\x00\x00\x00\x00\x00", new(int), "length"},
		"nothing":                     {"", new(int), "cut short"},
		"two values":                  {"\x03\x04\x00\x02\x03\x04\x00\x02", new(int), "behind the value"},
		"a value and a byte":          {"\x04\x04\x00\x02\x00", new(int), "behind the value"},
		"no zero":                     {"\x03\x04\x01\x02", new(int), "no zero"},
		"a number of nine bytes":      {"\x0c\x04\x00\xf7\x01\x01\x01\x01\x01\x01\x01\x01\x01", new(int), "cut short"},
		"a type that nobody knows":    {"\x04\xff\x90\x00\x02", new(int), "not described"},
		"a reserved type":             {"\x03\x20\x00\x02", new(int), "not described"},
		"a type of gob's own":         {"\x05\xff\x81\x00\x00\x00", new(int), "none, or several"},
		"a type of a low number":      {strings.Replace(gobInts, "\x0c\xff\x83", "\x0b\x0d", 1) + "\x06\x0e\x00\x02\x02\x04", new([]int), "twice"},
		"a type twice":                {gobInts + gobInts + "\x06\xff\x84\x00\x02\x02\x04", new([]int), "twice"},
		"a type of a wide number":     {strings.Replace(gobInts, "\x0c\xff\x83", "\x10\xfb\x02\x00\x00\x00\x83", 1) + "\x06\xff\x84\x00\x02\x02\x04", new([]int), "none of its"},
		"bytes behind a type":         {strings.Replace(gobInts, "\x0c", "\x0d", 1) + "\x00\x06\xff\x84\x00\x02\x02\x04", new([]int), "behind a description"},
		"a list and a map in one":     {"\x17\xff\x81\x02\x01\x02\xff\x82\x00\x01\x04\x00\x02\x01\x02\xff\x82\x00\x01\x04\x01\x04\x00\x00\x06\xff\x82\x00\x01\x02\x04", new(map[int]int), "none, or several"},
		"a length of an interface":    {"\x0a\x10\x00\x03int\x04\x01\x00\x02", new(any), "not that of the value"},
		"an interface in itself":      {"\x0a\x10\x00\x03int\x10\x02\x00\x00", new(any), "interface in an interface"},
		"a type within the value":     {"\x15\x10\x00\x05[]int\xff\x83\x02\x01\x02\xff\x84\x00\x01\x04\x00\x00\x00", new(any), ""},
		"a field that is not there":   {"\x12\xff\x81\x03\x01\x02\xff\x82\x00\x01\x01\x01\x01N\x01\x04\x00\x00\x00\x05\xff\x82\x02\x02\x00", new(struct{ N int }), "not described"},
		"a type without what is told": {"\x05\xff\x81\x02\x00\x00\x03\xff\x82\x00", new([]int), ""},
	} {
		before := allocated()
		err := decode(c.data, c.into)
		if !errors.Is(err, ErrBadMessage) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if n := allocated() - before; n > 1<<20 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

// TestCodedLimits: the limits of bodies hold in a codec, for who sends and for who receives.
func TestCodedLimits(t *testing.T) {
	chain := func(n int) (d *deep) {
		for range n {
			d = &deep{d, 1}
		}
		return d
	}
	for _, codec := range []Codec{JSON, Gob} {
		for name, c := range map[string]struct {
			good, bad any
		}{
			"depth":  {chain(32), chain(33)},
			"values": {make([]int, 99_998), make([]int, 100_001)},
			"pairs":  {[]map[int]int{{1: 1}}, make([]map[int]int, 100_001)},
		} {
			good, err := appendCoded(nil, codec, box(c.good))
			if err == nil {
				err = decodeCoded(good, codec, reflect.New(reflect.TypeOf(c.good)).Interface())
			}
			if err != nil {
				t.Error(codec.Name(), name, err)
			}
			if _, err := appendCoded(nil, codec, box(c.bad)); !errors.Is(err, ErrBadMessage) {
				t.Error(codec.Name(), name, err)
			}
			data := raw(codec, c.bad)
			err = decodeCoded(coded(codec, data), codec, reflect.New(reflect.TypeOf(c.bad)).Interface())
			if !errors.Is(err, ErrBadMessage) {
				t.Error(codec.Name(), name, err)
			}
		}
		m := Unary[string, string]{"m", codec}
		srv := NewServer(Options{MaxSend: 64 << 10})
		m.Handle(srv, func(_ context.Context, s string) (string, error) { return s + s, nil })
		c, _ := start(t, srv, Options{MaxSend: 70_000, MaxReceive: 70_000})
		if got, err := m.Call(bg, c, strings.Repeat("x", 30_000)); len(got) != 60_000 || err != nil {
			t.Error(len(got), err)
		}
		_, err := m.Call(bg, c, strings.Repeat("x", 40_000))
		want(t, err, ResourceExhausted, Executed)
		_, err = m.Call(bg, c, strings.Repeat("x", 70_000))
		want(t, err, ResourceExhausted, NotSent)
	}
	for _, text := range []string{"", "1 2", "{", "nul", `{"a":}`, "\x00"} {
		if err := decodeCoded(coded(JSON, text), JSON, new(any)); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := decodeCoded(coded(JSON, `{"a":123456.5}`), JSON, new(struct{ A int })); err == nil || strings.Contains(err.Error(), "123456") {
		t.Error(err)
	}
	if err := decodeCoded(coded(JSON, `"\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["`), JSON, new(string)); err != nil {
		t.Error(err)
	}
}

func box(v any) any {
	p := reflect.New(reflect.TypeOf(v))
	p.Elem().Set(reflect.ValueOf(v))
	return p.Interface()
}

// raw is what a sender without limits would send.
func raw(c Codec, v any) string {
	if c == Gob {
		var buf bytes.Buffer
		gob.NewEncoder(&buf).Encode(v)
		return buf.String()
	}
	return string(must(json.Marshal(v)))
}

// faulty panics where it is told to.
type faulty struct{ Where string }

func (f faulty) MarshalText() ([]byte, error) {
	if f.Where == "encode" {
		panic("a fault of the program's own")
	}
	return []byte(f.Where), nil
}

func (f *faulty) UnmarshalText(b []byte) error {
	if f.Where = string(b); f.Where == "decode" {
		panic("a fault of the program's own")
	}
	return nil
}

func (f faulty) GobEncode() ([]byte, error)     { return f.MarshalText() }
func (f *faulty) GobDecode(b []byte) error      { return f.UnmarshalText(b) }
func (f faulty) String() string                 { return f.Where }
func (f faulty) MarshalBinary() ([]byte, error) { return f.MarshalText() }

// TestCodecPanics: a method of a message's type that panics harms its own call.
func TestCodecPanics(t *testing.T) {
	for _, codec := range []Codec{JSON, Gob} {
		srv := NewServer(Options{})
		m := Unary[string, faulty]{"m", codec}
		back := Unary[faulty, string]{"back", codec}
		up := ServerStream[string, faulty]{"up", codec}
		chat := Bidi[faulty, faulty]{"chat", codec}
		m.Handle(srv, func(_ context.Context, where string) (faulty, error) { return faulty{where}, nil })
		back.Handle(srv, func(_ context.Context, f faulty) (string, error) { return f.Where, nil })
		up.Handle(srv, func(_ context.Context, where string, send func(faulty) error) error { return send(faulty{where}) })
		chat.Handle(srv, func(_ context.Context, s *Stream[faulty, faulty]) error {
			for f, err := range s.All() {
				if err != nil {
					return err
				}
				if err := s.Send(f); err != nil {
					return err
				}
			}
			return nil
		})
		c, _ := start(t, srv, Options{})
		for range 3 {
			_, err := m.Call(bg, c, "encode") // the handler's reply
			want(t, err, Internal, Executed)
			_, err = m.Call(bg, c, "decode") // the client's
			want(t, err, Internal, Executed)
			_, err = back.Call(bg, c, faulty{"decode"}) // the server's
			want(t, err, InvalidArgument, NotExecuted)
			for _, err := range up.Call(bg, c, "encode") {
				want(t, err, Internal, Executed)
			}
			func() { // the program's own goroutine
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				back.Call(bg, c, faulty{"encode"})
			}()
			s, err := chat.Open(bg, c)
			if err != nil {
				t.Fatal(err)
			}
			s.Send(faulty{"decode"})
			_, err = s.Recv()
			want(t, err, InvalidArgument, Executed)
			if got, err := m.Call(bg, c, "ok"); got.Where != "ok" || err != nil {
				t.Fatal(got, err)
			}
		}
	}
}

// everything has fields of all the kinds that gob has.
type everything struct {
	A    int8
	B    uint16
	C    []byte
	D    string
	E    float32
	F    complex64
	G    map[string]*everything
	H    [2]bool
	I    []*everything
	J    any
	K    figure
	L    withGob
	M    map[int][]map[string]uint
	Next *everything
}

func someOfAll() *everything {
	return &everything{A: -1, B: 300, C: []byte("x"), D: "y", E: 1.5, F: 1i, G: map[string]*everything{"a": {A: 1}}, H: [2]bool{true},
		I: []*everything{{D: "z"}}, J: nested{nested{square{2}}}, K: &circle{2}, L: withGob{5}, M: map[int][]map[string]uint{1: {{"a": 1}}}, Next: &everything{K: square{1}}}
}

// FuzzGob: bytes that pass B12 do not make gob allocate what they do not justify; what gob takes is sent again and taken again.
func FuzzGob(f *testing.F) {
	for _, v := range []any{someOfAll(), 1, "x", []int{1}, map[string]int{"a": 1}, [3]string{"x"}, nested{nested{nested{square{3}}}},
		[]figure{square{1}, &circle{2}, nil}, &struct{ A map[bool][]float64 }{map[bool][]float64{true: {1}}}, withGob{1}} {
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(v); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
		b, err := Gob.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(gobMapOfInt + "\x07\xff\x82\x00\xfd\x10\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if rest := bytes.NewReader(data); checkGob(data) == nil && gob.NewDecoder(rest).DecodeValue(reflect.Value{}) == nil && rest.Len() > 0 {
			t.Errorf("gob has stopped %d bytes before the walk", rest.Len())
		}
		body := coded(Gob, string(data))
		before := allocated()
		for _, p := range []any{new(everything), new(int), new(string), new([]int), new(map[string]int), new(any), new(figure), new([]figure), new(struct{}),
			new([][]map[string]everything), new(struct{ Z any })} {
			if err := decodeCoded(body, Gob, p); err == nil {
				again, err := appendCoded(nil, Gob, p)
				if err != nil { // deeper by the levels of a type, or of a type that is not registered
					continue
				}
				if err := decodeCoded(again, Gob, reflect.New(reflect.TypeOf(p).Elem()).Interface()); err != nil {
					t.Errorf("%T: what was taken is refused: %v", p, err)
				}
			} else if !errors.Is(err, ErrBadMessage) {
				t.Error(err)
			}
		}
		if n := allocated() - before; n > 64<<20+uint64(1000*len(data)) {
			t.Errorf("%d bytes allocated for %d", n, len(data))
		}
	})
}

// FuzzCoded: any body, in any codec or none.
func FuzzCoded(f *testing.F) {
	for _, body := range []Raw{{0xc0}, coded(JSON, `{"A":1,"b":"x"}`), coded(JSON, `[[["\"]"]]]`), coded(Gob, "\x03\x04\x00\x02"), coded(otherCodec{}, "7"), Raw(codedHead),
		Raw(codedHead + "\xc0\xc0"), Raw(codedHead + "\xd9\x04json\xa11"), Raw("\x81\x00\x92\xa1x\xa1y")} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if Check(body) != nil {
			return
		}
		for _, c := range []Codec{nil, JSON, Gob, otherCodec{}} {
			for _, p := range []any{new(any), new(pair), new(*pair), new(string), new(int), new([]any), new(map[string]any), new(map[int][]string), new(deep), new(faulty)} {
				err := decodeInto(c, body, p)
				if err != nil && !errors.Is(err, ErrBadMessage) {
					t.Error(err)
				}
				if err == nil && isCoded(body) && c == nil {
					t.Errorf("%T took a body in a codec", p)
				}
				if err == nil && !isCoded(body) && body[0] != 0xc0 && c != nil {
					t.Errorf("%T took a body without codec", p)
				}
				if err != nil || c != JSON {
					continue
				}
				one, err1 := appendCoded(nil, c, p)
				q := reflect.New(reflect.TypeOf(p).Elem())
				err2 := decodeCoded(one, c, q.Interface())
				two, err3 := appendCoded(nil, c, q.Interface())
				if err := errors.Join(err1, err2, err3); err != nil || !bytes.Equal(one, two) {
					t.Errorf("%T: %q, %q, %v", p, one, two, err)
				}
			}
		}
	})
}
