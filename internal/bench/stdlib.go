package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	netrpc "net/rpc"
	"sync"
)

// An Echo is the service of the peers that are or look like net/rpc.
type Echo struct{}

// Bytes echoes bytes.
func (Echo) Bytes(b []byte, reply *[]byte) error { *reply = b; return nil }

// Typed echoes a message.
func (Echo) Typed(m *Message, reply *Message) error { *reply = *m; return nil }

func init() { netrpc.Register(Echo{}) }

// useNetRPC makes the calls of a system those of a net/rpc client.
func (s *system) useNetRPC(client *netrpc.Client) {
	s.onClose(func() { client.Close() })
	s.call = func(body []byte) (int, error) {
		var reply []byte
		err := client.Call("Echo.Bytes", body, &reply)
		return len(reply), err
	}
	s.typed = func(m *Message) (*Message, error) {
		var reply Message
		return &reply, client.Call("Echo.Typed", m, &reply)
	}
}

// startNetRPC is net/rpc with gob, over TLS.
func startNetRPC() (*system, error) {
	ours, theirs, err := tlsPair()
	if err != nil {
		return nil, err
	}
	s := &system{}
	s.serve(func() { netrpc.ServeConn(theirs) })
	s.useNetRPC(netrpc.NewClient(ours))
	return s, nil
}

// serve runs f, which ends when the client has been closed.
func (s *system) serve(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	s.onClose(func() { <-done })
}

// startHTTP2 is net/http with HTTP/2: a POST for each call.
func startHTTP2() (*system, error) {
	l, config, err := tlsListener("h2")
	if err != nil {
		return nil, err
	}
	s := &system{}
	web := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			w.Write(body)
		}
	})}
	s.serve(func() { web.Serve(l) })
	s.onClose(func() { web.Close() })
	t := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	s.onClose(t.CloseIdleConnections)
	client := &http.Client{Transport: t}
	url := "https://" + l.Addr().String()
	s.call = func(body []byte) (int, error) {
		resp, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		reply, err := io.ReadAll(resp.Body)
		return len(reply), err
	}
	_, err = s.call(nil) // so that the connection is there: many at once would make many
	return s, err
}

// startBare is the floor: requests with a length in front, on one connection, answered in their order.
func startBare(sealed bool) (*system, error) {
	pair := tcpPair
	if sealed {
		pair = tlsPair
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	s := &system{}
	s.serve(func() { echoFrames(theirs); theirs.Close() })
	p := &pipeline{conn: ours}
	s.serve(p.read)
	s.onClose(func() { ours.Close() }) // before the two are waited for
	s.call = p.call
	streams := 0
	s.stream = func() (io.Writer, error) {
		if streams++; streams > 1 {
			return nil, errOneStream
		}
		in, out, err := pair()
		if err != nil {
			return nil, err
		}
		s.serve(func() { io.Copy(s, onlyReader{out}); out.Close() })
		s.onClose(func() { in.Close() })
		return in, nil
	}
	return s, nil
}

// onlyReader hides the ways past Read.
type onlyReader struct{ io.Reader }

func echoFrames(conn net.Conn) {
	in, out := bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 64<<10)
	var frame []byte
	for {
		head, err := in.Peek(4)
		if err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(head)) + 4
		if cap(frame) < n {
			frame = make([]byte, n)
		}
		if _, err := io.ReadFull(in, frame[:n]); err != nil {
			return
		}
		out.Write(frame[:n])
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// A pipeline is the client of echoFrames.
type pipeline struct {
	conn    net.Conn
	mu      sync.Mutex
	out     []byte
	writing bool
	waiting []chan int
}

func (p *pipeline) call(body []byte) (int, error) {
	done := make(chan int, 1)
	p.mu.Lock()
	p.waiting = append(p.waiting, done)
	p.out = append(binary.BigEndian.AppendUint32(p.out, uint32(len(body))), body...)
	if !p.writing { // whoever comes meanwhile has his written too
		p.writing = true
		for len(p.out) > 0 {
			b := p.out
			p.out = nil
			p.mu.Unlock()
			p.conn.Write(b)
			p.mu.Lock()
		}
		p.writing = false
	}
	p.mu.Unlock()
	n, ok := <-done
	if !ok {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (p *pipeline) read() {
	in := bufio.NewReaderSize(p.conn, 64<<10)
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			break
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if _, err := in.Discard(n); err != nil {
			break
		}
		p.mu.Lock()
		done := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.mu.Unlock()
		done <- n
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, done := range p.waiting {
		close(done)
	}
}
