package transport

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/mlkem"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/internal/vectors"
)

// What a case tells of the inside of a handshake, computed from its bytes by section 4 of SPEC.md and not by the roles; and the
// cases of records and of sessions.

// withInner adds what lies between the messages and the keys of a handshake that goes well, and checks that it leads there.
func withInner(c *vectors.Case, observed []vectors.Header) ([]vectors.Header, error) {
	got := &vectors.Case{Headers: observed}
	if role := c.Get("role"); role != "client" && role != "server" || got.Get("expect") != "ok" {
		return observed, nil
	}
	in, err := innerOf(c)
	if err != nil {
		return nil, err
	}
	for i, t := range in.hashes {
		got.AddHex("t"+strconv.Itoa(i+1), t)
	}
	got.AddHex("x25519-result", in.dh)
	got.AddHex("mlkem-result", in.kem)
	salt := labelEarly
	if in.resumed {
		salt = labelResumed
	}
	secret := extract(extract([]byte(salt), in.secret), append(bytes.Clone(in.kem), in.dh...))
	got.AddHex("handshake-secret", secret)
	keys := deriveSession(newExpander(secret), in.hashes[2])
	for name, key := range map[string][]byte{"client-traffic": keys.client, "server-traffic": keys.server, "exporter": keys.exporter} {
		if want := fmt.Sprintf("%x", key); got.Get(name) != want {
			return nil, fmt.Errorf("%s is %s by the key schedule, %s by the role", name, want, got.Get(name))
		}
	}
	return got.Headers, nil
}

// inner is the inside of a handshake.
type inner struct {
	hashes          [3][]byte // T1, T2, T3
	secret, kem, dh []byte
	resumed         bool
}

func innerOf(c *vectors.Case) (*inner, error) {
	f, err := freshOf(c)
	if err != nil {
		return nil, err
	}
	in, log := new(inner), newTranscript()
	var hello *clientHello
	var reply *serverHello
	for r := bytes.NewReader(joined(c)); in.hashes[2] == nil; {
		m, err := oneMessage(r)
		if err != nil {
			return nil, err
		}
		typ, body := m[5], m[messageHeader:]
		switch typ {
		case typeClientHello, typeResumeHello:
			in.resumed = typ == typeResumeHello
			hello, err = parseClientHello(body)
		case typeServerHello:
			reply, err = parseServerHello(body)
			log.add(m[:len(m)-sealedHello])
			in.hashes[0] = log.sum()
			m = m[len(m)-sealedHello:]
		}
		if err != nil {
			return nil, err
		}
		log.add(m)
		switch typ {
		case typeServerHello:
			in.hashes[1] = log.sum()
		case typeClientFinished:
			in.hashes[2] = log.sum()
		}
	}
	return in, in.secrets(c, f, hello, reply)
}

// joined is all that was said, in its order: a vector has no two messages on their way at once.
func joined(c *vectors.Case) (all []byte) {
	for _, block := range c.Blocks {
		all = append(all, block.Data...)
	}
	return all
}

func (in *inner) secrets(c *vectors.Case, f *fresh, hello *clientHello, reply *serverHello) error {
	if hello == nil || reply == nil {
		return errors.New("a hello is missing")
	}
	own, err := ecdh.X25519().NewPrivateKey(f.x25519)
	if err != nil {
		return err
	}
	if c.Get("role") == "server" {
		if in.dh, err = exchange(own, hello.share[:]); err != nil {
			return err
		}
		to, err := mlkem.NewEncapsulationKey768(hello.kem[:])
		if err != nil {
			return err
		}
		in.kem, _ = f.encapsulate(to)
		if in.resumed {
			key, err := c.Hex("ticket-key")
			if err != nil {
				return err
			}
			in.secret = (&TicketKeys{now: vectorTicketKey(key)}).open(hello).secret
			return nil
		}
		for _, name := range c.All("key") {
			if key := vectorKey(name); key.pub.id == hello.keyID {
				in.secret = unwrap(key, hello.secret, bytes.Clone(f.secret))
			}
		}
		return nil
	}
	if in.dh, err = exchange(own, reply.share[:]); err != nil {
		return err
	}
	kem, err := mlkem.NewDecapsulationKey768(f.mlkem)
	if err != nil {
		return err
	}
	if in.kem, err = kem.Decapsulate(reply.kem[:]); err != nil {
		return err
	}
	in.secret = f.secret
	if in.resumed {
		in.secret, err = c.Hex("ticket-secret")
	}
	return err
}

// playRecords opens the records of one direction.
func playRecords(c *vectors.Case) ([]vectors.Header, error) {
	secret, err := c.Hex("secret")
	if err != nil {
		return nil, err
	}
	got := &vectors.Case{}
	rx := &rxHalf{raw: &recorded{blocks: slices.Clone(c.Blocks)}, cipher: newCipherState(secret), buf: make([]byte, smallBuffer)}
	for err == nil {
		var typ byte
		var data []byte
		if typ, data, err = rx.next(); err == nil {
			got.Add("record", fmt.Sprintf("%d %s", typ, digest(data)))
		}
	}
	return append(got.Headers, endHeaders(err)...), nil
}

