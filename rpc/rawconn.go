package rpc

import (
	"context"
	"errors"
	"net"
	"sync"
)

// A rawConn is a stream of bytes, behind the messages that opened it.
type rawConn struct {
	net.Conn
	accept func() error    // called before the first use; nil on the caller's side
	closed func()          // called when it is closed, once
	opened context.Context // its handler's; nil but for a listener's
	once   sync.Once

	mu    sync.Mutex // protects early
	early []byte     // what was read already
}

func (c *rawConn) Read(b []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	if len(c.early) > 0 && len(b) > 0 {
		defer c.mu.Unlock()
		n := copy(b, c.early)
		if c.early = c.early[n:]; len(c.early) == 0 {
			c.early = nil
		}
		return n, nil
	}
	c.mu.Unlock()
	return c.Conn.Read(b)
}

func (c *rawConn) Write(b []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// CloseWrite ends what this side writes: the peer reads io.EOF behind it.
func (c *rawConn) CloseWrite() error {
	if err := c.begin(); err != nil {
		return err
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *rawConn) Close() error { return c.closeBy(c.Conn.Close) }

// Reset is Close for a connection on which not all was said: the peer reads an error behind what came, not io.EOF.
func (c *rawConn) Reset() error { return c.closeBy(func() error { return resetConn(c.Conn) }) }

func (c *rawConn) closeBy(end func() error) error {
	err := end()
	if c.closed != nil {
		c.once.Do(c.closed)
	}
	return err
}

func (c *rawConn) begin() error {
	if c.accept == nil {
		return nil
	}
	return c.accept()
}

// end ends the connection because the session or the client has ended.
func (c *rawConn) end(error) { c.Reset() }

// resetConn closes a stream so that the peer knows that it was not all, if the session can do that.
func resetConn(conn net.Conn) error {
	if r, ok := conn.(interface{ Reset() error }); ok {
		return r.Reset()
	}
	return conn.Close()
}
