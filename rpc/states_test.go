package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The tables below have a row for every state and a column for every operation or event, and say what comes of it.

// table calls cell for each entry of a table and compares what it returns. "-" stands for a pair that cannot be.
func table(t *testing.T, text string, cell func(t *testing.T, state, event string) string) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	events := strings.Fields(lines[0])[1:]
	for _, line := range lines[1:] {
		row := strings.Fields(line)
		if len(row) != len(events)+1 {
			t.Fatalf("a row of %d: %s", len(row), line)
		}
		for i, event := range events {
			if row[i+1] == "-" {
				continue
			}
			t.Run(row[0]+"/"+event, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if got := cell(t, row[0], event); got != row[i+1] {
						t.Errorf("got %s, want %s", got, row[i+1])
					}
				})
			})
		}
	}
}

// word is an error in one word: a code and an outcome, or its kind.
func word(err error) string {
	outcomes := map[Outcome]string{NotSent: "not-sent", NotExecuted: "not-run", OutcomeUnknown: "unknown", Executed: "ran"}
	switch e, _ := errors.AsType[*Error](err); {
	case err == nil:
		return "ok"
	case err == io.EOF:
		return "EOF"
	case errors.Is(err, ErrStreamDone):
		return "done"
	case e != nil:
		return e.Code.String() + ":" + outcomes[e.Outcome]
	case errors.Is(err, net.ErrClosed):
		return "closed"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut"
	}
	return "?" + err.Error()
}

// life is what becomes of further calls.
func life(c *Client) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return "dead"
	case c.draining:
		return "drains"
	}
	return "lives"
}

// A slot is where a call's result will be.
type slot chan error

func (s slot) word() string {
	select {
	case err := <-s:
		s <- err
		return word(err)
	default:
		return "waits"
	}
}

// TestCallStates: a call, of which nothing was done yet (before), that waits behind another for a peer that does not read (queued),
// that the peer has not read whole (written), that runs there (sent), of whose reply a part has come (parted), that was given up
// (given-up), or that is over. What comes of it, and of the client.
func TestCallStates(t *testing.T) {
	table(t, `
state     reply            error               part          cancel                  deadline                          eof                       cut                     violation                goaway            close
before    -                -                   -             Canceled:not-sent/lives DeadlineExceeded:not-sent/lives   -                         Unavailable:not-sent/dead Unavailable:not-sent/dead Unavailable:not-sent/drains Unavailable:not-sent/dead
queued    ok/lives         NotFound:ran/lives  waits/lives   Canceled:not-sent/lives DeadlineExceeded:not-sent/lives   Unavailable:not-sent/lives Unavailable:not-sent/dead Unavailable:not-sent/dead waits/drains      Unavailable:not-sent/dead
written   ok/lives         NotFound:ran/lives  waits/lives   Canceled:unknown/lives  DeadlineExceeded:unknown/lives    Unavailable:unknown/lives Unavailable:unknown/dead Unavailable:unknown/dead waits/drains      Unavailable:unknown/dead
sent      ok/lives         NotFound:ran/lives  waits/lives   Canceled:unknown/lives  DeadlineExceeded:unknown/lives    Unavailable:unknown/lives Unavailable:unknown/dead Unavailable:unknown/dead waits/drains      Unavailable:unknown/dead
parted    ok/lives         NotFound:ran/lives  waits/lives   Canceled:unknown/lives  DeadlineExceeded:unknown/lives    Unavailable:unknown/lives Unavailable:unknown/dead Unavailable:unknown/dead waits/drains      Unavailable:unknown/dead
given-up  Canceled:unknown/lives Canceled:unknown/lives Canceled:unknown/lives Canceled:unknown/lives Canceled:unknown/lives Canceled:unknown/lives Canceled:unknown/dead Canceled:unknown/dead Canceled:unknown/drains Canceled:unknown/dead
over      ok/lives         ok/lives            ok/lives      ok/lives                ok/lives                          ok/lives                  ok/dead                 ok/dead                  ok/drains         ok/dead
`, func(t *testing.T, state, event string) string {
		a, b := newMemPair()
		c := NewClient(a, Options{})
		defer c.Close()
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		call := func(ctx context.Context) slot {
			s := make(slot, 1)
			go func() { _, err := Call[any](ctx, c, "m", nil); s <- err }()
			synctest.Wait()
			return s
		}
		other := call(bg) // the peer's to answer, if it ever does
		id := uint64(2)
		conn, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in := newFrameReader(conn)
		read := func() {
			n, err := in.header()
			if err != nil {
				t.Error(err)
			}
			in.payload(n)
		}
		write := func(b []byte) { go conn.Write(b); synctest.Wait() }
		if state != "queued" {
			read()
			write(appendReply(nil, 1, []byte{0xc0}))
			other.word()
		}
		var s slot
		if state != "before" {
			s = call(ctx)
		}
		if state != "before" && state != "queued" && state != "written" {
			read()
		}
		switch state {
		case "parted":
			write(appendPart(nil, id, nil, []byte{0x91}))
		case "given-up":
			cancel()
			synctest.Wait()
			s.word()
		case "over":
			write(appendReply(nil, id, []byte{0xc0}))
			if got := s.word(); got != "ok" {
				t.Fatal(got)
			}
		}
		switch event {
		case "reply":
			write(appendReply(nil, id, []byte{0xc0}))
		case "error":
			write(appendError(nil, id, &wireStatus{code: NotFound, outcome: Executed}))
		case "part":
			write(appendPart(nil, id, nil, []byte{0x91}))
		case "cancel":
			cancel()
		case "deadline":
			time.Sleep(time.Minute)
		case "eof":
			conn.Close()
		case "cut":
			a.end(io.ErrUnexpectedEOF)
		case "violation":
			write(frame("\x92\x04\x01"))
		case "goaway":
			write(appendGoaway(nil))
		case "close":
			c.Close()
		}
		synctest.Wait()
		if state == "before" {
			s = call(ctx)
		}
		return s.word() + "/" + life(c)
	})
}

