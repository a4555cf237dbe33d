package legacy

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// Every golden request gets its golden reply, over one connection for each key.
func TestGoldenExchanges(t *testing.T) {
	conns := make(map[string]net.Conn)
	for name, key := range testKeys() {
		c, err := net.Dial("tcp", listen(t, newTestServer(t, Config{Key: key})))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[name] = c
	}
	for _, x := range exchanges(t) {
		io.WriteString(conns[x.Server], x.Request)
		if got := reply(t, conns[x.Server]); got != x.Reply {
			t.Fatalf("%s: reply %.80q, want %.80q", x.Name, got, x.Reply)
		}
	}
}

// The client reads every golden reply.
func TestGoldenReplies(t *testing.T) {
	for _, x := range exchanges(t) {
		text, err := openReply([]byte(strings.TrimSuffix(x.Reply, "#")), pair{[]byte(x.Key), []byte(x.IV)})
		if err != nil || text != prefix+x.Text {
			t.Errorf("%s: %q, %v", x.Name, text, err)
		}
	}
}

// A request may be split anywhere.
func TestSplitAtEveryByte(t *testing.T) {
	c := pipe(t, newTestServer(t, Config{}))
	for _, x := range exchanges(t)[:2] {
		for at := range len(x.Request) {
			for _, part := range []string{x.Request[:at], x.Request[at:]} {
				if _, err := io.WriteString(c, part); err != nil {
					t.Fatal(err)
				}
			}
			if got := reply(t, c); got != x.Reply {
				t.Fatalf("%s split at %d: %q", x.Name, at, got)
			}
		}
		for _, b := range []byte(x.Request) {
			c.Write([]byte{b})
		}
		if got := reply(t, c); got != x.Reply {
			t.Fatalf("%s in single bytes: %q", x.Name, got)
		}
	}
}

// Requests that come together are answered in order, wherever the pieces end.
func TestPipelined(t *testing.T) {
	addr := listen(t, newTestServer(t, Config{}))
	var requests, replies strings.Builder
	for range 5 {
		for _, x := range exchanges(t) {
			if x.Server == "server.pem" {
				requests.WriteString(x.Request)
				replies.WriteString(x.Reply)
			}
		}
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	written := make(chan error)
	go func() {
		_, err := io.WriteString(c, requests.String())
		c.(*net.TCPConn).CloseWrite()
		written <- err
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != replies.String() {
		t.Errorf("%d bytes of replies, want %d: %v", len(got), replies.Len(), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// 1 MiB of text, against the hashes that golden.py computed.
func TestGoldenLong(t *testing.T) {
	g := golden[struct {
		Wrapped string
		Key     string `json:"aes_key"`
		IV      string `json:"aes_iv"`
		Repeat  string
		Times   int
		Request string `json:"request_sha256"`
		Reply   string `json:"reply_sha256"`
	}](t, "long.json")
	text := strings.Repeat(g.Repeat, g.Times)
	with := pair{[]byte(g.Key), []byte(g.IV)}
	literal := fmt.Appendf(nil, `{"key":"%s", "data":"%x"}`, g.Wrapped, with.encrypt(text))
	request := append(base64.StdEncoding.AppendEncode(nil, literal), ending)
	if sum := sha256.Sum256(request); len(text) != 1<<20 || hex.EncodeToString(sum[:]) != g.Request {
		t.Fatalf("the request for %d bytes is not Python's", len(text))
	}
	c, err := net.Dial("tcp", listen(t, newTestServer(t, Config{})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go c.Write(request) // ends with the connection, and before the reply
	var got bytes.Buffer
	for buffer := make([]byte, 64<<10); !bytes.HasSuffix(got.Bytes(), []byte("#")); {
		n, err := c.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(buffer[:n])
	}
	if sum := sha256.Sum256(got.Bytes()); hex.EncodeToString(sum[:]) != g.Reply {
		t.Fatalf("the reply of %d bytes is not Python's", got.Len())
	}
}

// What the private operation returns for good and bad padding is what the draft says, by another implementation.
func TestGoldenRejections(t *testing.T) {
	all := golden[[]struct{ Name, Server, Ciphertext, Plaintext string }](t, "rejections.json")
	if len(all) < 40 {
		t.Fatalf("%d golden ciphertexts", len(all))
	}
	for _, g := range all {
		ciphertext, _ := hex.DecodeString(g.Ciphertext)
		got, spare := testKeys()[g.Server].unwrap(ciphertext)
		if hex.EncodeToString(got) != g.Plaintext {
			t.Errorf("%s, %s: %x, want %s", g.Server, g.Name, got, g.Plaintext)
		}
		if _, ok := parsePair(got); ok || len(spare) != spareSize {
			t.Errorf("%s, %s: became a pair of keys", g.Server, g.Name)
		}
	}
}

// What Python writes is read as Python reads it; of all else, what is accepted is what Python makes of it.
func TestGoldenLiterals(t *testing.T) {
	all := golden[[]struct {
		Source  string
		Means   []string
		Written bool
	}](t, "literals.json")
	read, refused := 0, 0
	for _, g := range all {
		key, data, ok := parseLiteral([]byte(g.Source), "key", "data")
		switch {
		case ok && (len(g.Means) != 2 || string(key) != g.Means[0] || string(data) != g.Means[1]):
			t.Errorf("%q: %q and %q, in Python %q", g.Source, key, data, g.Means)
		case !ok && g.Written:
			t.Errorf("%q is refused", g.Source)
		case ok:
			read++
		default:
			refused++
		}
	}
	if read < 200 || refused < 200 {
		t.Errorf("%d read, %d refused", read, refused)
	}
}
