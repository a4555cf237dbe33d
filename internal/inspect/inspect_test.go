package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// times are what differs between captures of one session, and the order of lines depends on.
var times = regexp.MustCompile(`(?m)^(\d+) +\d+\.\d{6} `)

// sides sorts lines without their times by direction.
func sides(out string) (connection string, bySide [2]string) {
	for text := range strings.Lines(times.ReplaceAllString(out, "$1 ")) {
		switch {
		case strings.HasPrefix(text, "1  ->"):
			bySide[0] += text
		case strings.HasPrefix(text, "1  <-"):
			bySide[1] += text
		default:
			connection += text
		}
	}
	return connection, bySide
}

const (
	clientSide = `1  ->        0  ClientHello     1528 bytes  version=1 server_key=SHA256:gSepKPRG9iB+6FRJ3dVaWYNtCQp+04kvvuyM9ept/Ho protocol=sealmux-rpc/1 ciphertext=256
1  ->     1528  ClientFinished    33 bytes  version=1 sealed=25
1  ->     1561  record            66 bytes  sealed=64 data=47
1  ->     1627  record            55 bytes  sealed=53 data=36
1  ->     1682  record            31 bytes  sealed=29 data=12
1  ->     1713  record            19 bytes  sealed=17 data=0
1  ->     1732  end: FIN, behind 4 records, 171 bytes
`
	serverSide = `1  <-        0  ServerHello     1149 bytes  version=1 sealed=21
1  <-     1149  record            82 bytes  sealed=80 data=63
1  <-     1231  record            72 bytes  sealed=70 data=53
1  <-     1303  record            19 bytes  sealed=17 data=0
1  <-     1322  end: FIN, behind 3 records, 173 bytes
`
	heading4 = "1  192.0.2.1:40000 -> 192.0.2.2:7443  2026-01-02T03:04:05Z\n"
	heading6 = "1  [2001:db8::1]:40000 -> [2001:db8::2]:7443  2026-01-02T03:04:05Z\n"
)

// wholeSession checks that everything of session is shown.
func wholeSession(t *testing.T, capture []byte, heading string) {
	t.Helper()
	out, said, failed := inspected(bytes.NewReader(capture), Options{})
	connection, bySide := sides(out)
	if connection != heading || bySide != [2]string{clientSide, serverSide} || said != "" || failed {
		t.Errorf("failed: %v, %s%s", failed, said, out)
	}
}

// Every kind of link, in both kinds of files, and zipped.
func TestLinks(t *testing.T) {
	for _, link := range []layers.LinkType{layers.LinkTypeEthernet, layers.LinkTypeLinuxSLL, layers.LinkTypeLinuxSLL2,
		layers.LinkTypeNull, layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6} {
		for _, v6 := range []bool{false, true} {
			if link == layers.LinkTypeIPv4 && v6 || link == layers.LinkTypeIPv6 && !v6 {
				continue
			}
			heading := heading4
			if v6 {
				heading = heading6
			}
			t.Run(fmt.Sprintf("%d v6 %v", link, v6), func(t *testing.T) {
				all := session(t, 1400)
				wholeSession(t, pcapOfLink(t, link, v6, all), heading)
				wholeSession(t, pcapngOf(t, link, v6, all), heading)
				wholeSession(t, gzipped(t, pcapOfLink(t, link, v6, all)), heading)
			})
		}
	}
	unknown := pcapOf(t, session(t, 1400))
	unknown[20] = byte(layers.LinkTypeFDDI)
	out, said, failed := inspected(bytes.NewReader(unknown), Options{})
	if want := "the capture - is of a kind of link that is not understood; capture on another interface, or with -i any\n"; out != "" || said != want || !failed {
		t.Errorf("failed: %v, %s%s", failed, said, out)
	}
}

// Segments that are small, come twice, overlap and come in another order make no difference.
func TestOrder(t *testing.T) {
	for _, size := range []int{1, 7, 100, 1400} {
		wholeSession(t, pcapOf(t, session(t, size)), heading4)
	}
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		all := session(t, 40+random.IntN(1000))
		opening, ends := slices.Clone(all[:3]), slices.Clone(all[len(all)-2:])
		middle := all[3 : len(all)-2]
		for range 5 { // again, and with more
			s := middle[random.IntN(len(middle))]
			if more := slices.IndexFunc(middle, func(o segment) bool { return o.server == s.server && o.seq == add(s.seq, len(s.data)) }); more >= 0 {
				s.data = slices.Concat(s.data, middle[more].data[:len(middle[more].data)/2])
			}
			middle = append(middle, s)
		}
		for i := range middle {
			j := min(i+random.IntN(8), len(middle)-1)
			middle[i], middle[j] = middle[j], middle[i]
		}
		if seed%2 == 0 { // an end before the data
			middle = slices.Insert(middle, random.IntN(len(middle)), ends[0])
			ends = ends[1:]
		}
		wholeSession(t, pcapOf(t, slices.Concat(opening, middle, ends)), heading4)
	}
}

