package transport

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sealmux/sealmux/internal/vectors"
)

// TestVectors plays the cases of testdata/vectors against the code, which is told what to draw instead of random values, and
// compares every byte that it sends, and what it makes of what it gets. testdata/vectors/README.md has the format;
// vectorsgen_test.go makes the files.

const (
	vectorFolder = "testdata/vectors"
	// leastVectors is what there must be: a folder that was moved or emptied must not pass.
	leastVectors = 250
)

func TestVectors(t *testing.T) {
	cases, err := vectors.Load(vectorFolder)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < leastVectors {
		t.Errorf("%d cases, where there were %d", len(cases), leastVectors)
	}
	bubble(t, func(t *testing.T) { // one for all: it takes longer than they do
		for name, c := range cases {
			if err := replay(c); err != nil {
				t.Errorf("%s (%s): %v", name, c.Get("title"), err)
			}
		}
	})
}

// TestVectorsBite changes what cases expect, and what they send: the test must find it.
func TestVectorsBite(t *testing.T) {
	cases, err := vectors.Load(vectorFolder)
	if err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		for _, name := range []string{"client-alice", "client-ticket", "client-resumes", "client-alert-unknown-key", "server-alice", "server-resumes-alice",
			"server-refused-stranger", "server-secret-modulus", "records-updates", "session-ping", "session-half-body", "session-stream"} {
			whole := cases[name].Format()
			try := func(what string, change func(c *vectors.Case)) {
				c, err := vectors.Parse(whole)
				if err != nil {
					t.Fatal(err)
				}
				change(c)
				if err := replay(c); err == nil {
					t.Errorf("%s passes with another %s", name, what)
				}
			}
			for i, h := range cases[name].Headers {
				if slices.Contains(results, h.Name) {
					try(h.Name, func(c *vectors.Case) { c.Headers[i].Value += "0" })
				}
			}
			for i, block := range cases[name].Blocks {
				if block.Name == "out" && len(block.Data) > 0 {
					try("[out]", func(c *vectors.Case) { c.Blocks[i].Data[len(block.Data)-1] ^= 1 })
					try("[out] that is longer", func(c *vectors.Case) { c.Blocks[i].Data = append(c.Blocks[i].Data, 0) })
				}
			}
			try("result too many", func(c *vectors.Case) { c.Add("rule", "X1") })
			try("[out] at the end", func(c *vectors.Case) { c.Blocks = append(c.Blocks, vectors.Block{Name: "out", Data: []byte{1}}) })
		}
	})
}

// replay plays a case, and says what came otherwise than it tells.
func replay(c *vectors.Case) error {
	conn := &recorded{blocks: slices.Clone(c.Blocks)}
	observed, blocks, err := perform(c, conn)
	if err != nil {
		return err
	}
	switch role := c.Get("role"); {
	case role == "session" && c.Get("open") == "" && c.Get("accept") == "": // else it depends on time what is in which record
		err = sameBlocks(blocks, c.Blocks)
	case role == "client", role == "server":
		err = conn.done()
	case len(blocksNamed(c, "out")) > 0:
		err = errors.New("an [out] that nobody compares")
	}
	if err != nil {
		return err
	}
	if observed, err = withInner(c, observed); err != nil {
		return err
	}
	return sameResults(observed, c)
}

// sameResults compares what came of a case with what it says.
func sameResults(observed []vectors.Header, c *vectors.Case) error {
	got := &vectors.Case{Headers: observed}
	for _, h := range observed {
		if want := c.All(h.Name); !slices.Contains(want, h.Value) {
			return fmt.Errorf("%s is %q, not %q", h.Name, h.Value, want)
		}
	}
	for _, h := range c.Headers {
		if slices.Contains(results, h.Name) && !slices.Contains(got.All(h.Name), h.Value) {
			return fmt.Errorf("%s should be %q; observed: %v", h.Name, h.Value, observed)
		}
	}
	return nil
}

func blocksNamed(c *vectors.Case, name string) (named []vectors.Block) {
	for _, block := range c.Blocks {
		if block.Name == name {
			named = append(named, block)
		}
	}
	return named
}

func sameBlocks(got, want []vectors.Block) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d blocks, not %d", len(got), len(want))
	}
	for i, block := range want {
		if got[i].Name != block.Name || !bytes.Equal(got[i].Data, block.Data) {
			return fmt.Errorf("block %d is [%s] %x, not [%s] %x", i+1, got[i].Name, got[i].Data, block.Name, block.Data)
		}
	}
	return nil
}

// results are the headers that say what comes of a case; all others say what it is.
var results = []string{"expect", "rule", "alert", "peer", "peer-max-streams", "resumed", "t1", "t2", "t3", "mlkem-result",
	"x25519-result", "handshake-secret", "client-traffic", "server-traffic", "exporter", "exported", "new-ticket", "new-ticket-secret",
	"record", "stream"}

