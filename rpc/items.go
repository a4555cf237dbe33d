package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// An items is what both ends of a stream of messages have in common: it puts items on the stream and takes messages off it.
// One goroutine may write while another reads.
type items struct {
	conn    net.Conn
	in      *frameReader // the receiver's
	pack    packer       // of what goes out
	limits  *Options
	writing sync.Mutex // protects all below: one frame at a time
	buf     []byte     // what is written next: the header, or an open, that goes out with the first item
	ended   error      // why nothing more is sent
}

// send writes one item, in chunks of which the first has what was to go before it. It blocks as the stream does.
func (s *items) send(message Raw, before func([]byte) []byte) error {
	if err := Check(message); err != nil {
		return err
	}
	if len(message) > s.limits.MaxSend {
		return fail(ResourceExhausted, OutcomeUnknown, fmt.Sprintf("a message of %d bytes, limit %d", len(message), s.limits.MaxSend), ErrTooLarge)
	}
	body, pack := s.pack.pack(message)
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.ended != nil {
		return s.ended
	}
	b := s.buf[:0]
	if before != nil {
		b = before(b)
	}
	return s.writeLocked(appendItem(b, pack, len(body)), body)
}

// finish writes a last message. Nothing is sent after it: Send fails with err.
func (s *items) finish(err error, last func([]byte) []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.ended != nil {
		return s.ended
	}
	s.ended = err
	return s.writeLocked(last(s.buf[:0]), nil)
}

// writeLocked writes head and body. head may be kept for the next.
func (s *items) writeLocked(head, body []byte) (err error) {
	n := min(len(body), max(writeChunk-len(head), 0))
	head = append(head, body[:n]...)
	for _, err = s.conn.Write(head); err == nil && n < len(body); {
		m := min(len(body)-n, writeChunk)
		_, err = s.conn.Write(body[n : n+m])
		n += m
	}
	if s.buf = head[:0]; cap(head) > keepBuffer {
		s.buf = nil
	}
	if err != nil {
		s.ended = err
	}
	return err
}

// next reads a message. Its slices are the caller's to keep. io.EOF is the end of the stream, not of the messages.
func (s *items) next() (message, error) {
	n, err := s.in.header()
	if err != nil {
		return message{}, err
	}
	if n > s.limits.MaxReceive+maxEnvelope {
		return message{}, fail(ResourceExhausted, OutcomeUnknown, fmt.Sprintf("a message of %d bytes", n), ErrTooLarge)
	}
	p, owned, err := s.in.payload(n)
	if err != nil {
		return message{}, err
	}
	if !owned {
		p = bytes.Clone(p)
	}
	return parseMessage(p)
}

// item is the body of an item.
func (s *items) item(m *message) (Raw, error) {
	if len(m.body) > s.limits.MaxReceive {
		return nil, fail(ResourceExhausted, OutcomeUnknown, fmt.Sprintf("a message of %d bytes", len(m.body)), ErrTooLarge)
	}
	body, err := unpack(m.packed, m.body, s.limits)
	switch {
	case errors.Is(err, ErrTooLarge):
		return nil, fail(ResourceExhausted, OutcomeUnknown, fmt.Sprintf("a message of more than %d bytes", s.limits.MaxReceive), ErrTooLarge)
	case err == nil:
		err = Check(body)
	}
	return body, err
}

// cut says of a reading error that it is not the end of the messages.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
