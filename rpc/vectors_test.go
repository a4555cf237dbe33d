package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmux/sealmux/internal/vectors"
)

var update = flag.Bool("update", false, "TestVectors writes testdata/vectors anew")

const vectorsDir = "testdata/vectors"

// TestVectors drives the code with every case of testdata/vectors, whose README.md says what the cases say.
func TestVectors(t *testing.T) {
	if *update {
		if err := vectors.Save(vectorsDir, generateVectors(t)); err != nil {
			t.Fatal(err)
		}
	}
	cases, err := vectors.Load(vectorsDir)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(vectorsDir + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`There are (\d+) cases`).FindSubmatch(readme)
	if m == nil {
		t.Fatal("README.md does not say how many cases there are")
	}
	if n, _ := strconv.Atoi(string(m[1])); n == 0 || n != len(cases) {
		t.Errorf("there are %d cases; README.md says %d", len(cases), n)
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if err := driveVector(t, c); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVectorsGenerated: the folder is what the generator makes, small, and has a case for every rule that can be seen in one.
func TestVectorsGenerated(t *testing.T) {
	cases, err := vectors.Load(vectorsDir)
	if err != nil {
		t.Fatal(err)
	}
	made := generateVectors(t)
	for name, c := range made {
		if cases[name] == nil || !bytes.Equal(cases[name].Format(), c.Format()) {
			t.Errorf("%s is not as the generator makes it: go test ./rpc -run TestVectors -update", name)
		}
	}
	said := make(map[string]bool)
	for name, c := range cases {
		if made[name] == nil {
			t.Errorf("the generator does not make %s", name)
		}
		if n := len(c.Format()); n > 100_000 {
			t.Errorf("%s has %d bytes", name, n)
		}
		said[c.Get("rule")] = true
	}
	spec, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	unseen := []string{"C6", "C8", "S3", "S5"} // README.md tells of them
	for _, m := range regexp.MustCompile(`(?m)^- \*\*([A-Z]\d+)\*\*`).FindAllStringSubmatch(string(spec), -1) {
		if said[m[1]] == slices.Contains(unseen, m[1]) {
			t.Errorf("rule %s: there is a case: %v", m[1], said[m[1]])
		}
		delete(said, m[1])
	}
	for rule := range said {
		if rule != "M" {
			t.Errorf("SPEC.md has no rule %q", rule)
		}
	}
}

// expectations are the words that the header expect of a role can have.
var expectations = map[string][]string{
	"message": {"ok", "refused"},
	"body":    {"ok", "bad"},
	"callee":  {"ok", "call-error", "refused", "cut"},
	"caller":  {"ok", "call-error", "refused", "cut", "goaway"},
}

// TestVectorsCompare: whatever a case says is compared. A case that says something else fails.
func TestVectorsCompare(t *testing.T) {
	cases, err := vectors.Load(vectorsDir)
	if err != nil {
		t.Fatal(err)
	}
	mutants := 0
	survives := func(t *testing.T, c *vectors.Case, format string, args ...any) {
		mutants++
		if driveVector(t, c) == nil {
			t.Errorf(format, args...)
		}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for i, h := range c.Headers {
				other := &vectors.Case{Headers: slices.Clone(c.Headers), Blocks: c.Blocks}
				switch h.Name {
				case "title", "role", "rule", "as", "limit", "compress", "state", "insert":
				case "expect":
					for _, word := range expectations[c.Get("role")] {
						if other.Headers[i].Value = word; word != h.Value {
							survives(t, other, "passes with expect: %s", word)
						}
					}
				default:
					other.Headers[i].Value += "0"
					survives(t, other, "passes with %s: %s0", h.Name, h.Value)
					other.Headers = slices.Delete(other.Headers, i, i+1)
					if h.Name != "value" { // a body need not have one
						survives(t, other, "passes without %s: %s", h.Name, h.Value)
					}
				}
			}
			for i, b := range c.Blocks {
				if c.Get("role") == "callee" && b.Name == "out" {
					other := &vectors.Case{Headers: c.Headers, Blocks: slices.Clone(c.Blocks)}
					if data := bytes.Clone(b.Data); len(data) == 0 {
						other.Blocks[i].Data = goaway
					} else {
						data[len(data)-1] ^= 1
						other.Blocks[i].Data = data
					}
					survives(t, other, "passes with another byte at the end of block %d", i+1)
				}
			}
		})
	}
	if mutants < 500 {
		t.Errorf("%d mutants were made", mutants)
	}
}

// A vector is a case with whole blocks.
type vector struct {
	*vectors.Case
	blocks []vectors.Block
}

// driveVector has the code do what a case tells, and says what is not as it tells.
func driveVector(t *testing.T, c *vectors.Case) error {
	v := &vector{c, slices.Clone(c.Blocks)}
	for _, line := range c.All("insert") {
		if err := v.insert(line); err != nil {
			return fmt.Errorf("insert: %s: %w", line, err)
		}
	}
	if c.Get("title") == "" || c.Get("rule") == "" || !slices.Contains(expectations[c.Get("role")], c.Get("expect")) {
		return errors.New("title, rule, role or expect are not what they can be")
	}
	switch c.Get("role") {
	case "message":
		return v.message(t)
	case "body":
		return v.body(t)
	case "callee":
		return v.callee(t)
	}
	return v.caller(t)
}

