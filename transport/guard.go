package transport

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
)

// The guard sits between the records and yamux and knows the state of every stream from the frames alone.
// It refuses what yamux would accept, says what yamux cannot (did this stream end, or did the session die?),
// and never lets yamux block: what yamux writes is queued, what it reads has been checked whole.
type guard struct {
	conn    *conn
	session *Session
	local   uint32 // parity of ids that this side opens: 1 for clients, 0 for servers

	in     []byte         // checked frames that yamux has not read yet; only Read touches it
	ticket *awaitedTicket // until the first record, which may be one; likewise

	unacked *budget     // our opens that the peer has not accepted yet
	opens   *budget     // our open streams, as the peer allows
	forgets atomic.Bool // whether there is something in forget, so that no record waits for mu to see that there is not

	mu          sync.Mutex // protects what follows, and each flow
	flows       map[uint32]*flow
	lastPeer    uint32 // highest id that the peer has opened
	lastOurs    uint32 // highest id that this side has opened
	backlog     int    // its streams that were not accepted yet
	peerStreams int    // its open streams
	strayFrames int64  // what may still come for streams that are over
	strayBytes  int64
	forget      []byte // frames that have yamux forget what reset has ended
	dead        bool
}

func newGuard(s *Session, c *conn, client bool, opens int) *guard {
	g := &guard{conn: c, session: s, flows: make(map[uint32]*flow),
		unacked: newBudget(acceptBacklog), opens: newBudget(opens)}
	if client {
		g.local = 1
	}
	return g
}

// Read gives yamux checked frames. Only yamux's receiving goroutine calls it.
func (g *guard) Read(p []byte) (int, error) {
	for len(g.in) == 0 {
		if err := g.receive(); err != nil {
			g.conn.rx.drop()
			g.session.lastWords(err)
			return 0, io.EOF // yamux need not know more; streams ask the session
		}
	}
	n := copy(p, g.in)
	g.in = g.in[n:]
	return n, nil
}

// receive takes one record. What it refuses ends the session.
func (g *guard) receive() error {
	typ, data, err := g.conn.rx.next()
	if err != nil {
		return err
	}
	ticket := g.ticket
	g.ticket = nil
	if typ == recordAccept && ticket.keep(data) {
		return nil
	}
	ticket.drop()
	switch typ {
	case recordData:
		g.in, err = g.incoming(data)
		return err
	case recordPing:
		if len(data) == 0 {
			g.conn.tx.record(false, recordPong)
			return nil
		}
	case recordPong:
		if len(data) == 0 {
			return nil // rx.last has been set, which is all a pong is for
		}
	case recordClose:
		if len(data) == 0 {
			return ErrPeerClosed
		}
	case recordAlert:
		if len(data) == 1 {
			return &AlertError{Alert(data[0])}
		}
	}
	return violation("R3", "unknown or malformed record")
}

// incoming checks a record's frames and returns what yamux shall see of them, in place.
func (g *guard) incoming(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, violation("R3", "empty data record")
	}
	kept := data[:0]
	for len(data) > 0 {
		frame, rest, err := cutFrame(data)
		if err != nil {
			return nil, err
		}
		data = rest
		pass, err := g.frame(frame)
		if err != nil {
			return nil, err
		}
		kept = append(kept, pass...)
	}
	if g.conn.tx.flooded.Load() {
		return nil, ErrWriteStalled // the peer makes us answer, and takes no answer
	}
	if g.forgets.Load() {
		kept = g.forgotten(kept)
	}
	return kept, nil
}

// forgotten appends what has yamux forget the streams that reset has ended: behind what it must know of them before.
func (g *guard) forgotten(kept []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept = append(kept[:len(kept):len(kept)], g.forget...) // what lies behind kept is another record
	g.forget = nil
	g.forgets.Store(false)
	return kept
}

// frame takes one frame, gives its data to the stream, and returns what yamux shall see of it.
func (g *guard) frame(frame []byte) (pass []byte, err error) {
	g.mu.Lock()
	if g.dead {
		g.mu.Unlock()
		return nil, nil // this side has ended the session and waits for the peer's end
	}
	f, err := g.flowLocked(frame)
	if f == nil {
		g.mu.Unlock()
		return nil, err
	}
	pass, err = g.checkLocked(f, frame)
	end := f.endLocked()
	g.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if end != nil {
		f.in.finish(end)
	}
	if frame[1] != frameData {
		return pass, nil
	}
	if grant := f.in.put(frame[frameHeader:]); grant > 0 {
		g.grant(f, grant)
	}
	return withoutData(frame), nil
}

// withoutData makes a data frame a window update that grants nothing, which yamux needs for its flags alone.
func withoutData(frame []byte) []byte {
	if frameFlags(frame) == 0 {
		return nil
	}
	frame[1] = frameWindow
	binary.BigEndian.PutUint32(frame[8:], 0)
	return frame[:frameHeader]
}

