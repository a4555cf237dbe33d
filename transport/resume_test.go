package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ticketed makes a full handshake, and returns the server of the next, and a function that returns clients which have the ticket.
func ticketed(t *testing.T) (server *Config, again func() *Config) {
	t.Helper()
	client, server := configs()
	server.TicketKeys = NewTicketKeys()
	client.Tickets = NewTicketCache(1)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	cout, sout, cerr, serr := outcomes(a, b, client, server)
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if cout.awaited != nil && !cout.awaited.keep(sout.ticket) {
		t.Fatalf("%d bytes of ticket", len(sout.ticket))
	}
	owner := client.Tickets.order[0]
	held := client.Tickets.held[owner][0]
	return server, func() *Config {
		c := *client
		c.Tickets = NewTicketCache(1)
		mine := held
		mine.secret = bytes.Clone(held.secret)
		c.Tickets.put(owner, mine)
		return &c
	}
}

// Sessions are resumed as long as nothing that matters has changed, and when something has, the outcome is that of a full
// handshake.
func TestResume(t *testing.T) {
	server, other := serverKeyForTest(), otherKeyForTest()
	tests := []struct {
		name          string
		before, after func(c, s *Config)
		resumed       bool
		cerr, serr    error
	}{
		{"same", nil, nil, true, nil, nil},
		{"client without a key", func(c, s *Config) { c.Keys, s.Peers = nil, AnyClient() }, nil, true, nil, nil},
		{"client with a key, any admitted", func(c, s *Config) { s.Peers = AnyClient() }, nil, true, nil, nil},
		{"pin by fingerprint", func(c, s *Config) { c.Peers = PinFingerprint(server.Fingerprint()) }, nil, true, nil, nil},
		{"two pins, second held", func(c, s *Config) { c.Peers = Pin(other.Public(), server.Public()) }, nil, true, nil, nil},
		{"server approved by function", func(c, s *Config) {
			c.Peers = TrustFunc(func(context.Context, *PublicKey) (string, error) { return "it", nil })
		}, nil, true, nil, nil},
		{"client approved by function", func(c, s *Config) {
			s.Peers = TrustFunc(func(context.Context, *PublicKey) (string, error) { return "she", nil })
		}, nil, true, nil, nil},
		{"server with a newer key beside", nil, func(c, s *Config) { s.Keys = []*PrivateKey{other, server} }, true, nil, nil},
		{"later", nil, func(c, s *Config) { time.Sleep(ticketLifetime - 10*time.Second) }, true, nil, nil},
		{"too late", nil, func(c, s *Config) { time.Sleep(ticketLifetime) }, false, nil, nil},
		{"too late, but the client does not know", nil, func(c, s *Config) {
			for owner := range c.Tickets.held { // only one
				c.Tickets.held[owner][0].end = time.Now().Add(100 * time.Hour)
			}
			time.Sleep(ticketLifetime)
		}, false, nil, nil},
		{"server started anew", nil, func(c, s *Config) { s.TicketKeys = NewTicketKeys() }, false, nil, nil},
		{"server without tickets", nil, func(c, s *Config) { s.NoTickets = true }, false, nil, nil},
		{"started anew, pin by fingerprint", func(c, s *Config) { c.Peers = PinFingerprint(server.Fingerprint()) },
			func(c, s *Config) { s.TicketKeys = NewTicketKeys() }, false, nil, nil},
		{"started anew, approved by function", func(c, s *Config) {
			c.Peers = TrustFunc(func(context.Context, *PublicKey) (string, error) { return "it", nil })
		}, func(c, s *Config) { s.TicketKeys = NewTicketKeys() }, false, nil, nil},
		{"server's key replaced", func(c, s *Config) { c.Peers = PinFingerprint(server.Fingerprint(), other.Fingerprint()) },
			func(c, s *Config) { s.Keys = []*PrivateKey{other} }, false, nil, nil},
		{"server's key no longer held", nil, func(c, s *Config) { s.Keys = []*PrivateKey{other} }, false, ErrServerKey, ErrUnknownKey},
		{"server's key no longer pinned", nil, func(c, s *Config) { c.Peers = Pin(other.Public()) }, false, ErrServerKey, ErrUnknownKey},
		{"client's key no longer admitted", nil, func(c, s *Config) { s.Peers = Pin(other.Public()) }, false, ErrUnauthorized, ErrUnauthorized},
		{"client without a key no longer admitted", func(c, s *Config) { c.Keys, s.Peers = nil, AnyClient() },
			func(c, s *Config) { s.Peers = Pin(other.Public()) }, false, ErrClientKeyRequired, ErrUnauthorized},
		{"client has another key", nil, func(c, s *Config) { c.Keys, s.Peers = []*PrivateKey{other}, Pin(other.Public()) }, false, nil, nil},
		{"client has no key any more", func(c, s *Config) { s.Peers = AnyClient() }, func(c, s *Config) { c.Keys = nil }, false, nil, nil},
		{"both speak another protocol", nil, func(c, s *Config) { c.Protocol, s.Protocol = "test/2", "test/2" }, false, nil, nil},
		{"the server speaks another protocol", nil, func(c, s *Config) { s.Protocol = "test/2" }, false, ErrApplicationProtocol, ErrApplicationProtocol},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := configs()
				c.Tickets, s.TicketKeys = NewTicketCache(1), NewTicketKeys()
				if test.before != nil {
					test.before(c, s)
				}
				for round, resumed := range []bool{false, test.resumed} {
					if round == 1 && test.after != nil {
						test.after(c, s)
					}
					a, b := net.Pipe()
					cs, ss, cerr, serr := shake(a, b, c, s)
					if round == 1 && (test.cerr != nil || test.serr != nil) {
						if !errors.Is(cerr, test.cerr) || !errors.Is(serr, test.serr) {
							t.Fatalf("client %v, server %v", cerr, serr)
						}
						continue
					}
					if cerr != nil || serr != nil {
						t.Fatalf("client %v, server %v", cerr, serr)
					}
					defer cs.Close()
					defer ss.Close()
					if cs.Resumed() != resumed || ss.Resumed() != resumed {
						t.Fatalf("round %d: client %v, server %v", round, cs.Resumed(), ss.Resumed())
					}
					alike(t, c, s, cs, ss)
					cs.Close()
					ss.Close()
					if n := len(c.Tickets.order); n != 1 && !s.NoTickets {
						t.Fatalf("%d servers in the cache", n)
					}
				}
			})
		})
	}
}