// TestStreamStates: the caller's end of a stream. Behind the result of an operation is that of another Recv.
func TestStreamStates(t *testing.T) {
	table(t, `
state       Send                      CloseSend              Recv                   Header                Trailer       Close
opened      ok/waits                  ok/waits               waits/waits            waits/waits           none/waits    ok/done
headed      ok/waits                  ok/waits               waits/waits            h/waits               none/waits    ok/done
flowing     ok/ok                     ok/ok                  ok/waits               h/ok                  none/ok       ok/done
send-closed done/waits                ok/waits               waits/waits            waits/waits           none/waits    ok/done
ended       EOF/EOF                   ok/EOF                 EOF/EOF                none/EOF              t/EOF         ok/EOF
failed      NotFound:ran/NotFound:ran NotFound:ran/NotFound:ran NotFound:ran/NotFound:ran NotFound:ran/NotFound:ran t/NotFound:ran ok/NotFound:ran
refused     NotFound:not-run/NotFound:not-run NotFound:not-run/NotFound:not-run NotFound:not-run/NotFound:not-run NotFound:not-run/NotFound:not-run none/NotFound:not-run ok/NotFound:not-run
closed      done/done                 done/done              done/done              done/done             none/done     ok/done
cancelled   Canceled:unknown/Canceled:unknown Canceled:unknown/Canceled:unknown Canceled:unknown/Canceled:unknown Canceled:unknown/Canceled:unknown none/Canceled:unknown ok/Canceled:unknown
late        DeadlineExceeded:unknown/DeadlineExceeded:unknown DeadlineExceeded:unknown/DeadlineExceeded:unknown DeadlineExceeded:unknown/DeadlineExceeded:unknown DeadlineExceeded:unknown/DeadlineExceeded:unknown none/DeadlineExceeded:unknown ok/DeadlineExceeded:unknown
cut         EOF/Unavailable:unknown   ok/Unavailable:unknown Unavailable:unknown/Unavailable:unknown Unavailable:unknown/Unavailable:unknown none/Unavailable:unknown ok/done
broken      Unavailable:unknown/Unavailable:unknown Unavailable:unknown/Unavailable:unknown Unavailable:unknown/Unavailable:unknown Unavailable:unknown/Unavailable:unknown none/Unavailable:unknown ok/Unavailable:unknown
client-gone Unavailable:unknown/Unavailable:unknown Unavailable:unknown/Unavailable:unknown Unavailable:unknown/Unavailable:unknown Unavailable:unknown/Unavailable:unknown none/Unavailable:unknown ok/Unavailable:unknown
`, func(t *testing.T, state, event string) string {
		a, b := newPipe()
		c := NewClient(a, Options{})
		defer c.Close()
		ctx, cancel := context.WithTimeout(bg, time.Minute)
		defer cancel()
		s, err := c.Open(ctx, &Request{Method: "m"})
		if err != nil {
			t.Fatal(err)
		}
		b.Accept() // the shared stream
		conn, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in := newFrameReader(conn)
		n, _ := in.header()
		p, _, _ := in.payload(n)
		m, err := parseMessage(p)
		if err != nil {
			t.Fatal(err)
		}
		id := m.id
		head, trailer := Metadata{"k": {"h"}}, Metadata{"k": {"t"}}
		recv := func() slot {
			r := make(slot, 1)
			go func() { _, err := s.Recv(); r <- err }()
			synctest.Wait()
			return r
		}
		var bytes []byte
		switch state {
		case "headed":
			bytes = appendHeader(nil, head)
		case "flowing":
			bytes = append(appendItem(appendHeader(nil, head), 0, 1), 0xc0)
			bytes = append(appendItem(bytes, 0, 1), 0xc0)
		case "ended":
			bytes = appendDone(nil, trailer)
		case "failed":
			bytes = appendError(nil, id, &wireStatus{code: NotFound, outcome: Executed, trailer: trailer})
		case "refused":
			bytes = appendError(nil, id, &wireStatus{code: NotFound, outcome: NotExecuted})
		case "broken":
			bytes = frame("\x92\x04\x01")
		case "send-closed":
			s.CloseSend()
		case "closed":
			s.Close()
		case "cancelled":
			cancel()
		case "late":
			time.Sleep(time.Minute)
		case "cut":
			a.end(io.ErrUnexpectedEOF)
		case "client-gone":
			c.Close()
		}
		if bytes != nil {
			conn.Write(bytes)
			switch state {
			case "headed":
			case "flowing":
				if got := recv().word(); got != "ok" {
					t.Fatal(got)
				}
			default:
				recv()
			}
		}
		synctest.Wait()
		result := make(chan string, 1)
		go func() {
			switch event {
			case "Send":
				result <- word(s.Send(Raw{0xc0}))
			case "CloseSend":
				result <- word(s.CloseSend())
			case "Recv":
				_, err := s.Recv()
				result <- word(err)
			case "Header":
				md, err := s.Header()
				result <- metaWord(md, err)
			case "Trailer":
				result <- metaWord(s.Trailer(), nil)
			case "Close":
				result <- word(s.Close())
			}
		}()
		synctest.Wait()
		got := "waits"
		select {
		case got = <-result:
		default:
			return "waits/waits" // the next would wait for its turn
		}
		return got + "/" + recv().word()
	})
}

