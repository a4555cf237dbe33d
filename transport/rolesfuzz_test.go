package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Both roles of the handshake, with somebody between them who follows a script: FuzzHandshake. A script is a byte that says which
// handshake it is, and then steps: a byte with a direction and an operation, and the operands.

// What is done to the next message of an honest side, and, from stepAgain on, what is put before it.
const (
	stepPass   = iota
	stepFlip   // 2 where, 1 bits
	stepCut    // 2 where; the connection ends there
	stepDrop   //
	stepRetype // 1 type
	stepGrow   // 1 how much, bytes: more body, and a length that fits
	stepAgain  // 1 which of all messages so far, of both sides
	stepOld    // 1 which message of other handshakes
	stepMake   // 1 type, 1 how much, bytes
	stepRaw    // 1 how much, bytes
	stepKinds

	toClient = 0x80 // the direction, if it is not to the server
	maxSteps = 32
)

// A step is one step of a script. What it does not need is not in it.
type step struct {
	op    int
	where int
	value byte
	data  []byte
}

// script reads the steps of each direction: 0 to the server, 1 to the client.
func script(b []byte) (steps [2][]step) {
	r := reader(b)
	one := func() byte {
		v, ok := r.take(1)
		if !ok {
			return 0
		}
		return v[0]
	}
	some := func() []byte {
		v, _ := r.take(min(int(one()), len(r)))
		return v
	}
	for range maxSteps {
		if len(r) == 0 {
			break
		}
		code := one()
		s := step{op: int(code&^toClient) % stepKinds}
		switch s.op {
		case stepFlip:
			s.where, s.value = int(one())<<8|int(one()), max(one(), 1)
		case stepCut:
			s.where = int(one())<<8 | int(one())
		case stepRetype, stepAgain, stepOld:
			s.value = one()
		case stepGrow, stepRaw:
			s.data = some()
		case stepMake:
			s.value, s.data = one(), some()
		}
		steps[code/toClient] = append(steps[code/toClient], s)
	}
	return steps
}

// A middle carries messages between a client and a server.
type middle struct {
	old [][]byte // messages of other handshakes

	mu      sync.Mutex // protects all below
	seen    [][]byte
	changed bool
}

// carry follows the steps of one direction, and then passes on what comes, until the side that sends is gone.
func (m *middle) carry(from, to net.Conn, steps []step) {
	defer to.Close() // what it sends to the side that is gone is of no use any more
	for {
		var s step
		if len(steps) > 0 {
			s, steps = steps[0], steps[1:]
		}
		if s.op != stepPass {
			m.mu.Lock()
			m.changed = true
			m.mu.Unlock()
		}
		if s.op >= stepAgain {
			to.Write(m.extra(s))
			continue
		}
		b, err := oneMessage(from)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.seen = append(m.seen, b)
		m.mu.Unlock()
		b = bytes.Clone(b)
		switch s.op {
		case stepFlip:
			b[s.where%len(b)] ^= s.value
		case stepCut:
			to.Write(b[:s.where%len(b)])
			from.Close()
			return
		case stepDrop:
			continue
		case stepRetype:
			b[5] = s.value
		case stepGrow:
			b = append(b, s.data...)
			binary.BigEndian.PutUint16(b[6:], uint16(len(b)-messageHeader))
		}
		to.Write(b) // to nobody, perhaps; but who sends must not wait for that
	}
}

// extra is a message that no honest side has sent now.
func (m *middle) extra(s step) []byte {
	switch s.op {
	case stepAgain:
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.seen) > 0 {
			return m.seen[int(s.value)%len(m.seen)]
		}
	case stepOld:
		if len(m.old) > 0 {
			return m.old[int(s.value)%len(m.old)]
		}
	case stepMake:
		return message(s.value, s.data)
	}
	return s.data
}

// oneMessage reads a message of the handshake, or the record behind it.
func oneMessage(from io.Reader) ([]byte, error) {
	b := make([]byte, messageHeader)
	if _, err := io.ReadFull(from, b); err != nil {
		return nil, err
	}
	size := messageHeader + int(binary.BigEndian.Uint16(b[6:]))
	if string(b[:4]) != magic {
		size = recordHeader + int(binary.BigEndian.Uint16(b))
	}
	b = append(b, make([]byte, size-messageHeader)...)
	_, err := io.ReadFull(from, b[messageHeader:])
	return b, err
}

// A witness notes what one side reads and writes.
type witness struct {
	net.Conn
	read  []byte
	wrote [][]byte // message by message: each is one Write
}

func (w *witness) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.read = append(w.read, b[:n]...)
	return n, err
}

func (w *witness) Write(b []byte) (int, error) {
	w.wrote = append(w.wrote, bytes.Clone(b))
	return w.Conn.Write(b)
}

