package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// A recording is the connection of one side, and what that side wrote to it.
type recording struct {
	net.Conn
	mu    sync.Mutex
	wrote bytes.Buffer
}

func (r *recording) Write(b []byte) (int, error) {
	n, err := r.Conn.Write(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrote.Write(b[:n])
	return n, err
}

func (r *recording) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.wrote.Bytes())
}

// recordedBy makes a handshake, has the client send a text if it succeeds, ends the session, and returns the bytes of either direction.
func recordedBy(t testing.TB, client, server *Config) (fromClient, fromServer []byte) {
	t.Helper()
	a, b := net.Pipe()
	ra, rb := &recording{Conn: a}, &recording{Conn: b}
	cs, ss, cerr, serr := shake(ra, rb, client, server)
	if cerr == nil && serr == nil {
		stream, err := cs.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stream, "hello"); err != nil {
			t.Fatal(err)
		}
		other, err := ss.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(other, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, s := range []*Session{cs, ss} {
		if s != nil {
			wg.Go(func() { s.Close() })
		}
	}
	wg.Wait()
	a.Close()
	b.Close()
	return ra.bytes(), rb.bytes()
}

// parts are all of a direction, and the error at its end.
func parts(r io.Reader) (all []Part, at Part, err error) {
	for part, err := range Dissect(r) {
		if err != nil {
			return all, part, err
		}
		all = append(all, part)
	}
	return all, at, nil
}

// story is what a direction says, in short: its kinds and, but for records, their fields.
func story(all []Part) string {
	var words []string
	for _, p := range all {
		switch {
		case p.Kind != "record":
			words = append(words, p.Kind+fmt.Sprint(p.Fields))
		case words[len(words)-1] != "records":
			words = append(words, "records")
		}
	}
	return strings.Join(words, " ")
}

type dissectTest struct {
	name           string
	change         func(c, s *Config)
	client, server string
}

func dissectTests() []dissectTest {
	server, other := serverKeyForTest(), otherKeyForTest()
	id, otherID := server.String(), other.String()
	hello := "ClientHello[{server_key " + id + "} {protocol test/1} {ciphertext 256}] "
	const reply, signed, unsigned = "ServerHello[{sealed 21}]", "ClientFinished[{sealed 575}]", "ClientFinished[{sealed 25}]"
	offer := "KeyOffer[{key " + id + "} {bits 2048}] "
	return []dissectTest{
		{"mutual", func(c, s *Config) {}, hello + signed + " records", reply + " records"},
		{"anonymous", func(c, s *Config) { c.Keys, s.Peers = nil, AnyClient() }, hello + unsigned + " records", reply + " records"},
		{"asked for a key", func(c, s *Config) { c.Peers = Pin(other.Public(), server.Public()) },
			"KeyRequest[{keys [" + otherID + " " + id + "]}] " + hello + signed + " records", offer + reply + " records"},
		{"unknown key", func(c, s *Config) { c.Peers = Pin(other.Public()) },
			strings.Replace(strings.TrimSpace(hello), id, otherID, 1), "Alert[{code 1} {reason unknown key} {held " + id + "}]"},
		{"other protocol", func(c, s *Config) { c.Protocol = "t\x1b2" },
			strings.Replace(strings.TrimSpace(hello), "test/1", "t\x1b2", 1), "Alert[{code 2} {reason other application protocol}]"},
		{"not admitted", func(c, s *Config) { c.Keys = []*PrivateKey{other} }, hello + signed, reply + " records"},
	}
}

// What real handshakes show to an onlooker, and no more.
func TestDissect(t *testing.T) {
	for _, test := range dissectTests() {
		t.Run(test.name, func(t *testing.T) {
			c, s := configs()
			test.change(c, s)
			fromClient, fromServer := recordedBy(t, c, s)
			told(t, fromClient, true, test.client)
			told(t, fromServer, false, test.server)
		})
	}
}

// told checks what a whole direction says, and that its parts lie side by side in all of it.
func told(t *testing.T, wire []byte, client bool, want string) {
	t.Helper()
	all, at, err := parts(bytes.NewReader(wire))
	if over := handshakeOver(all) >= 0; over != (err == nil) || !over && !(errors.Is(err, ErrTruncated) && at.Size == 0) {
		t.Fatalf("%+v, %v", at, err)
	}
	if got := story(all); got != want {
		t.Errorf("from the client %v: %s\nwant %s", client, got, want)
	}
	offset := int64(0)
	for _, p := range all {
		if p.Offset != offset || p.FromClient != client || (p.Kind == "record") != (p.Version == 0) {
			t.Errorf("at %d: %+v", offset, p)
		}
		if p.Kind == "record" && (p.Fields[0].Value != p.Size-2 || p.Fields[1].Value != p.Size-2-1-16) {
			t.Errorf("%+v", p)
		}
		offset += int64(p.Size)
	}
	if offset != int64(len(wire)) {
		t.Errorf("%d of %d bytes told", offset, len(wire))
	}
	cutAnywhere(t, wire, all)
}

// cutAnywhere ends a direction at every byte of its first 8 KiB: all that is whole is told before the error, which is none only
// where it may end.
func cutAnywhere(t *testing.T, wire []byte, whole []Part) {
	t.Helper()
	over := handshakeOver(whole)
	for n := range min(len(wire), 8<<10) {
		got, at, err := parts(bytes.NewReader(wire[:n]))
		within := whole[len(got)]
		if n < int(within.Offset) || n >= int(within.Offset)+within.Size {
			t.Fatalf("cut at %d: %d parts", n, len(got))
		}
		if over >= 0 && len(got) > over && n == int(within.Offset) {
			if err != nil {
				t.Fatalf("cut at %d, between records: %v", n, err)
			}
			continue
		}
		known := at.Kind == "" || at.Kind == within.Kind
		if !errors.Is(err, ErrTruncated) || at.Offset != within.Offset || at.Size != n-int(within.Offset) || !known {
			t.Fatalf("cut at %d: %+v, %v", n, at, err)
		}
	}
}

// handshakeOver finds the part behind which a direction may end, -1 if there is none.
func handshakeOver(all []Part) int {
	return slices.IndexFunc(all, func(p Part) bool {
		return p.Kind == "ServerHello" || p.Kind == "ClientFinished" || p.Kind == "Alert"
	})
}

// A ticket that is taken, and one that is refused.
func TestDissectTickets(t *testing.T) {
	hello := "{server_key " + serverKeyForTest().String() + "} {protocol test/1} "
	server, again := ticketed(t)
	fromClient, fromServer := recordedBy(t, again(), server)
	ticket := 16 + 12 + 1 + 8 + 3*32 + len(clientKeyForTest().pub.spki) + 16 // H15
	resume := fmt.Sprintf("ResumeHello[%s{ticket %d}] ", hello, ticket)
	told(t, fromClient, true, resume+"ClientFinished[{sealed 25}] records")
	told(t, fromServer, false, "ServerHello[{sealed 21}] records")

	server.TicketKeys = NewTicketKeys()
	fromClient, fromServer = recordedBy(t, again(), server)
	told(t, fromClient, true, resume+"ClientHello["+hello+"{ciphertext 256}] ClientFinished[{sealed 575}] records")
	told(t, fromServer, false, "TicketRefused[] ServerHello[{sealed 21}] records")
}

// A plain alert in the place of a server's first record answers a bad ClientFinished.
func TestDissectAlertBehindServerHello(t *testing.T) {
	hello := message(typeServerHello, make([]byte, serverHelloSize))
	alert := message(typeAlert, alertMessage{code: AlertHandshake}.append(nil))
	told(t, slices.Concat(hello, alert), false, "ServerHello[{sealed 21}] Alert[{code 4} {reason handshake failed}]")
	// A record that begins as an alert does is one all the same, unless it looks like a whole alert.
	record := append(appendHeader(nil, typeAlert, 2), make([]byte, 2+0x534d-messageHeader)...)
	told(t, slices.Concat(hello, record), false, "ServerHello[{sealed 21}] records")
	// Behind a record there is no alert.
	told(t, slices.Concat(hello, record, append(alert, make([]byte, 2+0x534d-len(alert))...)), false, "ServerHello[{sealed 21}] records")
	// Nothing follows an alert.
	all, _, err := parts(bytes.NewReader(slices.Concat(alert, hello)))
	if len(all) != 1 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

// What is no direction of sealmux, and where that is found.
func TestDissectErrors(t *testing.T) {
	hello := message(typeClientHello, (&clientHello{protocol: []byte("p"), secret: []byte("w")}).append(nil))
	finished := message(typeClientFinished, make([]byte, 25))
	resume := bytes.Clone(hello)
	resume[5] = typeResumeHello
	request := message(typeKeyRequest, appendKeyRequest(nil, nil))
	offer := message(typeKeyOffer, serverKeyForTest().pub.spki)
	reply := message(typeServerHello, make([]byte, serverHelloSize))
	refused := message(typeTicketRefused, nil)
	newer := bytes.Clone(hello)
	newer[4] = 9
	alert := message(typeAlert, []byte{byte(AlertHandshake)})
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		wire  [][]byte
		parts int // before it
		kind  string
		err   error
	}{
		"nothing":                       {nil, 0, "", ErrTruncated},
		"one byte of another protocol":  {[][]byte{[]byte("G")}, 0, "", ErrNotSealmux},
		"another protocol":              {[][]byte{[]byte("SSH-2.0-OpenSSH_9.9\r\n")}, 0, "", ErrNotSealmux},
		"another version":               {[][]byte{newer}, 0, "", ErrVersion},
		"another version, cut":          {[][]byte{newer[:5]}, 0, "", ErrVersion},
		"another version, later":        {[][]byte{request, newer}, 1, "", ErrVersion},
		"no message behind the first":   {[][]byte{hello, []byte("GET / HTTP/1.1\r\n\r\n")}, 1, "", ErrHandshake},
		"type 0":                        {[][]byte{message(0, nil)}, 0, "", ErrHandshake},
		"type 9":                        {[][]byte{message(9, nil)}, 0, "", ErrHandshake},
		"too long":                      {[][]byte{message(typeClientHello, make([]byte, maxBody+1))[:messageHeader]}, 0, "ClientHello", ErrHandshake},
		"finished first":                {[][]byte{finished}, 0, "ClientFinished", ErrHandshake},
		"two hellos":                    {[][]byte{hello, hello}, 1, "ClientHello", ErrHandshake},
		"resumed behind a hello":        {[][]byte{hello, resume}, 1, "ResumeHello", ErrHandshake},
		"asked twice":                   {[][]byte{request, resume, request}, 2, "KeyRequest", ErrHandshake},
		"asked, then finished":          {[][]byte{request, finished}, 1, "ClientFinished", ErrHandshake},
		"both sides":                    {[][]byte{hello, reply}, 1, "ServerHello", ErrHandshake},
		"both sides, the server first":  {[][]byte{offer, hello}, 1, "ClientHello", ErrHandshake},
		"offered twice":                 {[][]byte{offer, refused, offer}, 2, "KeyOffer", ErrHandshake},
		"malformed ClientHello":         {[][]byte{message(typeClientHello, make([]byte, 40))}, 0, "ClientHello", ErrHandshake},
		"malformed ServerHello":         {[][]byte{message(typeServerHello, make([]byte, 40))}, 0, "ServerHello", ErrHandshake},
		"malformed ClientFinished":      {[][]byte{hello, message(typeClientFinished, make([]byte, tagSize-1))}, 1, "ClientFinished", ErrHandshake},
		"malformed KeyRequest":          {[][]byte{message(typeKeyRequest, []byte{1})}, 0, "KeyRequest", ErrHandshake},
		"malformed KeyOffer":            {[][]byte{message(typeKeyOffer, []byte("key"))}, 0, "KeyOffer", ErrHandshake},
		"malformed Alert":               {[][]byte{message(typeAlert, nil)}, 0, "Alert", ErrHandshake},
		"malformed TicketRefused":       {[][]byte{message(typeTicketRefused, []byte{0})}, 0, "TicketRefused", ErrHandshake},
		"a record too short":            {[][]byte{hello, finished, {0, minSealed - 1}}, 2, "record", ErrRecord},
		"a record too long":             {[][]byte{hello, finished, {0x81, 0x12}}, 2, "record", ErrRecord},
		"a record too short, the first": {[][]byte{reply, make([]byte, 30)}, 1, "record", ErrRecord},
		"an alert where records are":    {[][]byte{hello, finished, alert}, 2, "record", ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			wire := bytes.Join(test.wire, nil)
			all, at, err := parts(bytes.NewReader(wire))
			if len(all) != test.parts || at.Kind != test.kind || !errors.Is(err, test.err) {
				t.Errorf("%d parts, then %+v, %v", len(all), at, err)
			}
			if client := strings.Contains("ClientHello ResumeHello KeyRequest ClientFinished", at.Kind); test.parts == 0 && at.Kind != "" && at.FromClient != client {
				t.Errorf("%s from the client: %v", at.Kind, at.FromClient)
			}
			if errors.Is(err, ErrVersion) && at.Version != 9 {
				t.Errorf("version %d", at.Version)
			}
			_, _, err = parts(io.MultiReader(bytes.NewReader(wire[:len(wire)/2]), iotest.ErrReader(broken)))
			if wrong := errors.Is(err, ErrTruncated); wrong {
				t.Errorf("of a reader that failed: %v", err)
			}
		})
	}
}

