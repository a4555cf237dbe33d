package inspect

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"iter"
	"net"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/reassembly"

	"github.com/sealmux/sealmux/transport"
)

// TCP connections of a capture. The assembler brings the segments into order and calls connection's methods, all in the goroutine
// that reads the capture; a Dissect of each direction runs as a coroutine that stands still until the next segment is there.

// flows are the addresses and ports of a connection, from the side that was seen first.
type flows struct{ net, ports gopacket.Flow }

func (f flows) reverse() flows { return flows{f.net.Reverse(), f.ports.Reverse()} }

// A connection is one, as the assembler knows it.
type connection struct {
	capture *capture
	flows   flows
	order   int
	start   time.Time
	began   bool // a SYN was seen
	midway  bool // there were bytes before one
	flipped bool // the side that was seen first is the server
	number  int  // as it is shown, 0 if it is not
	sides   [2]side
	late    []chunk // what the assembler had still to give when everything was read
}

// A side is one direction.
type side struct {
	shownSide
	feed  feed
	next  func() (transport.Part, error, bool)
	stop  func()
	rst   bool
	lost  bool // its beginning was not captured
	over  bool // dissected as far as can be
	ended bool
	early *early // its end, if it came before the connection was shown
}

type early struct {
	how  string
	when time.Time
}

// A chunk is what the assembler gave of a direction.
type chunk struct {
	from int
	gap  int // bytes that are missing before it
	data []byte
	end  bool
	when time.Time
}

// New makes a connection of the packet that is the first of it; nil ignores the packet.
func (c *capture) New(net, ports gopacket.Flow, tcp *layers.TCP, ac reassembly.AssemblerContext) reassembly.Stream {
	f := flows{net, ports}
	if !tcp.SYN && (len(tcp.Payload) == 0 || c.closed[f] || c.closed[f.reverse()]) {
		return nil // the rest of one that is over, or of which nothing can be said
	}
	n := &connection{capture: c, flows: f, order: c.order, start: ac.GetCaptureInfo().Timestamp}
	if len(c.live) >= MaxConnections {
		if tcp.SYN && !tcp.ACK {
			c.over.add(n.name())
		}
		return nil
	}
	c.order++
	c.live[n] = true
	return n
}

// Accept looks at a packet before it is brought into order, and says whether it should be.
func (n *connection) Accept(tcp *layers.TCP, _ gopacket.CaptureInfo, dir reassembly.TCPFlowDirection, next reassembly.Sequence,
	_ *bool, _ reassembly.AssemblerContext) bool {
	s := &n.sides[index(dir)]
	s.rst = s.rst || tcp.RST && next == reassembly.Sequence(tcp.Seq) // others are ignored, as TCP ignores them
	if tcp.SYN {
		n.began = true
		if n.number == 0 {
			n.flipped = tcp.ACK == (index(dir) == 0)
		}
		return true
	}
	const none = reassembly.Sequence(-1)
	if next == none && !n.began { // where it stands in its direction nobody can say
		n.midway = n.midway || len(tcp.Payload) > 0
		return false
	}
	return true // if this direction's SYN is still to come, the assembler waits for it
}

func index(dir reassembly.TCPFlowDirection) int {
	if dir == reassembly.TCPDirServerToClient {
		return 1
	}
	return 0
}

// ReassembledSG takes bytes in order.
func (n *connection) ReassembledSG(sg reassembly.ScatterGather, ac reassembly.AssemblerContext) {
	dir, _, end, skip := sg.Info()
	size, _ := sg.Lengths()
	when := ac.GetCaptureInfo().Timestamp
	if last := sg.CaptureInfo(size - 1).Timestamp; last.After(when) { // what waited behind missing bytes
		when = last
	}
	part := chunk{index(dir), skip, sg.Fetch(size), end, when}
	if n.capture.last {
		part.data = bytes.Clone(part.data) // the pages are used again
		n.late = append(n.late, part)
		return
	}
	n.take(part)
}

func (n *connection) take(part chunk) {
	s, other := &n.sides[part.from], &n.sides[1-part.from]
	if s.ended {
		return
	}
	if part.gap < 0 {
		s.lost = true
	}
	if !s.lost && !s.over {
		s.feed.gap += part.gap
		s.feed.data = part.data
		n.run(s, part.when)
		s.feed.data = nil
	}
	switch {
	case part.end && s.rst:
		n.end(s, "rst", part.when)
		if n.number != 0 { // else the other may have begun, and is yet to be seen
			n.end(other, "reset", part.when)
		}
	case part.end:
		n.end(s, "fin", part.when)
	}
}

