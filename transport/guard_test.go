package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"
)

// A rawPeer has done the handshake and then sends whatever records it likes.
type rawPeer struct {
	t   *testing.T
	raw net.Conn
	out *outcome
}

// against sets a raw client against a real server session.
func against(t *testing.T) (*rawPeer, *Session) {
	t.Helper()
	return rawClient(t, tcpPair)
}

func rawClient(t *testing.T, pair func(testing.TB) (net.Conn, net.Conn)) (*rawPeer, *Session) {
	t.Helper()
	a, b := pair(t)
	client, server := configs()
	full, err := client.forClient()
	if err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{t: t, raw: a}
	var (
		session *Session
		serr    error
		wg      sync.WaitGroup
	)
	wg.Go(func() { session, serr = Server(context.Background(), b, server) })
	cerr := withDeadline(context.Background(), a, DefaultHandshakeTimeout, func(ctx context.Context) (err error) {
		p.out, err = clientHandshake(ctx, a, full)
		return err
	})
	wg.Wait()
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	t.Cleanup(func() {
		a.Close()
		session.Close()
	})
	return p, session
}

func (p *rawPeer) record(typ byte, data []byte) error {
	return writeRecord(p.raw, p.out.send, typ, data)
}

func frame(typ byte, flags uint16, id, length uint32, body ...byte) []byte {
	b := []byte{0, typ}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, length)
	return append(b, body...)
}

func syn(id uint32) []byte { return frame(frameWindow, flagSYN, id, 0) }

func data(id uint32, n int) []byte { return frame(frameData, 0, id, uint32(n), make([]byte, n)...) }