// what is said of one session from which something is missing.
func TestMissing(t *testing.T) {
	const midway = "-: 1 connection (192.0.2.1:40000 -> 192.0.2.2:7443) not shown: the beginning is not in the capture; begin to capture before the client connects\n"
	const none = "the capture - has no connection that begins with a message of sealmux; begin to capture before the client connects, and check the port\n"
	without := func(all []segment, drop func(segment) bool) []segment { return slices.DeleteFunc(all, drop) }
	at := func(s segment) int { return int(s.seq - clientSeq - 1) } // offset of the client's
	finished := "1  ->     1528  ClientFinished    33 bytes  version=1 sealed=25\n"
	hello, _, _ := strings.Cut(clientSide, finished)
	for _, test := range []struct {
		name           string
		all            []segment
		client, server string // by direction; empty if nothing is shown
		said           string
		failed         bool
	}{
		{"within a record", without(session(t, 10), func(s segment) bool { return !s.server && at(s) > 1570 && at(s) < 1610 }),
			clientSide, serverSide, "", false},
		{"a record's header", without(session(t, 10), func(s segment) bool { return !s.server && at(s) <= 1627 && at(s) >= 1618 }),
			cut(clientSide, "1  ->     1627  record") + "1  ->     1627  end: FIN: bytes behind offset 1627 are not in the capture, and what follows cannot be read\n",
			serverSide, "", false},
		{"within the ClientHello", without(session(t, 100), func(s segment) bool { return !s.server && at(s) == 500 }),
			"1  ->      500  end: FIN: bytes behind offset 500 are not in the capture, and what follows cannot be read\n", serverSide, "", false},
		{"the beginning of the ClientHello", without(session(t, 1400), func(s segment) bool { return !s.server && at(s) == 0 && len(s.data) > 0 }),
			"1  ->        0  end: FIN: its beginning is not in the capture\n", serverSide, "", false},
		{"the client's packets", without(session(t, 1400), func(s segment) bool { return !s.server }),
			"1  ->        0  end: the capture ends\n", serverSide, "", false},
		{"the server's packets", without(session(t, 1400), func(s segment) bool { return s.server }),
			clientSide, "1  <-        0  end: the capture ends\n", "", false},
		{"the opening", session(t, 1400)[3:], "", "", midway + none, true},
		{"the client's opening", session(t, 1400)[1:], "1  ->        0  end: FIN: its beginning is not in the capture\n", serverSide, "", false},
		{"the server's opening", without(session(t, 1400), func(s segment) bool { return s.server && s.syn }),
			clientSide, "1  <-        0  end: FIN: its beginning is not in the capture\n", "", false},
		{"all but the end", session(t, 1400)[7:], "", "", strings.Replace(midway, "192.0.2.1:40000 -> 192.0.2.2:7443", "192.0.2.2:7443 -> 192.0.2.1:40000", 1) + none, true},
		{"the end", session(t, 1400)[:len(session(t, 1400))-2], strings.Replace(clientSide, "FIN", "the capture ends", 1),
			strings.Replace(serverSide, "FIN", "the capture ends", 1), "", false},
		{"the end of a record", append(slices.Clone(session(t, 1700)[:4]), pieces(false, clientSeq+1+1528, recordedBytes(t, "client.bin")[1528:1600], 100)...),
			hello + finished + "1  ->     1600  end: the capture ends: cut in the middle of a record at offset 1561, 39 bytes into it\n",
			"1  <-        0  end: the capture ends\n", "", false},
		{"the end of the handshake", session(t, 1700)[:4], hello + "1  ->     1528  end: the capture ends: the handshake was not over\n",
			"1  <-        0  end: the capture ends\n", "", false},
		{"everything", session(t, 1400)[:3], "", "", "-: 1 connection (192.0.2.1:40000 -> 192.0.2.2:7443) not shown: no message of sealmux at the beginning\n" + none, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, said, failed := inspected(bytes.NewReader(pcapOf(t, test.all)), Options{})
			connection, bySide := sides(out)
			if bySide != [2]string{test.client, test.server} || (connection == "") != (test.client == "") || said != test.said || failed != test.failed {
				t.Errorf("failed: %v, %s%s\nwant %s%s", failed, said, out, test.client, test.server)
			}
			if connection != "" && !strings.HasPrefix(connection, "1  192.0.2.1:40000 -> 192.0.2.2:7443  ") {
				t.Error(connection)
			}
		})
	}
}

