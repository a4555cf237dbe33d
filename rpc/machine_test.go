package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
type tape struct{ b []byte }

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

func FuzzServerMachine(f *testing.F) {
	programs(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { runServerMachine(t, &tape{program[:min(len(program), 300)]}) })
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
	go func() { served <- srv.ServeSession(bg, b) }()

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

// A role is what a scripted server has seen of a call, a stream or a connection.
type role struct {
	conn   net.Conn
	id     uint64
	form   byte
	whole  bool
	over   bool // the last word is said
	sent   int  // items, parts
	said   answerSaid
	broken bool
}

type answerSaid struct{ reply, done, ran, notRun bool }

// A stage is a scripted server. Methods are numbers, which tell its calls apart.
type stage struct {
	sess    *pipeSession
	reading sync.WaitGroup
	mu      sync.Mutex
	roles   map[string]*role
	conns   []net.Conn
}

func (st *stage) run() {
	for {
		conn, err := st.sess.Accept()
		if err != nil {
			return
		}
		st.mu.Lock()
		st.conns = append(st.conns, conn)
		st.mu.Unlock()
		st.reading.Go(func() { st.read(conn) })
	}
}

func (st *stage) read(conn net.Conn) {
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
		if m.kind == kindCall || m.kind == kindCall2 || m.kind == kindOpen {
			st.mu.Lock()
			st.roles[string(m.method)] = &role{conn: conn, id: m.id, form: m.form, whole: true}
			st.mu.Unlock()
		}
	}
}

// role is what is known of a call, nil if it never came.
func (st *stage) role(n int) *role {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.roles[strconv.Itoa(n)]
}

// An act is a call or a stream of the client under test.
type act struct {
	cancel context.CancelFunc
	large  bool
	stream RawStream
	conn   net.Conn
	recvs  int // Recvs that returned an item
	done   chan error
	ended  error // of Recv
	busy   bool
	mu     sync.Mutex
}

func FuzzClientMachine(f *testing.F) {
	programs(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { runClientMachine(t, &tape{program[:min(len(program), 300)]}) })
	})
}