// Everything that an authenticated peer may not do, and the rule it breaks. The server has opened stream 2,
// and accepted stream 1.
func TestGuardRefuses(t *testing.T) {
	join := func(frames ...[]byte) (all []byte) {
		for _, f := range frames {
			all = append(all, f...)
		}
		return all
	}
	tests := []struct {
		name, rule string
		typ        byte
		data       []byte
	}{
		{"half a header", "S1", recordData, syn(3)[:11]},
		{"half a body", "S1", recordData, data(1, 9)[:20]},
		{"other version", "S2", recordData, append([]byte{1}, syn(3)[1:]...)},
		{"ping", "S2", recordData, frame(2, flagSYN, 0, 1)},
		{"go away", "S2", recordData, frame(3, 0, 0, 0)},
		{"unknown type", "S2", recordData, frame(9, 0, 1, 0)},
		{"unknown flag", "S2", recordData, frame(frameWindow, 16, 1, 0)},
		{"empty data", "S3", recordData, frame(frameData, 0, 1, 0)},
		{"data too long", "S3", recordData, frame(frameData, 0, 1, maxPayload+1)},
		{"data too long for an int of 32 bits", "S3", recordData, frame(frameData, 0, 1, 1<<31)},
		{"data with SYN", "S3", recordData, frame(frameData, flagSYN, 3, 1, 0)},
		{"data with FIN", "S3", recordData, frame(frameData, flagFIN, 1, 1, 0)},
		{"SYN with FIN", "S4", recordData, frame(frameWindow, flagSYN|flagFIN, 3, 0)},
		{"ACK of its own stream", "S4", recordData, frame(frameWindow, flagACK, 1, 0)},
		{"data before ACK", "S4", recordData, data(2, 1)},
		{"second ACK", "S4", recordData, join(frame(frameWindow, flagACK, 2, 0), frame(frameWindow, flagACK, 2, 0))},
		{"second FIN", "S4", recordData, join(frame(frameWindow, flagFIN, 1, 0), frame(frameWindow, flagFIN, 1, 0))},
		{"even id", "S5", recordData, syn(4)},
		{"id zero", "S5", recordData, syn(0)},
		{"id again", "S5", recordData, syn(1)},
		{"id going back", "S5", recordData, join(syn(9), syn(7))},
		{"data beyond the window", "S6", recordData, nil}, // built below
		{"data behind FIN", "S6", recordData, join(frame(frameWindow, flagFIN, 1, 0), data(1, 1))},
		{"window overflow", "S6", recordData, frame(frameWindow, 0, 1, 1<<32-1)},
		{"window too large with SYN", "S6", recordData, frame(frameWindow, flagSYN, 3, MaxStreamWindow)},
		{"window too large", "S6", recordData, frame(frameWindow, 0, 1, MaxStreamWindow)},
		{"FIN before ACK", "S7", recordData, join(syn(3), frame(frameWindow, flagFIN, 3, 0))},
		{"RST before ACK", "S7", recordData, join(syn(3), frame(frameWindow, flagRST, 3, 0))},
		{"unknown stream", "S8", recordData, data(99, 1)},
		{"window of unknown stream", "S8", recordData, frame(frameWindow, 0, 99, 1)},
		{"stream nobody opened", "S8", recordData, frame(frameWindow, flagACK, 4, 1)},
		{"too many streams", "S5", recordData, nil}, // built below
		{"empty data record", "R3", recordData, []byte{}},
		{"unknown record", "R3", 99, nil},
		{"ping with data", "R3", recordPing, []byte{1}},
		{"pong with data", "R3", recordPong, []byte{1}},
		{"alert of two bytes", "R3", recordAlert, []byte{1, 2}},
		{"close with data", "R3", recordClose, []byte{1}},
		{"late verdict", "R3", recordAccept, nil},
		{"ticket to a server", "R3", recordAccept, []byte{0, 0, 1, 0, 1}},
		{"update with data", "R7", recordUpdate, []byte{1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, s := against(t)
			if err := p.record(recordData, syn(1)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Accept(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Open(context.Background()); err != nil {
				t.Fatal(err)
			}
			switch test.name {
			case "data beyond the window":
				for range DefaultStreamWindow / maxPayload {
					p.record(recordData, data(1, maxPayload))
				}
				test.data = data(1, 1)
			case "too many streams":
				for id := uint32(3); id < 3+2*acceptBacklog; id += 2 {
					p.record(recordData, syn(id))
				}
				test.data = syn(3 + 2*acceptBacklog)
			}
			if err := p.record(test.typ, test.data); err != nil {
				t.Fatal(err)
			}
			<-s.Done()
			if err := s.Err(); !errors.Is(err, ErrMisbehaved) || !strings.Contains(err.Error(), "rule "+test.rule) {
				t.Fatalf("got %v, want rule %s", err, test.rule)
			}
			// The peer is told, in an authenticated record, behind what was queued before.
			for {
				typ, got, err := readRecord(p.raw, p.out.receive)
				if err != nil {
					t.Fatal(err)
				}
				if typ == recordAlert && Alert(got[0]) == AlertMisbehaved {
					return
				}
			}
		})
	}
}

// A peer may not know yet that a stream is over: what may still be under way is no offence.
func TestGuardToleratesStragglers(t *testing.T) {
	p, s := against(t)
	p.record(recordData, syn(1))
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
	for range 4 {
		p.record(recordData, data(1, maxPayload)) // the first is answered with a reset
	}
	p.record(recordData, frame(frameWindow, 0, 1, 1))
	p.record(recordData, frame(frameWindow, flagFIN, 1, 0))
	p.record(recordData, syn(3))
	if st, err = s.Accept(); err != nil { // the session lives
		t.Fatal(err)
	}
	for range 100 {
		p.record(recordData, data(1, maxPayload))
	}
	if _, err := st.Read(make([]byte, 1)); !errors.Is(err, ErrMisbehaved) {
		t.Fatal(err)
	}
}

// Window updates for a stream that is over are granted too, and counted; those for streams that never were are not granted.
func TestGuardCountsStragglers(t *testing.T) {
	for _, c := range []struct {
		granted int
		id      uint32
	}{{orphanFrames, 1}, {0, 99}, {0, 0}} {
		p, s := against(t)
		p.record(recordData, syn(1))
		st, err := s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		p.record(recordData, frame(frameWindow, flagFIN, 1, 0))
		st.Close() // now it has ended on both sides
		eventually(t, func() bool {
			s.guard.mu.Lock()
			defer s.guard.mu.Unlock()
			return len(s.guard.flows) == 0
		})
		for range c.granted {
			p.record(recordData, frame(frameWindow, 0, c.id, 1))
		}
		p.record(recordData, syn(3))
		if _, err = s.Accept(); err != nil { // the session lives
			t.Fatal(err)
		}
		p.record(recordData, frame(frameWindow, 0, c.id, 1))
		<-s.Done()
		if err := s.Err(); !errors.Is(err, ErrMisbehaved) || !strings.Contains(err.Error(), "rule S8") {
			t.Fatal(c.id, err)
		}
	}
}

// The peer's reset behind its FIN does not take back what it sent.
func TestResetBehindEndKeepsData(t *testing.T) {
	p, s := against(t)
	p.record(recordData, syn(1))
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p.record(recordData, append(append(data(1, 1000), frame(frameWindow, flagFIN, 1, 0)...), frame(frameWindow, flagRST, 1, 0)...))
	got, err := io.ReadAll(st)
	if len(got) != 1000 || err != nil {
		t.Fatal(len(got), err)
	}
	if _, err := st.Write([]byte{1}); !errors.Is(err, ErrStreamReset) {
		t.Fatal(err)
	}
	st.Close()
	expectNoStreams(t, s)
}

func TestResetIsAnError(t *testing.T) {
	p, s := against(t)
	p.record(recordData, syn(1))
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p.record(recordData, append(data(1, 5), frame(frameWindow, flagRST, 1, 0)...))
	if _, err := io.ReadAll(st); !errors.Is(err, ErrStreamReset) {
		t.Fatal(err)
	}
}

// Refused opens cost neither side anything that lasts.
func TestRefusedOpens(t *testing.T) {
	p, s := against(t)
	go io.Copy(io.Discard, p.raw)
	for id := uint32(2); id < 2+4*acceptBacklog; id += 2 {
		done := make(chan error)
		go func() {
			st, err := s.Open(context.Background())
			if err == nil {
				_, err = st.Read(make([]byte, 1))
				st.Close()
			}
			done <- err
		}()
		eventually(t, func() bool { return s.guard.lastID() == id })
		p.record(recordData, frame(frameWindow, flagRST, id, 0))
		if err := <-done; !errors.Is(err, ErrStreamReset) {
			t.Fatal(err)
		}
	}
	expectNoStreams(t, s)
}

// Opens beyond the backlog wait, for the peer or for their context.
func TestOpenWaits(t *testing.T) {
	cs, ss := sessions(t)
	for range acceptBacklog {
		if _, err := cs.Open(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := cs.Open(ctx)
		failed <- err
	}()
	opened := make(chan error)
	go func() {
		_, err := cs.Open(context.Background())
		opened <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := ss.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
}

// The peer's MaxStreams is kept by waiting, not by failing.
func TestMaxStreams(t *testing.T) {
	a, b := tcpPair(t)
	client, server := configs()
	server.MaxStreams = 2
	cs, ss := sessionsOver(t, a, b, client, server)
	one, far := streams(t, cs, ss)
	streams(t, cs, ss)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := cs.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	opened := make(chan error)
	go func() {
		_, err := cs.Open(context.Background())
		opened <- err
	}()
	eventually(t, func() bool {
		cs.guard.opens.mu.Lock()
		defer cs.guard.opens.mu.Unlock()
		return len(cs.guard.opens.waiters) > 0
	})
	one.Close()
	far.Close()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if _, err := ss.AcceptContext(t.Context()); err != nil { // it was not one too many
		t.Fatal(err)
	}
}

// A write that got nowhere, a read with nothing to read, an accept, an open: Close and its errors come at once.
func TestCloseUnblocks(t *testing.T) {
	for name, c := range map[string]struct {
		close func(cs *Session, o *Stream)
		want  error
	}{
		"stream":  {func(_ *Session, o *Stream) { o.Close() }, ErrStreamClosed},
		"session": {func(cs *Session, _ *Stream) { cs.Close() }, ErrSessionClosed},
	} {
		t.Run(name, func(t *testing.T) {
			cs, ss := sessions(t)
			o, _ := streams(t, cs, ss)
			results := make(chan error, 2)
			go func() {
				_, err := o.Write(make([]byte, 10<<20)) // beyond window and queue
				results <- err
			}()
			go func() {
				_, err := o.Read(make([]byte, 1))
				results <- err
			}()
			eventually(t, func() bool {
				cs.guard.mu.Lock()
				defer cs.guard.mu.Unlock()
				return o.flow.sendWindow == 0
			})
			c.close(cs, o)
			for range 2 {
				if err := <-results; !errors.Is(err, c.want) || !errors.Is(err, net.ErrClosed) {
					t.Fatal(err)
				}
			}
		})
	}
}

// One stream whose reader is away holds up nobody else.
func TestStalledStreamHarmsNobody(t *testing.T) {
	cs, ss := sessions(t)
	stalled, _ := streams(t, cs, ss)
	go stalled.Write(make([]byte, 10<<20))
	for range 50 {
		o, p := streams(t, cs, ss)
		msg := make([]byte, 200<<10)
		go o.Write(msg)
		if _, err := io.ReadFull(p, msg); err != nil {
			t.Fatal(err)
		}
		o.Close()
		p.Close()
	}
}

// Streams write their data past yamux, which relies on this: when OpenStream or AcceptStream has returned, the frame that
// opens or accepts the stream has been written, in one Write.
func TestYamuxWritesBeforeItReturns(t *testing.T) {
	a, b := net.Pipe()
	quiet := &yamux.Config{AcceptBacklog: 8, KeepAliveInterval: 1, ConnectionWriteTimeout: 1e9, MaxStreamWindowSize: 256 << 10, LogOutput: io.Discard}
	noted := &notingWriter{Conn: a}
	client, err1 := yamux.Client(noted, quiet)
	accepting := &notingWriter{Conn: b}
	server, err2 := yamux.Server(accepting, quiet)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer server.Close()
	for i := range 50 {
		id := uint32(2*i + 1)
		if _, err := client.OpenStream(); err != nil || !noted.has(frame(frameWindow, flagSYN, id, 0)) {
			t.Fatal(i, err)
		}
		if _, err := server.AcceptStream(); err != nil || !accepting.has(frame(frameWindow, flagACK, id, 0)) {
			t.Fatal(i, err)
		}
	}
}

// A notingWriter remembers what was written, call by call.
type notingWriter struct {
	net.Conn
	mu     sync.Mutex
	writes []string
}

func (w *notingWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	w.writes = append(w.writes, string(b))
	w.mu.Unlock()
	return w.Conn.Write(b)
}

func (w *notingWriter) has(b []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.writes, string(b))
}

// loneGuard is a server's guard with nothing above or below it.
func loneGuard(t *testing.T) *guard {
	t.Helper()
	full, err := (&Config{}).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{}
	c.tx.start, c.tx.room, c.tx.bound = func() {}, newBudget(txBudget), txBound
	return newGuard(&Session{cfg: full}, c, false, 10)
}

// A place in the backlog is free once the ACK goes out: the peer may use it as soon as that has come.
func TestBacklogEndsWithACK(t *testing.T) {
	g := loneGuard(t)
	for id := uint32(1); id < 2*acceptBacklog; id += 2 {
		if _, err := g.incoming(syn(id)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Write(frame(frameWindow, flagACK, 1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.incoming(syn(2*acceptBacklog + 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.incoming(syn(2*acceptBacklog + 3)); !errors.Is(err, ErrMisbehaved) {
		t.Fatal(err)
	}
}

// Data that a Write had on its way when the stream was reset does not follow the reset, which the peer would
// take for an offence, and its room is given back.
func TestNoDataBehindReset(t *testing.T) {
	g := loneGuard(t)
	g.incoming(syn(1))
	g.Write(frame(frameWindow, flagACK, 1, 0))
	stream := g.flows[1]
	stream.closed = true
	if _, err := g.incoming(data(1, 5)); err != nil { // answered with a reset
		t.Fatal(err)
	}
	queued := len(g.conn.tx.queue.b)
	g.conn.tx.room.take(7)
	if err := g.send(stream, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	if len(g.conn.tx.queue.b) != queued || g.conn.tx.room.free != txBudget {
		t.Fatalf("%d more bytes queued, %d of %d free", len(g.conn.tx.queue.b)-queued, g.conn.tx.room.free, txBudget)
	}
}

// busyGuard is a lone guard with streams in each state: 1 and 3 are the peer's, of which 3 is not accepted yet, and 5, which this side
// has closed; 2 and 4 are this side's, of which the peer has accepted 4.
func busyGuard(t *testing.T) *guard {
	t.Helper()
	g := loneGuard(t)
	g.unacked.take(2)
	g.opens.take(2)
	for _, id := range []uint32{2, 4} {
		g.Write(syn(id))
	}
	for _, b := range [][]byte{syn(1), syn(3), syn(5), frame(frameWindow, flagACK, 4, 0)} {
		if _, err := g.incoming(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []uint32{1, 5} {
		g.Write(frame(frameWindow, flagACK, id, 0))
	}
	g.flows[5].closed = true
	t.Cleanup(func() {
		for _, f := range g.flows {
			f.in.close()
		}
	})
	return g
}

// counted checks that what a guard counts is what it has.
func counted(t *testing.T, g *guard) {
	t.Helper()
	backlog, theirs, unacked, ours := 0, 0, 0, 0
	for id, f := range g.flows {
		if f.id != id || f.over || f.recvWindow < 0 || f.sendWindow < 0 || f.sendWindow > MaxStreamWindow {
			t.Fatalf("stream %d is %+v", id, f)
		}
		acked := 1
		if f.acked {
			acked = 0
		}
		if f.ours {
			ours++
			unacked += acked
		} else {
			theirs++
			backlog += acked
		}
	}
	if g.backlog != backlog || g.peerStreams != theirs || g.unacked.free != acceptBacklog-unacked || g.opens.free != 10-ours {
		t.Fatalf("backlog %d, streams %d, free are %d and %d, but there are %d, %d, %d, %d",
			g.backlog, g.peerStreams, g.unacked.free, g.opens.free, backlog, theirs, unacked, ours)
	}
}

// wholeFrames checks what is passed on.
func wholeFrames(t *testing.T, out []byte) {
	t.Helper()
	for err := error(nil); len(out) > 0; {
		if _, out, err = cutFrame(out); err != nil {
			t.Fatal(err)
		}
	}
}

// Any frames at all, from an authenticated peer: a verdict, never a panic, and what is passed on is whole frames.
func FuzzGuard(f *testing.F) {
	f.Add(append(syn(1), data(1, 5)...))
	f.Add(append(syn(1), append(syn(3), frame(frameWindow, flagFIN, 1, 0)...)...))
	for id := range uint32(8) {
		f.Add(data(id, 5))
		f.Add(append(frame(frameWindow, 0, id, 1), data(id, 5)...))
		for _, flags := range []uint16{flagACK, flagFIN, flagRST, flagACK | flagFIN, flagACK | flagRST} {
			f.Add(append(frame(frameWindow, flags, id, 0), frame(frameWindow, flagFIN, id, 0)...))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, g := range []*guard{loneGuard(t), busyGuard(t)} {
			out, err := g.incoming(bytes.Clone(in))
			if err != nil && !errors.Is(err, ErrMisbehaved) {
				t.Fatal(err)
			}
			wholeFrames(t, out)
			if err == nil { // else the session ends
				counted(t, g)
			}
		}
	})
}
