package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The fuzz targets below run programs: every byte is an operation, of a scripted peer or of the API, and its high bits choose
// what it works on. Peers keep to the protocol unless an operation says otherwise.

// A tape is a program.
type tape struct {
	b    []byte
	push bool // the peer's streams hand over what arrives, piece by piece
}

// newTape takes a program, whose length says whether push.
func newTape(program []byte) *tape {
	program = program[:min(len(program), 300)]
	return &tape{program, len(program)%2 == 1}
}

func (p *tape) session(s Session) Session {
	if p.push {
		return &pushSession{Session: s, pieces: 7}
	}
	return s
}

func (p *tape) next() (op, arg int, ok bool) {
	if len(p.b) == 0 {
		return 0, 0, false
	}
	b := p.b[0]
	p.b = p.b[1:]
	return int(b & 15), int(b >> 4), true
}

// programs seeds a target with each operation after a few others, and with programs of random operations.
func programs(f *testing.F) {
	for op := range byte(16) {
		f.Add([]byte{0, 1, op, 0x10 | op, 2, op, 0x20 | op})
		f.Add([]byte{2, 6, 0x12, op, 3, 5, 0x30 | op, 7, 8})
		f.Add([]byte{1, 8, 0x16, 9, op, 7, op, 0x90 | op, 15})
	}
	b, x := make([]byte, 200), uint32(1)
	for range 20 {
		for i := range b {
			x = x*1664525 + 1013904223
			b[i] = byte(x >> 24)
		}
		f.Add(append([]byte(nil), b...))
	}
}

// A puppet is a stream of a scripted client.
type puppet struct {
	conn net.Conn
	use  byte // 0 nothing sent yet, 'c' calls, 's' messages, 'r' a connection
	id   uint64
	over bool // nothing more may be sent
}

// A puppeteer is a scripted client with four streams, of which the first is for calls.
type puppeteer struct {
	sess    *pipeSession
	streams [4]*puppet
	ids     uint64
	reading sync.WaitGroup

	mu      sync.Mutex
	answers map[uint64][]message // ends of calls and streams: replies, errors, done
	ran     map[string]int       // by request id, which is the id in decimal
	cut     map[uint64]bool      // given up, or their stream was closed
	asked   []uint64
}

func (p *puppeteer) stream(i int) *puppet {
	s := p.streams[i]
	if s != nil && !s.over {
		return s
	}
	conn, err := p.sess.Open(bg)
	if err != nil {
		return &puppet{over: true}
	}
	s = &puppet{conn: conn}
	p.streams[i] = s
	p.reading.Go(func() {
		in := newFrameReader(conn)
		for {
			n, err := in.header()
			if err != nil {
				return
			}
			b, _, err := in.payload(n)
			if err != nil {
				return
			}
			m, err := parseMessage(b)
			if err != nil {
				return // the bytes of a connection
			}
			p.mu.Lock()
			switch m.kind {
			case kindReply, kindReply2, kindError, kindError2:
				p.answers[m.id] = append(p.answers[m.id], m)
			case kindDone:
				p.answers[s.id] = append(p.answers[s.id], m)
			}
			p.mu.Unlock()
		}
	})
	return s
}

// write writes what the stream's last id stands for.
func (p *puppeteer) write(s *puppet, b []byte) {
	if _, err := s.conn.Write(b); err != nil { // the session has ended
		p.abandon(s.id)
	}
}

// abandon notes that calls and streams may be without an answer.
func (p *puppeteer) abandon(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut[id] = true
}

// fuzz: 5000x
func FuzzServerMachine(f *testing.F) {
	programs(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { runServerMachine(t, newTape(program)) })
	})
}