// run lets a side's Dissect go on as far as there are bytes.
func (n *connection) run(s *side, when time.Time) {
	if len(s.feed.data) == 0 && (!s.feed.ended || s.next == nil) {
		return
	}
	if s.next == nil {
		s.next, s.stop = iter.Pull2(s.feed.parts)
	}
	for !s.over {
		part, err, ok := s.next()
		switch {
		case !ok:
			s.over = true
			continue
		case err == errMore:
			return
		case n.number == 0 && isSealmux(part, err):
			n.open()
		}
		if n.number != 0 {
			s.see(part, err, when)
		} else { // the other side may yet be sealmux's
			s.at, s.err, s.lost = part, err, errors.Is(err, errGap)
		}
		s.over = err != nil
	}
	s.stop()
}

// open shows that there is a connection.
func (n *connection) open() {
	client := 0
	if n.flipped {
		client = 1
	}
	n.number = n.capture.show.connection(n.address(client), n.address(1-client), n.start)
	for i := range n.sides {
		s := &n.sides[i].shownSide
		s.show, s.number, s.from, s.start = n.capture.show, n.number, sender(i == client), n.start
		if end := n.sides[i].early; end != nil {
			s.end(end.how, end.when)
		}
	}
}

// address names an end of the connection: 0 that which was seen first, 1 the other.
func (n *connection) address(end int) string {
	host, port := n.flows.net.Src(), n.flows.ports.Src()
	if end == 1 {
		host, port = n.flows.net.Dst(), n.flows.ports.Dst()
	}
	return net.JoinHostPort(host.String(), port.String())
}

func (n *connection) name() string { return n.address(0) + " -> " + n.address(1) }

// end shows how a direction ended, once.
func (n *connection) end(s *side, how string, when time.Time) {
	if s.ended {
		return
	}
	s.ended, s.feed.ended = true, true
	if !s.over {
		n.run(s, when) // to its end
	}
	if s.lost {
		s.at, s.err = transport.Part{}, errGap
	}
	if n.number == 0 {
		s.early = &early{how, when}
		return
	}
	s.shownSide.end(how, when)
}

// ReassemblyComplete ends what has not ended, and has the assembler forget the connection.
func (n *connection) ReassemblyComplete(reassembly.AssemblerContext) bool {
	if !n.capture.last {
		n.complete()
	}
	return true
}

func (n *connection) complete() {
	for _, part := range n.late {
		n.take(part)
	}
	c := n.capture
	how := "dropped"
	if c.last {
		how = "open"
	}
	for i := range n.sides {
		if n.sides[1-i].rst {
			n.end(&n.sides[i], "reset", c.now)
		}
		n.end(&n.sides[i], how, c.now)
	}
	switch {
	case n.number != 0:
	case n.midway || n.sides[0].lost || n.sides[1].lost:
		c.midway.add(n.name())
	default:
		c.others.add(n.name())
	}
	delete(c.live, n)
	if len(c.closed) >= MaxConnections {
		clear(c.closed)
	}
	c.closed[n.flows] = true
}

// finish ends all connections, in the order in which they began: the assembler has none.
func (c *capture) finish() {
	c.last = true
	c.assembler.FlushAll()
	var rest []*connection
	for n := range c.live {
		rest = append(rest, n)
	}
	slices.SortFunc(rest, func(a, b *connection) int { return cmp.Compare(a.order, b.order) })
	for _, n := range rest {
		n.complete()
	}
}

var (
	errMore    = errors.New("more is needed")
	errGap     = errors.New("bytes are missing")
	errStopped = errors.New("stopped")
)

// A feed is what Dissect reads of a direction: what there is of it, piece by piece. Missing bytes can be passed over, not read. It is
// used by one goroutine at a time: the reader's, and the coroutine that this one waits for.
type feed struct {
	gap   int // bytes that are missing before data
	data  []byte
	ended bool
	pause func() bool // until there is more; false if nobody wants to know it
}

// parts yields what Dissect does, and errMore where it needs more bytes.
func (f *feed) parts(yield func(transport.Part, error) bool) {
	f.pause = func() bool { return yield(transport.Part{}, errMore) }
	for part, err := range transport.Dissect(f) {
		if !yield(part, err) {
			return
		}
	}
}

// wait returns when something is there, missing or not.
func (f *feed) wait() error {
	for f.gap == 0 && len(f.data) == 0 {
		if f.ended {
			return io.EOF
		}
		if !f.pause() {
			return errStopped
		}
	}
	return nil
}

func (f *feed) Read(b []byte) (int, error) {
	if err := f.wait(); err != nil {
		return 0, err
	}
	if f.gap > 0 {
		return 0, errGap
	}
	n := copy(b, f.data)
	f.data = f.data[n:]
	return n, nil
}

func (f *feed) Discard(n int) (done int, err error) {
	for done < n {
		if err := f.wait(); err != nil {
			return done, err
		}
		missing := min(f.gap, n-done)
		f.gap -= missing
		done += missing
		there := min(len(f.data), n-done)
		f.data = f.data[there:]
		done += there
	}
	return done, nil
}
