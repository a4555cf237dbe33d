package transport

import "encoding/binary"

// What the guard lets out.

// Write takes yamux's frames, each in one call: window updates, with the flags that open and end streams. Streams write
// their data themselves (send). Pings and go-aways have no place here: records and RPC messages do their work.
func (g *guard) Write(p []byte) (int, error) {
	if p[1] != frameWindow {
		return len(p), nil
	}
	id, flags := binary.BigEndian.Uint32(p[4:]), frameFlags(p)
	g.mu.Lock()
	err := g.windowLocked(p, id, flags, frameLength(p))
	g.mu.Unlock()
	g.conn.tx.kick()
	if err != nil {
		g.session.wind(err)
	}
	return len(p), nil // yamux would close itself; the session does that, when it knows why
}

// send queues a data frame, for which the caller has taken room, unless its stream ended meanwhile: no data may follow a
// reset or a FIN (rule S5). yamux has no part in it: it would take the bytes through a channel and two goroutines. Nor does
// it have to know: its own count of the window only grows, and is never asked.
func (g *guard) send(f *flow, data []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.over || f.sentFIN || f.reset {
		g.conn.tx.room.give(len(data))
		return nil // the caller finds out why
	}
	f.sendWindow -= len(data)
	var h [frameHeader]byte // version, type and flags are 0
	binary.BigEndian.PutUint32(h[4:], f.id)
	binary.BigEndian.PutUint32(h[8:], uint32(len(data)))
	return g.conn.tx.frame(h[:], data, len(data))
}

// windowLocked follows a window update and its flags, and sends it unless the peer needs it no more.
func (g *guard) windowLocked(p []byte, id uint32, flags uint16, length int) error {
	f := g.flows[id]
	if flags&flagSYN != 0 {
		f = newFlow(id, true, g.session.cfg.StreamWindow)
		g.flows[id] = f
		g.lastOurs = id
	}
	if f == nil || flags&flagFIN != 0 && f.sentFIN && flags&flagACK == 0 {
		return nil // it is over, or ended by finLocked before
	}
	g.ackSentLocked(f, flags)
	f.recvWindow += length
	err := g.conn.tx.frame(p, nil, 0)
	if flags&flagFIN != 0 {
		f.sentFIN = true
		if f.gotFIN {
			g.endLocked(f)
		}
	}
	if flags&flagRST != 0 {
		g.abandonLocked(f)
	}
	return err
}

// ackSentLocked frees a place in the backlog as the ACK goes out, since the peer counts from its arrival.
func (g *guard) ackSentLocked(f *flow, flags uint16) {
	if flags&flagACK != 0 && !f.acked {
		f.acked = true
		g.backlog--
		g.nudgeLocked(f)
	}
}

// endLocked removes a stream that ended on both sides. The peer may still read, and say so (rule S8).
func (g *guard) endLocked(f *flow) {
	g.strayFrames += orphanFrames
	g.removeLocked(f)
}

func (g *guard) sendLocked(id uint32, typ byte, flags uint16, length uint32) {
	h := controlFrame(id, typ, flags, length)
	g.conn.tx.frame(h[:], nil, 0) // an error here has already ended the session, or soon will
	g.conn.tx.kick()
}

func controlFrame(id uint32, typ byte, flags uint16, length uint32) (h [frameHeader]byte) {
	h[1] = typ
	binary.BigEndian.PutUint16(h[2:], flags)
	binary.BigEndian.PutUint32(h[4:], id)
	binary.BigEndian.PutUint32(h[8:], length)
	return h
}

// finLocked ends our direction of a stream. yamux is not asked to: its Close would also start a timer that
// resets a stream on which a reply is slow to come.
func (g *guard) finLocked(f *flow) {
	f.sentFIN = true
	g.sendLocked(f.id, frameWindow, flagFIN, 0)
	if f.gotFIN {
		g.endLocked(f)
	}
}

// reset sends the RST of a stream that Stream.Reset has ended. yamux, which closes the stream then, sends a FIN: windowLocked drops it,
// since the stream is over. It would keep the stream for streamCloseTimeout more, and a peer might have any number of them reset, of
// which MaxStreams does not count one: so it reads a RST, with the next record.
func (g *guard) reset(f *flow) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.cut && !f.over && !g.dead {
		g.sendLocked(f.id, frameWindow, flagRST, 0)
		g.abandonLocked(f)
		forget := controlFrame(f.id, frameWindow, flagRST, 0)
		g.forget = append(g.forget, forget[:]...)
		g.forgets.Store(true)
	}
}

// Close is yamux's; the session closes the raw connection itself.
func (g *guard) Close() error { return nil }

// grant lets the peer send so many bytes more, which were taken out of the stream's inbox.
func (g *guard) grant(f *flow, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.over || f.gotFIN || f.closed || g.dead {
		return
	}
	f.recvWindow += n
	g.sendLocked(f.id, frameWindow, 0, uint32(n))
}
