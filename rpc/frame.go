package rpc

import (
	"bufio"
	"encoding/binary"
	"io"
	"slices"
	"sync"
)

// readBuffer is a stream's read buffer in bytes. A message that fits is parsed where it lies.
const readBuffer = 16 << 10

// A frameReader takes messages off a stream (W1, W2).
type frameReader struct {
	br   *bufio.Reader
	held int // bytes of br that the last payload still lies in
}

// messageEnd is where the message ends that begins at an offset of b.
func messageEnd(b []byte, at int) int {
	return at + frameHeader + int(binary.BigEndian.Uint32(b[at:]))
}

// declared is a message's length as its header says, or more than anybody may say: what does not fit an int of 32 bits must not
// become one.
func declared(header []byte) int { return int(min(binary.BigEndian.Uint32(header), maxFrame+1)) }

// bufReaders are those of streams that nobody reads at the moment.
var bufReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}

func newFrameReader(r io.Reader) *frameReader {
	br := bufReaders.Get().(*bufio.Reader)
	br.Reset(r)
	return &frameReader{br: br}
}

// free gives the buffer to others. The reader is of no more use.
func (f *frameReader) free() {
	f.br.Reset(nil)
	bufReaders.Put(f.br)
	f.br = nil
}

// empty reports whether all that was read was taken. It ends the use of the last payload.
func (f *frameReader) empty() bool {
	f.br.Discard(f.held)
	f.held = 0
	return f.br.Buffered() == 0
}

// header returns the next payload's length. A stream that ends here returns io.EOF; one that ends elsewhere
// io.ErrUnexpectedEOF; a length that nobody may declare a violation. Whether it is too long for the receiver is the caller's to
// say, before payload.
func (f *frameReader) header() (int, error) {
	f.br.Discard(f.held)
	f.held = 0
	p, err := f.br.Peek(frameHeader)
	if err != nil {
		if err == io.EOF && len(p) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	n := declared(p)
	f.br.Discard(frameHeader)
	if n > maxFrame {
		return 0, violation("a length of over %d bytes", maxFrame)
	}
	return n, nil
}

// payload returns the n bytes after the header. owned says that they are the caller's to keep; otherwise they are valid
// until the next call of header. Memory grows with what has come, not with what was declared.
func (f *frameReader) payload(n int) (p []byte, owned bool, err error) {
	return f.payloadIn(n, readBuffer)
}

// payloadIn is payload with so much memory, at most, before any of a long one has come.
func (f *frameReader) payloadIn(n, first int) (p []byte, owned bool, err error) {
	if n <= readBuffer {
		p, err = f.br.Peek(n)
		f.held = len(p)
	} else {
		owned = true
		for len(p) < n && err == nil {
			p = slices.Grow(p, min(n-len(p), max(first, 3*len(p))))
			end := min(n, cap(p))
			var m int
			m, err = io.ReadFull(f.br, p[len(p):end])
			p = p[:len(p)+m]
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return p, owned, err
}

// discard reads the n bytes after the header and keeps nothing of them but what stands before a call's body. n is larger.
func (f *frameReader) discard(n int) (message, error) {
	var m message
	p, err := f.br.Peek(maxHead)
	if err == nil {
		m, err = parseMessage(p)
	}
	if err == nil {
		m = message{kind: m.kind, id: m.id} // the rest are views
		_, err = f.br.Discard(n)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return m, err
}

// rest returns what was read and not yet taken; the reader is of no more use.
func (f *frameReader) rest() []byte {
	f.br.Discard(f.held)
	f.held = 0
	b, _ := f.br.Peek(f.br.Buffered())
	return b
}
