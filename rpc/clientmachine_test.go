package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
)

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

// fuzz: 5000x
func FuzzClientMachine(f *testing.F) {
	programs(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { runClientMachine(t, newTape(program)) })
	})
}

func runClientMachine(t *testing.T, prog *tape) {
	a, b := newPipe()
	st := &stage{sess: b, roles: make(map[string]*role)}
	st.reading.Go(st.run)
	c := NewClient(prog.session(a), Options{})
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
