package rpc

import (
	"context"
	"io"
	"net"
)

// OpenConn opens a connection: see Caller.
func (c *Client) OpenConn(ctx context.Context, method string) (net.Conn, error) {
	o := outgoingOf(ctx)
	s, err := c.begin(ctx, &Request{Method: method, ID: o.requestID, Header: o.header}, formConn, nil)
	if err != nil {
		return nil, err
	}
	var m *message
	for err == nil && !s.headed { // a goaway comes before the header
		m, err = s.message()
	}
	switch {
	case m != nil:
		err = s.lost(violation("an item on a connection"))
	case err == io.EOF:
		bad := violation("the end of a stream on a connection")
		c.violated(bad)
		err = fail(Unavailable, OutcomeUnknown, "", bad)
	}
	if o.received != nil {
		*o.received = Received{s.header, s.trailer}
	}
	if err != nil {
		return nil, err
	}
	return s.take()
}

// take makes a connection of the stream.
func (s *openStream) take() (net.Conn, error) {
	c := s.client
	conn := &rawConn{Conn: s.conn, early: s.in.rest()}
	conn.closed = func() { c.forget(conn); c.leave() }
	if !s.unbind() && s.ctx.Err() != nil {
		return nil, s.cancel(failContext(s.ctx, OutcomeUnknown))
	} // otherwise the stream has ended, which is found below, or nothing has
	s.mu.Lock()
	s.taken = s.err == nil // from now on nothing but the connection ends it
	taken := s.taken
	s.mu.Unlock()
	if !taken {
		return nil, s.endWith(nil)
	}
	c.mu.Lock()
	delete(c.streams, s)
	err := c.keepLocked(conn)
	c.mu.Unlock()
	if err != nil {
		conn.end(err)
		return nil, fail(Unavailable, OutcomeUnknown, "", err)
	}
	return conn, nil
}