// digest is the hex of what is short, and size and SHA-256 of what is not.
func digest(data []byte) string {
	if len(data) <= 64 {
		return fmt.Sprintf("%x", data)
	}
	log := newTranscript()
	log.add(data)
	return fmt.Sprintf("%d bytes, SHA-256 %x", len(data), log.sum())
}

// endHeaders tell why a session, or the reading of its records, ended.
func endHeaders(err error) []vectors.Header {
	got := &vectors.Case{}
	alert := new(AlertError)
	switch {
	case errors.As(err, &alert):
		got.Add("expect", "alert")
		got.Add("alert", strconv.Itoa(int(alert.Code)))
	case errors.Is(err, ErrMisbehaved):
		got.Add("expect", "broke")
		text := err.Error()
		got.Add("rule", text[bytes.LastIndexByte([]byte(text), ' ')+1:len(text)-1])
	default:
		got.Add("expect", outcomeName(err))
	}
	return got.Headers
}

// playSession gives a session what its peer sends, waiting each time until it has done all that it does about it, and returns
// what it did in blocks as those of the case.
func playSession(c *vectors.Case) ([]vectors.Header, []vectors.Block, error) {
	full, out, err := sessionOf(c)
	if err != nil {
		return nil, nil, err
	}
	raw, peer := net.Pipe()
	p := &vectorPeer{raw: peer}
	p.reading.Go(p.read)
	s := newSession(raw, full, out, c.Get("side") == "client")
	got := &vectors.Case{}
	got.Headers, err = p.life(c, s)
	addTicket(got, full, &outcome{})
	return got.Headers, p.blocks.Blocks, err
}

// sessionOf is what a handshake would have left to the session of a case.
func sessionOf(c *vectors.Case) (*Config, *outcome, error) {
	out := new(outcome)
	for _, half := range []struct {
		name string
		to   **cipherState
	}{{"send", &out.send}, {"receive", &out.receive}} {
		secret, err := c.Hex(half.name)
		if err != nil {
			return nil, nil, err
		}
		*half.to = newCipherState(secret)
	}
	out.maxStreams, _ = strconv.Atoi(c.Get("allowed-streams"))
	cfg := &Config{Keys: []*PrivateKey{vectorKey("server")}, Peers: AnyClient(), KeepaliveInterval: 24 * time.Hour}
	cfg.MaxStreams, _ = strconv.Atoi(c.Get("max-streams"))
	full, err := cfg.forServer()
	if err == nil && c.Get("tickets") == "yes" {
		full.Tickets = NewTicketCache(1)
		out.awaited = &awaitedTicket{cache: full.Tickets, server: vectorKey("server").Public()}
		out.awaited.secret, err = c.Hex("resumption")
	}
	return full, out, err
}

// A vectorPeer is the other end of a session.
type vectorPeer struct {
	raw     net.Conn
	reading sync.WaitGroup
	mu      sync.Mutex // protects what follows
	heard   []byte
	blocks  vectors.Case
}

func (p *vectorPeer) read() {
	b := make([]byte, 64<<10)
	for {
		n, err := p.raw.Read(b)
		p.mu.Lock()
		p.heard = append(p.heard, b[:n]...)
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// settle notes what the session has sent when it waits for more.
func (p *vectorPeer) settle() {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.heard) > 0 {
		p.blocks.AddBlock("out", p.heard)
		p.heard = nil
	}
}

// life says all that the case has the peer say, and then closes the connection. It returns what became of the session.
func (p *vectorPeer) life(c *vectors.Case, s *Session) ([]vectors.Header, error) {
	var streams streamLog
	opens, _ := strconv.Atoi(c.Get("open"))
	for range opens {
		st, err := s.Open(context.Background())
		if err != nil {
			return nil, err
		}
		streams.follow(st.(*Stream))
	}
	if c.Get("accept") == "yes" {
		streams.wait.Go(func() {
			for st, err := s.Accept(); err == nil; st, err = s.Accept() {
				streams.follow(st.(*Stream))
			}
		})
	}
	p.settle()
	for _, block := range c.Blocks {
		if block.Name == "in" {
			p.blocks.Blocks = append(p.blocks.Blocks, block)
			p.raw.Write(block.Data) // which it need not read to its end
			p.settle()
		}
	}
	p.raw.Close()
	<-s.Done()
	err := s.Err()
	s.Close()
	streams.wait.Wait()
	p.reading.Wait()
	slices.SortFunc(streams.all, func(a, b vectors.Header) int { return strings.Compare(a.Value, b.Value) })
	return append(streams.all, endHeaders(err)...), nil
}

// A streamLog has what came on each stream, and how it ended.
type streamLog struct {
	wait sync.WaitGroup
	mu   sync.Mutex // protects what follows
	all  []vectors.Header
}

func (l *streamLog) follow(st *Stream) {
	l.wait.Go(func() {
		data, err := io.ReadAll(st)
		if err == nil {
			err = io.EOF
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, vectors.Header{Name: "stream", Value: fmt.Sprintf("%d %s, %s", st.flow.id, digest(data), outcomeName(err))})
	})
}
