package transport

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

// A taker is a function for Receive that takes what it is let, and tells of its end.
type taker struct {
	mu   sync.Mutex
	took []byte
	most int // of took
	ends chan error
	from *Stream
}

func newTaker(from *Stream, most int) *taker {
	return &taker{from: from, most: most, ends: make(chan error, 10)}
}

func (tk *taker) take(p []byte) int {
	if p == nil {
		go func() {
			_, err := tk.from.Read(make([]byte, 1))
			tk.ends <- err
		}()
		return 0
	}
	tk.mu.Lock()
	defer tk.mu.Unlock()
	n := min(len(p), tk.most-len(tk.took))
	tk.took = append(tk.took, p[:n]...)
	return n
}

func (tk *taker) has(n int) func() bool {
	return func() bool {
		tk.mu.Lock()
		defer tk.mu.Unlock()
		return len(tk.took) >= n
	}
}

// What a function set by Receive leaves is for Read, with what follows, and then Receive may be called again.
func TestReceive(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	msg := make([]byte, 3<<20) // far more than the window: what f takes is granted again
	for i := range msg {
		msg[i] = byte(i * i >> 8)
	}
	first := newTaker(p, 2<<20)
	if !p.Receive(first.take) {
		t.Fatal("nothing had come")
	}
	go o.Write(msg)
	eventually(t, first.has(2<<20))
	rest := make([]byte, 1<<20)
	if _, err := io.ReadFull(p, rest); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(first.took, rest...), msg) {
		t.Fatal("something else came")
	}
	second := newTaker(p, 100)
	if !p.Receive(second.take) {
		t.Fatal("all had been read")
	}
	o.Write(msg[:5])
	eventually(t, second.has(5))
	o.CloseWrite()
	if err := <-second.ends; err != io.EOF {
		t.Fatal(err)
	}
	if p.Receive(second.take) {
		t.Fatal("the stream has ended")
	}
}

// Read comes before Receive.
func TestReceiveNotPastData(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	o.Write([]byte("first"))
	eventually(t, func() bool {
		p.flow.in.mu.Lock()
		defer p.flow.in.mu.Unlock()
		return p.flow.in.head != nil
	})
	if p.Receive(newTaker(p, 100).take) {
		t.Fatal("there was something to read")
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(p, b); err != nil || string(b) != "first" {
		t.Fatal(err, b)
	}
}

// However a stream ends, its function is told once, and Read says why.
func TestReceiveEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(o, p *Stream)
		want error
	}{
		"half closed":          {func(o, _ *Stream) { o.CloseWrite() }, io.EOF},
		"closed":               {func(o, _ *Stream) { o.Close() }, io.EOF},
		"closed here":          {func(_, p *Stream) { p.Close() }, ErrStreamClosed},
		"session closed":       {func(o, _ *Stream) { o.Session().Close() }, ErrPeerClosed},
		"session closed here":  {func(_, p *Stream) { p.Session().Close() }, ErrSessionClosed},
		"connection lost":      {func(o, _ *Stream) { o.session.conn.raw.Close() }, ErrTruncated},
		"closed here, by both": {func(_, p *Stream) { go p.Close(); p.Close() }, ErrStreamClosed},
	} {
		t.Run(name, func(t *testing.T) {
			cs, ss := sessions(t)
			o, p := streams(t, cs, ss)
			tk := newTaker(p, 100)
			if !p.Receive(tk.take) {
				t.Fatal("nothing had come")
			}
			o.Write([]byte("x"))
			eventually(t, tk.has(1))
			c.end(o, p)
			if err := <-tk.ends; !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			cs.Close()
			ss.Close()
			if len(tk.ends) != 0 {
				t.Fatal("told twice")
			}
		})
	}
}

// A function that closes its own stream is told of that once, when it has returned.
func TestReceiveClosesItself(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	calls := make(chan int, 10)
	p.Receive(func(b []byte) int {
		if b != nil {
			p.Close()
		}
		calls <- len(b)
		return len(b)
	})
	o.Write([]byte("abc"))
	if a, b := <-calls, <-calls; a != 3 || b != 0 {
		t.Fatal(a, b)
	}
	cs.Close()
	ss.Close()
	if len(calls) != 0 {
		t.Fatal("told twice")
	}
}

// Several may read at once: nothing is lost, nobody is forgotten.
func TestManyReaders(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	var wg sync.WaitGroup
	var mu sync.Mutex
	sum, want := 0, 0
	for range 8 {
		wg.Go(func() {
			b := make([]byte, 1000)
			for {
				n, err := p.Read(b)
				mu.Lock()
				for _, c := range b[:n] {
					sum += int(c)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	msg := make([]byte, 1<<20)
	for i := range msg {
		msg[i] = byte(i)
		want += i & 255
	}
	o.Write(msg)
	o.CloseWrite()
	wg.Wait()
	if sum != want {
		t.Fatal(sum, want)
	}
}

// The memory of what was read goes back at once, and so does that of what nobody will read.
func TestInboxHoldsNothing(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	o.Write(make([]byte, 100<<10))
	if _, err := io.ReadFull(p, make([]byte, 100<<10)); err != nil {
		t.Fatal(err)
	}
	o.Write(make([]byte, 100<<10))
	p.SetReadDeadline(time.Now().Add(time.Hour))
	p.Close()
	in := &p.flow.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.head != nil || in.tail != nil || in.timer.Stop() {
		t.Fatal("it holds something yet")
	}
}

// A session that waits for its peer holds no read buffer.
func TestIdleSessionHoldsNoBuffer(t *testing.T) {
	cs, ss := sessions(t)
	o, p := streams(t, cs, ss)
	go o.Write(make([]byte, 1<<20))
	if _, err := io.ReadFull(p, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Session{cs, ss} {
		s.Close() // only then may the receiving half be looked at
	}
	if newReadWait(ss.conn.raw, new(rxHalf)) == nil {
		t.Skip("this system's connections are read with a buffer in hand")
	}
	var rx rxHalf
	a, b := tcpPair(t)
	rx.wait = newReadWait(a, &rx)
	waiting := make(chan error)
	go func() {
		_, err := rx.read()
		waiting <- err
	}()
	b.Close()
	if err := <-waiting; err != io.EOF {
		t.Fatal(err)
	}
	rx.release()
	if rx.buf != nil || rx.big != nil {
		t.Fatal("the buffer stays")
	}
}
