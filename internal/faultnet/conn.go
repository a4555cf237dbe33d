package faultnet

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// Stats counts what has passed one direction.
type Stats struct {
	Bytes  int64 // that were written
	Faults int   // that have struck
}

// A Conn is one end of a connection in memory. It has CloseWrite, as a *net.TCPConn has.
type Conn struct {
	in, out       *half
	local, remote net.Addr
}

// Pair returns the two ends of a connection. up is the direction from the first to the second.
func Pair(up, down Line) (client, server *Conn) {
	there, back := newHalf(up), newHalf(down)
	return &Conn{in: back, out: there, local: addr("client"), remote: addr("server")},
		&Conn{in: there, out: back, local: addr("server"), remote: addr("client")}
}

// Read is net.Conn's. A cut connection gives syscall.ECONNRESET.
func (c *Conn) Read(b []byte) (int, error) { return c.in.read(b) }

// Write is net.Conn's. It waits while Line.Window is full. What a fault loses counts as written.
func (c *Conn) Write(b []byte) (int, error) { return c.out.write(b, c.Cut) }

// CloseWrite ends what this end writes.
func (c *Conn) CloseWrite() error {
	c.out.finish()
	return nil
}

// Close ends both directions. What was written can still be read; what the other end writes from now on is refused.
func (c *Conn) Close() error {
	c.out.finish()
	c.out.fail(nil, net.ErrClosed)
	c.in.fail(net.ErrClosed, syscall.EPIPE)
	return nil
}

// Cut resets the connection, for both ends.
func (c *Conn) Cut() {
	for _, h := range []*half{c.in, c.out} {
		h.fail(syscall.ECONNRESET, syscall.ECONNRESET)
	}
}

// Sent and Received count what this end has written, and what was written to it.
func (c *Conn) Sent() Stats { return c.out.stats() }

// Received is Sent of the other end.
func (c *Conn) Received() Stats { return c.in.stats() }

func (h *half) stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{h.passed, h.mangler.struck}
}

// LocalAddr is this end's name.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the other end's name.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is net.Conn's.
func (c *Conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline is net.Conn's.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.change(func() { c.in.readBy.at = t })
	return nil
}

// SetWriteDeadline is net.Conn's.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.change(func() { c.out.writeBy.at = t })
	return nil
}

// An addr is a name on a Network.
type addr string

func (addr) Network() string  { return "faultnet" }
func (a addr) String() string { return string(a) }

// A Network connects by name, in memory. The zero value is ready for use.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
}

// Listen takes a name. It fails with EADDRINUSE while somebody has it.
func (n *Network) Listen(name string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[name] != nil {
		return nil, &net.OpError{Op: "listen", Net: "faultnet", Addr: addr(name), Err: syscall.EADDRINUSE}
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*listener)
	}
	l := &listener{net: n, name: name, conns: make(chan net.Conn), done: make(chan struct{})}
	n.listeners[name] = l
	return l, nil
}

// Dial connects to who listens at the name, with ECONNREFUSED if nobody does. from is what the server sees as RemoteAddr.
func (n *Network) Dial(ctx context.Context, from, name string, up, down Line) (*Conn, error) {
	n.mu.Lock()
	l := n.listeners[name]
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "faultnet", Addr: addr(name), Err: syscall.ECONNREFUSED}
	if l == nil {
		return nil, refused
	}
	client, server := Pair(up, down)
	client.local, client.remote = addr(from), addr(name)
	server.local, server.remote = addr(name), addr(from)
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type listener struct {
	net   *Network
	name  string
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.name)
		l.net.mu.Unlock()
		close(l.done)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.name) }
