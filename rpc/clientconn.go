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
	m, err := s.message()
	if err == nil && m != nil {
		err = s.lost(violation("an item on a connection"))
	}
	if err == io.EOF {
		err = s.lost(violation("the end of a stream on a connection"))
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
	if !s.unbind() { // ctx has ended
		return nil, s.cancel(failContext(s.ctx, OutcomeUnknown))
	}
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
