package legacy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"unicode/utf8"
)

// seeds are requests with their #, good ones and spoilt ones, for the small key.
func seeds(f *testing.F) (all []string) {
	for _, x := range exchanges(f) {
		if x.Server == "small.pem" {
			all = append(all, x.Request, x.Request+x.Request)
		}
	}
	for _, request := range spoilt(f, smallKeyForTest().pub) {
		all = append(all, request+"#")
	}
	return all
}

// Whatever a request is, opening it takes all steps; what opens is text, and its reply can be read.
// fuzz: 10000x
func FuzzOpen(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add([]byte(seed[:len(seed)-1]))
	}
	key := smallKeyForTest()
	f.Fuzz(func(t *testing.T, request []byte) {
		steps := ""
		before := bytes.Clone(request)
		text, with, ok := key.open(request, func(name string, _ int) { steps += name + " " })
		if steps != "parse rsa aes " || !bytes.Equal(before, request) {
			t.Fatalf("the steps %s", steps)
		}
		if !ok {
			return
		}
		if !utf8.ValidString(text) {
			t.Fatalf("%q is no text", text)
		}
		b := replyTo(with, text)
		if again, err := openReply(b[:len(b)-1], with); err != nil || again != text {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
	})
}

// A server answers the requests of a connection up to the first that does not open, each with its reply and in order, and
// then closes, in whatever pieces they come.
// fuzz: 5000x
func FuzzConnection(f *testing.F) {
	for i, seed := range seeds(f) {
		f.Add([]byte(seed), uint16(i))
		f.Add([]byte(seed[:len(seed)/2]), uint16(1))
	}
	key := smallKeyForTest()
	f.Fuzz(func(t *testing.T, sent []byte, piece uint16) {
		if len(sent) > smallRequest {
			return
		}
		var want bytes.Buffer
		for rest := sent; ; {
			request, more, whole := bytes.Cut(rest, []byte("#"))
			text, with, ok := key.open(request, nil)
			if !whole || !ok {
				break
			}
			want.Write(replyTo(with, prefix+text))
			rest = more
		}
		s := NewServer(Config{Key: key, Handle: echo})
		defer s.Close()
		ours, theirs := net.Pipe()
		defer ours.Close()
		s.begin(oneWay{theirs, bytes.NewReader(sent), int(piece) + 1})
		got, err := io.ReadAll(ours)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%q was answered with %d bytes, want %d: %v", sent, len(got), want.Len(), err)
		}
	})
}

// oneWay is a connection from which some bytes come, in pieces, and then nothing more.
type oneWay struct {
	net.Conn
	in    *bytes.Reader
	piece int
}

func (o oneWay) Read(b []byte) (int, error) { return o.in.Read(b[:min(len(b), o.piece)]) }

// What a server sends for a reply is text or an error.
func FuzzReply(f *testing.F) {
	with := pair{[]byte("0123456789abcdef0123456789abcdef"), []byte("0123456789abcdef")}
	for _, text := range []string{"", "hello", "你好，世界", "a\x00b"} {
		b := replyTo(with, text)
		f.Add(b[:len(b)-1])
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		text, err := openReply(reply, with)
		if err != nil {
			return
		}
		if !utf8.ValidString(text) {
			t.Fatalf("%q is no text", text)
		}
		b := replyTo(with, text)
		if again, err := openReply(b[:len(b)-1], with); err != nil || again != text {
			t.Fatalf("%q became %q: %v", text, again, err)
		}
	})
}