func runServerMachine(t *testing.T, prog *tape) {
	a, b := newPipe()
	p := &puppeteer{sess: a, answers: make(map[uint64][]message), ran: make(map[string]int), cut: make(map[uint64]bool)}
	srv := NewServer(Options{MaxCalls: 3, MaxQueue: 2, MaxStreams: 2})
	release := make(chan struct{})
	note := func(ctx context.Context) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ran[InfoFrom(ctx).RequestID()]++
	}
	unary := func(name string, fn func(ctx context.Context) (Raw, error)) {
		handleRaw(srv, name, func(ctx context.Context, _ Raw) (Raw, error) { note(ctx); return fn(ctx) })
	}
	unary("good", func(context.Context) (Raw, error) { return Raw{0xc0}, nil })
	unary("bad", func(context.Context) (Raw, error) { return nil, NotFound })
	unary("panic", func(context.Context) (Raw, error) { panic("x") })
	unary("wait", func(ctx context.Context) (Raw, error) {
		select {
		case <-release:
			return Raw{0xc0}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	srv.HandleStream("chat", func(ctx context.Context, _ *Request, s MessageStream) error {
		note(ctx)
		for {
			m, err := s.Recv()
			if err == io.EOF {
				return nil
			}
			if err == nil {
				err = s.Send(m)
			}
			if err != nil {
				return err
			}
		}
	})
	HandleConn(srv, "raw", func(ctx context.Context, conn net.Conn) error {
		note(ctx)
		_, err := io.Copy(conn, conn)
		return err
	})
	served, down := make(chan error, 1), make(chan error, 2)
	go func() { served <- srv.ServeSession(bg, prog.session(b)) }()

	hostile, shuts := false, 0
	for op, arg, ok := prog.next(); ok; op, arg, ok = prog.next() {
		s := p.stream(arg & 3)
		if s.over {
			break // the session has ended
		}
		switch {
		case op < 5: // a call
			if s.use != 0 && s.use != 'c' {
				continue
			}
			s.use = 'c'
			p.ids++
			p.asked = append(p.asked, p.ids)
			h := callHead{method: []string{"good", "bad", "panic", "wait", "none"}[op], requestID: strconv.FormatUint(p.ids, 10)}
			if arg&4 != 0 {
				h.timeout = 1000
			}
			s.id = p.ids
			p.write(s, appendCall2(nil, p.ids, &h, 0, Raw{0xc0}))
		case op == 5: // a cancel, perhaps of what is still to come
			id := p.ids - min(uint64(arg>>2), p.ids) + 1
			if first := p.stream(0); !first.over && (first.use == 0 || first.use == 'c') {
				first.use = 'c'
				p.abandon(id)
				first.conn.Write(appendCancel(nil, id))
			}
		case op == 6 || op == 7: // an open
			if s.use != 0 {
				continue
			}
			h := callHead{method: "chat", form: formStream}
			if s.use = 's'; op == 7 {
				h.method, h.form, s.use = "raw", formConn, 'r'
			}
			p.ids++
			s.id, h.requestID = p.ids, strconv.FormatUint(p.ids, 10)
			if s.use == 's' {
				p.asked = append(p.asked, s.id)
			}
			p.write(s, appendOpen(nil, s.id, &h))
		case op == 8: // an item
			if s.use == 's' {
				s.conn.Write(append(appendItem(nil, 0, 1), 0xc0))
			}
		case op == 9: // the end of the items
			if s.use == 's' {
				s.use = 'e'
				s.conn.Write(appendEnd(nil))
			}
		case op == 10: // bytes
			if s.use == 'r' {
				s.conn.Write([]byte("bytes"))
			}
		case op == 11 || op == 12: // the stream's end
			p.mu.Lock()
			for _, id := range p.asked {
				if s.use == 'c' || id == s.id {
					p.cut[id] = true // or it was one of another stream's; they are not told apart here
				}
			}
			p.mu.Unlock()
			if s.over = true; op == 11 {
				s.conn.Close()
			} else {
				s.conn.(*pipeStream).CloseWrite()
			}
		case op == 13: // a broken message
			if arg == 15 {
				hostile = true
				s.conn.Write(binary.BigEndian.AppendUint32(nil, 0))
			}
		case op == 14: // time goes by
			time.Sleep(time.Duration(arg) * time.Millisecond)
		case op == 15:
			if arg == 15 && shuts < 2 {
				shuts++
				go func() {
					ctx, cancel := context.WithTimeout(bg, time.Minute)
					defer cancel()
					down <- srv.Shutdown(ctx)
				}()
			}
		}
		synctest.Wait()
	}
	close(release)
	for _, s := range p.streams {
		if s != nil && !s.over && s.use == 's' {
			s.conn.Write(appendEnd(nil))
		}
	}
	synctest.Wait()
	p.check(t, hostile)
	a.Close()
	srv.Close()
	err := <-served
	if !hostile && errors.Is(err, ErrProtocol) {
		t.Error(err)
	}
	for range shuts {
		<-down
	}
	p.reading.Wait()
	synctest.Wait()
	if srv.admitted.Load() != 0 || srv.open.Load() != 0 || srv.running.used != 0 || len(srv.sessions) != 0 {
		t.Error("left behind:", srv.admitted.Load(), srv.open.Load(), srv.running.used, len(srv.sessions))
	}
}

// check compares what was answered with what ran.
func (p *puppeteer) check(t *testing.T, hostile bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, ran := range p.ran {
		if ran > 1 {
			t.Errorf("call %s ran %d times", id, ran)
		}
	}
	for _, id := range p.asked {
		answers := p.answers[id]
		if len(answers) > 1 || len(answers) == 0 && !hostile && !p.cut[id] {
			t.Errorf("call %d has %d answers", id, len(answers))
		}
		for _, m := range answers {
			failed := m.kind == kindError || m.kind == kindError2
			if ran := p.ran[strconv.FormatUint(id, 10)] > 0; ran == (failed && m.outcome == NotExecuted) {
				t.Errorf("call %d ran: %v, and was answered %+v", id, ran, m)
			}
		}
	}
}