// meddled runs a handshake with somebody in the middle.
func meddled(m *middle, client, server *Config, steps [2][]step) (cw, sw *witness, cout, sout *outcome, cerr, serr error) {
	a, left := net.Pipe()
	right, b := net.Pipe()
	var carrying sync.WaitGroup
	carrying.Go(func() { m.carry(left, right, steps[0]) })
	carrying.Go(func() { m.carry(right, left, steps[1]) })
	cw, sw = &witness{Conn: a}, &witness{Conn: b}
	cout, sout, cerr, serr = outcomes(cw, sw, client, server)
	for _, conn := range []net.Conn{a, b, left, right} {
		conn.Close()
	}
	carrying.Wait()
	return
}

// A play has the handshakes that FuzzHandshake meddles with. Those that are resumed take no RSA operation, and so most are.
type play struct {
	server *Config
	again  func() *Config // a client with a ticket of that server's
	old    [][]byte
}

// newPlay is called in a bubble, whose clock then is that of the tickets.
func newPlay(t *testing.T) *play {
	p := new(play)
	p.server, p.again = ticketed(t)
	for _, kind := range []byte{0, 3, 7} {
		m := new(middle)
		client, server := p.cast(kind)
		if _, _, _, _, cerr, serr := meddled(m, client, server, [2][]step{}); cerr != nil || serr != nil {
			t.Fatal(kind, cerr, serr)
		}
		p.old = append(p.old, m.seen...)
	}
	return p
}

// cast is the client and the server of a kind of handshake.
func (p *play) cast(kind byte) (client, server *Config) {
	c, s := p.again(), *p.server
	ask := TrustFunc(func(context.Context, *PublicKey) (string, error) { return "it", nil })
	switch kind % 8 {
	case 2, 3: // resumed, once the server has said who it is
		c.Peers = ask
	case 4: // resumed, and no verdict to wait for
		s.Peers = AnyClient()
	case 5: // no ticket that is of use, no key
		s.TicketKeys, s.Peers, c.Keys = NewTicketKeys(), AnyClient(), nil
	case 6: // a ticket that is of no use, and a choice of keys
		s.TicketKeys, c.Peers = NewTicketKeys(), PinFingerprint(otherKeyForTest().Fingerprint(), serverKeyForTest().Fingerprint())
	case 7: // every message there is
		s.TicketKeys, c.Peers = NewTicketKeys(), ask
	}
	return c, &s
}

// Whatever is done between a client and a server, each ends with a session or a typed error, in time; and with a session only if
// the other has said, byte by byte, what it was told, and was told what it has said.
// fuzz: 3000x
func FuzzHandshake(f *testing.F) {
	var once sync.Once
	var p *play
	for kind := range byte(8) {
		f.Add([]byte{kind})
		for n := range kind % 4 { // each operation, at each message, in both directions
			for op, operands := range [stepKinds][]byte{stepFlip: {n, 60, 1}, stepCut: {n, 60}, stepRetype: {n}, stepGrow: {1, 0},
				stepAgain: {n}, stepOld: {5 * n}, stepMake: {n, 1, 0}, stepRaw: {1, 'S'}} {
				for _, direction := range []byte{0, toClient} {
					b := append([]byte{kind}, bytes.Repeat([]byte{direction}, int(n))...)
					f.Add(append(append(b, direction|byte(op)), operands...))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			once.Do(func() { p = newPlay(t) })
			kind := byte(0)
			if len(b) > 0 {
				kind, b = b[0], b[1:]
			}
			client, server := p.cast(kind)
			m := &middle{old: p.old}
			begun := time.Now()
			cw, sw, cout, sout, cerr, serr := meddled(m, client, server, script(b))
			if cerr != nil && !typed(cerr) || serr != nil && !typed(serr) || time.Since(begun) > DefaultHandshakeTimeout {
				t.Fatalf("client %v, server %v, after %v", cerr, serr, time.Since(begun))
			}
			if !m.changed && (cerr != nil || serr != nil) {
				t.Fatalf("nobody touched it: client %v, server %v", cerr, serr)
			}
			said, told := sw.wrote, cw.wrote
			if cerr == nil { // ClientFinished may not have arrived
				if !within(cw.read, said) || !within(bytes.Join(told[:len(told)-1], nil), [][]byte{sw.read}) {
					t.Fatal("a session for a client that was told something else, or not heard")
				}
			}
			if serr == nil {
				if !server.Peers.anyone { // nor may the verdict
					said = said[:len(said)-1]
				}
				if !within(sw.read, told) || !within(bytes.Join(said, nil), [][]byte{cw.read}) {
					t.Fatal("a session for a server that was told something else, or not heard")
				}
			}
			if cerr == nil && serr == nil && !bytes.Equal(cout.exporter, sout.exporter) {
				t.Fatal("two sessions")
			}
		})
	})
}

// within reports whether a is the beginning of what the parts are together.
func within(a []byte, parts [][]byte) bool {
	return bytes.HasPrefix(slices.Concat(parts...), a)
}
