package rpc

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Types that one or the other of msgpack, JSON and gob does not carry.

type (
	hidden   struct{ a int }
	withJSON struct{ a int }
	withGob  struct{ a int }
	withText struct{ a, b byte }
	deep     struct {
		Next *deep
		N    int
	}
	holder struct {
		Name  string
		Shape figure
	}
	nested struct{ Inner any }
	square struct{ W int }
	circle struct{ R float64 }
	figure interface{ Area() float64 }
)

func (v withJSON) MarshalJSON() ([]byte, error)  { return json.Marshal(v.a) }
func (v *withJSON) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &v.a) }
func (v withGob) GobEncode() ([]byte, error)     { return []byte{byte(v.a)}, nil }
func (v *withGob) GobDecode(b []byte) error      { v.a = int(b[0]); return nil }
func (v withText) MarshalText() ([]byte, error)  { return []byte{v.a, v.b}, nil }
func (v *withText) UnmarshalText(b []byte) error { v.a, v.b = b[0], b[1]; return nil }
func (s square) Area() float64                   { return float64(s.W * s.W) }
func (c *circle) Area() float64                  { return 3 * c.R * c.R }
func init()                                      { gob.Register(square{}); gob.Register(&circle{}); gob.Register(nested{}) }

func text(v any) string            { return fmt.Sprintf("%T %+v", v, v) }
func must[T any](v T, err error) T { return v }

type empty struct{}

func (empty) Area() float64 { return 0 }

func pointer[T any](v T) *T { return &v }

type fate string

const (
	same    fate = "the same"
	changed fate = "changed" // it comes back, but not the same
	refused fate = "refused"
)

// across sends v and back in a codec.
func across[T any](t *testing.T, codec Codec, v T) (got T, f fate) {
	defer func() {
		if p := recover(); p != nil { // Handle's
			if text := fmt.Sprint(p); !strings.HasPrefix(text, "rpc: type ") {
				panic(p)
			}
			f = refused
		}
	}()
	m := Unary[T, T]{Name: "m", Codec: codec}
	srv := NewServer(Options{})
	m.Handle(srv, func(_ context.Context, v T) (T, error) { return v, nil })
	c, _ := start(t, srv, Options{})
	got, err := m.Call(bg, c, v)
	switch {
	case err != nil && CodeOf(err) != InvalidArgument && CodeOf(err) != Internal:
		t.Error(err)
		fallthrough
	case err != nil:
		return got, refused
	case reflect.DeepEqual(got, v):
		return got, same
	}
	return got, changed
}

// row checks what becomes of v without codec, in JSON and in gob.
func row[T any](t *testing.T, v T, plain, inJSON, inGob fate) {
	t.Run(fmt.Sprintf("%T", v), func(t *testing.T) {
		for _, c := range []struct {
			codec Codec
			want  fate
		}{{nil, plain}, {JSON, inJSON}, {Gob, inGob}} {
			if got, f := across(t, c.codec, v); f != c.want {
				t.Errorf("%T in %T: %s, want %s: %s, from %s", v, c.codec, f, c.want, text(got), text(v))
			}
		}
	})
}

