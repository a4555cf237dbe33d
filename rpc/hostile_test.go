package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// A hostile is a client that writes what it likes on one stream.
type hostile struct {
	t      testing.TB
	srv    *Server
	sess   *memSession
	conn   net.Conn
	in     *frameReader
	served chan error
}

func newHostile(t testing.TB, srv *Server) *hostile {
	a, b := newMemPair()
	h := &hostile{t: t, srv: srv, sess: a, served: make(chan error, 1)}
	go func() { h.served <- srv.ServeSession(bg, b) }()
	conn, err := a.Open(bg)
	if err != nil {
		t.Fatal(err)
	}
	h.conn, h.in = conn, newFrameReader(conn)
	t.Cleanup(func() { a.Close(); srv.Close() })
	return h
}

// expect reads one message.
func (h *hostile) expect(kind byte) message {
	n, err := h.in.header()
	if err != nil {
		h.t.Error(err)
		return message{}
	}
	p, _, _ := h.in.payload(n)
	m, err := parseMessage(slices.Clone(p))
	if err != nil || m.kind != kind {
		h.t.Errorf("%+v, %v, want kind %d", m, err, kind)
	}
	return m
}

func frame(payload string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

func TestHostileClient(t *testing.T) {
	call := func(id uint64, method string) []byte { return appendCall(nil, id, method, 0, []byte{0xc0}) }
	for name, row := range map[string]struct {
		b       []byte
		session error // what ends the session; nil: only the stream ends
	}{
		"bad kind":           {frame("\x91\x09"), ErrProtocol},
		"a reply":            {appendReply(nil, 1, []byte{0xc0}), ErrProtocol},
		"a goaway":           {appendGoaway(nil), ErrProtocol},
		"an error":           {appendError(nil, 1, &wireStatus{code: Internal, outcome: Executed}), ErrProtocol},
		"HTTP":               {[]byte("GET / HTTP/1.1\r\n\r\n"), ErrProtocol},
		"empty message":      {frame(""), ErrProtocol},
		"length over limit":  {binary.BigEndian.AppendUint32(nil, DefaultMaxMessage+maxHead+1), nil},
		"length 2^32-1":      {[]byte{0xff, 0xff, 0xff, 0xff}, ErrProtocol},
		"cancel first":       {appendCancel(nil, 1000), nil},
		"id going back":      {append(call(2, "wait"), call(1, "wait")...), ErrProtocol},
		"id twice":           {append(call(2, "wait"), call(2, "wait")...), ErrProtocol},
		"cancel of future":   {append(call(2, "wait"), appendCancel(nil, 3)...), nil},
		"half a header":      {[]byte{0, 0}, nil},
		"half a message":     {call(1, "wait")[:8], nil},
		"half a large one":   {append(binary.BigEndian.AppendUint32(nil, 1<<20), make([]byte, 100_000)...), nil},
		"nothing":            {nil, nil},
		"a call, then gone":  {call(1, "wait"), nil},
		"cancel of old call": {append(append(call(1, "wait"), appendCancel(nil, 1)...), appendCancel(nil, 1)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := NewServer(Options{})
				handleRaw(srv, "wait", func(ctx context.Context, _ Raw) (Raw, error) { <-ctx.Done(); return nil, ctx.Err() })
				h := newHostile(t, srv)
				go io.Copy(io.Discard, h.conn)
				h.conn.Write(row.b)
				if row.session != nil {
					if err := <-h.served; !errors.Is(err, row.session) || !errors.Is(err, ErrProtocol) {
						t.Error(err)
					}
					return
				}
				h.conn.Close()
				synctest.Wait() // the handler, the reader and the writer have ended; the session lives
				c := NewClient(h.sess, Options{})
				_, err := Call[string](bg, c, "none", "")
				want(t, err, Unimplemented, NotExecuted)
				c.Close()
				if err := <-h.served; err != nil {
					t.Error(err)
				}
			})
		})
	}
	t.Run("id running on another stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := NewServer(Options{})
			handleRaw(srv, "wait", func(ctx context.Context, _ Raw) (Raw, error) { <-ctx.Done(); return nil, ctx.Err() })
			h := newHostile(t, srv)
			other, _ := h.sess.Open(bg)
			h.conn.Write(call(1, "wait"))
			synctest.Wait()
			other.Write(call(1, "wait"))
			if err := <-h.served; !errors.Is(err, ErrProtocol) {
				t.Error(err)
			}
		})
	})
}

func TestHostileBodies(t *testing.T) {
	h := newHostile(t, NewServer(Options{}))
	for i, body := range []string{"\xc1", "\xdd\xff\xff\xff\xff", "\xc0\xc0", "\xd6\x051234"} {
		go h.conn.Write(appendCall(nil, uint64(i+1), "echo", 0, []byte(body)))
		if m := h.expect(kindError); m.code != InvalidArgument || m.outcome != NotExecuted {
			t.Errorf("%x: %+v", body, m)
		}
	}
}