func metaWord(md Metadata, err error) string {
	switch {
	case err != nil:
		return word(err)
	case md == nil:
		return "none"
	}
	return md.Get("k")
}

// TestHandlerStates: the handler's end of a stream. Behind the result of an operation is its context.
func TestHandlerStates(t *testing.T) {
	table(t, `
state      Send                 Recv                  SetHeader    SetTrailer
called     ok/runs              waits/runs            ok/runs      ok/runs
flowing    ok/runs              ok/runs               ok/runs      ok/runs
answering  ok/runs              waits/runs            late/runs    ok/runs
all-sent   ok/runs              EOF/runs              ok/runs      ok/runs
all-taken  ok/runs              EOF/runs              ok/runs      ok/runs
cancelled  Canceled/ended       Canceled/ended        ok/ended     ok/ended
late       DeadlineExceeded/ended DeadlineExceeded/ended ok/ended  ok/ended
closed     Canceled/ended       Canceled/ended        ok/ended     ok/ended
cut        Unavailable/ended    Unavailable/ended     ok/ended     ok/ended
garbled    Unavailable/ended    Unavailable/ended     ok/ended     ok/ended
returned   done/ended           done/ended            late/ended   ok/ended
`, func(t *testing.T, state, event string) string {
		srv := NewServer(Options{})
		type handler struct {
			ctx context.Context
			s   MessageStream
		}
		called, release := make(chan handler, 1), make(chan struct{})
		srv.HandleStream("m", func(ctx context.Context, _ *Request, s MessageStream) error {
			called <- handler{ctx, s}
			<-release
			return nil
		})
		a, b := newPipe()
		served := make(chan error, 1)
		go func() { served <- srv.ServeSession(bg, b) }()
		open := sync.OnceFunc(func() { close(release) })
		defer func() { open(); a.Close(); srv.Close(); <-served }()
		shared, _ := a.Open(bg)
		shared.Write(appendCancel(nil, 99))
		conn, _ := a.Open(bg)
		timeout := uint64(0)
		if state == "late" {
			timeout = 1000
		}
		conn.Write(appendOpen(nil, 1, &callHead{method: "m", timeout: timeout, form: formStream}))
		h := <-called
		item := append(appendItem(nil, 0, 1), 0xc0)
		switch state {
		case "flowing":
			conn.Write(append(item, item...))
			h.s.Recv()
		case "answering":
			h.s.Send(Raw{0xc0})
		case "all-sent":
			conn.Write(appendEnd(nil))
		case "all-taken":
			conn.Write(appendEnd(nil))
			h.s.Recv()
		case "cancelled":
			shared.Write(appendCancel(nil, 1))
		case "late":
			time.Sleep(time.Second)
		case "closed":
			conn.Close()
			h.s.Recv() // sees it
		case "cut":
			a.end(io.ErrUnexpectedEOF)
		case "garbled":
			conn.Write(frame("\x91\x05"))
			h.s.Recv()
		case "returned":
			open()
		}
		synctest.Wait()
		result := make(chan string, 1)
		go func() {
			switch event {
			case "Send":
				result <- handlerWord(h.s.Send(Raw{0xc0}))
			case "Recv":
				_, err := h.s.Recv()
				result <- handlerWord(err)
			case "SetHeader":
				result <- handlerWord(InfoFrom(h.ctx).SetHeader("k", "v"))
			case "SetTrailer":
				result <- handlerWord(InfoFrom(h.ctx).SetTrailer("k", "v"))
			}
		}()
		synctest.Wait()
		got := "waits"
		select {
		case got = <-result:
		default:
		}
		if h.ctx.Err() != nil {
			return got + "/ended"
		}
		return got + "/runs"
	})
}

