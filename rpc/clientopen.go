package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Open opens a stream of messages: see Caller.
func (c *Client) Open(ctx context.Context, req *Request) (RawStream, error) {
	if len(c.opts.Interceptors) == 0 {
		return c.openStream(ctx, req)
	}
	var tries attempts
	s, err := chainOpen(c.opts.Interceptors, func(ctx context.Context, req *Request) (RawStream, error) {
		tries.begin()
		s, err := c.openStream(ctx, req)
		tries.end(err)
		return s, err
	})(ctx, req)
	switch {
	case err != nil:
		return nil, tries.intercepted(err)
	case s == nil:
		return nil, tries.intercepted(Errorf(Internal, "an interceptor returned neither a stream nor an error"))
	}
	return s, nil
}

func (c *Client) openStream(ctx context.Context, req *Request) (RawStream, error) {
	var last []byte
	if req.Body != nil {
		if err := Check(req.Body); err != nil {
			return nil, fail(InvalidArgument, NotSent, "the request", err)
		}
		if len(req.Body) > c.opts.MaxSend {
			return nil, tooLarge(len(req.Body), c.opts.MaxSend)
		}
		body, pack := packer{c.opts.CompressOver}.pack(req.Body)
		last = appendEnd(append(appendItem(nil, pack, len(body)), body...))
	}
	s, err := c.begin(ctx, req, formStream, last)
	if err != nil {
		return nil, err
	}
	if last != nil {
		s.ended = errSendClosed
	}
	return s, nil
}

// An openStream is the caller's end of a stream of messages, or of a connection until that is taken. It has no goroutine:
// whoever receives reads the stream.
type openStream struct {
	items
	client *Client
	ctx    context.Context
	id     uint64

	receiving sync.Mutex // one receiver at a time; protects held and headed
	held      *message   // an item that came while Header waited
	headed    bool       // header is there, or will never be

	mu      sync.Mutex // protects all below; nothing blocks under it
	err     error      // how it ended, io.EOF if well; sticky
	header  Metadata
	trailer Metadata
	taken   bool        // it is a connection now
	unbind  func() bool // stops watching ctx
}

var errSendClosed = fmt.Errorf("the messages were declared to be all: %w", ErrStreamDone)