// insert does what a header insert says: block, offset, count, bytes.
func (v *vector) insert(line string) error {
	var block, offset, count int
	var what []byte
	if _, err := fmt.Sscanf(line, "%d %d %d %x", &block, &offset, &count, &what); err != nil {
		return err
	}
	if block < 1 || block > len(v.blocks) || offset > len(v.blocks[block-1].Data) {
		return errors.New("there is no such place")
	}
	b := &v.blocks[block-1]
	b.Data = slices.Insert(bytes.Clone(b.Data), offset, bytes.Repeat(what, count)...)
	return nil
}

// common are the headers that say how a case is driven, not what comes out.
var common = []string{"title", "role", "expect", "rule", "insert", "limit", "compress", "state", "as"}

// compare holds what came out against what the case says, but for the common headers.
func (v *vector) compare(got []vectors.Header) error {
	said := slices.DeleteFunc(slices.Clone(v.Headers), func(h vectors.Header) bool { return slices.Contains(common, h.Name) })
	if !slices.Equal(said, got) {
		return fmt.Errorf("got\n%.2000v\nwant\n%.2000v", got, said)
	}
	return nil
}

// only returns the one block of a case without a dialogue.
func (v *vector) only() []byte {
	if len(v.blocks) != 1 || v.blocks[0].Name != "in" {
		return nil
	}
	return v.blocks[0].Data
}

func (v *vector) message(t *testing.T) error {
	b := v.only()
	m, err := readMessage(b)
	if v.Get("expect") == "ok" {
		if err != nil {
			return err
		}
		if again := appendMessage(nil, m); !bytes.Equal(again, b) {
			return fmt.Errorf("%x became %x", b, again)
		}
		return v.compare(describeMessage(&m))
	}
	if !errors.Is(err, ErrProtocol) {
		return fmt.Errorf("not refused: %+v, %v", m, err)
	}
	// The parser is not alone with that: both sides end their session.
	request := appendCall(nil, 1, "m", 0, []byte{0xc0})
	asCallee := &vector{v.dialogue("refused"), []vectors.Block{{Name: "in", Data: b}}}
	asCaller := &vector{v.dialogue("refused"), []vectors.Block{{Name: "out", Data: request}, {Name: "in", Data: b}}}
	asCaller.Add("call", "1 error 14 unknown")
	return errors.Join(v.compare(nil), asCallee.callee(t), asCaller.caller(t))
}

// dialogue is a case without blocks that expects so much.
func (v *vector) dialogue(expect string) *vectors.Case {
	return &vectors.Case{Headers: []vectors.Header{{Name: "expect", Value: expect}}}
}

// readMessage reads the only message there is.
func readMessage(b []byte) (message, error) {
	in := newFrameReader(bytes.NewReader(b))
	n, err := in.header()
	if err != nil {
		return message{}, err
	}
	if n != len(b)-frameHeader {
		return message{}, errors.New("not one message")
	}
	p, _, err := in.payload(n)
	if err != nil {
		return message{}, err
	}
	return parseMessage(bytes.Clone(p))
}

// maxShown is the largest body in bytes that a header shows.
const maxShown = 1024

// describeMessage says what a message says. A field that is empty, none or 0 is left out.
func describeMessage(m *message) []vectors.Header {
	c := new(vectors.Case)
	number := func(name string, n uint64) {
		if n != 0 {
			c.Add(name, strconv.FormatUint(n, 10))
		}
	}
	text := func(name string, b []byte) {
		if len(b) > 0 {
			c.Add(name, string(b))
		}
	}
	number("kind", uint64(m.kind))
	if m.packed {
		c.Add("compressed", "yes")
	}
	number("id", m.id)
	text("method", m.method)
	number("timeout", m.timeout)
	number("form", uint64(m.form))
	number("flags", uint64(m.flags))
	text("request-id", m.request)
	number("code", uint64(m.code))
	number("outcome", uint64(m.outcome))
	text("text", m.text)
	number("retry", m.retry)
	for _, d := range decodeDetails(m.details) {
		c.Add("detail", d.Name+"="+hex.EncodeToString(d.Body))
	}
	addMetadata(c, "header", "", decodeMetadata(m.header))
	addMetadata(c, "trailer", "", decodeMetadata(m.trailer))
	switch n := len(m.body); {
	case n > maxShown:
		number("body-size", uint64(n))
	case n > 0:
		c.AddHex("body", m.body)
	}
	return c.Headers
}

func addMetadata(c *vectors.Case, name, before string, md Metadata) {
	keys := make([]string, 0, len(md))
	for key := range md {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		for _, value := range md[key] {
			c.Add(name, before+key+"="+hex.EncodeToString([]byte(value)))
		}
	}
}

