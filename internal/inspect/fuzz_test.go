package inspect

import (
	"bytes"
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// Whatever a file holds, Files ends, has nothing reach the terminal that it obeys, prints JSON that can be read, in which a
// connection has a number, and each of its directions one end, and leaves no coroutine behind.
// fuzz: 5000x
func FuzzInspect(f *testing.F) {
	f.Add(recordedBytes(f, "client.bin"))
	f.Add(recordedBytes(f, "server.bin"))
	f.Add(recordedBytes(f, "any.pcap"))
	f.Add(pcapOf(f, session(f, 700)))
	f.Add(pcapOfLink(f, layers.LinkTypeNull, true, slices.Concat(session(f, 1400)[:7], []segment{{seq: clientSeq + 1 + 1732, rst: true}})))
	f.Add(pcapngOf(f, layers.LinkTypeLinuxSLL2, false, session(f, 1400)))
	lost := session(f, 300)
	f.Add(pcapOf(f, slices.Delete(lost, 5, 6)))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := runtime.NumGoroutine()
		text, said, failed := inspected(bytes.NewReader(data), Options{})
		for limit := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() { // some are about to end
			if time.Now().After(limit) {
				t.Fatalf("%d goroutines, then %d", before, runtime.NumGoroutine())
			}
		}
		objects, again, failedAgain := inspected(bytes.NewReader(data), Options{JSON: true})
		for _, printed := range []string{text, said, objects} {
			if harmful(printed) {
				t.Fatalf("%q", printed)
			}
		}
		if said != again || failed != failedAgain {
			t.Fatalf("failed: %v, %s, then %v, %s", failed, said, failedAgain, again)
		}
		type direction struct {
			connection int
			from       string
		}
		connections, ends := 0, make(map[direction]int)
		for printed := range strings.Lines(objects) {
			var l struct {
				Connection       int
				From, Kind, File string
			}
			if err := json.Unmarshal([]byte(printed), &l); err != nil {
				t.Fatalf("%v in %s", err, printed)
			}
			switch l.Kind {
			case "connection":
				connections++
				ends[direction{l.Connection, "client"}]++
				ends[direction{l.Connection, "server"}]++
			case "file":
				connections++
			case "end":
				ends[direction{l.Connection, l.From}]--
			}
			if l.Connection < 1 || l.Connection > connections {
				t.Fatalf("%d connections, then %s", connections, printed)
			}
		}
		for side, open := range ends {
			if file := strings.Contains(objects, `"kind":"file"`); open != 0 && !file {
				t.Fatalf("%+v has %d ends too few", side, open)
			}
		}
	})
}

// However the segments of a session come, what is shown of it is true. Four bytes are a segment: direction and flags, offset,
// length.
// fuzz: 10000x
func FuzzSegments(f *testing.F) {
	wire := [2][]byte{recordedBytes(f, "client.bin"), recordedBytes(f, "server.bin")}
	first := [2]uint32{clientSeq + 1, serverSeq + 1}
	const fromServer, syn, fin, rst = 1, 2, 4, 8
	f.Add([]byte{syn, 0, 0, 0, fromServer | syn, 0, 0, 0, 0, 0, 0, 255, 0, 4, 0, 255, 0, 6, 0, 255, fromServer, 0, 0, 255, fromServer, 2, 0, 255, fin, 6, 196, 0})
	f.Add([]byte{syn, 0, 0, 0, 0, 4, 0, 100, 0, 0, 0, 255, 0, 2, 0, 255, 0, 6, 30, 200, fromServer | syn, 0, 0, 0, rst, 6, 196, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		var all []segment
		for step := range slices.Chunk(program[:min(len(program), 4*200)], 4) {
			if len(step) < 4 {
				break
			}
			from := int(step[0] & fromServer)
			s := segment{server: from == 1, seq: first[from], ack: true, syn: step[0]&syn != 0, fin: step[0]&fin != 0, rst: step[0]&rst != 0}
			if s.syn {
				s.seq, s.ack = s.seq-1, s.server
			} else {
				offset := min(int(step[1])<<8|int(step[2]), len(wire[from]))
				s.seq = add(s.seq, offset)
				s.data = wire[from][offset:min(offset+4*int(step[3]), len(wire[from]))]
			}
			all = append(all, s)
		}
		out, said, _ := inspected(bytes.NewReader(pcapOf(t, all)), Options{All: true})
		connection, bySide := sides(out)
		if strings.Count(connection, "\n") > 1 {
			return // a SYN after an end began another
		}
		for i, truth := range []string{clientSide, serverSide} {
			for shown := range strings.Lines(bySide[i]) {
				if !strings.Contains(truth, shown) && !strings.Contains(shown, "  end: ") {
					t.Fatalf("%s%s", said, out)
				}
			}
		}
	})
}
