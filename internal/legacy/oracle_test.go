package legacy

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A step is what Server.step is told.
type step struct {
	name  string
	bytes int
}

// A request in its parts, for a test to spoil.
type parts struct {
	wrapped []byte // K before its base64
	data    []byte // D before its hex
	with    pair
	outer   string // a format of K and D
}

const outerForm = `{"key":"%s", "data":"%s"}`

func newParts(t testing.TB, key *PublicKey, text string) *parts {
	p := &parts{with: newPair(), outer: outerForm}
	p.wrap(t, key, string(p.with.literal()))
	p.data = p.with.encrypt(text)
	return p
}

func (p *parts) wrap(t testing.TB, key *PublicKey, literal string) {
	var err error
	if p.wrapped, err = key.wrap([]byte(literal)); err != nil {
		t.Fatal(err)
	}
}

func (p *parts) literal() string {
	return fmt.Sprintf(p.outer, base64.StdEncoding.EncodeToString(p.wrapped), fmt.Sprintf("%x", p.data))
}

func encoded(literal string) string { return base64.StdEncoding.EncodeToString([]byte(literal)) }

// spoilt are requests that are wrong in every field, each in every way we know. They are as long as a good one wherever that can be.
func spoilt(t testing.TB, key *PublicKey) map[string]string {
	good := func() *parts { return newParts(t, key, "0123456789abcdef0123456789abcdef") }
	all := make(map[string]string)
	spoil := func(name string, f func(p *parts)) {
		p := good()
		f(p)
		all[name] = encoded(p.literal())
	}
	inner := func(name, format string, args ...any) {
		spoil("inner: "+name, func(p *parts) { p.wrap(t, key, fmt.Sprintf(format, args...)) })
	}
	outer := func(name string, f func(literal string) string) {
		all["outer: "+name] = encoded(f(good().literal()))
	}

	// the outer base64 and literal
	all["nothing"] = ""
	all["no base64"] = strings.Repeat("!", len(encoded(good().literal())))
	all["base64 cut"] = encoded(good().literal())[1:]
	all["base64 broken inside"] = strings.Replace(encoded(good().literal()), "a", "!", 1)
	outer("no literal", func(l string) string { return strings.Repeat("x", len(l)) })
	outer("another key", func(l string) string { return strings.Replace(l, "data", "dat_", 1) })
	outer("an expression", func(l string) string { return strings.Replace(l, `", "`, `"+ "`, 1) })
	outer("no last brace", func(l string) string { return l[:len(l)-1] + " " })
	outer("more behind", func(l string) string { return l + l })
	outer("bytes that are no text", func(l string) string { return "\xff" + l[1:] })
	// K
	outer("K is no base64", func(l string) string { return l[:9] + "!" + l[10:] })
	spoil("K is empty", func(p *parts) { p.wrapped = nil })
	spoil("K is short", func(p *parts) { p.wrapped = p.wrapped[1:] })
	spoil("K is long", func(p *parts) { p.wrapped = append(p.wrapped, 1) })
	spoil("K is not below the modulus", func(p *parts) { p.wrapped = slices.Repeat([]byte{0xff}, key.size) })
	spoil("K is the modulus", func(p *parts) { p.wrapped = key.rsa.N.Bytes() })
	spoil("K is zero", func(p *parts) { p.wrapped = make([]byte, key.size) })
	spoil("K is random", func(p *parts) { rand.Read(p.wrapped[1:]); p.wrapped[0] = 0 })
	spoil("K is changed in a bit", func(p *parts) { p.wrapped[len(p.wrapped)-1] ^= 1 })
	for _, g := range golden[[]struct{ Name, Server, Ciphertext, Plaintext string }](t, "rejections.json") {
		if testKeys()[g.Server].pub == key {
			spoil("padding: "+g.Name, func(p *parts) { fmt.Sscanf(g.Ciphertext, "%x", &p.wrapped) })
		}
	}
	// the keys in K
	k, iv := strings.Repeat("k", 32), strings.Repeat("i", 16)
	inner("nothing", "")
	inner("no literal", "%s", strings.Repeat("x", 75))
	inner("JSON of other names", `{"AES_key":"%s", "aes_iv":"%s"}`, k, iv)
	inner("a call", `{"aes_key":str(), "aes_iv":"%s"}`, iv)
	inner("a key of 31", `{"aes_key":"%s", "aes_iv":"%s"}`, k[1:], iv)
	inner("a key of 33", `{"aes_key":"%sk", "aes_iv":"%s"}`, k, iv)
	inner("no key", `{"aes_key":"", "aes_iv":"%s"}`, iv)
	inner("a key that is no letter", `{"aes_key":"%s-", "aes_iv":"%s"}`, k[1:], iv)
	inner("a key with a NUL", `{"aes_key":"%s\x00", "aes_iv":"%s"}`, k[1:], iv)
	inner("an IV of 15", `{"aes_key":"%s", "aes_iv":"%s"}`, k, iv[1:])
	inner("an IV of 17", `{"aes_key":"%s", "aes_iv":"%si"}`, k, iv)
	inner("an IV that is no letter", `{"aes_key":"%s", "aes_iv":"%s."}`, k, iv[1:])
	inner("more behind", `{"aes_key":"%s", "aes_iv":"%s"}x`, k, iv)
	inner("other keys than of the data", `{"aes_key":"%s", "aes_iv":"%s"}`, k, iv)
	// D
	spoil("D is no whole block", func(p *parts) { p.data = p.data[1:] })
	spoil("D is one byte", func(p *parts) { p.data = p.data[:1] })
	outer("D is no hex", func(l string) string { return l[:len(l)-3] + "g" + l[len(l)-2:] })
	outer("D has an odd number of digits", func(l string) string { return l[:len(l)-3] + l[len(l)-2:] })
	spoil("no UTF-8", func(p *parts) { p.data = p.with.encrypt("\xff\xfe0123456789") })
	spoil("half a character", func(p *parts) { p.data = p.with.encrypt("你"[:2]) })
	return all
}

