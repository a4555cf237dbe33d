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

func (c *rawConn) Close() error {
	err := c.Conn.Close()
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

// end closes the connection because the session or the client has ended.
func (c *rawConn) end(error) { c.Close() }
