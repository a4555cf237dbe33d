package rpc

import (
	"context"
	"errors"
	"io"
	"sync"
)

// errHanded ends the reading of a stream that has become its handler's.
var errHanded = errors.New("rpc: the stream is its handler's")

// An opened is what the handler of a stream of messages or of a connection is called with, or why it is not.
type opened struct {
	call    *serverCall
	refused *wireStatus
}

// answerOpen hands a stream to a handler: its goroutine owns it from then on. Like a call it is counted in calls, and nobody
// can stop it if it ignores its context. An error other than errHanded is a violation.
func (st *serverStream) answerOpen(m *message) error {
	sc := st.newCall(m, true)
	refused, err := st.ss.admit(sc)
	if err != nil {
		sc.cancel()
		return err
	}
	sc.method = st.ss.srv.find(m.method)
	sc.req.Method = nameOf(sc.method, m.method)
	st.opened = &opened{sc, refused}
	return errHanded
}

// handle is the goroutine of a stream of messages or of a connection.
func (st *serverStream) handle(in *frameReader) {
	ss, sc, refused := st.ss, st.opened.call, st.opened.refused
	s := &handlerStream{call: sc, items: items{conn: st.conn, in: in, limits: &ss.srv.opts}}
	if sc.flags&flagPack != 0 {
		s.pack.over = ss.srv.opts.CompressOver
	}
	// Whoever waits in Recv or Send returns when the context ends. So does the last message, which is then not wanted.
	stop := context.AfterFunc(sc, func() {
		if sc.form == formConn { // an end by itself would look as if it were all
			resetConn(st.conn)
		} else {
			st.conn.Close()
		}
	})
	defer func() { // deferred, since a handler may call runtime.Goexit
		stop()
		if refused == nil {
			ss.done(sc)
		}
		sc.cancel()
		st.end(errAnswered)
		ss.forget(st)
	}()
	switch {
	case refused != nil:
		refused.outcome = NotExecuted
		s.end(refused)
	case sc.form == formConn:
		s.runConn(sc.method)
	default:
		s.guard(func() error { return s.run(sc.method) }, func(bad *wireStatus) {
			if ss.wanted(sc) {
				s.end(bad)
			}
		})
	}
}

// A handlerStream is the handler's end of a stream of messages.
type handlerStream struct {
	items
	call      *serverCall
	receiving sync.Mutex // one receiver at a time; protects over
	over      error      // why there are no more messages
}

var errHandlerReturned = errors.New("rpc: the stream's handler has returned")

// run calls the handler, unless there is a reason not to.
func (s *handlerStream) run(m *method) error {
	sc := s.call
	if err := sc.authorize(); err != nil {
		return err
	}
	if m == nil || m.stream == nil {
		return refuse(Unimplemented, notServed(m, "a stream"))
	}
	if err := sc.Err(); err != nil {
		return refuse(CodeOf(err), "before the handler ran")
	}
	return chainStream(sc.ss.srv.opts.Interceptors, func(ctx context.Context, req *Request, inner MessageStream) error {
		if !sc.reach() {
			return errAnsweredCall
		}
		return m.stream(ctx, req, inner)
	})(sc, &sc.req, s)
}

// guard calls f and then after, with what f's error or its panic is to the caller; nil if it went well.
func (s *handlerStream) guard(f func() error, after func(bad *wireStatus)) {
	var bad *wireStatus
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit, which recover does not see
			bad = s.call.panicked(recover())
		}
		after(bad)
	}()
	if err := f(); err != nil {
		bad = s.call.statusFor(err)
	}
	returned = true
}

// Send sends a message, behind the header.
func (s *handlerStream) Send(message Raw) error {
	err := s.send(message, func(b []byte) []byte { return s.appendHeader(b, false) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrBadMessage):
		return Errorf(Internal, "the message: %w", err)
	case errors.Is(err, ErrTooLarge), err == errHandlerReturned:
		return err
	}
	return s.lost(err)
}