// It stops when it is told to, reads no byte beyond a part by itself, and holds no more than it promises.
func TestDissectReading(t *testing.T) {
	hello := message(typeClientHello, (&clientHello{protocol: []byte("p"), secret: []byte("w")}).append(nil))
	wire := slices.Concat(hello, message(typeClientFinished, make([]byte, 25)))
	in := bufio.NewReader(bytes.NewReader(wire))
	for part := range Dissect(in) {
		if part.Kind != "ClientHello" || in.Buffered() != len(wire)-len(hello) {
			t.Errorf("%+v, then %d bytes", part, in.Buffered())
		}
		break
	}
	records := &repeated{unit: append([]byte{maxSealed >> 8, maxSealed & 0xff}, make([]byte, maxSealed)...), left: 1000}
	count := 0
	allocated := testing.AllocsPerRun(1, func() {
		records.left = 1000
		for part, err := range Dissect(io.MultiReader(bytes.NewReader(wire), records)) {
			if err != nil || count == 2 && part.Size != maxSealed+2 {
				t.Fatal(part, err)
			}
			count++
		}
	})
	if count != 2*(2+1000) || allocated > 10_000 {
		t.Errorf("%d parts, %v allocations", count, allocated)
	}
}

// repeated reads as so many copies of a unit.
type repeated struct {
	unit     []byte
	at, left int
}

func (r *repeated) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.unit[r.at:])
	if r.at += n; r.at == len(r.unit) {
		r.at, r.left = 0, r.left-1
	}
	return n, nil
}
