package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/gopacket/gopacket/reassembly"

	"github.com/sealmux/sealmux/internal/termtext"
)

// MaxConnections is how many TCP connections of a capture are followed at a time.
const MaxConnections = 10_000

// More bounds of what is held of a capture, which may be anybody's.
const (
	maxPacket    = 256 << 10 // bytes of one packet
	maxPagesSide = 512       // of 1,900 bytes, of one direction, that wait for what is missing before them
	maxPages     = 16 << 10  // of all directions: 32 MiB, and as much while the last of them are shown
	maxNamed     = 5         // connections named in a note
	// After so much time in the capture bytes that are missing are given up and, when no more connections can be followed,
	// connections that were silent so long.
	patience = 30 * time.Second
)

// A packetSource is a pcap or pcapng file.
type packetSource interface {
	ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	link(gopacket.CaptureInfo) layers.LinkType
}

type pcapSource struct{ *pcapgo.Reader }

func (s pcapSource) link(gopacket.CaptureInfo) layers.LinkType { return s.LinkType() }

type pcapngSource struct {
	*pcapgo.NgReader
	in *blocks
}

func (s pcapngSource) ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error) {
	s.in.budget = maxBetween
	return s.NgReader.ZeroCopyReadPacketData()
}

func (s pcapngSource) link(info gopacket.CaptureInfo) layers.LinkType {
	return info.AncillaryData[0].(layers.LinkType)
}

// isCapture knows the files of tcpdump and Wireshark by how they begin.
func isCapture(start []byte) (pcap, pcapng bool) {
	for _, magic := range []string{"\xa1\xb2\xc3\xd4", "\xd4\xc3\xb2\xa1", "\xa1\xb2\x3c\x4d", "\x4d\x3c\xb2\xa1"} {
		pcap = pcap || bytes.Equal(start, []byte(magic))
	}
	return pcap, bytes.Equal(start, []byte("\n\r\r\n"))
}

// openCapture returns nil if what begins so is no capture.
func openCapture(start []byte, in io.Reader) (packetSource, error) {
	pcap, pcapng := isCapture(start)
	switch {
	case pcap:
		r, err := pcapgo.NewReader(in)
		if err != nil {
			return nil, err
		}
		r.SetSnaplen(min(r.Snaplen(), maxPacket))
		return pcapSource{r}, nil
	case pcapng:
		useful := newBlocks(in)
		r, err := pcapgo.NewNgReader(useful, pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			return nil, err
		}
		return pcapngSource{r, useful}, nil
	}
	return nil, nil
}

var errCut = errors.New("it ends in the middle of a packet")

// cutShort says in words that a file ended too early.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// A capture is what is known of one while it is read.
type capture struct {
	show      *shower
	port      int
	assembler *reassembly.Assembler
	live      map[*connection]bool
	closed    map[flows]bool // lately: what comes late is no new connection
	order     int            // how many connections were seen
	now       time.Time      // of the packet
	ticked    time.Time
	resting   int  // no tick before so many packets
	last      bool // everything was read
	links     map[layers.LinkType]bool

	tcp, shortened       int // packets
	others, midway, over noted
}

// noted are connections that are not shown, and the names of the first of them.
type noted struct {
	count int64
	names []string
}

func (n *noted) add(name string) {
	n.count++
	if len(n.names) < maxNamed {
		n.names = append(n.names, name)
	}
}

func (n *noted) String() string {
	text := termtext.Plural(n.count, "connection")
	if len(n.names) > 0 {
		text += " (" + strings.Join(n.names, ", ")
		if int64(len(n.names)) < n.count {
			text += ", …"
		}
		text += ")"
	}
	return text
}

// capture shows the connections of one.
func (i *inspector) capture(ctx context.Context, name string, source packetSource) error {
	c := newCapture(i.show, i.port)
	before := i.show.count
	err := c.read(ctx, source)
	c.finish()
	c.tell(i.note, name)
	switch {
	case i.show.err != nil:
		return i.show.err
	case ctx.Err() != nil && i.show.count > before:
		return nil // it may have been cut anywhere
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil && i.show.count == before:
		return fmt.Errorf("the capture %s is damaged: %w, and no connection of sealmux was found before that; capture anew", name, cutShort(err))
	case err != nil:
		return fmt.Errorf("the capture %s is damaged: %w; what came before that is shown", name, cutShort(err))
	case i.show.count == before && c.tcp == 0 && len(c.links) > 0:
		return fmt.Errorf("the capture %s is of a kind of link that is not understood; capture on another interface, or with -i any", name)
	case i.show.count == before:
		return fmt.Errorf("the capture %s has no connection that begins with a message of sealmux; "+
			"begin to capture before the client connects, and check the port", name)
	}
	return nil
}

