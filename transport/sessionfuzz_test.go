package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// A whole session, with yamux, between its user and a peer that has the keys: FuzzSession. A program is a byte an operation, of the
// one or the other; its high bits choose what it works on.

// A user has a session under test, and whatever it makes of it. What may wait is done in goroutines.
type user struct {
	t       *testing.T
	session *Session
	ctx     context.Context
	working sync.WaitGroup

	mu      sync.Mutex // protects what follows
	streams []*Stream
}

var sessionErrors = []error{ErrSessionClosed, ErrPeerClosed, ErrTruncated, ErrRecord, ErrMisbehaved, ErrPeerSilent, ErrWriteStalled,
	ErrStreamReset, ErrStreamClosed, io.EOF, os.ErrDeadlineExceeded, context.Canceled}

// told checks an error that the user has got.
func (u *user) told(what string, err error) {
	if _, ok := errors.AsType[*AlertError](err); ok || err == nil {
		return
	}
	for _, known := range sessionErrors {
		if errors.Is(err, known) {
			return
		}
	}
	u.t.Errorf("%s: %v", what, err)
}

func (u *user) open(how string, f func() (net.Conn, error)) {
	u.working.Go(func() {
		conn, err := f()
		if u.told(how, err); err == nil {
			u.mu.Lock()
			u.streams = append(u.streams, conn.(*Stream))
			u.mu.Unlock()
		}
	})
}

// stream is one of those that there are, nil if there are none.
func (u *user) stream(arg int) *Stream {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.streams) == 0 {
		return nil
	}
	return u.streams[arg%len(u.streams)]
}

// does is an operation of the user's.
func (u *user) does(op, arg int) {
	s := u.stream(arg)
	switch {
	case op == 0:
		u.open("open", func() (net.Conn, error) { return u.session.Open(u.ctx) })
	case op == 1:
		u.open("accept", func() (net.Conn, error) { return u.session.AcceptContext(u.ctx) })
	case s == nil:
	case op == 2:
		size := []int{1, 5000, 70_000, 600_000}[arg%4]
		u.working.Go(func() { _, err := s.Write(make([]byte, size)); u.told("write", err) })
	case op == 3:
		u.working.Go(func() { _, err := s.Read(make([]byte, 300_000)); u.told("read", err) })
	case op == 4:
		u.working.Go(func() { u.told("close write", s.CloseWrite()) })
	case op == 5 && arg%4 == 3:
		u.working.Go(func() { u.told("reset", s.Reset()) })
	case op == 5:
		u.working.Go(func() { u.told("close", s.Close()) })
	case op == 6 && arg%2 == 0:
		s.Receive(func(p []byte) int { return len(p) / 2 })
	case op == 6: // past, or none
		u.told("deadline", s.SetDeadline([]time.Time{{}, time.Unix(1, 0)}[arg/2%2]))
	}
}

// A foe is the peer. It keeps to no rule, but knows them.
type foe struct {
	raw  net.Conn
	send *cipherState
	even uint32 // 0 if its own streams have even ids, else 1
	next uint32 // of its own streams
}

// says is an operation of the peer's.
func (p *foe) says(op, arg int) {
	mine, theirs := uint32(2*(arg%4)+2)-p.even, uint32(2*(arg%4)+1)+p.even
	id := mine
	if arg >= 8 {
		id = theirs
	}
	switch op {
	case 8: // opens a stream
		p.next += 2
		p.record(recordData, syn(p.next-p.even))
	case 9: // sends data
		p.record(recordData, data(id, []int{1, 1000, 20_000, maxPayload}[arg%4]))
	case 10: // takes a stream, or sends its end
		p.record(recordData, frame(frameWindow, []uint16{flagACK, flagFIN, flagRST, flagACK | flagRST}[arg/2%4], id, 0))
	case 11: // takes a stream, and says more
		p.record(recordData, append(frame(frameWindow, flagACK, theirs, 1<<16), data(theirs, 9)...))
	case 12: // has read
		p.record(recordData, frame(frameWindow, 0, id, 1<<(arg%8+12)))
	case 13: // records of other kinds
		typ := []byte{recordPing, recordPong, recordUpdate, recordAccept}[arg%4]
		p.record(typ, nil)
		if typ == recordUpdate {
			p.send.update()
		}
	case 14: // the end
		switch arg % 16 {
		case 0:
			p.record(recordClose, nil)
		case 1:
			p.record(recordAlert, []byte{byte(AlertMisbehaved)})
		case 2:
			p.raw.Write(binary.BigEndian.AppendUint16(nil, maxSealed+1))
		case 3:
			p.raw.Close()
		}
	}
}

func (p *foe) record(typ byte, data []byte) { writeRecord(p.raw, p.send, typ, data) }

// Whatever a peer and a user do, the user is told with errors that it knows, the session's end is known, and nothing is left that
// waits or runs. Not in a bubble: what TestMain's goleak finds is left is found at the end, and what hangs, here.
// fuzz: 10000x
func FuzzSession(f *testing.F) {
	for op := range byte(16) {
		f.Add([]byte{8, 1, op, 0x10 | op, 0x92, 3}, true)
		f.Add([]byte{0, 0, 11, op, 0x40 | op, 0x80 | op, 2, 3, 5}, false)
		f.Add([]byte{8, 1, 0x07, 0x02, 9, 3, op, 0x22 | op, 4, 10, 5, 0x6a}, op%2 == 0)
	}
	secrets := [2][]byte{bytes.Repeat([]byte{1}, secretSize), bytes.Repeat([]byte{2}, secretSize)}
	cipherOf := func(i int) *cipherState { return newCipherState(bytes.Clone(secrets[i])) }
	cfg, err := (&Config{MaxStreams: 4}).withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, program []byte, client bool) {
		hung := time.AfterFunc(30*time.Second, func() { panic("it hangs") })
		defer hung.Stop()
		a, b := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		u := &user{t: t, ctx: ctx, session: newSession(a, cfg, &outcome{send: cipherOf(0), receive: cipherOf(1), maxStreams: 3}, client)}
		p := &foe{raw: b, send: cipherOf(1)}
		if !client {
			p.even = 1
		}
		u.working.Go(func() { hears(t, b, cipherOf(0)) })
		for _, code := range program[:min(len(program), 60)] {
			switch op, arg := int(code&15), int(code>>4); {
			case op == 7 || op == 15: // the goroutines' turn
				for range 10 * arg {
					runtime.Gosched()
				}
			case op < 8:
				u.does(op, arg)
			default:
				p.says(op, arg)
			}
		}
		cancel()
		u.session.Close()
		b.Close()
		u.working.Wait()
		if u.told("the end", u.session.Err()); u.session.Err() == nil {
			t.Error("it has not ended")
		}
	})
}

// hears reads records, which all open, up to the session's last.
func hears(t *testing.T, raw net.Conn, in *cipherState) {
	for {
		typ, _, err := readRecord(raw, in)
		if err == ErrHandshake {
			t.Error("a record that does not open")
		}
		switch {
		case err != nil:
			return
		case typ == recordUpdate:
			in.update()
		case typ == recordClose || typ == recordAlert:
			raw.Close()
			return
		}
	}
}