// perform runs the role that a case is for in a bubble, over conn if it is one of the handshake's, and returns the headers that say what came
// of it, and what a session did.
func perform(c *vectors.Case, conn net.Conn) (observed []vectors.Header, blocks []vectors.Block, err error) {
	switch role := c.Get("role"); role {
	case "client":
		observed, err = playHandshake(c, conn, true)
	case "server":
		observed, err = playHandshake(c, conn, false)
	case "records":
		observed, err = playRecords(c)
	case "session":
		return playSession(c)
	default:
		err = fmt.Errorf("nobody plays %q", role)
	}
	return observed, nil, err
}

// A recorded connection yields a case's [in], and compares what is written with its [out].
type recorded struct {
	net.Conn
	blocks []vectors.Block
	begun  bool // something of the first block was read or written
	fault  error
}

func (r *recorded) next() {
	r.blocks, r.begun = r.blocks[1:], false
}

func (r *recorded) Read(b []byte) (int, error) {
	if len(r.blocks) > 0 && r.blocks[0].Name == "in" && len(r.blocks[0].Data) == 0 {
		r.next()
	}
	switch {
	case len(r.blocks) == 0:
		return 0, io.EOF
	case r.blocks[0].Name != "in":
		r.fail(errors.New("it reads where it should write"))
		return 0, io.EOF
	}
	n := copy(b, r.blocks[0].Data)
	r.blocks[0].Data, r.begun = r.blocks[0].Data[n:], true
	return n, nil
}

func (r *recorded) Write(b []byte) (int, error) {
	if len(r.blocks) > 0 && r.blocks[0].Name == "in" && (r.begun || len(r.blocks[0].Data) == 0) {
		r.next() // it does not want the rest
	}
	if len(r.blocks) == 0 || r.blocks[0].Name != "out" || !bytes.HasPrefix(r.blocks[0].Data, b) {
		r.fail(fmt.Errorf("it writes %x", b))
		return len(b), nil
	}
	if r.blocks[0].Data, r.begun = r.blocks[0].Data[len(b):], true; len(r.blocks[0].Data) == 0 {
		r.next()
	}
	return len(b), nil
}

func (r *recorded) fail(err error) {
	if r.fault == nil {
		r.fault = err
	}
}

// done says whether it went as recorded. What was never read may have been left.
func (r *recorded) done() error {
	for _, block := range r.blocks {
		if block.Name == "out" {
			r.fail(fmt.Errorf("it does not write %x", block.Data))
		}
	}
	return r.fault
}

func (r *recorded) RemoteAddr() net.Addr { return nil }

// outcomesByName are the values of "expect".
var outcomesByName = []struct {
	name string
	err  error
}{
	{"ok", nil}, {"not sealmux", ErrNotSealmux}, {"version", ErrVersion}, {"application protocol", ErrApplicationProtocol},
	{"server key", ErrServerKey}, {"unknown key", ErrUnknownKey}, {"unauthorized", ErrUnauthorized},
	{"client key required", ErrClientKeyRequired}, {"busy", ErrBusy}, {"handshake", ErrHandshake}, {"truncated", ErrTruncated},
	{"closed", ErrPeerClosed}, {"record", ErrRecord}, {"broke", ErrMisbehaved}, {"stream reset", ErrStreamReset}, {"end", io.EOF},
}

func outcomeName(err error) string {
	for _, o := range outcomesByName {
		if o.err == nil && err == nil || o.err != nil && errors.Is(err, o.err) {
			return o.name
		}
	}
	return fmt.Sprintf("none of the outcomes: %v", err)
}

// configOf is what the headers of a case say of this side.
func configOf(c *vectors.Case, client bool) (*Config, error) {
	cfg := &Config{Protocol: c.Get("protocol")}
	cfg.MaxStreams, _ = strconv.Atoi(c.Get("max-streams"))
	for _, name := range c.All("key") {
		cfg.Keys = append(cfg.Keys, vectorKey(name))
	}
	var known []*PublicKey
	var pins []Fingerprint
	for _, name := range append(c.All("pin-key"), c.All("admit")...) {
		if name == "anyone" {
			cfg.Peers = AnyClient()
			continue
		}
		known = append(known, vectorKey(name).Public())
	}
	for _, text := range c.All("pin") {
		pin, err := ParseFingerprint(text)
		if err != nil {
			return nil, err
		}
		pins = append(pins, pin)
	}
	switch {
	case len(pins) > 0:
		cfg.Peers = PinFingerprint(pins...)
	case len(known) > 0:
		cfg.Peers = Pin(known...)
	}
	if err := vectorTickets(c, cfg); err != nil {
		return nil, err
	}
	if client {
		return cfg.forClient()
	}
	return cfg.forServer()
}