// TestTypes is the table of what crosses how. doc.go has it in words.
func TestTypes(t *testing.T) {
	berlin := time.FixedZone("", 3600)
	row(t, big.NewInt(1<<62), same, same, same)
	row(t, *big.NewInt(-7), same, same, same)
	row(t, struct{ N *big.Int }{big.NewInt(5)}, same, same, same)
	row(t, struct{ N big.Int }{*big.NewInt(5)}, same, same, same)
	row(t, big.NewFloat(1.5), changed, changed, same) // text keeps no precision
	row(t, big.NewRat(1, 3), same, same, same)
	row(t, must(url.Parse("https://u:p@h/p?q=1#f")), same, changed, same) // url.Userinfo has no JSON
	row(t, *must(url.Parse("https://h/p")), same, same, same)
	row(t, netip.MustParseAddr("10.0.0.1"), same, same, same)
	row(t, netip.MustParsePrefix("10.0.0.0/8"), same, same, same)
	row(t, net.ParseIP("10.0.0.1"), same, same, same)
	row(t, net.IPNet{IP: net.ParseIP("::1"), Mask: net.CIDRMask(8, 128)}, same, same, same)
	row(t, time.Date(2020, 1, 2, 3, 4, 5, 6, berlin), changed, same, same) // msgpack keeps the moment, not the zone
	row(t, time.Second, same, same, same)
	row(t, withText{'a', 'b'}, same, same, refused) // gob passes over MarshalText
	row(t, withJSON{1}, refused, same, refused)
	row(t, withGob{1}, refused, changed, same)
	row(t, hidden{1}, refused, changed, refused)
	row(t, struct{ A, b int }{1, 2}, changed, changed, changed)
	row(t, []hidden{{1}}, refused, changed, refused)
	row(t, map[withText]int{{'a', 'b'}: 1}, refused, same, refused)
	row(t, map[netip.Addr]int{netip.MustParseAddr("::1"): 1}, refused, same, same)
	row(t, map[[2]int]int{{1, 2}: 3}, refused, refused, same)
	row(t, map[bool]int{true: 1}, refused, refused, same)
	row(t, map[float64]int{1.5: 1}, refused, refused, same)
	row(t, map[int]string{-1: "a"}, same, same, same)
	row(t, map[string]any{"a": "b", "c": true}, same, same, same)
	row(t, map[string]any{"a": 1}, changed, changed, same) // an int8, a float64, an int
	row(t, []any{int64(1), "x"}, changed, changed, same)
	row(t, figure(square{2}), refused, refused, same)
	row(t, []figure{square{2}, &circle{1.5}, nil}, refused, refused, same)
	row(t, holder{"x", &circle{1}}, refused, refused, same)
	type unregistered []any // with gob, by any test
	row(t, nested{nested{nested{unregistered{square{3}, nil}}}}, changed, changed, refused)
	row(t, nested{nested{nested{square{3}}}}, changed, changed, same)
	row(t, complex(1, 2), refused, refused, same)
	row(t, make(chan int), refused, refused, refused)
	row(t, json.RawMessage(`{"a":1}`), same, same, same)
	row(t, []byte("\xff"), same, same, same)
	row(t, "text", same, same, same)
	row(t, "\xff", refused, changed, same) // JSON puts U+FFFD there
	row(t, 1.5, same, same, same)
	row(t, [3]int{1, 2, 3}, same, same, same)
	row(t, Raw{0xc3}, same, same, same)
	row(t, struct{}{}, same, same, same)
	row(t, &struct{}{}, same, same, same)
	row(t, figure(empty{}), refused, refused, refused)
	row(t, any(empty{}), changed, changed, refused)
	row(t, any((*circle)(nil)), changed, changed, refused)
	row(t, pointer(pointer(pointer(7))), same, same, same)
	row(t, &deep{&deep{nil, 2}, 1}, same, same, same)
	row(t, (*deep)(nil), changed, changed, changed) // a pointer to the zero value: no handler meets a nil request
	row(t, any(nil), same, same, same)
	row(t, []*int{new(int), new(int)}, same, same, same)
	row(t, []*int{nil}, same, same, refused)
}

type figures struct{}

func (figures) Double(_ context.Context, f figure) (figure, error) {
	return square{2 * f.(square).W}, nil
}
func (figures) Grow(args map[figure]int, reply *map[figure]int) error {
	for f, n := range args {
		(*reply)[f] = n + 1
	}
	return nil
}
func (figures) Up(_ context.Context, f figure, send func(figure) error) error {
	return errors.Join(send(f), send(&circle{2}), send(nil))
}
func (figures) Sum(_ context.Context, items iter.Seq2[figure, error]) (complex128, error) {
	var sum complex128
	for f, err := range items {
		if err != nil {
			return 0, err
		}
		sum += complex(f.Area(), 1)
	}
	return sum, nil
}
func (figures) Chat(_ context.Context, s *Stream[figure, figure]) error {
	for f, err := range s.All() {
		if err = errors.Join(err, s.Send(f)); err != nil {
			return err
		}
	}
	return nil
}

// codedServer has the methods of figures twice: made from methods of a struct, and as values.
func codedServer(opts Options) *Server {
	srv := NewServer(opts)
	srv.RegisterCodec("r", figures{}, Gob)
	Unary[figure, figure]{"v.Double", Gob}.Handle(srv, figures{}.Double)
	ServerStream[figure, figure]{"v.Up", Gob}.Handle(srv, figures{}.Up)
	ClientStream[figure, complex128]{"v.Sum", Gob}.Handle(srv, figures{}.Sum)
	Bidi[figure, figure]{"v.Chat", Gob}.Handle(srv, figures{}.Chat)
	return srv
}

