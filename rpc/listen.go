package rpc

import (
	"context"
	"net"
	"sync"
)

// ListenConn registers the connections of a method (Caller.OpenConn) as HandleConn does, and returns a listener whose Accept
// yields them: for http.Server.Serve, or another server of connections, that is to run beside the calls. A connection waits
// to be accepted until its caller's context ends; it lives until it is closed, its session ends, or the Server closes.
// Shutdown waits for it. Close of the listener refuses those that come later, as Unavailable and not executed, and leaves
// alone those that were accepted.
func ListenConn(s *Server, name string) net.Listener {
	l := &connListener{method: connMethod(name), conns: make(chan net.Conn), done: make(chan struct{})}
	HandleConn(s, name, l.handle)
	return l
}

// ConnContext adds to ctx the values of the context that a connection of ListenConn was opened with: the peer, and InfoFrom.
// It is meant for http.Server.ConnContext. Of another connection it returns ctx.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if raw, ok := conn.(*rawConn); ok && raw.opened != nil {
		return bothContexts{ctx, raw.opened}
	}
	return ctx
}

// A connListener hands over connections from their handlers.
type connListener struct {
	method connMethod
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once
}

// handle waits until the connection is accepted and closed.
func (l *connListener) handle(ctx context.Context, conn net.Conn) error {
	open, closed := context.WithCancel(ctx)
	defer closed()
	raw := conn.(*rawConn)
	raw.opened, raw.closed = ctx, closed
	select {
	case <-l.done:
	default:
		select {
		case l.conns <- raw:
			<-open.Done()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-l.done:
		}
	}
	return refuse(Unavailable, "nobody listens for this method any more")
}

// Accept returns the next connection. Its error is net.ErrClosed, after Close.
func (l *connListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *connListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr is the method.
func (l *connListener) Addr() net.Addr { return l.method }

// A connMethod is the address of a listener for connections.
type connMethod string

func (connMethod) Network() string  { return Protocol }
func (m connMethod) String() string { return string(m) }

// bothContexts has the values of a second context besides its own.
type bothContexts struct {
	context.Context
	second context.Context
}

func (c bothContexts) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.second.Value(key)
}
