package legacy

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const prefix = "服务端已收到数据: "

func echo(_ context.Context, text string) (string, error) { return prefix + text, nil }

var testKeys = sync.OnceValue(func() map[string]*PrivateKey {
	keys := make(map[string]*PrivateKey)
	for _, name := range []string{"server.pem", "small.pem"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			panic(err)
		}
		block, _ := pem.Decode(data)
		if keys[name], err = parsePrivateDER(block.Bytes, block.Type == pemPrivatePKCS1); err != nil {
			panic(err)
		}
	}
	return keys
})

func keyForTest() *PrivateKey { return testKeys()["server.pem"] }

// smallKeyForTest is for tests of many requests.
func smallKeyForTest() *PrivateKey { return testKeys()["small.pem"] }

// golden reads a file that golden.py has made.
func golden[T any](t testing.TB, name string) (got T) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

type exchange struct {
	Name, Server, Text, Request, Reply string
	Key                                string `json:"aes_key"`
	IV                                 string `json:"aes_iv"`
}

func exchanges(t testing.TB) []exchange {
	all := golden[[]exchange](t, "exchanges.json")
	if len(all) < 20 {
		t.Fatalf("%d golden exchanges", len(all))
	}
	return all
}

// refusals collects what Config.Refused is told.
type refusals struct {
	mu  sync.Mutex
	all []error
}

func (r *refusals) add(_ net.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err)
}

func (r *refusals) count(target error) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.all {
		if errors.Is(err, target) {
			n++
		}
	}
	return n
}

// newTestServer makes a server of the echo that ends with the test.
func newTestServer(t testing.TB, cfg Config) *Server {
	if cfg.Key == nil {
		cfg.Key = keyForTest()
	}
	if cfg.Handle == nil {
		cfg.Handle = echo
	}
	s := NewServer(cfg)
	t.Cleanup(s.Close)
	return s
}

// listen serves on a loopback port.
func listen(t testing.TB, s *Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String()
}

// pipe connects to a server in memory: what is written is read in the same pieces.
func pipe(t testing.TB, s *Server) net.Conn {
	a, b := net.Pipe()
	s.begin(b)
	t.Cleanup(func() { a.Close() })
	return a
}

// pipeFrom is pipe from an address.
func pipeFrom(t testing.TB, s *Server, ip string) net.Conn {
	a, b := net.Pipe()
	s.begin(from{b, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}})
	t.Cleanup(func() { a.Close() })
	return a
}

type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

// reply reads one, with its #.
func reply(t testing.TB, c net.Conn) string {
	t.Helper()
	var got strings.Builder
	for b := make([]byte, 1); b[0] != ending; {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.Write(b[:n])
	}
	return got.String()
}

// isClosed fails unless the server closes the connection without another byte.
func isClosed(t testing.TB, c net.Conn) {
	t.Helper()
	rest, err := io.ReadAll(c)
	if len(rest) > 0 || err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("not silently closed: %q %v", rest, err)
	}
}

// isOpen fails unless the connection answers a request.
func isOpen(t testing.TB, c net.Conn, key *PublicKey) {
	t.Helper()
	request, with := requestFor(t, key, "hello")
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	got := reply(t, c)
	if text, err := openReply([]byte(got[:len(got)-1]), with); err != nil || text != prefix+"hello" {
		t.Fatal(text, err)
	}
}

func requestFor(t testing.TB, key *PublicKey, text string) ([]byte, pair) {
	t.Helper()
	request, with, err := key.seal(text)
	if err != nil {
		t.Fatal(err)
	}
	return append(request, ending), with
}

// replyTo is the reply as a server writes it.
func replyTo(with pair, text string) []byte {
	var b bytes.Buffer
	writeReply(&b, with, text)
	return b.Bytes()
}