// TestHostileServer: whatever a server writes, the call ends typed and so does the session, if a rule was broken.
func TestHostileServer(t *testing.T) {
	for name, row := range map[string]struct {
		b     []byte
		is    error
		fatal bool
	}{
		"bad kind":          {frame("\x91\x09"), ErrProtocol, true},
		"a call":            {appendCall(nil, 1, "m", 0, []byte{0xc0}), ErrProtocol, true},
		"a cancel":          {appendCancel(nil, 1), ErrProtocol, true},
		"unknown id":        {appendReply(nil, 2, []byte{0xc0}), ErrProtocol, true},
		"length over limit": {[]byte{0x30, 0, 0, 0}, ErrProtocol, true},
		"length over all":   {[]byte{0xff, 0, 0, 0}, ErrProtocol, true},
		"half a message":    {[]byte{0, 0, 0, 9, 1}, io.ErrUnexpectedEOF, false},
		"nothing":           {nil, io.ErrUnexpectedEOF, false},
		"bad body":          {appendReply(nil, 1, []byte{0xc1}), ErrBadMessage, false},
		"good, twice":       {append(appendReply(nil, 1, []byte{0xc0}), appendReply(nil, 1, []byte{0xc0})...), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newMemPair()
			c := NewClient(a, Options{})
			var wg sync.WaitGroup
			wg.Go(func() {
				conn, err := b.Accept()
				if err != nil {
					return
				}
				in := newFrameReader(conn)
				if n, err := in.header(); err == nil {
					in.payload(n)
				}
				conn.Write(row.b)
				conn.Close()
			})
			_, err := Call[any](bg, c, "m", nil)
			if (err == nil) != (row.is == nil) || row.is != nil && !errors.Is(err, row.is) {
				t.Error(err)
			}
			if row.fatal {
				want(t, err, Unavailable, OutcomeUnknown)
				<-a.Done()
			}
			c.Close()
			wg.Wait()
		})
	}
}

// TestSlowReader: a client that reads no replies costs bounded memory, and then its handlers wait.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, running = 100_000, 20
		srv := NewServer(Options{MaxCalls: running, MaxQueue: -1, MaxHeld: 1 << 20})
		var made atomic.Int64
		Handle(srv, "big", func(context.Context, Raw) ([]byte, error) {
			made.Add(1)
			return make([]byte, size), nil
		})
		h := newHostile(t, srv)
		var calls []byte
		for id := range uint64(1000) {
			calls = appendCall(calls, id+1, "big", 0, []byte{0xc0})
		}
		wrote := make(chan struct{})
		go func() { defer close(wrote); h.conn.Write(calls) }()
		synctest.Wait()
		if n := made.Load(); n > running+sharedLimit/size+1 {
			t.Errorf("%d replies of %d bytes were made for a client that reads none", n, size)
		}
		replies, refused := 0, 0
		for replies+refused < 1000 {
			n, err := h.in.header()
			if err != nil {
				t.Fatal(err)
			}
			p, _, _ := h.in.payload(n)
			switch m, err := parseMessage(p); {
			case err != nil:
				t.Fatal(err)
			case m.kind == kindPart:
			case m.kind == kindReply:
				replies++
			case m.code == ResourceExhausted && m.outcome == NotExecuted:
				refused++
			}
		}
		<-wrote
		if replies+refused != 1000 || int64(replies) != made.Load() {
			t.Error(replies, refused, made.Load())
		}
	})
}

// TestWithdrawnCallIsNotSent: a call that the writer has not taken leaves no trace.
func TestWithdrawnCallIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemPair()
		c := NewClient(a, Options{})
		results := make(chan error, 2)
		ctx, cancel := context.WithCancel(bg)
		go func() { _, err := Call[any](bg, c, "first", nil); results <- err }()
		synctest.Wait() // the writer is blocked in Write with the first call
		go func() { _, err := Call[any](ctx, c, "second", nil); results <- err }()
		synctest.Wait()
		cancel()
		want(t, <-results, Canceled, NotSent)
		conn, _ := b.Accept()
		in := newFrameReader(conn)
		n, _ := in.header()
		if p, _, _ := in.payload(n); !bytes.Contains(p, []byte("first")) {
			t.Errorf("%q", p)
		}
		go conn.Write(appendReply(nil, 1, []byte{0xc0}))
		if err := <-results; err != nil {
			t.Error(err)
		}
		c.Close()
		if _, err := in.header(); err != io.EOF { // nothing of the second
			t.Error(err)
		}
	})
}

// TestLargeCallGivenUp: a large call that is given up half written was never sent whole.
func TestLargeCallGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newMemPair()
		c := NewClient(a, Options{})
		ctx, cancel := context.WithCancel(bg)
		result := make(chan error, 1)
		go func() { _, err := Call[any](ctx, c, "m", make([]byte, 1<<20)); result <- err }()
		b.Accept() // the shared stream, which is there for the drain's sake
		conn, _ := b.Accept()
		io.ReadFull(conn, make([]byte, 100_000))
		cancel()
		want(t, <-result, Canceled, NotSent)
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Error(err)
		}
		c.Close()
	})
}
