package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func pipePair(testing.TB) (net.Conn, net.Conn) { return net.Pipe() }

// A peer that says nothing more is asked once, and given up when it does not answer.
func TestSilentPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, s := rawClient(t, pipePair)
		asked := make(chan time.Duration, 1)
		begun := time.Now()
		go func() {
			for {
				typ, _, err := readRecord(p.raw, p.out.receive)
				if err != nil {
					return
				}
				if typ == recordPing {
					asked <- time.Since(begun)
				}
			}
		}()
		<-s.Done()
		if at := <-asked; at != DefaultKeepaliveInterval {
			t.Errorf("asked after %v", at)
		}
		if took := time.Since(begun); took != DefaultKeepaliveInterval+DefaultKeepaliveTimeout || !errors.Is(s.Err(), ErrPeerSilent) || !errors.Is(s.Err(), os.ErrDeadlineExceeded) {
			t.Errorf("%v after %v", s.Err(), took)
		}
	})
}

// Two idle sides keep each other alive for ever.
func TestIdleSessionLives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := configs()
		cs, ss := sessionsOver(t, a, b, client, server)
		time.Sleep(24 * time.Hour)
		o, p := streams(t, cs, ss)
		go io.WriteString(o, "still there")
		buf := make([]byte, 11)
		if _, err := io.ReadFull(p, buf); err != nil || string(buf) != "still there" {
			t.Fatal(string(buf), err)
		}
	})
}

// A peer that talks but takes nothing is given up at the write timeout, and writers are told.
func TestPeerThatTakesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p, s := rawClient(t, pipePair)
		stop := make(chan struct{})
		go func() {
			for p.record(recordPong, nil) == nil {
				select {
				case <-time.After(time.Second):
				case <-stop:
					return
				}
			}
		}()
		defer close(stop)
		begun := time.Now()
		_, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		if took := time.Since(begun); took.Truncate(time.Microsecond) != DefaultWriteTimeout || !errors.Is(s.Err(), ErrWriteStalled) {
			t.Fatalf("%v after %v", s.Err(), took)
		}
	})
}

// A peer that makes us answer and takes no answer is cut off by what waits for it.
func TestPeerThatFloods(t *testing.T) {
	p, s := against(t)
	s.conn.tx.mu.Lock()
	s.conn.tx.bound = 64 << 10 // txBound, which takes long to fill
	s.conn.tx.mu.Unlock()
	for id := uint32(1); ; id += 2 {
		if p.record(recordData, syn(id)) != nil {
			break
		}
		st, err := s.Accept()
		if err != nil {
			break
		}
		st.Close()
		if p.record(recordData, data(id, 1)) != nil || p.record(recordPing, nil) != nil {
			break
		}
	}
	<-s.Done()
	if err := s.Err(); !errors.Is(err, ErrWriteStalled) {
		t.Fatal(err)
	}
}

// A reader that comes late still gets all that a closed stream sent, however late.
func TestLateReaderLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := configs()
		cs, ss := sessionsOver(t, a, b, client, server)
		o, p := streams(t, cs, ss)
		if _, err := o.Write(make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
		o.Close()
		time.Sleep(time.Hour) // yamux resets a half-closed stream after streamCloseTimeout
		if got, err := io.ReadAll(p); len(got) != 100<<10 || err != nil {
			t.Fatal(len(got), err)
		}
		p.Close()
		expectNoStreams(t, cs, ss)
	})
}

// A reply may take as long as it likes after a half close.
func TestLateReplyAfterHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := configs()
		cs, ss := sessionsOver(t, a, b, client, server)
		o, p := streams(t, cs, ss)
		o.CloseWrite()
		time.Sleep(time.Hour)
		go func() {
			io.WriteString(p, "reply")
			p.Close()
		}()
		if got, err := io.ReadAll(o); string(got) != "reply" || err != nil {
			t.Fatal(string(got), err)
		}
	})
}

// Close waits for an unresponsive peer no longer than CloseTimeout.
func TestCloseIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, s := rawClient(t, pipePair)
		begun := time.Now()
		s.Close()
		if took := time.Since(begun); took > DefaultCloseTimeout {
			t.Fatalf("took %v", took)
		}
		if err := s.Err(); !errors.Is(err, ErrSessionClosed) {
			t.Fatal(err)
		}
	})
}

// Both sides close at once: both are through at once.
func TestCloseBothAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := configs()
		cs, ss := sessionsOver(t, a, b, client, server)
		begun := time.Now()
		done := make(chan struct{})
		go func() {
			cs.Close()
			close(done)
		}()
		ss.Close()
		<-done
		if took := time.Since(begun); took != 0 {
			t.Fatalf("took %v", took)
		}
	})
}

// What we must answer is bounded, whoever makes us and however: a peer that takes no answer is cut off soon, not at a timeout.
func TestAnswersAreBounded(t *testing.T) {
	p, s := rawClient(t, pipePair)
	s.conn.tx.mu.Lock()
	s.conn.tx.bound = 256
	s.conn.tx.mu.Unlock()
	p.record(recordData, syn(1))
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, st) // each window that is read is granted anew
	room := func() bool {
		s.guard.mu.Lock()
		defer s.guard.mu.Unlock()
		f := s.guard.flows[1]
		return f == nil || f.recvWindow >= 2*maxPayload || s.ended() // one may be on its way
	}
	for n := 0; p.record(recordData, data(1, maxPayload)) == nil; n++ {
		if n > 3000 {
			t.Fatal("it is never cut off")
		}
		eventually(t, room)
	}
	<-s.Done()
	if err := s.Err(); !errors.Is(err, ErrWriteStalled) {
		t.Fatal(err)
	}
}

// One answer is enough for all the pings that came before it.
func TestPongsAreBounded(t *testing.T) {
	p, s := rawClient(t, pipePair)
	for range 100 {
		if err := p.record(recordPing, nil); err != nil {
			t.Fatal(err)
		}
	}
	p.record(recordData, syn(1))
	if _, err := s.Accept(); err != nil { // all the pings have been taken
		t.Fatal(err)
	}
	s.conn.tx.mu.Lock()
	defer s.conn.tx.mu.Unlock()
	if n := len(s.conn.tx.queue.b); n > 100 {
		t.Fatalf("%d bytes are queued", n)
	}
}

// What yamux has to say beside window updates stays here.
func TestYamuxSaysNothingElse(t *testing.T) {
	p, s := against(t)
	for _, typ := range []byte{frameData, 2, 3} {
		if n, err := s.guard.Write(frame(typ, flagSYN, 0, 0)); n != frameHeader || err != nil {
			t.Error(n, err)
		}
	}
	s.guard.conn.tx.record(false, recordPing)
	if typ, _, err := readRecord(p.raw, p.out.receive); typ != recordPing || err != nil {
		t.Error(typ, err)
	}
}