// alike checks that the ends of a session agree, and that records pass both ways.
func alike(t *testing.T, c, s *Config, cs, ss *Session) {
	t.Helper()
	one, _ := cs.ExportKeyingMaterial("x", nil, 32)
	two, _ := ss.ExportKeyingMaterial("x", nil, 32)
	var client Fingerprint
	if len(c.Keys) > 0 {
		client = c.Keys[0].Fingerprint()
	}
	if !bytes.Equal(one, two) || ss.Peer().Fingerprint() != client || cs.Peer().Fingerprint() != s.Keys[0].Fingerprint() && len(s.Keys) == 1 {
		t.Fatalf("%x %x, client is %v, server is %v", one, two, ss.Peer(), cs.Peer())
	}
	if name, _ := c.Peers.admits(context.Background(), cs.Peer().Key); name != cs.Peer().Name {
		t.Fatalf("the server is called %q", cs.Peer().Name)
	}
	if name, _ := s.Peers.admits(context.Background(), ss.Peer().Key); name != ss.Peer().Name {
		t.Fatalf("the client is called %q", ss.Peer().Name)
	}
	for _, end := range []*Session{cs, ss} {
		time.Sleep(time.Second)
		end.conn.tx.record(false, recordPing)
		synctest.Wait()
	}
	if heard := max(now()-cs.conn.rx.last.Load(), now()-ss.conn.rx.last.Load()); heard != 0 || cs.Err() != nil || ss.Err() != nil {
		t.Fatal("no answer:", time.Duration(heard), cs.Err(), ss.Err())
	}
}