// fixtureStruct is what README.md calls {A int8, B text}.
type fixtureStruct struct {
	A int8
	B string
}

// decodeAs decodes a body as a type of that name, and encodes it again.
var decodeAs = map[string]func(Raw) (Raw, error){
	"int8": recode[int8], "uint32": recode[uint32], "int64": recode[int64], "text": recode[string], "binary": recode[[]byte],
	"[]int8": recode[[]int8], "map[text]int8": recode[map[string]int8], "{A int8, B text}": recode[fixtureStruct],
	"json {A int8, B text}": recodeBy[fixtureStruct](JSON), "gob map[text]int": recodeBy[map[string]int](Gob),
}

// recodeBy decodes by a codec, and encodes without.
func recodeBy[T any](c Codec) func(Raw) (Raw, error) {
	return func(b Raw) (Raw, error) {
		v, err := decodeBy[T](c, b)
		if err != nil {
			return nil, err
		}
		return encode(v)
	}
}

func recode[T any](b Raw) (Raw, error) {
	v, err := decodeValue[T](b)
	if err != nil {
		return nil, err
	}
	return encode(v)
}

func (v *vector) body(t *testing.T) error {
	b := Raw(v.only())
	err := Check(b)
	if as := v.Get("as"); as != "" && err == nil {
		if decodeAs[as] == nil {
			return fmt.Errorf("as: %s is unknown", as)
		}
		b, err = decodeAs[as](b)
	} else if err != nil && v.Get("expect") == "bad" {
		// As a request it is answered, and the session goes on.
		asCallee := &vector{v.dialogue("call-error"), []vectors.Block{
			{Name: "in", Data: appendCall(nil, 1, "echo", 0, b)},
			{Name: "out", Data: appendError(nil, 1, &wireStatus{code: InvalidArgument, outcome: NotExecuted, text: strings.TrimPrefix(err.Error(), "rpc: ")})}}}
		asCallee.Add("code", "3")
		asCallee.Add("outcome", "2")
		if err := asCallee.callee(t); err != nil {
			return err
		}
	}
	if v.Get("expect") == "bad" {
		if !errors.Is(err, ErrBadMessage) {
			return fmt.Errorf("accepted: %v", err)
		}
		return v.compare(nil)
	}
	if err != nil {
		return err
	}
	value, end := describeValue(b, 0)
	if end != len(b) {
		return fmt.Errorf("the value ends at byte %d", end)
	}
	if len(value) > maxShown {
		return v.compare(nil)
	}
	return v.compare([]vectors.Header{{Name: "value", Value: value}})
}

// describeValue says what the value at off is, and where it ends. b passed Check.
func describeValue(b []byte, off int) (string, int) {
	t, err := next(b, off)
	if err != nil {
		return err.Error(), off
	}
	if t.kind == tokArray || t.kind == tokMap {
		parts := make([]string, 0, t.count)
		end := t.end
		for i := 0; i < t.count; i++ {
			var s string
			s, end = describeValue(b, end)
			if t.kind == tokMap && i%2 == 1 {
				parts[len(parts)-1] += ": " + s
			} else {
				parts = append(parts, s)
			}
		}
		if t.kind == tokMap {
			return "{" + strings.Join(parts, ", ") + "}", end
		}
		return "[" + strings.Join(parts, ", ") + "]", end
	}
	return describeScalar(b[off:t.end], b[t.start:t.end], t), t.end
}

// describeScalar is describeValue of what holds no other. whole is the value with its head, data what is behind the head.
func describeScalar(whole, data []byte, t token) string {
	switch t.kind {
	case tokBool:
		return strconv.FormatBool(whole[0] == 0xc3)
	case tokInt:
		if t.neg {
			return strconv.FormatInt(int64(t.num), 10)
		}
		return strconv.FormatUint(t.num, 10)
	case tokFloat:
		f := math.Float64frombits(binary.BigEndian.Uint64(append(bytes.Clone(whole[1:]), 0, 0, 0, 0)))
		if whole[0] == 0xca {
			f = float64(math.Float32frombits(binary.BigEndian.Uint32(whole[1:])))
		}
		return fmt.Sprintf("float(%016x)", math.Float64bits(f))
	case tokStr:
		quoted, _ := json.Marshal(string(data)) // text always can be
		return string(quoted)
	case tokBin:
		return "h'" + hex.EncodeToString(data) + "'"
	case tokTime:
		switch len(whole) {
		case 6:
			return fmt.Sprintf("time(%d, 0)", binary.BigEndian.Uint32(whole[2:]))
		case 10:
			n := binary.BigEndian.Uint64(whole[2:])
			return fmt.Sprintf("time(%d, %d)", n&(1<<34-1), n>>34)
		}
		return fmt.Sprintf("time(%d, %d)", int64(binary.BigEndian.Uint64(whole[7:])), binary.BigEndian.Uint32(whole[3:]))
	}
	return "nil"
}
