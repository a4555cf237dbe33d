//go:build unix

package hostile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/sealmux/sealmux/internal/faultnet"
	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// What the simulation's handlers and callers do.

// A task is what a handler is asked for.
type task struct {
	ID    uint64
	Takes time.Duration // between its steps
	Reply int           // bytes, or items
	How   string        // well, error, panic
	Body  []byte        // filled from the ID
}

var (
	work   = rpc.Unary[task, []byte]{Name: "work"}
	list   = rpc.ServerStream[task, int]{Name: "list"}
	upload = rpc.ClientStream[task, int]{Name: "upload"}
	talk   = rpc.Bidi[task, uint64]{Name: "talk"}

	errTask = errors.New("as the task asks")
)

// pattern is n bytes that only this call has.
func pattern(id uint64, n int) []byte {
	return bytes.Repeat([]byte{byte(id), byte(id >> 8), byte(id >> 16), 7}, n/4+1)[:n]
}

// server has handlers that keep the journal.
func (w *world) server() *rpc.Server {
	srv := rpc.NewServer(rpc.Options{Logger: quiet})
	end := func(ctx context.Context, t task) error {
		if t.Takes > 0 { // timers that are due at once, of several goroutines of a bubble, crash the race detector (Go 1.26)
			select {
			case <-time.After(t.Takes):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		switch t.How {
		case "error":
			return errTask
		case "panic":
			panic("as the task asks")
		}
		return nil
	}
	work.Handle(srv, func(ctx context.Context, t task) ([]byte, error) {
		w.begin(ctx)
		if !bytes.Equal(t.Body, pattern(t.ID, len(t.Body))) {
			w.violation("call %d came with other bytes", t.ID)
		}
		return pattern(t.ID, t.Reply), end(ctx, t)
	})
	list.Handle(srv, func(ctx context.Context, t task, send func(int) error) error {
		w.begin(ctx)
		for i := range t.Reply {
			if err := send(i); err != nil {
				return err
			}
		}
		return end(ctx, t)
	})
	upload.Handle(srv, func(ctx context.Context, items iter.Seq2[task, error]) (int, error) {
		w.begin(ctx)
		n := 0
		var last task
		for t, err := range items {
			if err != nil {
				return 0, err
			}
			if n > 0 && t.ID != last.ID || t.Reply != n {
				w.violation("upload %d: item %d came as %d", last.ID, t.Reply, n)
			}
			n++
			last = t
		}
		return n, end(ctx, last)
	})
	talk.Handle(srv, func(ctx context.Context, s *rpc.Stream[uint64, task]) error {
		w.begin(ctx)
		for t, err := range s.All() {
			if err != nil {
				return err
			}
			if err := s.Send(t.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return srv
}

// line draws one direction of a connection: most have no fault.
func line(random *rand.Rand) faultnet.Line {
	switch random.IntN(6) {
	case 0, 1:
		return faultnet.Line{}
	case 2:
		return faultnet.Random(random, 0, 1)
	case 3:
		return faultnet.Random(random, 1+random.IntN(2), 3000) // in the handshake, or soon after
	case 4:
		return faultnet.Random(random, 1+random.IntN(3), 1<<20, faultnet.Stall, faultnet.Truncate, faultnet.Cut)
	}
	return faultnet.Random(random, 1+random.IntN(3), 100_000)
}

// client makes calls, and a new session when the old one is of no more use.
func (w *world) client(random *rand.Rand, number uint64) {
	cfg := w.patience(clientConfig())
	cfg.Tickets = transport.NewTicketCache(4)
	for range 1 + random.IntN(3) {
		conn, sess := w.dial(random, cfg)
		if sess == nil {
			continue
		}
		c := rpc.NewClient(sess, rpc.Options{Logger: quiet})
		var calls sync.WaitGroup
		for range 1 + random.IntN(12) {
			choices := rand.New(rand.NewPCG(random.Uint64(), 0))
			calls.Go(func() { w.call(choices, c) })
			if random.IntN(3) == 0 {
				time.Sleep(w.within(random, 3*time.Second))
			}
		}
		switch random.IntN(6) {
		case 0:
			time.Sleep(w.within(random, time.Second))
			c.Close()
		case 1:
			time.Sleep(w.within(random, time.Second))
			conn.Cut()
		}
		calls.Wait()
		c.Close()
		<-sess.Done()
		if err := sess.Err(); !known(err) {
			w.violation("a session ended with: %v", err)
		}
	}
}

// dial returns a session, nil if there is none to be had.
func (w *world) dial(random *rand.Rand, cfg *transport.Config) (faulty, *transport.Session) {
	up, down := line(random), line(random)
	for {
		conn, err := w.connect(up, down)
		if err != nil {
			time.Sleep(500 * time.Millisecond / w.speed) // between two servers
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, conn)
		w.mu.Unlock()
		begin := time.Now()
		sess, err := transport.Client(context.Background(), conn, cfg)
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil {
			w.sessions++
			if sess.Resumed() {
				w.resumed++
			}
			return conn, sess
		}
		w.refused++
		if !known(err) || w.speed == 1 && time.Since(begin) > transport.DefaultHandshakeTimeout {
			w.violations = append(w.violations, "a handshake failed after "+time.Since(begin).String()+" with: "+err.Error())
		}
		return nil, nil
	}
}

// call makes one call of any form, and notes how it ended.
func (w *world) call(random *rand.Rand, c *rpc.Client) {
	w.mu.Lock()
	w.lastID++
	id := w.lastID
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	limit := simLimit
	switch random.IntN(4) {
	case 0:
		limit = 1 + w.within(random, 10*time.Second)
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	case 1:
		defer time.AfterFunc(w.within(random, 5*time.Second), cancel).Stop()
	}
	sizes := []int{0, 1, 10, 100, 100, 1000, 5000, 70_000}
	t := task{ID: id, Reply: sizes[random.IntN(len(sizes))], How: []string{"well", "well", "error", "panic"}[random.IntN(4)],
		Body: pattern(id, sizes[random.IntN(len(sizes))])}
	if random.IntN(2) == 0 {
		t.Takes = w.within(random, 5*time.Second)
	}
	ctx = rpc.WithRequestID(ctx, strconv.FormatUint(id, 10))
	begin := time.Now()
	var err error
	switch random.IntN(6) {
	case 0:
		err = w.list(ctx, c, t)
	case 1:
		err = w.upload(ctx, c, t, 1+random.IntN(50))
	case 2:
		err = w.talk(ctx, c, t, 1+random.IntN(20))
	default:
		var reply []byte
		if reply, err = work.Call(ctx, c, t); err == nil && !bytes.Equal(reply, pattern(id, t.Reply)) {
			w.violation("call %d got %d other bytes than it asked for", id, len(reply))
		}
	}
	if took := time.Since(begin); w.speed == 1 && took > limit {
		w.violation("call %d took %v of %v and ended: %v", id, took, limit, err)
	}
	w.mu.Lock()
	w.outcomes[id] = err
	w.mu.Unlock()
}

// list receives a stream to its end.
func (w *world) list(ctx context.Context, c *rpc.Client, t task) error {
	t.Reply %= 1000
	n := 0
	for i, err := range list.Call(ctx, c, t) {
		if err != nil {
			return err
		}
		if i != n {
			w.violation("list %d: item %d came as %d", t.ID, i, n)
		}
		n++
	}
	if n != t.Reply || t.How != "well" {
		w.violation("list %d ended well after %d of %d items, %s", t.ID, n, t.Reply, t.How)
	}
	return nil
}

// upload sends n items.
func (w *world) upload(ctx context.Context, c *rpc.Client, t task, n int) error {
	got, err := upload.Call(ctx, c, func(yield func(task) bool) {
		for i := range n {
			t.Reply = i
			if !yield(t) {
				return
			}
		}
	})
	if err == nil && got != n {
		w.violation("upload %d: %d items of %d", t.ID, got, n)
	}
	return err
}

// talk sends items and gets an answer to each.
func (w *world) talk(ctx context.Context, c *rpc.Client, t task, n int) error {
	s, err := talk.Open(ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	for range n {
		if err := s.Send(t); err != nil {
			return w.end(s, err)
		}
		if id, err := s.Recv(); err != nil {
			return w.end(s, err)
		} else if id != t.ID {
			w.violation("talk %d got an answer to %d", t.ID, id)
		}
	}
	if err := s.CloseSend(); err != nil {
		return w.end(s, err)
	}
	switch _, err := s.Recv(); {
	case err == nil:
		w.violation("talk %d got more answers than it asked for", t.ID)
	case err != io.EOF:
		return err
	}
	return nil
}

// end is how a stream ended that failed in the middle: Recv tells what Send may not know.
func (w *world) end(s *rpc.OpenStream[task, uint64], err error) error {
	for err == nil || err == io.EOF {
		if _, err = s.Recv(); err == io.EOF {
			return errors.New("the stream ended well before its caller had ended it")
		}
	}
	return err
}
