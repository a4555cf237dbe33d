package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// Both roles of calls against a peer that keeps to nothing: FuzzHostileClient, FuzzHostileServer. The machines of FuzzServerMachine
// and FuzzClientMachine are about peers that do, or nearly.

// bothWays is a session as it is, or one whose streams hand over what arrives.
func bothWays(s Session, push bool) (Session, func()) {
	if !push {
		return s, func() {}
	}
	p := &pushSession{Session: s, pieces: 5}
	return p, p.pumps.Wait
}

// allVectors adds each message of SPEC.md alone, behind another, and cut short.
func allVectors(add func(b []byte)) func(f *testing.F) {
	return func(f *testing.F) {
		open := appendOpen(nil, 1, &callHead{method: "chat", form: formStream})
		for _, b := range specVectors(f) {
			add(b)
			add(append(open[:len(open):len(open)], b...))
			add(b[:len(b)-1])
		}
		pack := callHead{method: "m", flags: flagPack, requestID: "r"}
		body, packed := compress(make([]byte, 100))
		add(appendCall2(nil, 1, &pack, packed, body))
	}
}

// Whatever bytes come on two streams of a session: the server goes on, or ends the session for a breach of the protocol, and keeps
// nothing of it.
// fuzz: 5000x
func FuzzHostileClient(f *testing.F) {
	allVectors(func(b []byte) { f.Add(b, b, false); f.Add([]byte(nil), b, true) })(f)
	f.Fuzz(func(t *testing.T, first, second []byte, push bool) {
		synctest.Test(t, func(t *testing.T) {
			srv := NewServer(Options{MaxCalls: 3, MaxQueue: 2, MaxStreams: 2, CompressOver: 1})
			Unary[string, string]{Name: "echo"}.Handle(srv, func(_ context.Context, s string) (string, error) { return s, nil })
			Unary[any, any]{Name: "m"}.Handle(srv, func(ctx context.Context, v any) (any, error) {
				info := InfoFrom(ctx)
				for key := range info.Header() {
					info.SetTrailer(key, info.RequestID())
				}
				return v, nil
			})
			Bidi[narrow, narrow]{Name: "chat"}.Handle(srv, func(_ context.Context, s *Stream[narrow, narrow]) error {
				for {
					v, err := s.Recv()
					if err == nil {
						err = s.Send(v)
					}
					if err != nil {
						return err
					}
				}
			})
			HandleConn(srv, "http", func(_ context.Context, conn net.Conn) error { _, err := io.Copy(conn, conn); return err })

			a, b := newPipe()
			theirs, pumped := bothWays(b, push)
			served := make(chan error, 1)
			go func() { served <- srv.ServeSession(bg, theirs) }()
			for _, bytes := range [][]byte{first, second} {
				conn, err := a.Open(bg)
				if err != nil {
					break // the first has ended the session
				}
				go io.Copy(io.Discard, conn)
				conn.Write(bytes)
				synctest.Wait()
			}
			a.Close()
			if err := <-served; err != nil && !errors.Is(err, ErrProtocol) {
				t.Error(err)
			}
			srv.Close()
			pumped()
			synctest.Wait()
			if srv.admitted.Load() != 0 || srv.open.Load() != 0 || srv.running.used != 0 || len(srv.sessions) != 0 {
				t.Error("left behind:", srv.admitted.Load(), srv.open.Load(), srv.running.used, len(srv.sessions))
			}
		})
	})
}

// Whatever bytes come as an answer, to each kind of call: it ends, with what passes Check or with an *Error.
// fuzz: 5000x
func FuzzHostileServer(f *testing.F) {
	for kind := range byte(4) {
		allVectors(func(b []byte) { f.Add(b, kind, kind%2 == 1) })(f)
	}
	f.Fuzz(func(t *testing.T, answer []byte, kind byte, push bool) {
		synctest.Test(t, func(t *testing.T) {
			a, b := newPipe()
			ours, pumped := bothWays(a, push)
			c := NewClient(ours, Options{CompressOver: 1, Errors: []ErrorKind{Sentinel("q", NotFound, io.ErrNoProgress)}})
			go func() {
				for {
					conn, err := b.Accept()
					if err != nil {
						return
					}
					go func() {
						go io.Copy(io.Discard, conn)
						conn.Write(answer)
						conn.(*pipeStream).CloseWrite()
					}()
				}
			}()
			var body Raw
			var err error
			switch kind % 4 {
			case 0, 1:
				req := &Request{Method: "m", Body: Raw{0xc0}}
				if kind%4 == 1 { // on a stream of its own
					req.Body = append([]byte{0xc6, 0, 1, 0, 1}, make([]byte, LargeCall+1)...)
				}
				var resp *Response
				if resp, err = c.Do(bg, req); err == nil {
					body = resp.Body
				}
			case 2:
				var s RawStream
				if s, err = c.Open(bg, &Request{Method: "chat"}); err == nil {
					for err == nil {
						if body, err = s.Recv(); err == nil && Check(body) != nil {
							t.Errorf("received %x", body)
						}
					}
					s.Close()
				}
			case 3:
				var conn net.Conn
				if conn, err = c.OpenConn(bg, "http"); err == nil {
					io.Copy(io.Discard, conn)
					conn.Close()
				}
			}
			if _, ok := errors.AsType[*Error](err); err != nil && !ok && err != io.EOF {
				t.Errorf("%T: %v", err, err)
			}
			if err == nil && kind%4 < 2 && Check(body) != nil {
				t.Errorf("replied %x", body)
			}
			c.Close()
			a.Close()
			pumped()
		})
	})
}