// A session that is resumed again and again still proves the client's key every ticketLifetime.
func TestResumeNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := configs()
		c.Tickets, s.TicketKeys = NewTicketCache(1), NewTicketKeys()
		full := 0
		for range 2 * 24 {
			a, b := net.Pipe()
			cs, ss, cerr, serr := shake(a, b, c, s)
			if cerr != nil || serr != nil {
				t.Fatal(cerr, serr)
			}
			if !cs.Resumed() {
				full++
			}
			synctest.Wait()
			cs.Close()
			ss.Close()
			time.Sleep(time.Hour)
		}
		if full != 2*24/12 {
			t.Fatalf("%d full handshakes in two days", full)
		}
	})
}

// Every byte of a resumed handshake, flipped or cut off.
func TestResumeEveryOffset(t *testing.T) {
	server, again := ticketed(t)
	everyOffset(t, server, again)
}

// A refusal that the server has not sent does no more than spoil the handshake, also if the ticket never reaches the server.
func TestForgedRefusal(t *testing.T) {
	server, again := ticketed(t)
	toClient, fromClient := net.Pipe()
	toServer, fromServer := net.Pipe()
	go func() {
		defer toServer.Close()
		if _, err := receive(fromClient, typeResumeHello); err != nil {
			t.Error(err)
		}
		fromClient.Write(message(typeTicketRefused, nil))
		go io.Copy(fromClient, toServer)
		io.Copy(toServer, fromClient)
	}()
	cerr, serr := handshakes(toClient, fromServer, again(), server)
	if !errors.Is(cerr, ErrHandshake) || !typed(serr) {
		t.Fatal(cerr, serr)
	}
}

// Whoever replays a ticket gets a ServerHello, and no further.
func TestReplayedTicketStops(t *testing.T) {
	server, again := ticketed(t)
	replayStops(t, again(), server)
}

// A client that resumes has the identity of its ticket, and shows no other.
func TestResumeWithAnotherKey(t *testing.T) {
	server, again := ticketed(t)
	client, _ := again().forClient()
	a, b := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer a.Close()
		h := &clientRole{ctx: t.Context(), raw: a, cfg: client, log: newTranscript()}
		h.shares()
		body, err := h.greet()
		if err != nil || !h.resumed {
			t.Error(err, h.resumed)
			return
		}
		handshake, shares, _, err := h.open(body)
		if err != nil {
			t.Error(err)
			return
		}
		finished := clientParams{maxStreams: 1}
		finished.sign(noFresh.forPSS(), otherKeyForTest(), h.log.sum())
		aead, iv := blockKey(handshake, labelClientHandshake, shares)
		send(a, h.log, typeClientFinished, aead.Seal(nil, iv, finished.append(nil), h.log.sum()))
		io.Copy(io.Discard, a)
	})
	server.Peers = AnyClient()
	if _, err := Server(t.Context(), b, server); !errors.Is(err, ErrHandshake) {
		t.Fatal(err)
	}
	wg.Wait()
}

// Each of the messages before the ClientHello comes once.
func TestPreludeOnce(t *testing.T) {
	hello := &clientHello{keyID: serverKeyForTest().Fingerprint(), protocol: []byte("test/1"), secret: []byte("ticket")}
	for name, prelude := range map[string][]byte{
		"two tickets":  bytes.Repeat(message(typeResumeHello, hello.append(nil)), 2),
		"two requests": bytes.Repeat(message(typeKeyRequest, appendKeyRequest(nil, nil)), 2),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			go a.Write(prelude)
			go io.Copy(io.Discard, a)
			_, server := configs()
			if _, err := Server(t.Context(), b, server); !errors.Is(err, ErrHandshake) {
				t.Fatal(err)
			}
		})
	}
}