// TestCodecForms: every form of method, compressed and not, through interceptors and not.
func TestCodecForms(t *testing.T) {
	nothing := Interceptor{Unary: func(ctx context.Context, req *Request, next UnaryFunc) (*Response, error) { return next(ctx, req) }}
	for name, opts := range map[string]Options{"plain": {}, "compressed": {CompressOver: 1}, "intercepted": {Interceptors: []Interceptor{nothing}}} {
		c, _ := start(t, codedServer(opts), opts)
		for _, of := range []string{"r.", "v."} {
			if f, err := (Unary[figure, figure]{of + "Double", Gob}).Call(bg, c, square{2}); f != (square{4}) || err != nil {
				t.Error(name, of, f, err)
			}
			var all []figure
			for f, err := range (ServerStream[figure, figure]{of + "Up", Gob}).Call(bg, c, square{1}) {
				if all = append(all, f); err != nil {
					t.Error(name, of, err)
				}
			}
			if !reflect.DeepEqual(all, []figure{square{1}, &circle{2}, nil}) {
				t.Error(name, of, all)
			}
			sum, err := ClientStream[figure, complex128]{of + "Sum", Gob}.Call(bg, c, slices.Values([]figure{square{1}, &circle{2}}))
			if sum != 13+2i || err != nil {
				t.Error(name, of, sum, err)
			}
			s, err := Bidi[figure, figure]{of + "Chat", Gob}.Open(bg, c)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range []figure{square{1}, &circle{2}} {
				s.Send(f)
				if got, err := s.Recv(); !reflect.DeepEqual(got, f) || err != nil {
					t.Error(name, of, got, err)
				}
			}
			s.Close()
		}
		grown, err := Unary[map[figure]int, map[figure]int]{"r.Grow", Gob}.Call(bg, c, map[figure]int{square{1}: 1})
		if grown[square{1}] != 2 || err != nil {
			t.Error(name, grown, err)
		}
		d, err := Methods.Call(bg, c, "v.")
		if err != nil || len(d.Types) != 1 || d.Types[0].Kind != "coded" || d.String(0) != "gob" || d.Methods[0].Request+d.Methods[3].Reply != 0 {
			t.Error(name, d, err)
		}
	}
}

// TestCodecMismatch: one side has a codec and the other another or none. No handler runs on what it cannot read.
func TestCodecMismatch(t *testing.T) {
	for _, server := range []Codec{nil, JSON, Gob, otherCodec{}} {
		srv := NewServer(Options{})
		ran := false
		Unary[string, string]{"text", server}.Handle(srv, func(context.Context, string) (string, error) { ran = true; return "", nil })
		Unary[[]byte, []byte]{"bytes", server}.Handle(srv, func(context.Context, []byte) ([]byte, error) { ran = true; return nil, nil })
		Unary[any, any]{"any", server}.Handle(srv, func(context.Context, any) (any, error) { ran = true; return "", nil })
		Unary[pair, pair]{"pair", server}.Handle(srv, func(_ context.Context, p pair) (pair, error) { ran = true; return p, nil })
		ServerStream[pair, pair]{"up", server}.Handle(srv, func(context.Context, pair, func(pair) error) error { ran = true; return nil })
		ClientStream[pair, int]{"sum", server}.Handle(srv, func(_ context.Context, items iter.Seq2[pair, error]) (int, error) {
			for _, err := range items {
				if err != nil {
					return 0, err
				}
				ran = true
			}
			return 1, nil
		})
		c, _ := start(t, srv, Options{})
		for _, client := range []Codec{nil, JSON, Gob, otherCodec{}} {
			if client == server {
				continue
			}
			_, err1 := Unary[string, string]{"text", client}.Call(bg, c, "x")
			_, err2 := Unary[[]byte, []byte]{"bytes", client}.Call(bg, c, []byte("x"))
			_, err3 := Unary[any, any]{"any", client}.Call(bg, c, "x")
			_, err4 := Unary[pair, pair]{"pair", client}.Call(bg, c, pair{1, "x"})
			errs := []error{err1, err2, err3, err4}
			for _, err := range (ServerStream[pair, pair]{"up", client}).Call(bg, c, pair{1, "x"}) {
				errs = append(errs, err)
			}
			for i, err := range errs {
				want(t, err, InvalidArgument, NotExecuted)
				if !strings.Contains(err.Error(), "odec on both sides") || ran {
					t.Error(i, "client", client, "server", server, err, ran)
				}
				if server != nil && !strings.Contains(err.Error(), server.Name()+" is due") {
					t.Error(i, "client", client, "server", server, err)
				}
			}
			_, err := ClientStream[pair, int]{"sum", client}.Call(bg, c, slices.Values([]pair{{1, "x"}}))
			if want(t, err, InvalidArgument, Executed); ran {
				t.Error("client", client, "server", server, err)
			}
		}
	}
	c, _ := start(t, NewServer(Options{}), Options{}) // an echo
	_, err := Unary[string, string]{"m", JSON}.Call(bg, c, "x")
	want(t, err, InvalidArgument, Executed)
	srv := NewServer(Options{})
	Handle(srv, "m", func(context.Context, Raw) (int, error) { return 1, nil }) // a reply in another than the request
	c, _ = start(t, srv, Options{})
	_, err = Unary[string, string]{"m", JSON}.Call(bg, c, "x")
	want(t, err, Internal, Executed)
}