// cut is what comes before.
func cut(text, before string) string {
	text, _, _ = strings.Cut(text, before)
	return text
}

func TestReset(t *testing.T) {
	all := session(t, 1400)
	all = append(all[:len(all)-2], segment{seq: clientSeq + 1 + 1732, rst: true})
	out, said, failed := inspected(bytes.NewReader(pcapOf(t, all)), Options{})
	_, bySide := sides(out)
	want := [2]string{strings.Replace(clientSide, "FIN", "RST", 1), strings.Replace(serverSide, "FIN", "the other side sent RST", 1)}
	if bySide != want || said != "" || failed {
		t.Errorf("failed: %v, %s%s", failed, said, out)
	}
}

// A RST that TCP would ignore is ignored, and what is captured behind a good one is not of the connection.
func TestResets(t *testing.T) {
	all := session(t, 1400)
	wholeSession(t, pcapOf(t, slices.Insert(slices.Clone(all), 5, segment{seq: 7, rst: true}, segment{server: true, seq: serverSeq - 9, rst: true})), heading4)
	for _, test := range []struct {
		at   int // in the session
		seq  uint32
		want string
	}{
		{7, clientSeq + 1 + 1732, cut(serverSide, "1  <-     1149") + "1  <-     1149  end: the other side sent RST\n"},
		{5, clientSeq + 1 + 1528, "1  <-        0  end: the other side sent RST\n"},
	} {
		out, said, failed := inspected(bytes.NewReader(pcapOf(t, slices.Insert(slices.Clone(all), test.at, segment{seq: test.seq, rst: true}))), Options{})
		if _, bySide := sides(out); bySide[1] != test.want || said != "" || failed {
			t.Errorf("failed: %v, %s%s", failed, said, out)
		}
	}
}

// An end that comes before anything of sealmux is shown behind it.
func TestEarlyEnd(t *testing.T) {
	all := session(t, 1700)
	for how, end := range map[string]segment{"FIN": {server: true, seq: add(serverSeq, 1), fin: true, ack: true}, "RST": {server: true, seq: add(serverSeq, 1), rst: true}} {
		out, said, failed := inspected(bytes.NewReader(pcapOf(t, slices.Concat(all[:2], []segment{end}, all[2:4]))), Options{})
		lines := strings.Split(times.ReplaceAllString(out, "$1 "), "\n")
		last := map[string]string{"FIN": "the capture ends", "RST": "the other side sent RST"}[how]
		want := strings.Split(heading4+"1  <-        0  end: "+how+"\n"+clientSide, "\n")[:3]
		want = append(want, "1  ->     1528  end: "+last+": the handshake was not over", "")
		if !slices.Equal(lines, want) || said != "" || failed {
			t.Errorf("failed: %v, %s%s\nwant %s", failed, said, out, strings.Join(want, "\n"))
		}
	}
}

// A port that is used again is another connection; what comes late for the first is none.
func TestAgain(t *testing.T) {
	all := session(t, 1400)
	out, said, failed := inspected(bytes.NewReader(pcapOf(t, slices.Concat(all, all, all[3:]))), Options{JSON: true})
	if got := strings.Count(out, `"kind":"connection"`); got != 2 || said != "" || failed {
		t.Errorf("%d connections, failed: %v, %s%s", got, failed, said, out)
	}
}

// Connections that are not sealmux are counted, and named; Port chooses.
func TestOthers(t *testing.T) {
	var all []segment
	for port := uint16(1); port <= 7; port++ {
		all = append(all, segment{port: port, seq: 5, syn: true}, segment{port: port, seq: 6, ack: true, data: []byte("GET / HTTP/1.1\r\n\r\n")})
	}
	all = append(all, session(t, 1400)...)
	out, said, failed := inspected(bytes.NewReader(pcapOf(t, all)), Options{})
	_, bySide := sides(out)
	want := "-: 7 connections (192.0.2.1:1 -> 192.0.2.2:7443, 192.0.2.1:2 -> 192.0.2.2:7443, 192.0.2.1:3 -> 192.0.2.2:7443, " +
		"192.0.2.1:4 -> 192.0.2.2:7443, 192.0.2.1:5 -> 192.0.2.2:7443, …) not shown: no message of sealmux at the beginning\n"
	if bySide != [2]string{clientSide, serverSide} || said != want || failed {
		t.Errorf("failed: %v, %s%s", failed, said, out)
	}
	_, said, failed = inspected(bytes.NewReader(pcapOf(t, all)), Options{Port: 40000})
	if said != "" || failed {
		t.Errorf("failed: %v, %s", failed, said)
	}
	// A server that is none is said to be none.
	all = session(t, 1400)[:5]
	all = append(all, segment{server: true, seq: add(serverSeq, 1), ack: true, fin: true, data: []byte("HTTP/1.1 400 Bad Request\r\n\r\n")})
	out, _, _ = inspected(bytes.NewReader(pcapOf(t, all)), Options{})
	if !strings.Contains(out, "end: FIN: this side does not speak sealmux\n") {
		t.Error(out)
	}
}