func handlerWord(err error) string {
	switch {
	case err == errHeaderSent:
		return "late"
	case err == nil, err == io.EOF, errors.Is(err, errHandlerReturned):
		return map[error]string{nil: "ok", io.EOF: "EOF", errHandlerReturned: "done"}[err]
	}
	return CodeOf(err).String()
}

// TestConnStates: a connection, on either side. Behind the result of an operation is another Read.
func TestConnStates(t *testing.T) {
	rows := `
state        Read       Write         CloseWrite   Close
open         waits/waits ok/waits     ok/waits     ok/closed
early        ok/waits   ok/ok         ok/ok        ok/closed
half-closed  waits/waits closed/waits closed/waits ok/closed
peer-half    EOF/EOF    ok/EOF        ok/EOF       ok/closed
both-half    EOF/EOF    closed/EOF   closed/EOF   ok/closed
peer-closed  EOF/EOF    reset/EOF     ok/EOF       ok/closed
closed       closed/closed closed/closed closed/closed ok/closed
cut          CUT/CUT    cut/CUT       cut/CUT      ok/closed
gone         closed/closed closed/closed closed/closed ok/closed
`
	for _, side := range []string{"caller", "handler"} {
		t.Run(side, func(t *testing.T) {
			cut := map[string]string{"caller": "cut", "handler": "closed"}[side] // a handler's is closed with its context
			table(t, strings.ReplaceAll(rows, "CUT", cut), func(t *testing.T, state, event string) string {
				srv := NewServer(Options{})
				called, release := make(chan net.Conn, 1), make(chan struct{})
				HandleConn(srv, "m", func(_ context.Context, conn net.Conn) error {
					conn.Write(nil) // takes it
					called <- conn
					<-release
					return nil
				})
				a, b := newPipe()
				served := make(chan error, 1)
				go func() { served <- srv.ServeSession(bg, b) }()
				c := NewClient(a, Options{})
				ours, err := c.OpenConn(bg, "m")
				if err != nil {
					t.Fatal(err)
				}
				theirs := <-called
				defer func() { close(release); c.Close(); srv.Close(); <-served }()
				if side == "handler" {
					ours, theirs = theirs, ours
				}
				half := func(c net.Conn) error { return c.(interface{ CloseWrite() error }).CloseWrite() }
				switch state {
				case "early":
					theirs.Write([]byte("x"))
				case "half-closed":
					half(ours)
				case "peer-half":
					half(theirs)
				case "both-half":
					half(ours)
					half(theirs)
				case "peer-closed":
					theirs.Close()
				case "closed":
					ours.Close()
				case "cut":
					a.end(io.ErrUnexpectedEOF)
				case "gone":
					if side == "caller" {
						c.Close()
					} else {
						srv.Close()
					}
				}
				synctest.Wait()
				do := func(op string) string {
					result := make(chan error, 1)
					go func() {
						var err error
						switch op {
						case "Read":
							_, err = ours.Read(make([]byte, 10))
						case "Write":
							_, err = ours.Write([]byte("y"))
						case "CloseWrite":
							err = half(ours)
						case "Close":
							err = ours.Close()
						}
						result <- err
					}()
					synctest.Wait()
					select {
					case err := <-result:
						if err == errPipeReset {
							return "reset"
						}
						return word(err)
					default:
						return "waits"
					}
				}
				return fmt.Sprint(do(event), "/", do("Read"))
			})
		})
	}
}
