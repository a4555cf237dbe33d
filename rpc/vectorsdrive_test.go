package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sealmux/sealmux/internal/vectors"
)

// This file plays the peer of a Server and of a Client as a case tells, over streams in memory. Whenever it looks at what the
// side under test has written, all goroutines of that side wait: so it sees all of it, and that it is all.

// A tap collects what the side under test writes on a stream.
type tap struct {
	conn net.Conn
	mu   sync.Mutex // protects all below
	got  []byte
	err  error // why there is no more
}

func newTap(conn net.Conn) *tap {
	p := &tap{conn: conn}
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			p.mu.Lock()
			p.got = append(p.got, b[:n]...)
			p.err = err
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

// take returns what has come, once there is nothing more to come.
func (p *tap) take() ([]byte, error) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got, p.err
}

// expect takes what has come and compares.
func (p *tap) expect(want []byte) error {
	got, err := p.take()
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the other side wrote\n%.2000x, %v\nwant\n%.2000x", got, err, want)
	}
	return nil
}

// over checks that the side under test has ended the stream, and written nothing more.
func (p *tap) over() error {
	if got, err := p.take(); err != io.EOF || len(got) > 0 {
		return fmt.Errorf("a stream that should be over: %x, %v", got, err)
	}
	return nil
}

// lastWords checks that the side under test has written nothing more, but for the error of a handler that its session's end
// has ended too: that may still have come through.
func (p *tap) lastWords() error {
	got, err := p.take()
	if len(got) == 0 {
		return nil
	}
	if m, bad := readMessage(got); bad != nil || m.kind != kindError || m.outcome != Executed {
		return fmt.Errorf("the other side wrote %x, %v", got, err)
	}
	return nil
}

// options are those that the case asks for.
func (v *vector) options() (o Options) {
	o.MaxReceive, _ = strconv.Atoi(v.Get("limit"))
	if v.Get("compress") == "accept" {
		o.CompressOver = 1 << 20 // and nothing here is so large
	}
	return o
}

// under runs f with a session for the side under test and one for its peer, twice: as any session is, and as one that hands
// over what arrives in small pieces.
func under(t *testing.T, f func(tested, peer Session) error) (err error) {
	for _, push := range []bool{false, true} {
		synctest.Test(t, func(*testing.T) {
			peer, tested := newPipe()
			prog := &tape{push: push}
			if e := f(prog.session(tested), peer); e != nil && err == nil {
				err = e
			}
		})
	}
	return err
}

// wholeMessages reports whether bytes end between two messages.
func wholeMessages(b []byte) bool {
	for at := 0; at < len(b); {
		if at+frameHeader > len(b) {
			return false
		}
		if at = messageEnd(b, at); at > len(b) {
			return false
		}
	}
	return true
}

// bytesOf are those of all blocks of that name.
func (v *vector) bytesOf(name string) (all []byte) {
	for _, b := range v.blocks {
		if b.Name == name {
			all = append(all, b.Data...)
		}
	}
	return all
}

func (v *vector) callee(t *testing.T) error {
	if err := v.calleeSays(); err != nil {
		return err
	}
	return under(t, func(tested, peer Session) error {
		srv := NewServer(v.options())
		served := make(chan error, 1)
		go func() { served <- srv.ServeSession(bg, tested) }()
		defer srv.Close()
		defer peer.Close()
		return v.calleeTalk(srv, peer, served)
	})
}

// calleeSays checks what a case says of itself: its kind of end, and the last error of its answers.
func (v *vector) calleeSays() error {
	expect, code, outcome := v.Get("expect"), "", ""
	out := v.bytesOf("out")
	if !wholeMessages(out) {
		return errors.New("the answers end within a message")
	}
	for at := 0; at < len(out); at = messageEnd(out, at) {
		m, err := readMessage(out[at:messageEnd(out, at)])
		if err != nil {
			return err
		}
		if m.kind == kindError || m.kind == kindError2 {
			code, outcome = strconv.Itoa(int(m.code)), strconv.Itoa(int(m.outcome))
		}
	}
	if (expect == "call-error") != (code != "") {
		return fmt.Errorf("expect: %s, and an error of code %q", expect, code)
	}
	if whole := wholeMessages(v.bytesOf("in")); (expect == "ok" || expect == "cut") && (expect == "cut") == whole {
		return fmt.Errorf("expect: %s, and the bytes end between messages: %v", expect, whole)
	}
	var said []vectors.Header
	if code != "" {
		said = []vectors.Header{{Name: "code", Value: code}, {Name: "outcome", Value: outcome}}
	}
	return v.compare(said)
}