// What is held of a capture is bounded, and it is said when that is felt.
func TestBounds(t *testing.T) {
	hello := recordedBytes(t, "client.bin")[:1528]
	var all []segment
	for port := range uint16(MaxConnections + 3) {
		all = append(all, segment{port: port + 1, seq: 5, syn: true})
		if port < 100 {
			all = append(all, segment{port: port + 1, seq: 6, ack: true, data: hello})
		}
	}
	out, said, failed := inspected(bytes.NewReader(pcapOf(t, all)), Options{JSON: true})
	if failed || strings.Count(out, `"kind":"connection"`) != 100 || strings.Count(out, `"kind":"end","end":"open"`) != 200 ||
		!strings.Contains(said, "-: 3 connections (192.0.2.1:10001 -> 192.0.2.2:7443, 192.0.2.1:10002 -> 192.0.2.2:7443, 192.0.2.1:10003 -> 192.0.2.2:7443) "+
			"not shown: there were more than 10,000 at a time; choose some with --port, or when you capture\n") {
		t.Errorf("failed: %v, %s%.2000s", failed, said, out)
	}
	for range 40_000 { // as many milliseconds: the first are silent so long that others take their places
		all = append(all, segment{port: MaxConnections, seq: 6, ack: true})
	}
	all = append(all, segment{port: 20_000, seq: 5, syn: true}, segment{port: 20_000, seq: 6, ack: true, data: hello})
	out, _, _ = inspected(bytes.NewReader(pcapOf(t, all)), Options{JSON: true})
	if strings.Count(out, `"kind":"connection"`) != 101 || strings.Count(out, `"kind":"end","end":"dropped"`) != 200 {
		t.Errorf("%.2000s", out)
	}
}

// What waits behind missing bytes is bounded, for a direction and for all: then they are given up.
func TestWaiting(t *testing.T) {
	rest := bytes.Repeat(append([]byte{0x7f, 0xff}, make([]byte, 0x7fff)...), 31) // about 1 MB
	waiting := func(ports uint16) (all []segment) {
		for port := range ports {
			of := append(session(t, 1700)[:4], pieces(false, clientSeq+1+1528, recordedBytes(t, "client.bin")[1528:1570], 100)...)
			of = append(of, pieces(false, clientSeq+1+1627, rest[:900_000], 1800)...)
			for i := range of {
				of[i].port = port + 1
			}
			all = append(all, of...)
		}
		return all
	}
	for _, test := range []struct {
		capture []segment
		most    int
	}{
		{append(waiting(1), pieces(false, clientSeq+1+1627+900_000, rest[900_000:], 1800)...), maxPagesSide},
		{waiting(40), maxPages},
	} {
		if len(test.capture) < 1000 {
			for i := range test.capture {
				test.capture[i].port = 1
			}
		}
		var out bytes.Buffer
		c := newCapture(&shower{out: &out}, 0)
		capture := pcapOf(t, test.capture)
		source, err := openCapture(capture[:4], bytes.NewReader(capture))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.read(t.Context(), source); err != nil {
			t.Fatal(err)
		}
		var used int
		if _, err := fmt.Sscanf(c.assembler.Dump(), "pageCache: used: %d:", &used); err != nil || used > test.most {
			t.Errorf("%d pages, want at most %d: %v", used, test.most, err)
		}
		if !strings.Contains(out.String(), "->     1627  record         32769 bytes") {
			t.Errorf("nothing behind the missing bytes: %.2000s", out.String())
		}
		c.finish()
	}
	// What waits is shown at the end of the capture, at the latest.
	out, _, _ := inspected(bytes.NewReader(pcapOf(t, waiting(1))), Options{})
	if want := "cut in the middle of a record at offset 886390, 15,237 bytes into it\n"; !strings.Contains(out, want) || !strings.Contains(out, "->   296548  … 18 records, 589.8 kB\n") {
		t.Errorf("%.3000s", out)
	}
}

