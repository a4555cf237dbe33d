package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// A constantConn is a stream that has all of its bytes already.
type constantConn struct {
	net.Conn
	r io.Reader
}

func (c constantConn) Read(b []byte) (int, error) { return c.r.Read(b) }

const (
	smallForTest = 1000  // what is longer is large
	limitForTest = 40000 // what is longer is discarded
)

// A taken is what became of a message: its payload, or what was kept of one that is too long, or why there are no more.
type taken string

func takenOf(what string, p []byte) taken { return taken(what + string(p)) }

func takenHead(m message, err error) taken {
	if err != nil {
		return takenEnd(err)
	}
	return taken(fmt.Sprintf("kind %d, id %d", m.kind, m.id))
}

func takenEnd(err error) taken {
	for _, known := range []error{ErrProtocol, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return taken(known.Error())
		}
	}
	return taken("unknown: " + err.Error())
}

// takenFrom is W1 and W2 in other words. A payload that begins with 0xff is one that its taker does not like.
func takenFrom(b []byte) (all []taken) {
	for {
		switch {
		case len(b) == 0:
			return append(all, takenEnd(io.EOF))
		case len(b) < 4:
			return append(all, takenEnd(io.ErrUnexpectedEOF))
		}
		n := int64(binary.BigEndian.Uint32(b))
		b = b[4:]
		if n > 1<<30 {
			return append(all, takenEnd(ErrProtocol))
		}
		if n > limitForTest && len(b) >= maxHead {
			m, err := parseMessage(b[:maxHead])
			if err != nil {
				return append(all, takenEnd(err))
			}
			if n <= int64(len(b)) {
				all = append(all, takenHead(m, nil))
			}
		}
		if n > int64(len(b)) {
			return append(all, takenEnd(io.ErrUnexpectedEOF))
		}
		p := b[:n]
		b = b[n:]
		switch {
		case n > limitForTest:
		case n > smallForTest:
			all = append(all, takenOf("large ", p))
		case n > 0 && p[0] == 0xff:
			return append(all, takenEnd(ErrProtocol))
		default:
			all = append(all, takenOf("small ", p))
		}
	}
}

// A noter notes what it takes. What is its own it keeps as it is, to see that nobody else writes to it.
type noter struct {
	t    *testing.T
	all  []taken
	kept map[int][]byte // by index in all
}

func (n *noter) message(p []byte, owned, wait bool) error {
	if !wait && len(p)%7 == 3 {
		return errMustWait
	}
	if len(p) > 0 && p[0] == 0xff {
		return ErrProtocol
	}
	if owned {
		n.kept[len(n.all)] = p
	}
	n.all = append(n.all, takenOf("small ", p))
	return nil
}

func (n *noter) large(in *frameReader, size int) error {
	if size > limitForTest {
		m, err := in.discard(size)
		if err == nil {
			n.all = append(n.all, takenHead(m, nil))
		}
		return err
	}
	p, owned, err := in.payload(size)
	if cap(p) > 2*readBuffer+8*len(p) { // a size class above, and what Grow adds
		n.t.Errorf("%d bytes are held of %d that have come", cap(p), len(p))
	}
	if err != nil {
		return err
	}
	if owned {
		n.kept[len(n.all)] = p
	}
	n.all = append(n.all, takenOf("large ", p))
	return nil
}

func (n *noter) over(in *frameReader, err error) {
	n.all = append(n.all, takenEnd(err))
	if in != nil {
		in.free()
	}
}

// Messages come off a stream the same in whatever pieces it arrives, and whether they are read or pushed: each once, in order, up
// to the first fault.
// fuzz: 10000x
func FuzzFrames(f *testing.F) {
	var all []byte
	for _, b := range specVectors(f) {
		f.Add(b, uint16(0), byte(0), false)
		all = append(all, b...)
	}
	f.Add(all, uint16(0), byte(2), true)
	f.Add(all[:len(all)-1], uint16(0), byte(255), false)
	for _, n := range []uint32{0, 1, 999, 1000, 1001, readBuffer, readBuffer + 1, limitForTest, limitForTest + 1, 60000, maxFrame, maxFrame + 1, 1<<31 + 3, 1<<32 - 1} {
		for _, fill := range []uint16{0, 70, 40000, 65535} {
			f.Add(binary.BigEndian.AppendUint32(nil, n), fill, byte(n), false)
			f.Add(append(binary.BigEndian.AppendUint32(nil, n), "\x93\x02\x01\xc6"...), fill, byte(99), true)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, fill uint16, pieces byte, give bool) {
		stream := append(bytes.Clone(b), make([]byte, fill)...)
		want := takenFrom(stream)
		for _, pushed := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				conn := net.Conn(constantConn{r: bytes.NewReader(stream)})
				n := &noter{t: t, kept: make(map[int][]byte)}
				var wg sync.WaitGroup
				if pushed {
					p := &pushConn{Conn: conn, pieces: 16 * int(pieces)}
					if pieces < 64 {
						p.pieces = 1 + int(pieces)
					}
					p.cond.L = &p.mu
					wg.Go(p.pump)
					conn = p
				}
				in := newIntake(conn, smallForTest, &wg, n)
				in.give = give
				in.start()
				wg.Wait()
				for i, p := range n.kept {
					if what := n.all[i][:len("small ")]; n.all[i] != takenOf(string(what), p) {
						t.Errorf("message %d has become %x", i, p)
					}
				}
				if !slices.Equal(n.all, want) {
					t.Errorf("pushed %v: %q, want %q", pushed, n.all, want)
				}
			})
		}
	})
}