// A resumed handshake does not wait for those that need a private-key operation.
func TestResumePassesGate(t *testing.T) {
	server, again := ticketed(t)
	full, _ := server.forServer()
	a, b := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		client, _ := again().forClient()
		if _, err := clientHandshake(t.Context(), a, client); err != nil {
			t.Error(err)
		}
	})
	place, err := newGate(full, 0).enter(b.RemoteAddr(), nil, nil) // no private-key operation can begin
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serverHandshake(t.Context(), b, full, place); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// What a server may send as a ticket to a client that need not wait for accept: once, first, asked for, of the right form.
func TestTicketRecords(t *testing.T) {
	ticket := append(binary.BigEndian.AppendUint32(nil, 60), "some ticket"...)
	none := func(*Config) {}
	for name, test := range map[string]struct {
		client func(c *Config)
		send   func(p *Session)
		kept   int
		bad    bool
	}{
		"good":    {none, func(s *Session) { s.conn.tx.record(false, recordAccept, ticket...) }, 1, false},
		"none":    {none, func(s *Session) {}, 0, false},
		"unasked": {func(c *Config) { c.Tickets = nil }, func(s *Session) { s.conn.tx.record(false, recordAccept, ticket...) }, 0, true},
		"second": {none, func(s *Session) {
			s.conn.tx.record(false, recordAccept, ticket...)
			s.conn.tx.record(false, recordAccept, ticket...)
		}, 1, true},
		"late": {none, func(s *Session) {
			s.conn.tx.record(false, recordPing)
			s.conn.tx.record(false, recordAccept, ticket...)
		}, 0, true},
		"empty":     {none, func(s *Session) { s.conn.tx.record(false, recordAccept) }, 0, true},
		"no ticket": {none, func(s *Session) { s.conn.tx.record(false, recordAccept, ticket[:4]...) }, 0, true},
		"too long": {none, func(s *Session) {
			s.conn.tx.record(false, recordAccept, append(ticket[:4:4], make([]byte, maxTicket+1)...)...)
		}, 0, true},
		"dead":       {none, func(s *Session) { s.conn.tx.record(false, recordAccept, 0, 0, 0, 0, 1) }, 0, true},
		"for a year": {none, func(s *Session) { s.conn.tx.record(false, recordAccept, 1, 0, 0, 0, 1) }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := configs()
				cache := NewTicketCache(1)
				c.Tickets, c.Keys, s.Peers = cache, nil, AnyClient()
				test.client(c)
				a, b := net.Pipe()
				cs, ss := sessionsOver(t, a, b, c, s)
				test.send(ss)
				synctest.Wait()
				if bad := errors.Is(cs.Err(), ErrMisbehaved); bad != test.bad || !bad && cs.Err() != nil {
					t.Error(cs.Err())
				}
				kept := 0
				for _, list := range cache.held {
					kept += len(list)
				}
				if kept != test.kept {
					t.Errorf("%d tickets kept", kept)
				}
			})
		})
	}
}

// Dials that share a cache, at once, against a Listener as it is by default.
func TestDialsShareTickets(t *testing.T) {
	client, server := configs()
	client.Tickets = NewTicketCache(1)
	l, err := Listen(t.Context(), "tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			s, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() {
				defer s.Close()
				if st, err := s.Accept(); err == nil {
					st.Close()
				}
				<-s.Done() // the client ends it: else it might, before Open has returned there
			})
		}
	})
	var mu sync.Mutex
	resumed := 0
	for range 3 {
		var dials sync.WaitGroup
		for range ticketsPerOwner + 2 {
			dials.Go(func() {
				s, err := Dial(t.Context(), "tcp", l.Addr().String(), client)
				if err != nil {
					t.Error(err)
					return
				}
				st, err := s.Open(t.Context()) // the ticket comes before its acknowledgement
				if err != nil {
					t.Error(err)
					return
				}
				st.Read(make([]byte, 1))
				s.Close()
				if s.Resumed() {
					mu.Lock()
					resumed++
					mu.Unlock()
				}
			})
		}
		dials.Wait()
	}
	if resumed < ticketsPerOwner {
		t.Fatalf("%d of 30 sessions were resumed", resumed)
	}
}
