package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A meddler passes writes on, changing or cutting them at one offset of what is written.
type meddler struct {
	net.Conn
	at   int  // offset of the byte to act on
	cut  bool // close there, instead of flipping a bit
	sent int
}

func (m *meddler) Write(b []byte) (int, error) {
	k := m.at - m.sent
	m.sent += len(b)
	if k < 0 || k >= len(b) {
		return m.Conn.Write(b)
	}
	if m.cut {
		m.Conn.Write(b[:k])
		m.Conn.Close()
		return k, io.ErrClosedPipe
	}
	b = bytes.Clone(b)
	b[k] ^= 1 << (m.at % 8)
	return m.Conn.Write(b)
}

// handshakes runs both roles without a session on top.
func handshakes(a, b net.Conn, client, server *Config) (cerr, serr error) {
	_, _, cerr, serr = outcomes(a, b, client, server)
	return cerr, serr
}

func outcomes(a, b net.Conn, client, server *Config) (cout, sout *outcome, cerr, serr error) {
	cfull, err := client.forClient()
	if err != nil {
		return nil, nil, err, err
	}
	sfull, err := server.forServer()
	if err != nil {
		return nil, nil, err, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		serr = withDeadline(context.Background(), b, sfull.HandshakeTimeout, func(ctx context.Context) (err error) {
			sout, err = serverHandshake(ctx, b, sfull, nil)
			return err
		})
	})
	cerr = withDeadline(context.Background(), a, cfull.HandshakeTimeout, func(ctx context.Context) (err error) {
		cout, err = clientHandshake(ctx, a, cfull)
		return err
	})
	wg.Wait()
	return cout, sout, cerr, serr
}

var handshakeErrors = []error{ErrServerKey, ErrUnknownKey, ErrUnauthorized, ErrClientKeyRequired, ErrNotSealmux,
	ErrVersion, ErrApplicationProtocol, ErrHandshake, ErrHandshakeTimeout, ErrTruncated}

func typed(err error) bool {
	for _, known := range handshakeErrors {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Every byte of a mutual handshake, flipped or cut off, by either side: refused typed, within the deadline.
func TestHandshakeEveryOffset(t *testing.T) {
	client, server := configs()
	everyOffset(t, server, func() *Config { return client })
}

func everyOffset(t *testing.T, server *Config, client func() *Config) {
	step := 1
	if testing.Short() {
		step = 17
	}
	for _, direction := range []string{"client", "server"} {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/cut=%v", direction, cut), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					offsets := 0
					for at := 0; ; at += step {
						a, b := net.Pipe()
						m := &meddler{Conn: a, at: at, cut: cut}
						ends := [2]net.Conn{m, b}
						if direction == "server" {
							m.Conn = b
							ends = [2]net.Conn{a, m}
						}
						begun := time.Now()
						cerr, serr := handshakes(ends[0], ends[1], client(), server)
						a.Close()
						b.Close()
						if m.sent <= at { // beyond the last byte
							if cerr != nil || serr != nil {
								t.Fatalf("untouched handshake: %v, %v", cerr, serr)
							}
							break
						}
						offsets++
						if time.Since(begun) > DefaultHandshakeTimeout {
							t.Fatalf("offset %d took %v", at, time.Since(begun))
						}
						// The verdict record is the server's last act: changing it is seen by the client alone.
						lastAct := direction == "server" && serr == nil && at >= messageHeader+serverHelloSize
						if !typed(cerr) || !typed(serr) && !lastAct {
							t.Fatalf("offset %d: client %v, server %v", at, cerr, serr)
						}
					}
					t.Logf("%d offsets refused", offsets)
				})
			})
		}
	}
}