// otherCodec is somebody's own: text of fmt.
type otherCodec struct{}

func (otherCodec) Name() string { return "fmt_1" }
func (otherCodec) Marshal(v any) ([]byte, error) {
	return fmt.Append(nil, reflect.ValueOf(v).Elem()), nil
}
func (otherCodec) Unmarshal(b []byte, v any) error {
	_, err := fmt.Fscan(bytes.NewReader(b), v)
	return err
}

type namedCodec struct {
	otherCodec
	name string
}

func (c namedCodec) Name() string { return c.name }

func TestOwnCodec(t *testing.T) {
	if got, f := across(t, otherCodec{}, 7); got != 7 || f != same {
		t.Error(got, f)
	}
	if _, f := across[any](t, otherCodec{}, 7); f != refused { // a *any is nothing to fmt.Fscan
		t.Error(f)
	}
	for _, name := range []string{"", "Upper", "a b", strings.Repeat("x", 33), "é"} {
		m := Unary[int, int]{"m", namedCodec{name: name}}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q is registered", name)
				}
			}()
			m.Handle(NewServer(Options{}), nil)
		}()
		c, _ := start(t, NewServer(Options{}), Options{})
		_, err := m.Call(bg, c, 1)
		want(t, err, InvalidArgument, NotSent)
	}
}

type crowd struct {
	Any  any
	All  []any
	Map  map[string]any
	Fig  figure
	More map[int]nested
	Deep *crowd
}

// someValue is a random value of registered types, with others inside it.
func someValue(r *rand.Rand, depth int) any {
	list := func() (l []any) {
		for range r.IntN(4) {
			l = append(l, someValue(r, depth-1))
		}
		return l
	}
	n := r.IntN(14)
	if depth == 0 {
		n %= 8
	}
	switch n {
	case 0:
		return r.IntN(100) - 50
	case 1:
		return strings.Repeat("x", r.IntN(300))
	case 2:
		return []byte{1, byte(r.IntN(256))}
	case 3:
		return r.Float64()
	case 4:
		return complex(1, r.Float64())
	case 5:
		return square{r.IntN(3)}
	case 6:
		return &circle{r.Float64()}
	case 7:
		return withGob{r.IntN(256)}
	case 8:
		return nested{someValue(r, depth-1)}
	case 9:
		return list()
	case 10:
		m := make(map[string]any)
		for i, v := range list() {
			m[fmt.Sprint(i)] = v
		}
		return m
	case 11:
		return map[bool][]figure{true: {square{1}, nil, &circle{2}}, false: nil}
	}
	return &crowd{someValue(r, depth-1), list(), map[string]any{"a": someValue(r, depth-1)}, &circle{1}, map[int]nested{1: {someValue(r, depth-1)}}, &crowd{Fig: square{1}}}
}

// TestGobTakesAll: what gob carries, the codec carries, however types are hidden in interfaces; a map's order does not matter.
func TestGobTakesAll(t *testing.T) {
	for _, v := range []any{[]any{}, map[string]any{}, map[bool][]figure{}, &crowd{}, withGob{}} {
		gob.Register(v)
	}
	inside := 0
	for seed := range uint64(3000) {
		v := someValue(rand.New(rand.NewPCG(seed, 1)), 5)
		var plain, back any
		var buf bytes.Buffer
		if err := errors.Join(gob.NewEncoder(&buf).Encode(&v), gob.NewDecoder(&buf).Decode(&plain)); err != nil {
			t.Fatal(seed, err)
		}
		b, err := appendCoded(nil, Gob, &v)
		if err == nil {
			err = errors.Join(Check(b), decodeCoded(b, Gob, &back))
		}
		if err != nil || !reflect.DeepEqual(plain, back) {
			t.Fatalf("seed %d: %v\nsent %+v\ngot  %+v", seed, err, plain, back)
		}
		walk := gobWalk{b: gobOf(v), lax: true}
		if walk.run(); walk.inside {
			inside++
		}
	}
	if inside < 500 {
		t.Errorf("only %d gobs with types in their midst", inside)
	}
}

func gobOf(v any) []byte {
	var buf bytes.Buffer
	gob.NewEncoder(&buf).Encode(&v)
	return buf.Bytes()
}
