package inspect

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Captures for the tests, made of the bytes of a real session.

// A segment is a TCP segment to be captured.
type segment struct {
	server                      bool // sent by the server
	seq                         uint32
	data                        []byte
	syn, ack, fin, rst, shorten bool
	port                        uint16 // of the client, 40000 if 0
}

// Where the sequence numbers of either side begin: the server's wrap around.
const (
	clientSeq = 1000
	serverSeq = 1<<32 - 600
)

// session are the segments of a connection in good order, of so many bytes each.
func session(t testing.TB, size int) []segment {
	t.Helper()
	fromClient, fromServer := recordedBytes(t, "client.bin"), recordedBytes(t, "server.bin")
	all := []segment{{seq: clientSeq, syn: true}, {server: true, seq: serverSeq, syn: true, ack: true}, {seq: clientSeq + 1, ack: true}}
	all = append(all, pieces(false, clientSeq+1, fromClient[:1528], size)...)
	all = append(all, pieces(true, add(serverSeq, 1), fromServer[:1149], size)...)
	all = append(all, pieces(false, clientSeq+1+1528, fromClient[1528:], size)...)
	all = append(all, pieces(true, add(serverSeq, 1+1149), fromServer[1149:], size)...)
	return append(all, segment{seq: clientSeq + 1 + uint32(len(fromClient)), fin: true, ack: true},
		segment{server: true, seq: add(serverSeq, 1+len(fromServer)), fin: true, ack: true})
}

func add(seq uint32, n int) uint32 { return seq + uint32(n) }

func pieces(server bool, seq uint32, data []byte, size int) (all []segment) {
	for len(data) > 0 {
		n := min(size, len(data))
		all = append(all, segment{server: server, seq: seq, data: data[:n], ack: true})
		seq, data = add(seq, n), data[n:]
	}
	return all
}

func recordedBytes(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/captures/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// packet is a segment with what is around it on such a link.
func (s segment) packet(t testing.TB, link layers.LinkType, v6 bool) []byte {
	t.Helper()
	client, server := net.IP{192, 0, 2, 1}, net.IP{192, 0, 2, 2}
	if v6 {
		client, server = net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
	}
	port := s.port
	if port == 0 {
		port = 40000
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(port), DstPort: 7443, Seq: s.seq, SYN: s.syn, ACK: s.ack, FIN: s.fin, RST: s.rst, Window: 1000}
	if s.server {
		client, server = server, client
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
	}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: client, DstIP: server}
	kind := layers.EthernetTypeIPv4
	if v6 {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: client, DstIP: server}
		kind = layers.EthernetTypeIPv6
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload(s.data))
	if err != nil {
		t.Fatal(err)
	}
	packet := append(linkHeader(t, link, kind), b.Bytes()...)
	const shortest = 60 // of Ethernet, which pads
	if pad := shortest - len(packet); link == layers.LinkTypeEthernet && pad > 0 {
		packet = append(packet, make([]byte, pad)...)
	}
	return packet
}

func linkHeader(t testing.TB, link layers.LinkType, kind layers.EthernetType) []byte {
	head := make([]byte, 12, 20)
	switch link {
	case layers.LinkTypeEthernet:
		return binary.BigEndian.AppendUint16(head, uint16(kind))
	case layers.LinkTypeLinuxSLL:
		return binary.BigEndian.AppendUint16(append(head, 0, 0), uint16(kind))
	case layers.LinkTypeLinuxSLL2:
		return append(binary.BigEndian.AppendUint16(nil, uint16(kind)), make([]byte, 18)...)
	case layers.LinkTypeNull:
		family := map[layers.EthernetType]uint32{layers.EthernetTypeIPv4: 2, layers.EthernetTypeIPv6: 30}
		return binary.LittleEndian.AppendUint32(nil, family[kind])
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6:
		return nil
	}
	t.Fatalf("link type %d", link)
	return nil
}

// taken writes packets, a millisecond apart.
func taken(t testing.TB, write func(gopacket.CaptureInfo, []byte) error, link layers.LinkType, v6 bool, all []segment) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, s := range all {
		packet := s.packet(t, link, v6)
		info := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(packet), Length: len(packet)}
		if s.shorten {
			info.CaptureLength -= len(s.data) / 2
		}
		if err := write(info, packet[:info.CaptureLength]); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Millisecond)
	}
}

// pcapOf is a capture of Ethernet and IPv4.
func pcapOf(t testing.TB, all []segment) []byte {
	return pcapOfLink(t, layers.LinkTypeEthernet, false, all)
}

func pcapOfLink(t testing.TB, link layers.LinkType, v6 bool, all []segment) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		t.Fatal(err)
	}
	taken(t, w.WritePacket, link, v6, all)
	return b.Bytes()
}

func pcapngOf(t testing.TB, link layers.LinkType, v6 bool, all []segment) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, link)
	if err != nil {
		t.Fatal(err)
	}
	taken(t, w.WritePacket, link, v6, all)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// inspected shows a file that is the standard input. It returns what is printed, and what is said of it: the notes, then the error.
func inspected(data io.Reader, o Options) (out, said string, failed bool) {
	var printed, told strings.Builder
	o.Stdin, o.Out, o.Note = data, &printed, func(text string) { told.WriteString(text + "\n") }
	err := Files(context.Background(), []string{"-"}, o)
	if err != nil {
		told.WriteString(err.Error() + "\n")
	}
	return printed.String(), told.String(), err != nil
}

// harmful reports whether a terminal obeys something in a text, beside the ends of its lines.
func harmful(text string) bool {
	return strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) })
}