func TestHandshakeRefusals(t *testing.T) {
	server, client, other := serverKeyForTest(), clientKeyForTest(), otherKeyForTest()
	tests := []struct {
		name       string
		change     func(c, s *Config)
		cerr, serr error
	}{
		{"good", func(c, s *Config) {}, nil, nil},
		{"anonymous client, any admitted", func(c, s *Config) { c.Keys, s.Peers = nil, AnyClient() }, nil, nil},
		{"client with key, any admitted", func(c, s *Config) { s.Peers = AnyClient() }, nil, nil},
		{"pin by fingerprint", func(c, s *Config) { c.Peers = PinFingerprint(server.Fingerprint()) }, nil, nil},
		{"two pins, second held", func(c, s *Config) { c.Peers = Pin(other.Public(), server.Public()) }, nil, nil},
		{"server with two keys, old one pinned", func(c, s *Config) { s.Keys = []*PrivateKey{other, server} }, nil, nil},
		{"key approved by function", func(c, s *Config) {
			c.Peers = TrustFunc(func(context.Context, *PublicKey) (string, error) { return "it", nil })
		}, nil, nil},
		{"wrong pin", func(c, s *Config) { c.Peers = Pin(other.Public()) }, ErrServerKey, ErrUnknownKey},
		{"wrong fingerprint", func(c, s *Config) { c.Peers = PinFingerprint(other.Fingerprint()) }, ErrServerKey, ErrTruncated},
		{"wrong pins", func(c, s *Config) { c.Peers = Pin(other.Public(), client.Public()) }, ErrServerKey, ErrTruncated},
		{"unauthorised client", func(c, s *Config) { c.Keys = []*PrivateKey{other} }, ErrUnauthorized, ErrUnauthorized},
		{"client without key", func(c, s *Config) { c.Keys = nil }, ErrClientKeyRequired, ErrUnauthorized},
		{"other application protocol", func(c, s *Config) { c.Protocol = "test/2" }, ErrApplicationProtocol, ErrApplicationProtocol},
		{"client without trust", func(c, s *Config) { c.Peers = nil }, ErrConfig, nil},
		{"client that trusts all", func(c, s *Config) { c.Peers = AnyClient() }, ErrConfig, nil},
		{"server without trust", func(c, s *Config) { s.Peers = nil }, nil, ErrConfig},
		{"server with empty trust", func(c, s *Config) { s.Peers = new(Trust) }, nil, ErrConfig},
		{"server without key", func(c, s *Config) { s.Keys = nil }, nil, ErrConfig},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, s := configs()
			test.change(c, s)
			a, b := tcpPair(t)
			cs, ss, cerr, serr := shake(a, b, c, s)
			if cs != nil {
				defer cs.Close()
			}
			if ss != nil {
				defer ss.Close()
			}
			if test.cerr != nil && !errors.Is(cerr, test.cerr) || test.serr != nil && !errors.Is(serr, test.serr) {
				t.Fatalf("client %v, server %v", cerr, serr)
			}
			if test.cerr == nil && test.serr == nil && (cerr != nil || serr != nil) {
				t.Fatalf("client %v, server %v", cerr, serr)
			}
		})
	}
}

// A wrong pin names both keys, so that a person can compare them.
func TestWrongPinNamesBothKeys(t *testing.T) {
	for _, pins := range []*Trust{Pin(otherKeyForTest().Public()), PinFingerprint(otherKeyForTest().Fingerprint())} {
		c, s := configs()
		c.Peers = pins
		a, b := tcpPair(t)
		_, _, cerr, _ := shake(a, b, c, s)
		var key *ServerKeyError
		if !errors.As(cerr, &key) || key.Offered != serverKeyForTest().Fingerprint() || key.Pinned[0] != otherKeyForTest().Fingerprint() {
			t.Fatalf("got %v", cerr)
		}
	}
}

// Peers that are something else: refused at the first impossible byte, or at the deadline.
func TestForeignPeers(t *testing.T) {
	random := make([]byte, 64)
	rand.Read(random)
	random[0] = 'X'
	foreign := map[string]struct {
		send []byte
		want error
	}{
		"HTTP":          {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), ErrNotSealmux},
		"TLS":           {[]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, ErrNotSealmux},
		"SSH":           {[]byte("SSH-2.0-OpenSSH_9.2\r\n"), ErrNotSealmux},
		"random":        {random, ErrNotSealmux},
		"one byte":      {[]byte("G"), ErrNotSealmux},
		"version 2":     {[]byte("SMUX\x02\x01\x00\x10"), ErrVersion},
		"too long":      {[]byte("SMUX\x01\x01\xff\xff"), ErrHandshake},
		"unknown type":  {[]byte("SMUX\x01\x63\x00\x00"), ErrHandshake},
		"bad hello":     {[]byte("SMUX\x01\x01\x00\x01x"), ErrHandshake},
		"bad alert":     {[]byte("SMUX\x01\x06\x00\x00"), ErrHandshake},
		"half a header": {[]byte("SMUX\x01"), ErrHandshakeTimeout},
		"half a hello":  {[]byte("SMUX\x01\x01\x05\x00xxx"), ErrHandshakeTimeout},
		"silence":       {nil, ErrHandshakeTimeout},
	}
	for name, test := range foreign {
		for _, role := range []string{"server", "client"} {
			t.Run(name+"/"+role, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a, b := net.Pipe()
					defer b.Close()
					go io.Copy(io.Discard, b)
					go b.Write(test.send)
					begun := time.Now()
					c, s := configs()
					var err error
					if role == "server" {
						_, err = Server(context.Background(), a, s)
					} else {
						_, err = Client(context.Background(), a, c)
					}
					if name == "bad hello" && role == "client" {
						test.want = ErrHandshake // a ClientHello where a ServerHello is due
					}
					if !errors.Is(err, test.want) {
						t.Fatalf("got %v, want %v", err, test.want)
					}
					took := time.Since(begun)
					if late := test.want == ErrHandshakeTimeout; late != (took == DefaultHandshakeTimeout) || !late && took != 0 {
						t.Fatalf("it took %v", took)
					}
				})
			})
		}
	}
}