// flowLocked returns the stream that a frame is for, nil if the frame has come too late for it.
func (g *guard) flowLocked(frame []byte) (*flow, error) {
	id, flags := binary.BigEndian.Uint32(frame[4:]), frameFlags(frame)
	if flags&flagSYN != 0 {
		if flags != flagSYN {
			return nil, violation("S4", "SYN with another flag")
		}
		if err := g.openedLocked(id); err != nil {
			return nil, err
		}
	}
	if f := g.flows[id]; f != nil {
		return f, nil
	}
	return nil, g.strayLocked(id, frame[1] == frameData, frameLength(frame))
}

// checkLocked judges one incoming frame against its stream. It returns the frame for yamux, rewritten where
// yamux needs it so, or nil when yamux must not see it.
func (g *guard) checkLocked(f *flow, frame []byte) ([]byte, error) {
	flags, length := frameFlags(frame), frameLength(frame)
	if err := f.checkFlags(flags); err != nil {
		return nil, err
	}
	if flags&flagACK != 0 {
		g.ackedLocked(f)
	}
	if frame[1] == frameData {
		if f.gotFIN || length > f.recvWindow {
			return nil, violation("S6", "data beyond the window or the end of a stream")
		}
		f.recvWindow -= length
		if f.closed {
			return g.refuseLocked(f, frame), nil
		}
	} else if f.sendWindow += length; f.sendWindow > MaxStreamWindow {
		return nil, violation("S6", "window too large")
	} else {
		notify(f.writable)
	}
	if flags&flagFIN != 0 {
		f.gotFIN = true
		if f.sentFIN {
			g.endLocked(f)
		}
	}
	if flags&flagRST != 0 {
		return g.resetLocked(f, frame), nil
	}
	return frame, nil
}

// openedLocked admits a stream that the peer opens (rule S5).
func (g *guard) openedLocked(id uint32) error {
	switch {
	case id%2 == g.local || id <= g.lastPeer: // 0 is both
		return violation("S5", "stream id out of order")
	case g.backlog >= acceptBacklog || g.peerStreams >= g.session.cfg.MaxStreams:
		return violation("S5", "too many streams")
	}
	g.lastPeer = id
	g.backlog++
	g.peerStreams++
	g.flows[id] = newFlow(id, false, g.session.cfg.StreamWindow)
	return nil
}

// ackedLocked does what had to wait for the ACK (rule S7).
func (g *guard) ackedLocked(f *flow) {
	f.acked = true
	g.unacked.give(1)
	if f.wantFIN && !f.sentFIN && !f.reset {
		g.finLocked(f)
	}
	if f.closed && !g.dead {
		g.session.tasks.Go(f.stream.finish)
	}
	g.nudgeLocked(f)
}

// strayLocked accounts for a frame of a stream that is over. A peer may not know that yet, and no more than
// that is granted (rule S8).
func (g *guard) strayLocked(id uint32, data bool, length int) error {
	known := id%2 != g.local && id <= g.lastPeer || id%2 == g.local && id <= g.lastOurs
	if data {
		g.strayBytes -= int64(length)
	} else {
		g.strayFrames--
	}
	if id == 0 || !known || g.strayBytes < 0 || g.strayFrames < 0 {
		return violation("S8", "frame of a stream that is not open")
	}
	return nil
}

// refuseLocked answers data for a stream that this side has closed with a reset, to the peer and to yamux. The FIN goes
// first, if yamux has not come to it: without it the peer would throw away what was written before the Close. It is left out
// of what Stream.Reset ends.
func (g *guard) refuseLocked(f *flow, frame []byte) []byte {
	if f.acked && !f.sentFIN && !f.cut {
		f.sentFIN = true
		g.sendLocked(f.id, frameWindow, flagFIN, 0)
	}
	g.sendLocked(f.id, frameWindow, flagRST, 0)
	g.abandonLocked(f)
	frame = frame[:frameHeader]
	frame[1] = frameWindow
	binary.BigEndian.PutUint16(frame[2:], frameFlags(frame)|flagRST)
	binary.BigEndian.PutUint32(frame[8:], 0)
	return frame
}

// abandonLocked removes a stream that this side resets, and grants what the peer may have sent meanwhile.
func (g *guard) abandonLocked(f *flow) {
	g.strayBytes += int64(f.recvWindow)
	g.strayFrames += orphanFrames
	g.removeLocked(f)
}

// resetLocked takes the peer's reset. Behind a FIN it only says that the peer forgets the stream: what it sent before still
// counts (endLocked). A refusal before the ACK is shown to yamux with the ACK, without which it would leak the entry.
func (g *guard) resetLocked(f *flow, frame []byte) []byte {
	f.reset = true
	if f.ours && !f.acked {
		g.ackedLocked(f)
		binary.BigEndian.PutUint16(frame[2:], frameFlags(frame)|flagACK)
	}
	g.removeLocked(f)
	return frame
}

func (g *guard) removeLocked(f *flow) {
	if f.over {
		return
	}
	f.over = true
	delete(g.flows, f.id)
	notify(f.writable)
	if f.ours {
		g.opens.give(1)
		return
	}
	g.peerStreams--
	if !f.acked {
		f.acked = true
		g.backlog--
	}
}
