package transport

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/rsa"
	"crypto/sha256"
	goflag "flag"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealmux/sealmux/internal/vectors"
)

// How testdata/vectors is made: each case is a side that is told what to draw, and an opponent that says what the case needs,
// whatever it may be. The opponent draws from its case's name, so that the files are always the same.

var update = goflag.Bool("update", false, "write testdata/vectors anew, in place of comparing it")

// A maker makes one case.
type maker struct {
	name   string
	title  string // what it shows
	rule   string // of SPEC.md, that it is about; several with spaces
	setup  string // headers, "name: value" with ; between them
	expect string // "ok", or how it ends
	steps  []speech
}

// A speech is what an opponent says next.
type speech func(o *opponent) []byte

// An opponent is the connection to the other side while a case is made.
type opponent struct {
	net.Conn
	c     *vectors.Case
	steps []speech
	to    []byte // what the side under test has still to read
	heard []byte // what it has said since the last step

	draw      func(what string, n int) []byte
	all       []byte // what was said, of the transcript or not
	dh        *ecdh.PrivateKey
	kem       *mlkem.DecapsulationKey768
	secret    []byte // S, or a ticket's
	resumed   bool
	handshake *expander
	out       *cipherState
}

// TestVectorsAreMadeSo compares testdata/vectors with what the cases make, byte for byte.
func TestVectorsAreMadeSo(t *testing.T) {
	if !alone(t) {
		return
	}
	made := make(map[string]*vectors.Case)
	bubble(t, func(t *testing.T) {
		for _, m := range slices.Concat(clientVectors(), serverVectors(), resumeVectors(), recordVectors(), sessionVectors()) {
			if made[m.name] != nil {
				t.Errorf("two cases are %s", m.name)
			}
			made[m.name] = m.make(t)
		}
	})
	if t.Failed() {
		return
	}
	if *update {
		if err := vectors.Save(vectorFolder, made); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := vectors.Load(vectorFolder)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range made {
		if kept[name] == nil || !bytes.Equal(kept[name].Format(), c.Format()) {
			t.Errorf("%s is not as it is made; go test ./transport -run TestVectorsAreMadeSo -update", name)
		}
	}
	for name := range kept {
		if made[name] == nil {
			t.Errorf("nothing makes %s", name)
		}
	}
}

var vectorKeys = struct {
	sync.Mutex
	m map[string]*PrivateKey
}{m: make(map[string]*PrivateKey)}

// vectorKey is the key in testdata of that name.
func vectorKey(name string) *PrivateKey {
	vectorKeys.Lock()
	defer vectorKeys.Unlock()
	if vectorKeys.m[name] == nil {
		text, err := os.ReadFile("testdata/" + name + ".pem")
		if err != nil {
			panic(err)
		}
		if vectorKeys.m[name], err = ParsePrivateKey(text); err != nil {
			panic(err)
		}
	}
	return vectorKeys.m[name]
}

// make plays the case against its opponent.
func (m *maker) make(t *testing.T) *vectors.Case {
	c := &vectors.Case{}
	c.Add("title", m.title)
	c.Add("rules", m.rule)
	for line := range strings.SplitSeq(m.setup, "; ") {
		name, value, _ := strings.Cut(line, ": ")
		c.Add(name, value)
	}
	draw := func(what string, n int) (b []byte) {
		for i := byte(0); len(b) < n; i++ {
			sum := sha256.Sum256([]byte(m.name + "/" + what + string(rune(i))))
			b = append(b, sum[:]...)
		}
		return b[:n]
	}
	m.addFresh(c, draw)
	o := &opponent{c: c, steps: m.steps, draw: draw}
	if role := c.Get("role"); role == "records" || role == "session" {
		for _, step := range o.steps {
			c.Blocks = append(c.Blocks, vectors.Block{Name: "in", Data: step(o)})
		}
	}
	inputs := len(c.Headers)
	observed, blocks, err := perform(c, o)
	if err == nil {
		observed, err = withInner(c, observed)
	}
	if err != nil {
		t.Fatalf("%s: %v", m.name, err)
	}
	if blocks != nil && c.Get("open") == "" && c.Get("accept") == "" {
		c.Blocks = blocks
	}
	c.Headers = append(c.Headers[:inputs:inputs], observed...)
	if got := resultOf(c); got != m.expect {
		t.Errorf("%s ends as %q, not %q", m.name, got, m.expect)
	}
	if len(o.steps) > 0 && c.Get("role") != "records" && c.Get("role") != "session" {
		t.Errorf("%s: %d things were not said, it was over before", m.name, len(o.steps))
	}
	return c
}

// resultOf is how a case ends, with the rule that was broken or the alert.
func resultOf(c *vectors.Case) string {
	return strings.TrimSpace(c.Get("expect") + " " + c.Get("rule") + c.Get("alert"))
}

// addFresh adds what the side under test draws.
func (m *maker) addFresh(c *vectors.Case, draw func(string, int) []byte) {
	switch c.Get("role") {
	case "client":
		c.AddHex("x25519", draw("x25519", 32))
		c.AddHex("mlkem", draw("mlkem", 64))
		c.AddHex("secret", draw("secret", secretSize))
		c.AddHex("oaep", draw("oaep", 32))
		if c.Get("key") != "" {
			c.AddHex("pss", draw("pss", 32))
		}
	case "server":
		c.AddHex("x25519", draw("x25519", 32))
		c.AddHex("mlkem", draw("mlkem", 32))
		c.AddHex("secret", draw("secret", secretSize))
	case "records":
		c.AddHex("secret", draw("secret", secretSize))
	case "session":
		c.AddHex("send", draw("send", secretSize))
		c.AddHex("receive", draw("receive", secretSize))
	}
}

func (o *opponent) Read(b []byte) (int, error) {
	for len(o.to) == 0 {
		if len(o.steps) == 0 {
			return 0, io.EOF
		}
		step := o.steps[0]
		o.steps = o.steps[1:]
		o.to = step(o)
		o.heard = nil
		o.c.AddBlock("in", o.to)
	}
	n := copy(b, o.to)
	o.to = o.to[n:]
	return n, nil
}

func (o *opponent) Write(b []byte) (int, error) {
	o.to = nil
	o.heard = append(o.heard, b...)
	o.all = append(o.all, b...)
	o.c.AddBlock("out", b)
	return len(b), nil
}

func (o *opponent) RemoteAddr() net.Addr { return nil }

// say is a message of the opponent's, in the transcript.
func (o *opponent) say(typ byte, body []byte) []byte {
	b := message(typ, body)
	o.all = append(o.all, b...)
	return b
}

// hash is the transcript's, of all but the last bytes.
func (o *opponent) hash(without int) []byte {
	sum := sha256.Sum256(o.all[:len(o.all)-without])
	return sum[:]
}

// keys is what an opponent draws.
func (o *opponent) keys() (*ecdh.PrivateKey, *mlkem.DecapsulationKey768) {
	dh, err := ecdh.X25519().NewPrivateKey(o.draw("their x25519", 32))
	if err != nil {
		panic(err)
	}
	kem, err := mlkem.NewDecapsulationKey768(o.draw("their mlkem", 64))
	if err != nil {
		panic(err)
	}
	return dh, kem
}

// raw says bytes.
func raw(b ...byte) speech { return func(*opponent) []byte { return b } }

// text says bytes, too.
func text(s string) speech { return raw([]byte(s)...) }

// plainMessage says a message of any form.
func plainMessage(typ byte, body ...byte) speech {
	return func(o *opponent) []byte { return o.say(typ, body) }
}

// changed is a step whose bytes are changed on the way.
func changed(step speech, change func([]byte) []byte) speech {
	return func(o *opponent) []byte { return change(bytes.Clone(step(o))) }
}

func flipped(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

// A serverReply is a ServerHello; what is nil is as it should be.
type serverReply struct {
	params []byte                // sealed in it
	share  []byte                // X25519
	secret []byte                // in place of S, as if RSA had not opened
	label  string                // of the block's key
	body   func(b []byte) []byte // changes the body, in the transcript too
}

func answer(r serverReply) speech {
	return func(o *opponent) []byte {
		hello, err := parseClientHello(o.heard[messageHeader:])
		if err != nil {
			panic(err)
		}
		o.resumed = o.heard[5] == typeResumeHello
		dh, _ := o.keys()
		share, name := dh.PublicKey().Bytes(), labelServerHandshake
		if r.share != nil {
			share = r.share
		}
		if r.label != "" {
			name = r.label
		}
		result, err := exchange(dh, hello.share[:])
		if err != nil {
			panic(err)
		}
		to, err := mlkem.NewEncapsulationKey768(hello.kem[:])
		if err != nil {
			panic(err)
		}
		kem, ciphertext, err := mlkemtest.Encapsulate768(to, o.draw("their m", 32))
		if err != nil {
			panic(err)
		}
		from := "secret"
		if o.resumed {
			from = "ticket-secret"
		}
		secret, err := o.c.Hex(from)
		if err != nil {
			panic(err)
		}
		if r.secret != nil {
			secret = r.secret
		}
		o.handshake = handshakeSecret(secret, kem, result, o.resumed)
		reply := new(serverHello)
		copy(reply.share[:], share)
		copy(reply.kem[:], ciphertext)
		params := serverParams{maxStreams: 64}.append(nil)
		if r.params != nil {
			params = r.params
		}
		m := reply.appendShares(appendHeader(nil, typeServerHello, serverHelloSize))
		o.all = append(o.all, m...)
		shares := o.hash(0)
		aead, iv := blockKey(o.handshake, name, shares)
		sealed := aead.Seal(nil, iv, params, shares)
		o.all = append(o.all, sealed...)
		m = append(m, sealed...)
		if r.body != nil {
			m = message(typeServerHello, r.body(m[messageHeader:]))
		}
		return m
	}
}

// A clientGreeting is a ClientHello or ResumeHello.
type clientGreeting struct {
	typ      byte
	key      string // the server's; "server" by default
	id       []byte // in place of the id of that key
	share    []byte
	kem      []byte
	protocol string
	secret   []byte                // S; it need not have 32 bytes
	wrapped  []byte                // in place of the RSA ciphertext
	label    string                // of OAEP
	change   func(b []byte) []byte // of the ciphertext or the ticket
	body     func(b []byte) []byte
}

func greeting(g clientGreeting) speech {
	return func(o *opponent) []byte {
		o.dh, o.kem = o.keys()
		if g.key == "" {
			g.key = "server"
		}
		server := vectorKey(g.key).Public()
		h := &clientHello{keyID: server.id, protocol: []byte("test/1"), secret: g.wrapped}
		copy(h.share[:], o.dh.PublicKey().Bytes())
		copy(h.kem[:], o.kem.EncapsulationKey().Bytes())
		copy(h.share[:], g.share)
		copy(h.kem[:], g.kem)
		copy(h.keyID[:], g.id)
		if g.protocol != "" {
			h.protocol = []byte(g.protocol)
		}
		if g.typ == 0 {
			g.typ = typeClientHello
		}
		o.resumed = g.typ == typeResumeHello
		if o.secret = g.secret; g.secret == nil {
			o.secret = o.draw("their secret", secretSize)
		}
		if g.wrapped == nil {
			h.secret = wrapFor(server, o.secret, o.draw("their oaep", 32), g.label)
		}
		if g.change != nil {
			h.secret = g.change(bytes.Clone(h.secret))
		}
		body := h.append(nil)
		if g.body != nil {
			body = g.body(body)
		}
		return o.say(g.typ, body)
	}
}

// A clientProof is a ClientFinished.
type clientProof struct {
	plain  []byte // in place of all of it
	flags  byte
	key    string // whose it is
	sign   func(o *opponent, key *PrivateKey, hash []byte) (spki, signature []byte)
	body   func(b []byte) []byte
	secret []byte // in place of S
}

func proof(p clientProof) speech {
	return func(o *opponent) []byte {
		reply, err := parseServerHello(o.heard[messageHeader:])
		if err != nil {
			panic(err)
		}
		dh, err := exchange(o.dh, reply.share[:])
		if err != nil {
			panic(err)
		}
		kem, err := o.kem.Decapsulate(reply.kem[:])
		if err != nil {
			panic(err)
		}
		if p.secret != nil {
			o.secret = p.secret
		}
		o.handshake = handshakeSecret(o.secret, kem, dh, o.resumed)
		params := &clientParams{maxStreams: 64}
		if p.key != "" {
			params.spki, params.signature = p.signed(o)
		}
		plain := params.append(nil)
		plain[0] = p.flags
		if p.plain != nil {
			plain = p.plain
		}
		aead, iv := blockKey(o.handshake, labelClientHandshake, o.hash(sealedHello))
		body := aead.Seal(nil, iv, plain, o.hash(0))
		if p.body != nil {
			body = p.body(body)
		}
		return o.say(typeClientFinished, body)
	}
}

func (p clientProof) signed(o *opponent) (spki, signature []byte) {
	key := vectorKey(p.key)
	if p.sign != nil {
		return p.sign(o, key, o.hash(0))
	}
	params := new(clientParams)
	if err := params.sign(bytes.NewReader(o.draw("their pss", 32)), key, o.hash(0)); err != nil {
		panic(err)
	}
	return params.spki, params.signature
}

// recordStep seals a record of the handshake's last part, or of a direction whose secret the case has.
func record(typ byte, data ...byte) speech {
	return func(o *opponent) []byte {
		return sealed(o.cipher(), typ, data)
	}
}

func sealed(c *cipherState, typ byte, data []byte) []byte {
	rec := append(append(make([]byte, recordHeader), typ), data...)
	rec = append(rec, make([]byte, tagSize)...)
	c.seal(rec)
	return rec
}

// cipher is what the opponent seals with.
func (o *opponent) cipher() *cipherState {
	if o.out != nil {
		return o.out
	}
	secret := []byte(nil)
	switch o.c.Get("role") {
	case "records":
		secret, _ = o.c.Hex("secret")
	case "session":
		secret, _ = o.c.Hex("receive")
	case "client":
		secret = deriveSession(o.handshake, o.hash(0)).server
	default:
		secret = deriveSession(o.handshake, o.hash(0)).client
	}
	o.out = newCipherState(secret)
	return o.out
}

// wrapFor is RSA-OAEP, with a label that may be wrong.
func wrapFor(server *PublicKey, secret, seed []byte, label string) []byte {
	if label == "" {
		label = labelOAEP
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), bytes.NewReader(seed), server.rsa, secret, []byte(label))
	if err != nil {
		panic(err)
	}
	return wrapped
}