func runClientMachine(t *testing.T, prog *tape) {
	a, b := newPipe()
	st := &stage{sess: b, roles: make(map[string]*role)}
	st.reading.Go(st.run)
	c := NewClient(a, Options{})
	var acts []*act
	var working sync.WaitGroup
	pick := func(arg int) (*act, *role) {
		if len(acts) == 0 {
			return nil, nil
		}
		n := max(len(acts)-1-arg, 0)
		return acts[n], st.role(n)
	}
	hostile := false
	for op, arg, ok := prog.next(); ok; op, arg, ok = prog.next() {
		x, r := pick(arg)
		answer := func(b []byte) { // a peer that is not read must not stop the program
			if !r.over {
				st.reading.Go(func() { r.conn.Write(b) })
			}
		}
		switch op {
		case 0, 1, 2, 3: // a call, small or large, a stream, a connection
			ctx, cancel := context.WithCancel(bg)
			x := &act{cancel: cancel, done: make(chan error, 1), large: op == 1}
			name := strconv.Itoa(len(acts))
			acts = append(acts, x)
			working.Go(func() {
				var err error
				switch op {
				case 0:
					_, err = c.Do(ctx, &Request{Method: name, Body: Raw{0xc0}})
				case 1:
					_, err = c.Do(ctx, &Request{Method: name, Body: append([]byte{0xc6, 0, 1, 0, 1}, make([]byte, LargeCall+1)...)})
				case 2:
					s, e := c.Open(ctx, &Request{Method: name})
					x.mu.Lock()
					x.stream, err = s, e
					x.mu.Unlock()
				case 3:
					conn, e := c.OpenConn(ctx, name)
					x.mu.Lock()
					x.conn, err = conn, e
					x.mu.Unlock()
				}
				x.done <- err
			})
		case 4:
			if x != nil {
				x.cancel()
			}
		case 5: // Recv
			if x == nil || x.stream == nil || x.busy {
				continue
			}
			x.busy = true
			working.Go(func() {
				body, err := x.stream.Recv()
				x.mu.Lock()
				defer x.mu.Unlock()
				x.busy = false
				switch {
				case err != nil && x.ended != nil && err != x.ended:
					t.Errorf("Recv: %v after %v", err, x.ended)
				case err != nil:
					x.ended = err
				case string(body) != string(Raw{byte(x.recvs & 127)}):
					t.Errorf("item %d is %x", x.recvs, body)
				default:
					x.recvs++
				}
			})
		case 6: // Send, CloseSend, Close
			if x == nil || x.stream == nil {
				continue
			}
			switch arg & 3 {
			case 0, 1:
				working.Go(func() { x.stream.Send(Raw{0xc0}) })
			case 2:
				working.Go(func() { x.stream.CloseSend() })
			case 3:
				x.stream.Close()
			}
		case 7: // a reply, a header that takes a connection, an item
			if r == nil {
				continue
			}
			switch {
			case r.form == formUnary:
				r.said.reply = true
				answer(appendReply(nil, r.id, Raw{0xc0}))
			case r.form == formConn && r.sent == 0:
				r.sent++
				answer(appendHeader(nil, nil))
			case r.form == formStream && !r.over:
				answer(append(appendItem(nil, 0, 1), byte(r.sent&127)))
				r.sent++
			}
		case 8, 9: // an error
			if r == nil || r.form == formConn && r.sent > 0 {
				continue
			}
			s := &wireStatus{code: NotFound, outcome: Executed}
			if r.said.ran = true; op == 9 {
				s.outcome, r.said.notRun = NotExecuted, true
			}
			answer(appendError(nil, r.id, s))
			r.over = r.form != formUnary
		case 10: // done
			if r != nil && r.form == formStream {
				r.said.done = true
				answer(appendDone(nil, nil))
				r.over = true
			}
		case 11: // the peer closes a stream
			if r != nil && !r.over {
				r.over, r.broken = true, true
				r.conn.Close()
			}
		case 12: // goaway, which a stream has before anything else
			if r != nil && r.form == formUnary {
				answer(appendGoaway(nil))
			}
		case 13:
			if arg == 15 && r != nil {
				hostile = true
				answer(frame("\x92\x04\x01"))
			}
		case 14:
			if arg == 15 {
				a.end(errors.New("the network is gone"))
			}
		case 15:
			switch {
			case arg == 15:
				go c.Close()
			case x != nil && x.conn != nil:
				x.conn.Close()
			}
		}
		synctest.Wait()
	}
	c.mu.Lock()
	ended := c.err
	c.mu.Unlock()
	if !hostile && errors.Is(ended, ErrProtocol) {
		t.Error(ended)
	}
	c.Close()
	working.Wait()
	for n, x := range acts {
		if err := x.verdict(<-x.done, st.role(n)); err != nil {
			t.Errorf("act %d: %v", n, err)
		}
		x.cancel()
	}
	b.Close()
	st.reading.Wait()
	for _, conn := range st.conns {
		conn.Close()
	}
	if c.inflight != 0 || len(c.streams) != 0 || c.large.used != 0 {
		t.Error("left behind:", c.inflight, len(c.streams), c.large.used)
	}
}

// verdict says what is wrong with how a call or a stream has ended, seen what its server saw and said.
func (x *act) verdict(err error, r *role) error {
	var said answerSaid
	if r != nil {
		said = r.said
	}
	if err == nil && x.stream != nil {
		if x.ended == io.EOF && (!said.done || x.recvs != r.sent) {
			return fmt.Errorf("io.EOF after %d of %d items, done: %v", x.recvs, r.sent, said.done)
		}
		if x.ended == io.EOF {
			return nil
		}
		err = x.ended
	}
	if err == nil {
		if x.stream == nil && x.conn == nil && !said.reply {
			return errors.New("a reply that nobody made")
		}
		return nil
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return fmt.Errorf("an error that is no *Error: %w", err)
	}
	switch e.Outcome {
	case NotSent:
		if r != nil && r.whole {
			return fmt.Errorf("was sent: %w", err)
		}
	case NotExecuted:
		if !said.notRun {
			return fmt.Errorf("nobody said so: %w", err)
		}
	case Executed:
		if !said.ran && !said.reply {
			return fmt.Errorf("nobody said so: %w", err)
		}
	}
	return nil
}
