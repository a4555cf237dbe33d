package inspect

import (
	"encoding/binary"
	"errors"
	"io"
)

// The library holds as much of a pcapng file as there is between two packets. These bound it.
const (
	maxBetween    = maxPacket + 1<<20 // bytes, with a packet's own
	maxInterfaces = 1000
)

// Blocks of pcapng that are let through. Others, with names and keys, are of no use here, and would be held.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2
	blockSimple    = 3
	blockEnhanced  = 6
)

var errTooLong = errors.New("a packet of it is too long")

// A blocks reads a pcapng file without the blocks that are of no use.
type blocks struct {
	in         io.Reader
	order      binary.ByteOrder
	budget     int // bytes that may still be read for this packet
	interfaces int
	head       []byte // of a block, not yet read
	left       int    // of it, behind head
}

func newBlocks(in io.Reader) *blocks {
	return &blocks{in: in, order: binary.LittleEndian, budget: maxBetween}
}

func (b *blocks) Read(p []byte) (n int, err error) {
	for len(b.head) == 0 && b.left == 0 {
		if err := b.block(); err != nil {
			return 0, err
		}
	}
	if b.budget <= 0 {
		return 0, errTooLong
	}
	if len(b.head) > 0 {
		n = copy(p, b.head)
		b.head = b.head[n:]
	} else {
		n, err = b.in.Read(p[:min(len(p), b.left)])
		b.left -= n
	}
	b.budget -= n
	return n, err
}

// block reads the head of the next block, and passes over it if it is of no use.
func (b *blocks) block() error {
	head := make([]byte, 12)
	n, err := io.ReadFull(b.in, head)
	if err == io.ErrUnexpectedEOF { // for the library to find
		b.head = head[:n]
		return nil
	}
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(head) == blockSection { // the same in either order; what follows tells which it is
		b.interfaces = 0
		b.order = binary.LittleEndian
		if binary.BigEndian.Uint32(head[8:]) == 0x1a2b3c4d {
			b.order = binary.BigEndian
		}
	}
	kind, size := b.order.Uint32(head), b.order.Uint32(head[4:])
	if size < uint32(len(head)) || size%4 != 0 {
		return errors.New("a block of it has an impossible length")
	}
	rest := int64(size) - int64(len(head))
	switch kind {
	case blockInterface:
		if b.interfaces++; b.interfaces > maxInterfaces {
			return errors.New("it describes too many interfaces")
		}
	case blockSection, blockPacket, blockSimple, blockEnhanced:
	default:
		_, err := io.CopyN(io.Discard, b.in, rest)
		if err == io.EOF {
			err = errCut // which the library does not take for the end of the file
		}
		return err
	}
	if rest > maxBetween {
		return errTooLong
	}
	b.head, b.left = head, int(rest)
	return nil
}
