package load

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

// reopenAfter is how long a stream that broke stays closed, so that a server that refuses streams is not flooded.
const reopenAfter = 100 * time.Millisecond

// A streamCaller keeps a stream open to a method that answers each message with one, and up to window messages in flight on it. For
// each message, what is measured is from its sending, or when the schedule had it, to its reply. A stream that breaks is opened anew; the
// messages in flight have failed.
type streamCaller struct {
	*Run
	watched // the wait for the next reply
	client  *rpc.Client
	shard   *shard
	window  int

	due  time.Duration // of a message that was taken but not sent
	held bool          // there is one
}

func (c *streamCaller) work() {
	defer c.release()
	for c.hold() {
		s, err := c.client.Open(c.watched.ctx, &rpc.Request{Method: c.load.Request.Method})
		if err == nil {
			err = c.use(s)
		} else {
			c.held = false
			c.broke(err, false, c.due, 0)
		}
		if c.Run.ctx.Err() != nil || c.gone(c.client) {
			return
		}
		if err != nil {
			select {
			case <-time.After(reopenAfter):
			case <-c.halt.Done():
			}
		}
	}
}

// hold takes a message to send, unless there is one already.
func (c *streamCaller) hold() bool {
	if !c.held {
		c.due, c.held = c.take()
	}
	return c.held
}

// An inFlight is a message in flight: when it was to be sent, and when it was.
type inFlight struct{ due, begun time.Duration }

// use sends messages until there are no more, or the stream breaks.
func (c *streamCaller) use(s rpc.RawStream) error {
	free := make(chan struct{}, c.window) // a message in flight holds one
	flying := make(chan inFlight, c.window)
	broken := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() { // ends when there are no more messages, or the stream has broken
		defer close(flying)
		c.send(s, free, flying, broken)
	})
	err := c.receive(s, free, flying)
	if err != nil {
		close(broken)
		s.Close() // wakes the sender
		for m := range flying {
			c.broke(err, false, m.due, m.begun)
		}
	}
	sender.Wait()
	s.Close()
	return err
}

func (c *streamCaller) send(s rpc.RawStream, free chan struct{}, flying chan<- inFlight, broken <-chan struct{}) {
	for c.hold() {
		select {
		case free <- struct{}{}:
		case <-broken:
			return
		}
		now := time.Since(c.begin)
		if c.load.Rate == 0 { // a closed loop has no schedule to be behind
			c.due = now
		}
		flying <- inFlight{c.due, now} // there is room: it holds no more than free
		c.held = false
		if s.Send(c.load.Request.Body) != nil {
			return // what receives finds out why
		}
	}
	s.CloseSend()
}

// receive waits for the reply to each message in flight, in their order.
func (c *streamCaller) receive(s rpc.RawStream, free <-chan struct{}, flying <-chan inFlight) error {
	for m := range flying {
		c.started(time.Since(c.begin))
		reply, err := s.Recv()
		took := time.Since(c.begin) - m.due
		expired := c.ended(c.Run.ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errNoReply
			}
			c.broke(err, expired, m.due, m.begun)
			return err
		}
		c.shard.ok(took, m.begun-m.due, len(c.load.Request.Body), len(reply))
		<-free
	}
	return nil
}

var errNoReply = rpc.Errorf(rpc.Unknown, "the stream ended before the reply")

// broke records a message that has no reply for its stream broke.
func (c *streamCaller) broke(err error, expired bool, due, begun time.Duration) {
	if c.Run.ctx.Err() != nil || c.gone(c.client) && rpc.OutcomeOf(err) == rpc.NotSent {
		c.shard.abandon()
		return
	}
	c.shard.fail(err, expired, time.Since(c.begin)-due, begun-due)
}
