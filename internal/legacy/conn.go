package legacy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// A conn is one client's connection. One goroutine runs it: a request is read, answered and its reply written before the next is
// looked at, so replies are in order and a client that does not take them gets no more work done.
type conn struct {
	server *Server
	raw    net.Conn
	in     *bufio.Reader
	from   *source
	ctx    context.Context // ends it, and its call
	cancel context.CancelCauseFunc

	// Server.mu protects these.
	busy  bool      // a request was taken and its reply is not written yet
	since time.Time // it waits for its client
}

// lingering is how long a client gets to read what was written before the end, and discarded how much it may send meanwhile: a
// connection that is closed with bytes unread is reset, and the last reply may be lost.
const (
	lingering = time.Second
	discarded = 256 << 10
)

// serve runs the connection to its end, and closes it.
func (c *conn) serve() {
	defer context.AfterFunc(c.ctx, func() { c.raw.Close() })()
	defer c.raw.Close()
	c.in = bufio.NewReaderSize(c.raw, smallRequest)
	err := c.loop()
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	if err == nil || errors.Is(err, ErrUndecryptable) {
		c.linger()
	}
	c.server.leave(c)
	c.cancel(nil)
	if err != nil && err != errStopped && err != io.EOF {
		c.server.report(c.raw.RemoteAddr(), err)
	}
}

// loop answers requests until the client ends the connection, or the server, or something is wrong.
func (c *conn) loop() error {
	for {
		more, err := c.next()
		if !more || err != nil {
			return err
		}
	}
}

// next answers one request. more is false behind the last.
func (c *conn) next() (more bool, err error) {
	c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.IdleTimeout))
	if _, err := c.in.Peek(1); err != nil {
		return false, ended(err, errIdle)
	}
	request, release, err := c.read()
	if err != nil {
		return false, err
	}
	defer release()
	if !c.server.take(c) {
		return false, nil
	}
	if err := c.answer(request); err != nil {
		return false, err
	}
	return c.server.done(c), nil
}

// ended is the error for a read that failed: io.EOF, of which nobody is told, where a client went away, as it may at any time.
func ended(err, late error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return late
	case err == io.EOF:
		return io.EOF
	}
	return fmt.Errorf("legacy: the connection broke: %w", err)
}

// read returns what comes before the next #. A small request stays in the reader's buffer; a larger one grows as it comes.
func (c *conn) read() (request []byte, release func(), err error) {
	c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.RequestTimeout))
	part, whole, err := c.part()
	if err != nil {
		return nil, nil, err
	}
	if whole {
		return part, func() {}, nil
	}
	if release, err = c.admitLarge(); err != nil {
		return nil, nil, err
	}
	for !whole && err == nil {
		request = append(request, part...)
		part, whole, err = c.part()
		if err == nil && len(request)+len(part) > maxMessage {
			err = ErrTooLong
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return append(request, part...), release, nil
}

// part returns what there is up to the next #, which it takes away, or a buffer full. It is valid until the next read.
func (c *conn) part() (part []byte, whole bool, err error) {
	part, err = c.in.ReadSlice(ending)
	switch {
	case err == nil:
		return part[:len(part)-1], true, nil
	case err == bufio.ErrBufferFull:
		return part, false, nil
	case err == io.EOF && len(bytes.TrimSpace(part)) > 0:
		return nil, false, errTruncated
	}
	return nil, false, ended(err, errSlow)
}

// admitLarge waits for a place, and then gives the client its time anew.
func (c *conn) admitLarge() (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.server.cfg.RequestTimeout, errNoPlace)
	defer cancel()
	if release, err = c.takeLarge(ctx); err != nil {
		return nil, err
	}
	c.raw.SetReadDeadline(time.Now().Add(c.server.cfg.RequestTimeout))
	return release, nil
}

// answer decrypts a request, has it handled, and writes the reply.
func (c *conn) answer(request []byte) error {
	s := c.server
	ctx, cancel := context.WithTimeoutCause(c.ctx, s.cfg.ReplyTimeout, errNoReply)
	defer cancel()
	reply, with, err := c.call(ctx, request)
	s.called()
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	c.raw.SetWriteDeadline(deadline)
	out := bufio.NewWriterSize(c.raw, smallRequest)
	if err = writeReply(out, with, reply); err == nil {
		err = out.Flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errNotTaken
	}
	return err
}

func (c *conn) call(ctx context.Context, request []byte) (reply string, with pair, err error) {
	if err := c.pace(ctx); err != nil {
		return "", with, err
	}
	text, with, err := c.decrypt(ctx, request)
	if err != nil {
		return "", with, err
	}
	reply, err = c.server.cfg.Handle(ctx, text)
	if err != nil {
		return "", with, fmt.Errorf("legacy: no reply: %w", err)
	}
	return reply, with, nil
}

// decrypt works in one of the lanes: strangers must not take all of the processor.
func (c *conn) decrypt(ctx context.Context, request []byte) (string, pair, error) {
	s := c.server
	select {
	case s.lanes <- struct{}{}:
	case <-ctx.Done():
		return "", pair{}, context.Cause(ctx)
	}
	text, with, ok := s.cfg.Key.open(request, s.step)
	<-s.lanes
	if !ok {
		s.punish(c.from)
		return "", pair{}, ErrUndecryptable
	}
	return text, with, nil
}

// linger ends the connection and lets the client read what it was sent.
func (c *conn) linger() {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.raw.SetReadDeadline(time.Now().Add(lingering))
	io.CopyN(io.Discard, c.raw, discarded)
}