// begin opens a stream of the session and writes the open, and what is to follow, to it.
func (c *Client) begin(ctx context.Context, req *Request, form byte, last []byte) (*openStream, error) {
	h := callHead{method: req.Method, requestID: req.ID, header: req.Header, form: form}
	if c.opts.CompressOver > 0 && form == formStream {
		h.flags = flagPack
	}
	if err := c.refuseHead(ctx, &h); err != nil {
		return nil, err
	}
	if err := c.enter(); err != nil {
		return nil, err
	}
	s, err := c.beginEntered(ctx, &h, last)
	if s == nil { // otherwise it has left by itself
		c.leave()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// beginEntered is begin for a call that was let in. It returns a stream with its error if that has ended already.
func (c *Client) beginEntered(ctx context.Context, h *callHead, last []byte) (*openStream, error) {
	if _, err := c.sharedStream(ctx); err != nil { // as for a large call
		return nil, notSent(ctx, err)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, notSent(ctx, err)
	}
	s := &openStream{client: c, ctx: ctx, id: c.ids.Add(1),
		items: items{conn: conn, in: newFrameReader(conn), pack: packer{c.opts.CompressOver}, limits: &c.opts}}
	ok := true
	if h.form == formStream { // a connection outlives the context that it was opened with
		h.timeout, ok = remaining(ctx)
	}
	c.mu.Lock()
	if err = c.err; err == nil && !ok {
		err = context.DeadlineExceeded
	}
	if err == nil {
		c.streams[s] = struct{}{}
	}
	c.mu.Unlock()
	if err != nil {
		conn.Close()
		return nil, notSent(ctx, err)
	}
	unbind := context.AfterFunc(ctx, func() { s.cancel(failContext(ctx, OutcomeUnknown)) })
	s.mu.Lock()
	s.unbind = unbind
	ended := s.err
	s.mu.Unlock()
	if ended != nil { // by the client's end, or its context's
		unbind()
		own := *ended.(*Error)
		own.Outcome = NotSent
		return s, &own
	}
	b := append(appendOpen(nil, s.id, h), last...)
	n := min(len(b), writeChunk)
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.writeLocked(b[:n:n], b[n:]); err != nil && (ctx.Err() != nil || sessionErr(c.sess) != nil) {
		return s, s.lost(err)
	}
	return s, nil // if it was refused already Recv tells
}

// Send sends a message: see MessageStream. Its error is io.EOF, one that matches ErrStreamDone, or an *Error.
func (s *openStream) Send(message Raw) error {
	if err := s.ctxEnded(); err != nil {
		return err
	}
	err := s.send(message, nil)
	switch {
	case err == nil, errors.Is(err, ErrStreamDone):
		return err
	case errors.Is(err, ErrBadMessage):
		return fail(InvalidArgument, OutcomeUnknown, "the message", err)
	case errors.Is(err, ErrTooLarge):
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return io.EOF // the peer closed the stream, and Recv finds what it said before
}

// CloseSend says that there are no more messages.
func (s *openStream) CloseSend() error {
	err := s.finish(errSendClosed, appendEnd)
	if err == errSendClosed {
		return nil // said before
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil && s.err != io.EOF {
			return s.err
		}
		return nil // the handler has ended without: Recv tells
	}
	return nil
}

// Recv returns the next message: see MessageStream. Its error is io.EOF or an *Error, and stays the same.
func (s *openStream) Recv() (Raw, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	for {
		m, err := s.message()
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		body, err := s.item(m)
		if errors.Is(err, ErrTooLarge) {
			return nil, s.cancel(fail(ResourceExhausted, Executed, "a message of the stream", ErrTooLarge))
		} else if err != nil {
			return nil, s.cancel(fail(Internal, Executed, "a message of the stream", err))
		}
		return body, nil
	}
}

// Header waits for the handler's header.
func (s *openStream) Header() (Metadata, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	for !s.headed {
		s.held, _ = s.message()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil && s.err != io.EOF && s.header == nil {
		return nil, s.err
	}
	return s.header, nil
}

// Trailer is the metadata that came with the end.
func (s *openStream) Trailer() Metadata {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trailer
}

// message reads a message and does what it says. It returns one if it is an item, or the error that has ended the stream.
func (s *openStream) message() (*message, error) {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if held := s.held; err == nil && held != nil {
		s.held = nil
		return held, nil
	}
	if err != nil {
		s.headed = true
		return nil, err
	}
	if err := s.ctxEnded(); err != nil {
		return nil, err
	}
	m, err := s.next()
	if err != nil {
		return nil, s.lost(err)
	}
	first := !s.headed
	s.headed = true
	switch {
	case m.kind == kindGoaway && first:
		s.headed = false
		s.client.goaway()
		return nil, nil
	case m.kind == kindHeader && first:
		s.mu.Lock()
		s.header = decodeMetadata(m.header)
		s.mu.Unlock()
		return nil, nil
	case m.kind == kindItem:
		return &m, nil
	case m.kind == kindDone:
		s.mu.Lock()
		s.trailer = decodeMetadata(m.trailer)
		s.mu.Unlock()
		return nil, s.endWith(io.EOF)
	case (m.kind == kindError || m.kind == kindError2) && m.id == s.id:
		e := errorOf(&m, s.client.opts.Errors)
		s.mu.Lock()
		s.trailer = e.Trailer
		if first {
			s.header = e.header
		}
		s.mu.Unlock()
		return nil, s.endWith(e)
	}
	return nil, s.lost(violation("kind %d on a stream of messages", m.kind))
}

// ctxEnded ends the stream if its context has ended. AfterFunc does that too, in a goroutine that may have to wait its turn;
// a caller that has cancelled must not find the stream alive.
func (s *openStream) ctxEnded() error {
	if s.ctx.Err() == nil {
		return nil
	}
	return s.cancel(failContext(s.ctx, OutcomeUnknown))
}

// lost ends the stream after a failed read or write, and returns the error that it has now.
func (s *openStream) lost(err error) error {
	cause := sessionErr(s.client.sess)
	switch deadline, limited := s.ctx.Deadline(); {
	case errors.Is(err, ErrProtocol):
		s.client.violated(err)
	case errors.Is(err, ErrTooLarge):
		return s.cancel(fail(ResourceExhausted, Executed, "a message of the stream", ErrTooLarge))
	case s.ctx.Err() != nil:
		return s.cancel(failContext(s.ctx, OutcomeUnknown))
	case limited && !time.Now().Before(deadline): // the server was quicker to see it
		return s.cancel(fail(DeadlineExceeded, OutcomeUnknown, "", context.DeadlineExceeded))
	case cause != nil:
		err = s.client.lost(cause)
		s.client.stop(err)
	}
	return s.endWith(fail(Unavailable, OutcomeUnknown, "the stream was cut", cut(err)))
}

// Close gives the stream up.
func (s *openStream) Close() error {
	s.cancel(&Error{Code: Canceled, Outcome: OutcomeUnknown, Message: "the caller closed the stream", cause: ErrStreamDone})
	return nil
}

// cancel ends the stream and tells the server, which may not be reading it. It returns the error that the stream has now.
func (s *openStream) cancel(err error) error {
	// Ended first: the server may cut the stream before this goroutine goes on, and whoever waits in Recv must know why.
	err, first := s.settle(err)
	if first {
		s.client.cancelStream(s.id)
		s.close()
	}
	return err
}

// end ends the stream because the client has ended.
func (s *openStream) end(cause error) { s.endWith(fail(Unavailable, OutcomeUnknown, "", cause)) }

// endWith ends the stream, unless it has ended, and returns how it has.
func (s *openStream) endWith(err error) error {
	err, first := s.settle(err)
	if first {
		s.close()
	}
	return err
}

// settle decides how the stream ends, unless that is decided. Who decides must close it.
func (s *openStream) settle(err error) (how error, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.taken {
		return s.err, false
	}
	s.err = err
	return err, true
}

// close takes the stream apart. Whoever waits in Send or Recv returns.
func (s *openStream) close() {
	s.mu.Lock()
	unbind := s.unbind
	s.mu.Unlock()
	if unbind != nil {
		unbind()
	}
	s.conn.Close()
	s.client.forget(s)
	s.client.leave()
}
