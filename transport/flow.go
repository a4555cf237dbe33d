package transport

import (
	"encoding/binary"
	"io"
)

// yamux frame: 1 version, 1 type, 2 flags, 4 stream id, 4 length (the window's increase in a window update).
const (
	frameHeader = 12

	frameData   = 0
	frameWindow = 1

	flagSYN = 1
	flagACK = 2
	flagFIN = 4
	flagRST = 8

	acceptBacklog = 256 // rule S5: a constant of the protocol, since yamux needs it equal on both sides
	initialWindow = 256 << 10

	// orphanFrames is how many control frames may still be on their way for a stream when it is over:
	// a window update for each half of the smallest window in the largest, and a few flags (rule S8).
	orphanFrames = MaxStreamWindow/(MinStreamWindow/2) + 8
)

// cutFrame takes one whole frame off the front (rules S1 to S3).
func cutFrame(data []byte) (frame, rest []byte, err error) {
	if len(data) < frameHeader {
		return nil, nil, violation("S1", "record ends inside a frame")
	}
	size := frameHeader
	switch flags, length := frameFlags(data), frameLength(data); {
	case data[0] != 0 || flags&^(flagSYN|flagACK|flagFIN|flagRST) != 0:
		return nil, nil, violation("S2", "unknown version or flag")
	case data[1] == frameWindow:
	case data[1] != frameData:
		return nil, nil, violation("S2", "frame is neither data nor window update")
	case length > maxPayload:
		return nil, nil, violation("S3", "data frame too long")
	case length == 0:
		return nil, nil, violation("S3", "empty data frame")
	case flags&^flagACK != 0:
		return nil, nil, violation("S3", "data frame with a flag that belongs in a window update")
	default:
		size += length
	}
	if len(data) < size {
		return nil, nil, violation("S1", "record ends inside a frame")
	}
	return data[:size], data[size:], nil
}

func frameFlags(f []byte) uint16 { return binary.BigEndian.Uint16(f[2:]) }

// frameLength is exact up to 2^30, beyond every limit: more would not fit, or overflow, where int has 32 bits.
func frameLength(f []byte) int { return int(min(binary.BigEndian.Uint32(f[8:]), 1<<30)) }

// A flow is a stream as its frames tell it.
type flow struct {
	id         uint32
	ours       bool // this side opened it
	acked      bool
	sentFIN    bool
	gotFIN     bool
	reset      bool // by the peer
	over       bool // removed from the table
	wantFIN    bool // half close asked for before the ACK
	closed     bool // this side wants nothing more of it
	cut        bool // and has not said all: with closed, the peer gets a RST in place of a FIN
	recvWindow int
	sendWindow int
	writable   chan struct{} // token: sendWindow or the state changed
	stream     *Stream
	in         inbox // what has come and was not taken
}

func newFlow(id uint32, ours bool, window int) *flow {
	f := &flow{id: id, ours: ours, recvWindow: initialWindow, sendWindow: initialWindow, writable: make(chan struct{}, 1)}
	f.in.window, f.in.cond.L = window, &f.in.mu
	return f
}

// endLocked is what the peer has put behind its data, nil if it has not. A reset behind its FIN takes nothing back.
func (f *flow) endLocked() error {
	switch {
	case f.gotFIN:
		return io.EOF
	case f.reset:
		return ErrStreamReset
	}
	return nil
}

// checkFlags refuses flags that do not fit the stream's state (rule S4).
func (f *flow) checkFlags(flags uint16) error {
	ack, fin, rst := flags&flagACK != 0, flags&flagFIN != 0, flags&flagRST != 0
	switch {
	case ack && (!f.ours || f.acked):
		return violation("S4", "ACK of what was not opened or was acknowledged before")
	case f.ours && !f.acked && !ack && !rst:
		return violation("S4", "frame before the ACK")
	case !f.ours && !f.acked && (fin || rst):
		return violation("S7", "end of a stream before its ACK")
	case fin && f.gotFIN:
		return violation("S4", "second FIN")
	}
	return nil
}

// nudgeLocked grants one byte to a peer whose window a closed stream has left empty: it may wait to write, and only
// what it writes can be answered with a reset (rule S9).
func (g *guard) nudgeLocked(f *flow) {
	if f.closed && f.acked && !f.gotFIN && !f.over && f.recvWindow == 0 {
		f.recvWindow = 1
		g.sendLocked(f.id, frameWindow, 0, 1)
	}
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
