package transport

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Keys are slow to make, so the tests have theirs in files.
var testKeys = sync.OnceValue(func() (keys [3]*PrivateKey) {
	for i, name := range []string{"server", "client", "other"} {
		data, err := os.ReadFile("testdata/" + name + ".pem")
		if err != nil {
			panic(err)
		}
		if keys[i], err = ParsePrivateKey(data); err != nil {
			panic(err)
		}
	}
	return keys
})

// noFresh draws from crypto/rand, as every handshake does but those of vectors.
var noFresh *fresh

func serverKeyForTest() *PrivateKey { return testKeys()[0] }
func clientKeyForTest() *PrivateKey { return testKeys()[1] }
func otherKeyForTest() *PrivateKey  { return testKeys()[2] }

// configs are a client and a server that trust each other.
func configs() (client, server *Config) {
	return &Config{Keys: []*PrivateKey{clientKeyForTest()}, Peers: Pin(serverKeyForTest().Public()), Protocol: "test/1"},
		&Config{Keys: []*PrivateKey{serverKeyForTest()}, Peers: Pin(clientKeyForTest().Public()), Protocol: "test/1"}
}

// tcpPair is a connected pair on loopback.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// shake runs both sides of a handshake.
func shake(a, b net.Conn, client, server *Config) (cs, ss *Session, cerr, serr error) {
	var wg sync.WaitGroup
	wg.Go(func() { ss, serr = Server(context.Background(), b, server) })
	cs, cerr = Client(context.Background(), a, client)
	wg.Wait()
	return
}

// sessions is an established pair over the given connections, closed when the test ends.
func sessionsOver(t testing.TB, a, b net.Conn, client, server *Config) (*Session, *Session) {
	t.Helper()
	cs, ss, cerr, serr := shake(a, b, client, server)
	if cerr != nil || serr != nil {
		t.Fatalf("handshake: client %v, server %v", cerr, serr)
	}
	t.Cleanup(func() {
		var wg sync.WaitGroup
		wg.Go(func() { cs.Close() })
		ss.Close()
		wg.Wait()
	})
	return cs, ss
}

func sessions(t testing.TB) (client, server *Session) {
	a, b := tcpPair(t)
	c, s := configs()
	return sessionsOver(t, a, b, c, s)
}

// streams is a stream of a session, from both ends.
func streams(t testing.TB, cs, ss *Session) (opened, accepted *Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o, err := cs.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ss.AcceptContext(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return o.(*Stream), a.(*Stream)
}

// eventually waits for what another goroutine is about to do; it fails only when that never comes.
func eventually(t testing.TB, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it never came")
		}
	}
}
