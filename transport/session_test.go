package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/sealmux/sealmux/internal/faultnet"
)

// The whole of nettest, of which yamux's own streams fail a quarter.
func TestStreamIsANetConn(t *testing.T) {
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){
		"tcp":  tcpPair,
		"pipe": func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() },
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				client, server := configs()
				a, b := pair(t)
				cs, ss, cerr, serr := shake(a, b, client, server)
				if err := errors.Join(cerr, serr); err != nil {
					return nil, nil, nil, err
				}
				o, p := streams(t, cs, ss)
				return o, p, func() {
					o.Close()
					p.Close()
					cs.Close()
					ss.Close()
				}, nil
			})
		})
	}
}

func TestSessionOverPipe(t *testing.T) {
	a, b := net.Pipe()
	client, server := configs()
	cs, ss := sessionsOver(t, a, b, client, server)
	o, p := streams(t, cs, ss)
	go func() {
		io.WriteString(o, "hello")
		o.CloseWrite()
	}()
	got, err := io.ReadAll(p)
	if string(got) != "hello" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
}

// A session runs over any connection: here over TLS, whose certificate nobody checks.
func TestSessionOverTLS(t *testing.T) {
	a, b := tcpPair(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	key := otherKeyForTest().rsa
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	client, server := configs()
	cs, ss := sessionsOver(t,
		tls.Client(a, &tls.Config{InsecureSkipVerify: true}),
		tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}),
		client, server)
	o, p := streams(t, cs, ss)
	msg := bytes.Repeat([]byte("sealed twice "), 10_000)
	go o.Write(msg)
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(p, got); err != nil || !bytes.Equal(got, msg) {
		t.Fatal(err)
	}
	cs.Close()
	if _, err := p.Read(got); !errors.Is(err, ErrPeerClosed) {
		t.Fatal(err)
	}
}

// Bulk both ways on many streams, with half close: every byte, and the end, arrive.
func TestStreamsCarryEverything(t *testing.T) {
	cs, ss := sessions(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 20 {
			c, err := ss.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() {
				defer c.Close()
				io.Copy(c, c)
				c.(*Stream).CloseWrite()
			})
		}
	})
	for i := range 20 {
		wg.Go(func() {
			c, err := cs.Open(context.Background())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			data := make([]byte, 3<<20+i)
			rand.Read(data)
			wg.Go(func() {
				c.Write(data)
				c.(*Stream).CloseWrite()
			})
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("stream %d: %d bytes of %d, %v", i, len(got), len(data), err)
			}
		})
	}
	wg.Wait()
}

// What was written before Close arrives whole, whichever side closes.
func TestCloseLosesNothing(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		t.Run(who, func(t *testing.T) {
			for range 50 {
				cs, ss := sessions(t)
				o, p := streams(t, cs, ss)
				from, closer, to := o, cs, p
				if who == "server" {
					from, closer, to = p, ss, o
				}
				msg := bytes.Repeat([]byte("x"), 100<<10)
				if _, err := from.Write(msg); err != nil {
					t.Fatal(err)
				}
				closer.Close()
				got, err := io.ReadAll(to)
				if len(got) != len(msg) || !errors.Is(err, ErrPeerClosed) {
					t.Fatalf("read %d of %d bytes, then %v", len(got), len(msg), err)
				}
				if _, err := from.Read(make([]byte, 1)); !errors.Is(err, ErrSessionClosed) {
					t.Fatalf("own stream: %v", err)
				}
			}
		})
	}
}

// A cut connection is a truncation on every stream, never an end.
func TestCutIsNotAnEnd(t *testing.T) {
	a, b := tcpPair(t)
	client, server := configs()
	cs, ss := sessionsOver(t, a, b, client, server)
	o, p := streams(t, cs, ss)
	done, _ := streams(t, cs, ss)
	_ = done
	io.WriteString(o, "some")
	buf := make([]byte, 10)
	if n, err := p.Read(buf); string(buf[:n]) != "some" || err != nil {
		t.Fatal(n, err)
	}
	a.(*net.TCPConn).SetLinger(0)
	a.Close()
	if _, err := p.Read(buf); !errors.Is(err, ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
	if _, err := ss.Accept(); !errors.Is(err, ErrTruncated) {
		t.Fatalf("accept: %v", err)
	}
	if _, err := ss.Open(context.Background()); !errors.Is(err, ErrTruncated) {
		t.Fatalf("open: %v", err)
	}
}

// A half close long before the reply is no reason to lose the reply, and a FIN sent before the ACK does not
// leak (yamux #148): far more streams than the backlog go through.
func TestHalfCloseBeforeAccept(t *testing.T) {
	cs, ss := sessions(t)
	const rounds = 3 * acceptBacklog
	for i := range rounds {
		c, err := cs.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, i)
		if err := c.(*Stream).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		p, err := ss.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(p)
		if string(got) != fmt.Sprint(i) || err != nil {
			t.Fatal(string(got), err)
		}
		io.WriteString(p, "reply")
		p.Close()
		if got, err := io.ReadAll(c); string(got) != "reply" || err != nil {
			t.Fatal(string(got), err)
		}
		c.Close()
	}
	expectNoStreams(t, cs, ss)
}

func expectNoStreams(t *testing.T, list ...*Session) {
	t.Helper()
	for _, s := range list {
		eventually(t, func() bool {
			s.guard.mu.Lock()
			defer s.guard.mu.Unlock()
			return len(s.guard.flows) == 0 && s.mux.NumStreams() == 0 && s.guard.backlog == 0 && s.guard.peerStreams == 0
		})
		if free := s.guard.unacked.free; free != acceptBacklog {
			t.Errorf("%d of %d opens still unacknowledged", acceptBacklog-free, acceptBacklog)
		}
	}
}

// Whatever sizes the network delivers in, and however slowly, all comes: handshake, records, the end.
func TestOneByteAtATime(t *testing.T) {
	line := faultnet.Line{Chunk: 1, Window: 3}
	a, b := faultnet.Pair(line, line)
	c, s := configs()
	cs, ss := sessionsOver(t, a, b, c, s)
	o, p := streams(t, cs, ss)
	sent := bytes.Repeat([]byte("0123456789"), 1000)
	var writing sync.WaitGroup
	writing.Go(func() {
		if _, err := o.Write(sent); err != nil {
			t.Error(err)
		}
		o.CloseWrite()
	})
	if got, err := io.ReadAll(p); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
	}
	writing.Wait()
	cs.Close()
	if <-ss.Done(); ss.Err() != ErrPeerClosed {
		t.Error(ss.Err())
	}
}