func (v *vector) calleeTalk(srv *Server, peer Session, served <-chan error) error {
	var first net.Conn
	var err error
	if len(v.bytesOf("first")) > 0 {
		if first, err = peer.Open(bg); err != nil {
			return err
		}
		defer first.Close()
		newTap(first)
		synctest.Wait()
	}
	conn, err := peer.Open(bg)
	if err != nil {
		return err
	}
	defer conn.Close()
	stream := newTap(conn)
	synctest.Wait()
	draining := v.Get("state") == "draining"
	if draining {
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		go srv.Shutdown(ctx)
	}
	for i, b := range v.blocks {
		switch b.Name {
		case "first":
			first.Write(b.Data) // may fail: the session may have ended, which is found below
		case "in":
			conn.Write(b.Data)
		case "out":
			if err := stream.expect(b.Data); err != nil {
				return fmt.Errorf("block %d: %w", i+1, err)
			}
		default:
			return fmt.Errorf("a block %q", b.Name)
		}
		synctest.Wait()
	}
	if v.Get("expect") == "refused" {
		return ended(served, true, stream.lastWords())
	}
	if err := stream.expect(nil); err != nil {
		return err
	}
	conn.(*pipeStream).CloseWrite()
	if err := stream.over(); err != nil {
		return err
	}
	if draining {
		return ended(served, false, nil)
	}
	return aliveCallee(peer)
}

// ended checks that a server has ended its session, for a breach of the protocol or not.
func ended(served <-chan error, breach bool, err error) error {
	synctest.Wait()
	select {
	case cause := <-served:
		if errors.Is(cause, ErrProtocol) != breach {
			return fmt.Errorf("the session ended: %v", cause)
		}
		return err
	default:
		return errors.New("the session goes on")
	}
}

// aliveCallee checks that another stream's call is answered.
func aliveCallee(peer Session) error {
	conn, err := peer.Open(bg)
	if err != nil {
		return err
	}
	defer conn.Close()
	another := newTap(conn)
	conn.Write(appendCall(nil, lastID, "echo", 0, []byte("\xa1a")))
	return another.expect(appendReply(nil, lastID, echoOf("\xa1a")))
}

// lastID is the largest id there is.
const lastID = 1<<64 - 1

// A played is a call, a stream or a connection of the client under test.
type played struct {
	id     int
	cancel context.CancelFunc
	stream RawStream
	conn   net.Conn
	got    vectors.Case // what came of it
	err    error
	over   bool
}

// A player makes the calls of a case with the client under test.
type player struct {
	client *Client
	calls  []*played // by id, less 1

	mu   sync.Mutex // protects taps
	taps []*tap     // the streams that the client opened
}

func (v *vector) caller(t *testing.T) error {
	return under(t, func(tested, peer Session) error {
		p := &player{client: NewClient(tested, v.options())}
		go func() {
			for {
				conn, err := peer.Accept()
				if err != nil {
					return
				}
				p.mu.Lock()
				p.taps = append(p.taps, newTap(conn))
				p.mu.Unlock()
			}
		}()
		err := v.callerTalk(p)
		p.client.Close()
		for _, tap := range p.taps {
			tap.conn.Close()
		}
		for _, c := range p.calls {
			c.cancel()
			if c.conn != nil {
				c.conn.Close()
			}
		}
		peer.Close()
		return err
	})
}

// own reports whether the case is about a stream other than the caller's first.
func (v *vector) own() bool {
	b := v.bytesOf("out")
	if len(b) < frameHeader || !wholeMessages(b[:min(messageEnd(b, 0), len(b))]) {
		return false
	}
	m, err := readMessage(b[:messageEnd(b, 0)])
	return err == nil && (m.kind == kindOpen || len(m.body) > LargeCall)
}

func (v *vector) callerTalk(p *player) error {
	index := 0
	if v.own() {
		index = 1
	}
	for i, b := range v.blocks {
		var err error
		switch b.Name {
		case "out":
			err = p.play(b.Data, index)
		case "first":
			err = p.play(b.Data, 0)
		case "in":
			p.tap(index).conn.Write(b.Data) // may fail: the client may have closed the stream
			synctest.Wait()
		default:
			err = errors.New("an unknown block")
		}
		if err != nil {
			return fmt.Errorf("block %d, %s: %w", i+1, b.Name, err)
		}
	}
	if v.Get("expect") == "cut" {
		p.tap(index).conn.(*pipeStream).CloseWrite()
		synctest.Wait()
	}
	if err := v.compare(p.results(p.tap(index))); err != nil {
		return err
	}
	return v.callerEnd(p, index)
}

// tap returns the stream of that number.
func (p *player) tap(i int) *tap {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taps[i]
}

// play has the client do what makes it write b, and compares.
func (p *player) play(b []byte, index int) error {
	for at := 0; at < len(b); {
		if n := len(p.calls); n > 0 && p.calls[n-1].conn != nil { // no messages any more
			p.calls[n-1].conn.Write(b[at:])
			break
		}
		end := messageEnd(b, at)
		if end > len(b) {
			return errors.New("half a message")
		}
		m, err := readMessage(b[at:end])
		if err != nil {
			return err
		}
		p.do(&m)
		synctest.Wait()
		at = end
	}
	p.mu.Lock()
	n := len(p.taps)
	p.mu.Unlock()
	if n <= index {
		return errors.New("the client did not open the stream")
	}
	return p.tap(index).expect(b)
}
