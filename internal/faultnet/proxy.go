package faultnet

import (
	"errors"
	"io"
	"net"
	"sync"
)

// A Proxy passes TCP connections on to a target, each through two Lines.
type Proxy struct {
	inner  net.Listener
	target string
	plan   func(n int) (up, down Line)
	work   sync.WaitGroup

	mu     sync.Mutex // protects all below
	closed bool
	links  map[*link]struct{}
	total  [2]Stats // of connections that have ended
}

// NewProxy listens on a free port of loopback. plan, which nil leaves without faults, gives the n-th connection, from 0, its
// Lines; up is towards the target. Close must be called.
func NewProxy(target string, plan func(n int) (up, down Line)) (*Proxy, error) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if plan == nil {
		plan = func(int) (up, down Line) { return }
	}
	p := &Proxy{inner: inner, target: target, plan: plan, links: make(map[*link]struct{})}
	p.work.Go(p.run)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.inner.Addr().String() }

// Close stops listening, cuts every connection and waits for its goroutines.
func (p *Proxy) Close() {
	p.inner.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Cut()
	p.work.Wait()
}

// Cut resets the connections there are.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// Stats counts what has passed in each direction, up and down.
func (p *Proxy) Stats() (up, down Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := p.total
	for l := range p.links {
		l.addTo(&total)
	}
	return total[0], total[1]
}

func (p *Proxy) run() {
	for n := 0; ; n++ {
		near, err := p.inner.Accept()
		if err != nil {
			return
		}
		up, down := p.plan(n)
		p.work.Go(func() { p.connect(near.(*net.TCPConn), up, down) })
	}
}

// connect passes one connection on until it has ended.
func (p *Proxy) connect(near *net.TCPConn, up, down Line) {
	raw, err := net.Dial("tcp", p.target)
	if err != nil {
		near.SetLinger(0)
		near.Close()
		return
	}
	l := &link{near: near, far: raw.(*net.TCPConn), up: newHalf(up), down: newHalf(down)}
	p.mu.Lock()
	p.links[l] = struct{}{}
	if p.closed {
		l.cut()
	}
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	l.addTo(&p.total)
	p.mu.Unlock()
}

// A link is one connection of a Proxy.
type link struct {
	near, far *net.TCPConn
	up, down  *half
}

func (l *link) addTo(total *[2]Stats) {
	for i, h := range []*half{l.up, l.down} {
		s := h.stats()
		total[i].Bytes += s.Bytes
		total[i].Faults += s.Faults
	}
}

// run moves bytes until both directions have ended.
func (l *link) run() {
	var work sync.WaitGroup
	for _, way := range []struct {
		from, to *net.TCPConn
		half     *half
	}{{l.near, l.far, l.up}, {l.far, l.near, l.down}} {
		work.Go(func() {
			_, err := io.Copy(halfWriter{way.half, l.cut}, way.from)
			if err != nil {
				l.cut() // one end was reset: so is the other
			}
			way.half.finish()
		})
		work.Go(func() {
			_, err := io.Copy(way.to, halfReader{way.half})
			switch {
			case err == nil:
				way.to.CloseWrite()
			case !errors.Is(err, net.ErrClosed):
				l.cut()
			}
		})
	}
	work.Wait()
	l.near.Close()
	l.far.Close()
}

// cut resets both connections.
func (l *link) cut() {
	for _, h := range []*half{l.up, l.down} {
		h.fail(net.ErrClosed, net.ErrClosed)
	}
	for _, c := range []*net.TCPConn{l.near, l.far} {
		c.SetLinger(0)
		c.Close()
	}
}

// A halfWriter and a halfReader are the two ends of a half.
type halfWriter struct {
	*half
	cut func()
}

func (w halfWriter) Write(b []byte) (int, error) { return w.write(b, w.cut) }

type halfReader struct{ *half }

func (r halfReader) Read(b []byte) (int, error) { return r.read(b) }