// appendHeader appends the header if there is one, or if there must be one, unless it was sent.
func (s *handlerStream) appendHeader(b []byte, always bool) []byte {
	s.call.mu.Lock()
	defer s.call.mu.Unlock()
	if !s.call.headerSent && (always || !s.call.header.empty()) {
		b = appendHeader(b, s.call.header)
	}
	s.call.headerSent = true
	return b
}

// Recv returns the next message.
func (s *handlerStream) Recv() (Raw, error) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if s.over != nil {
		return nil, s.over
	}
	if s.call.Err() != nil {
		s.over = s.lost(context.Cause(s.call))
		return nil, s.over
	}
	var body Raw
	m, err := s.next()
	switch {
	case errors.Is(err, ErrProtocol):
		err = s.violated(err)
	case err != nil:
		err = s.lost(err)
	case m.kind == kindEnd:
		err = io.EOF
	case m.kind != kindItem:
		err = s.violated(violation("kind %d on a stream of messages", m.kind))
	default:
		if body, err = s.item(&m); errors.Is(err, ErrBadMessage) {
			err = Errorf(InvalidArgument, "the message: %w", err)
		}
	}
	s.over = err
	return body, err
}

func (s *handlerStream) violated(err error) error {
	s.call.ss.violated(err)
	return s.lost(err)
}

// lost is the handler's error of a stream that was cut, which ends its context too.
func (s *handlerStream) lost(err error) error {
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	s.call.cancel()
	cause := context.Cause(s.call)
	code := CodeOf(cause)
	if s.call.ss.ctx.Err() != nil {
		err, code = cause, Unavailable
	} else if code == DeadlineExceeded {
		err = cause
	}
	return Errorf(code, "the stream was cut: %w", cut(err))
}

// maxDiscard is how many bytes of messages that nobody takes any more are read while the end is written.
const maxDiscard = 1 << 20

// end sends how the handler has ended: well, or with bad. A caller that sends meanwhile, and so does not receive, must not
// wait for a handler that is gone: what it sends is thrown away, and if it goes on and on the stream is cut.
func (s *handlerStream) end(bad *wireStatus) {
	if s.receiving.TryLock() {
		if s.over == nil {
			s.over = errHandlerReturned
			discarded := make(chan struct{})
			go func() {
				defer close(discarded)
				if n, _ := io.CopyN(io.Discard, s.conn, maxDiscard); n == maxDiscard {
					s.conn.Close()
				}
			}()
			defer func() { s.conn.Close(); <-discarded }()
		}
		s.receiving.Unlock()
	}
	s.finish(errHandlerReturned, func(b []byte) []byte {
		if bad == nil {
			b = s.appendHeader(b, false)
			_, trailer := s.call.meta()
			return appendDone(b, trailer)
		}
		if bad.outcome == Executed {
			bad.header, bad.trailer = s.call.meta()
		}
		return appendError(b, s.call.id, bad)
	})
}

// runConn runs the handler of a connection, which takes it by using it.
func (s *handlerStream) runConn(m *method) {
	sc := s.call
	conn := &rawConn{Conn: s.conn, early: s.in.rest()}
	var once sync.Once
	var failed error
	conn.accept = func() error {
		once.Do(func() {
			failed = s.finish(io.EOF, func(b []byte) []byte { return s.appendHeader(b, true) })
		})
		return failed
	}
	s.guard(func() error {
		if err := sc.authorize(); err != nil {
			return err
		}
		if m == nil || m.conn == nil {
			return refuse(Unimplemented, notServed(m, "a connection"))
		}
		sc.reach()
		return m.conn(sc, conn)
	}, func(bad *wireStatus) {
		switch refused := false; {
		case bad == nil:
			conn.accept()
		default:
			if once.Do(func() { s.end(bad); refused = true }); !refused {
				conn.Reset()
			}
		}
		conn.Close()
	})
}