func newCapture(show *shower, port int) *capture {
	c := &capture{show: show, port: port, live: make(map[*connection]bool), closed: make(map[flows]bool), links: make(map[layers.LinkType]bool)}
	c.assembler = reassembly.NewAssembler(reassembly.NewStreamPool(c))
	c.assembler.MaxBufferedPagesPerConnection = maxPagesSide
	c.assembler.MaxBufferedPagesTotal = maxPages
	return c
}

// read goes through all packets.
func (c *capture) read(ctx context.Context, source packetSource) error {
	for ctx.Err() == nil && c.show.err == nil {
		data, info, err := source.ZeroCopyReadPacketData()
		switch {
		case err == io.EOF && info.CaptureLength == 0:
			return nil
		case err != nil:
			return err
		}
		c.packet(data, info, source.link(info))
	}
	return nil
}

// decoder returns what understands the packets of a kind of link, nil if nothing does.
func decoder(link layers.LinkType) gopacket.Decoder {
	switch link {
	case layers.LinkTypeNull, layers.LinkTypeLoop, layers.LinkTypeEthernet, layers.LinkTypeLinuxSLL, layers.LinkTypeLinuxSLL2:
		return link
	case layers.LinkTypeRaw, 12, 14: // the two are what some systems call it
		return layers.LinkTypeRaw
	case layers.LinkTypeIPv4:
		return layers.LayerTypeIPv4
	case layers.LinkTypeIPv6:
		return layers.LayerTypeIPv6
	}
	return nil
}

func (c *capture) packet(data []byte, info gopacket.CaptureInfo, link layers.LinkType) {
	by := decoder(link)
	if by == nil {
		c.links[link] = true
		return
	}
	packet := gopacket.NewPacket(data, by, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok || packet.NetworkLayer() == nil {
		return
	}
	if c.port != 0 && int(tcp.SrcPort) != c.port && int(tcp.DstPort) != c.port {
		return
	}
	c.tcp++
	if info.CaptureLength < info.Length {
		c.shortened++
	}
	c.now = info.Timestamp
	c.tick()
	c.assembler.AssembleWithContext(network(packet).NetworkFlow(), tcp, &moment{info})
}

// network is the layer right below TCP: in a tunnel there are several.
func network(packet gopacket.Packet) gopacket.NetworkLayer {
	var below gopacket.NetworkLayer
	for _, layer := range packet.Layers() {
		if layer.LayerType() == layers.LayerTypeTCP {
			break
		}
		if n, ok := layer.(gopacket.NetworkLayer); ok {
			below = n
		}
	}
	return below
}

// tick gives up, from time to time, what has waited too long.
func (c *capture) tick() {
	if since := c.now.Sub(c.ticked); since >= 0 && since < patience/3 || c.tcp < c.resting {
		return
	}
	c.ticked, c.resting = c.now, c.tcp+len(c.live) // it goes through all of them, whatever times a capture claims
	options := reassembly.FlushOptions{T: c.now.Add(-patience)}
	if len(c.live) >= MaxConnections {
		options.TC = options.T
	}
	c.assembler.FlushWithOptions(options)
}

// moment tells the assembler when a packet was captured.
type moment struct{ info gopacket.CaptureInfo }

func (m *moment) GetCaptureInfo() gopacket.CaptureInfo { return m.info }

// tell says what is not shown.
func (c *capture) tell(note func(string), name string) {
	say := func(format string, args ...any) {
		note(quoted(name) + ": " + fmt.Sprintf(format, args...))
	}
	if c.others.count > 0 {
		say("%s not shown: no message of sealmux at the beginning", &c.others)
	}
	if c.midway.count > 0 {
		say("%s not shown: the beginning is not in the capture; begin to capture before the client connects", &c.midway)
	}
	if c.over.count > 0 {
		say("%s not shown: there were more than %s at a time; choose some with --port, or when you capture", &c.over, termtext.Count(MaxConnections))
	}
	if c.shortened > 0 {
		say("%s shortened when captured, so bytes are missing; capture whole packets with tcpdump -s 0", termtext.Plural(int64(c.shortened), "packet"))
	}
}