// vectorTickets gives a client the ticket, and a server the ticket key, of a case.
func vectorTickets(c *vectors.Case, cfg *Config) error {
	if c.Get("tickets") == "yes" {
		cfg.Tickets = NewTicketCache(1)
	}
	if c.Get("ticket") != "" {
		ticket, err := c.Hex("ticket")
		if err != nil {
			return err
		}
		secret, err := c.Hex("ticket-secret")
		if err != nil {
			return err
		}
		server := vectorKey(c.Get("ticket-of")).Public()
		owner := ticketOwner{server: server.id, protocol: cfg.Protocol}
		if len(cfg.Keys) > 0 {
			owner.client = cfg.Keys[0].pub.id
		}
		cfg.Tickets.put(owner, heldTicket{server, ticket, secret, time.Now().Add(time.Hour)})
	}
	if c.Get("ticket-key") != "" {
		b, err := c.Hex("ticket-key")
		if err != nil {
			return err
		}
		cfg.TicketKeys = &TicketKeys{now: vectorTicketKey(b)}
	}
	return nil
}

// vectorTicketKey is 16 bytes of id and 32 of key.
func vectorTicketKey(b []byte) *ticketKey {
	return &ticketKey{id: [ticketKeyID]byte(b), aead: prefixedNonce{newAEAD(b[ticketKeyID:])}, made: time.Now()}
}

// prefixedNonce opens what cipher.NewGCMWithRandomNonce has sealed.
type prefixedNonce struct{ cipher.AEAD }

func (p prefixedNonce) Open(dst, _, sealed, data []byte) ([]byte, error) {
	if len(sealed) < ivSize {
		return nil, errMalformed
	}
	return p.AEAD.Open(dst, sealed[:ivSize], sealed[ivSize:], data)
}

func freshOf(c *vectors.Case) (*fresh, error) {
	f := new(fresh)
	for _, field := range []struct {
		name string
		to   *[]byte
	}{{"x25519", &f.x25519}, {"mlkem", &f.mlkem}, {"secret", &f.secret}, {"oaep", &f.oaep}, {"pss", &f.pss}} {
		b, err := c.Hex(field.name)
		if err != nil {
			return nil, err
		}
		*field.to = b
	}
	f.encapsulate = func(to *mlkem.EncapsulationKey768) (shared, ciphertext []byte) {
		shared, ciphertext, err := mlkemtest.Encapsulate768(to, f.mlkem)
		if err != nil {
			panic(err)
		}
		return shared, ciphertext
	}
	return f, nil
}

func playHandshake(c *vectors.Case, conn net.Conn, client bool) ([]vectors.Header, error) {
	cfg, err := configOf(c, client)
	if err != nil {
		return nil, err
	}
	f, err := freshOf(c)
	if err != nil {
		return nil, err
	}
	var out *outcome
	if client {
		out, err = (&clientRole{ctx: context.Background(), raw: conn, cfg: cfg, log: newTranscript(), fresh: f}).play()
	} else {
		out, err = (&serverRole{ctx: context.Background(), raw: conn, cfg: cfg, log: newTranscript(), fresh: f}).play()
	}
	got := &vectors.Case{}
	got.Add("expect", outcomeName(err))
	if err != nil {
		return got.Headers, nil
	}
	got.Add("peer", peerName(out.peer))
	got.Add("peer-max-streams", strconv.Itoa(out.maxStreams))
	got.Add("resumed", map[bool]string{false: "no", true: "yes"}[out.resumed])
	clientSecret, serverSecret := out.send.secret, out.receive.secret
	if !client {
		clientSecret, serverSecret = serverSecret, clientSecret
	}
	got.AddHex("client-traffic", clientSecret)
	got.AddHex("server-traffic", serverSecret)
	got.AddHex("exporter", out.exporter)
	got.AddHex("exported", export(out.exporter, "vector", []byte("context"), 40))
	addTicket(got, cfg, out)
	return got.Headers, nil
}

// addTicket tells of the ticket that a client got with accept.
func addTicket(got *vectors.Case, cfg *Config, out *outcome) {
	if cfg.Tickets == nil || out.awaited != nil {
		return // a ticket may still come, as the session's first record
	}
	for _, list := range cfg.Tickets.held {
		for _, t := range list {
			got.AddHex("new-ticket", t.ticket)
			got.AddHex("new-ticket-secret", t.secret)
		}
	}
}

func peerName(p Peer) string {
	if p.Key == nil {
		return "none"
	}
	return p.Key.Fingerprint().String()
}