// Packets that were shortened are missed bytes, and what to do is said.
func TestShortened(t *testing.T) {
	all := session(t, 1400)
	for i := range all {
		all[i].shorten = len(all[i].data) > 1000
	}
	out, said, failed := inspected(bytes.NewReader(pcapOf(t, all)), Options{})
	if !strings.Contains(out, "->      700  end: FIN: bytes behind offset 700 are not in the capture") || failed ||
		said != "-: 2 packets shortened when captured, so bytes are missing; capture whole packets with tcpdump -s 0\n" {
		t.Errorf("failed: %v, %s%s", failed, said, out)
	}
}

// What a peer chose never reaches the terminal as it is.
func TestControls(t *testing.T) {
	wire := recordedBytes(t, "client.bin")
	protocol := bytes.Index(wire, []byte("sealmux-rpc/1"))
	copy(wire[protocol:], "\x1b[2J\r\n\u009b\u202e\xff\x7f")
	for _, o := range []Options{{}, {JSON: true}} {
		out, said, failed := inspected(bytes.NewReader(wire), o)
		if harmful(out) || said != "" || failed {
			t.Errorf("failed: %v, %s%q", failed, said, out)
		}
		if !o.JSON {
			if want := `protocol="\x1b[2J\r\n\u009b\u202e\xff\x7f"`; !strings.Contains(out, want) {
				t.Errorf("%q lacks %s", out, want)
			}
			continue
		}
		for text := range strings.Lines(out) {
			var l struct{ Fields struct{ Protocol string } }
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatal(err)
			}
			if p := l.Fields.Protocol; p != "" && p != "\x1b[2J\r\n\u009b\u202e\ufffd\u007f" {
				t.Errorf("%q", p)
			}
		}
	}
}

// A capture that is cut anywhere is shown as far as it goes, and that it is cut is said unless it is between two packets.
func TestCut(t *testing.T) {
	const dense = 500 // so far it is cut at every byte
	for name, whole := range map[string][]byte{"pcap": pcapOf(t, session(t, 1400)), "pcapng": pcapngOf(t, layers.LinkTypeEthernet, false, session(t, 1400))} {
		before, _, _ := inspected(bytes.NewReader(whole), Options{})
		between := 0
		for n := 0; n < len(whole); n++ {
			if n > dense {
				n += 10
			}
			out, said, failed := inspected(bytes.NewReader(whole[:n]), Options{All: true})
			damaged := strings.Contains(said, "the capture - is damaged: it ends in the middle of a packet")
			if n >= 4 && n < dense && !damaged {
				between++
			}
			none := n < 4 || strings.Contains(said, "has no connection")
			if (damaged || none) != failed {
				t.Fatalf("%s cut at %d: failed: %v, %s", name, n, failed, said)
			}
			lines := strings.Split(out, "\n")
			if len(lines) > 4 && !strings.HasPrefix(before, strings.Join(lines[:2], "\n")) {
				t.Fatalf("%s cut at %d: %s\nwhole: %s", name, n, out, before)
			}
		}
		if between < 3 || between > 6 { // behind the packets of the opening, and before the first
			t.Errorf("%s: not damaged at %d places", name, between)
		}
	}
}

// Packets are shown as they come, and an interrupt while there are none ends it in good order.
func TestInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	in, packets := io.Pipe()
	shown := &waitedFor{whenFull: strings.Count(heading4+clientSide+serverSide, "\n") - 2, full: make(chan struct{})}
	o := Options{Stdin: in, Out: shown, Note: func(text string) { t.Error(text) }}
	done := make(chan error, 1)
	go func() { done <- Files(ctx, []string{"-"}, o) }()
	all := session(t, 1700)
	capture := pcapOf(t, all[:len(all)-2])
	if _, err := packets.Write(capture[:len(capture)-10]); err != nil {
		t.Fatal(err)
	}
	if _, err := packets.Write(capture[len(capture)-10:]); err != nil {
		t.Fatal(err)
	}
	<-shown.full
	if _, err := packets.Write(capture[24:50]); err != nil { // a part of a packet
		t.Fatal(err)
	}
	interrupt()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := strings.Count(shown.text.String(), " end: the capture ends, behind "); got != 2 {
		t.Error(shown.text.String())
	}
	packets.Close()
}

// A waitedFor tells when so many lines were written, each in one piece.
type waitedFor struct {
	text     strings.Builder
	whenFull int
	full     chan struct{}
}

func (w *waitedFor) Write(b []byte) (int, error) {
	if w.whenFull--; w.whenFull == 0 {
		close(w.full)
	}
	return w.text.Write(b)
}