// The context ends a handshake at once, and its cause is the error.
func TestHandshakeContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_, s := configs()
		begun := time.Now()
		_, err := Server(ctx, a, s)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 3*time.Second {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		if _, err := a.Write([]byte{0}); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("the connection is still open: %v", err)
		}
	})
}

// A ClientHello replayed gets a ServerHello, and no further: who replays it knows none of the secrets.
func TestReplayedHelloStops(t *testing.T) {
	c, s := configs()
	replayStops(t, c, s)
}

func replayStops(t *testing.T, client, server *Config) {
	t.Helper()
	record := new(bytes.Buffer)
	a, b := net.Pipe()
	cerr, serr := handshakes(&tee{a, record}, b, client, server)
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	a2, b2 := net.Pipe()
	go func() {
		a2.Write(record.Bytes())
		io.Copy(io.Discard, a2)
	}()
	go io.Copy(io.Discard, a2)
	if _, err := Server(context.Background(), b2, server); !errors.Is(err, ErrHandshake) {
		t.Fatalf("got %v", err)
	}
}

type tee struct {
	net.Conn
	to io.Writer
}

func (t *tee) Write(b []byte) (int, error) {
	t.to.Write(b)
	return t.Conn.Write(b)
}

// OAEP failures of every kind look alike to the peer: the ServerHello comes, and the handshake fails at the
// ClientFinished.
func TestWrappedSecretFaults(t *testing.T) {
	key := serverKeyForTest()
	size := key.rsa.Size()
	for name, wrapped := range map[string][]byte{
		"zero":           make([]byte, size),
		"garbage":        append([]byte{0}, bytes.Repeat([]byte{7}, size-1)...),
		"over modulus":   bytes.Repeat([]byte{0xff}, size),
		"equals modulus": key.rsa.N.Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			if one, two := unwrap(key, wrapped, noFresh.newSecret()), unwrap(key, wrapped, noFresh.newSecret()); len(one) != secretSize || bytes.Equal(one, two) {
				t.Fatalf("%x, %x", one, two)
			}
		})
	}
}

func TestExportedKeyingMaterial(t *testing.T) {
	cs, ss := sessions(t)
	ours, err := cs.ExportKeyingMaterial("label", []byte("context"), 40)
	theirs, err2 := ss.ExportKeyingMaterial("label", []byte("context"), 40)
	if err != nil || err2 != nil || !bytes.Equal(ours, theirs) || len(ours) != 40 {
		t.Fatalf("%x %v, %x %v", ours, err, theirs, err2)
	}
	for _, other := range [][2]string{{"label2", "context"}, {"label", "context2"}, {"labelc", "ontext"}} {
		if o, _ := cs.ExportKeyingMaterial(other[0], []byte(other[1]), 40); bytes.Equal(o, ours) {
			t.Errorf("%q gives the same", other)
		}
	}
	if _, err := cs.ExportKeyingMaterial("x", nil, maxExport+1); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

func TestPeer(t *testing.T) {
	cs, ss := sessions(t)
	if !cs.Peer().Key.Equal(serverKeyForTest().Public()) || !ss.Peer().Key.Equal(clientKeyForTest().Public()) {
		t.Fatalf("%v, %v", cs.Peer(), ss.Peer())
	}
	p, ok := PeerFrom(ss.Context(context.Background()))
	if !ok || p.Fingerprint() != clientKeyForTest().Fingerprint() || cs.Protocol() != "test/1" {
		t.Fatal(p, ok)
	}
}