// Whatever is wrong with a request, nothing is answered, all is closed, the same is said of it, and the same steps are taken.
func TestNoOracle(t *testing.T) {
	for server, key := range testKeys() {
		want := stepsOf(t, key, encoded(newParts(t, key.pub, strings.Repeat("x", 32)).literal()), true)
		if len(want) != 3 || want[1] != (step{"rsa", key.pub.size}) || want[2] != (step{"aes", 32}) {
			t.Fatalf("a good request takes the steps %v", want)
		}
		for name, request := range spoilt(t, key.pub) {
			steps := stepsOf(t, key, request, false)
			if len(steps) != 3 || steps[0].bytes != len(request) {
				t.Fatalf("%s, %s: the steps %v", server, name, steps)
			}
			names := func(steps []step) string { return steps[0].name + steps[1].name + steps[2].name }
			if names(steps) != names(want) || steps[1] != want[1] {
				t.Errorf("%s, %s: the steps %v, want %v", server, name, steps, want)
			}
			// What a secret decides must not decide how much work is done; all else is seen on the wire.
			if strings.HasPrefix(name, "inner") || strings.HasPrefix(name, "padding") || strings.HasPrefix(name, "K is") {
				if !reflect.DeepEqual(steps[2], want[2]) {
					t.Errorf("%s, %s: the steps %v, want %v", server, name, steps, want)
				}
			}
			if steps[2].bytes == 0 && len(request) > 200 && name != "D is one byte" {
				t.Errorf("%s, %s: nothing was decrypted", server, name)
			}
		}
	}
}

// stepsOf sends a request to a server of its own and returns the steps that it took.
func stepsOf(t *testing.T, key *PrivateKey, request string, good bool) (steps []step) {
	t.Helper()
	var told refusals
	handled := 0
	s := newTestServer(t, Config{Key: key, Refused: told.add, Handle: func(ctx context.Context, text string) (string, error) {
		handled++
		return echo(ctx, text)
	}})
	s.step = func(name string, bytes int) { steps = append(steps, step{name, bytes}) }
	c := pipe(t, s)
	var write sync.WaitGroup
	write.Go(func() { io.WriteString(c, request+"#") })
	if good {
		reply(t, c)
		c.Close()
	} else {
		isClosed(t, c)
	}
	write.Wait()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	switch {
	case good && handled != 1, !good && handled != 0:
		t.Fatalf("handled %d times: %.80q", handled, request)
	case !good && (len(s.failures) != 1 && len(told.all) != 1):
		t.Fatalf("told of %v", told.all)
	}
	if !good && len(told.all) == 1 && told.all[0] != ErrUndecryptable {
		t.Fatalf("told of %v", told.all[0])
	}
	return steps
}

// What is made up for a ciphertext is the same each time, and differs from that of another ciphertext and another key.
func TestMadeUp(t *testing.T) {
	key, other := keyForTest(), *keyForTest()
	other.rejections[0] ^= 1
	one, two := make([]byte, key.pub.size), make([]byte, key.pub.size)
	one[20], two[20] = 1, 2
	got, spare := key.unwrap(one)
	again, spareAgain := key.unwrap(one)
	if !bytes.Equal(got, again) || !bytes.Equal(spare, spareAgain) {
		t.Error("made up anew each time")
	}
	for name, f := range map[string]func() ([]byte, []byte){
		"ciphertext": func() ([]byte, []byte) { return key.unwrap(two) },
		"key":        func() ([]byte, []byte) { return other.unwrap(one) },
	} {
		if p, s := f(); bytes.Equal(p, got) || bytes.Equal(s, spare) {
			t.Errorf("the same for another %s", name)
		}
	}
}

// Lengths of made-up plaintexts are spread over all that a good one may have.
func TestMadeUpLengths(t *testing.T) {
	const limit = 128 - 10
	seen := make(map[int]bool)
	for i := range 2000 {
		n := madeUpLength([]byte{byte(i >> 8), byte(i)}, limit)
		if n < 0 || n >= limit {
			t.Fatalf("%d bytes", n)
		}
		seen[n] = true
	}
	if len(seen) < limit*9/10 {
		t.Errorf("%d different lengths of %d", len(seen), limit)
	}
}
