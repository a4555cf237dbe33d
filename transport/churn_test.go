package transport

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Streams opened, written, half closed, closed and cut off by deadlines, all at once and both ways: whatever
// this side does, it breaks no rule that the other side checks, and nothing is left behind.
func TestChurn(t *testing.T) {
	cs, ss := sessions(t)
	const workers, rounds = 300, 6 // more workers than the backlog
	var wg, echoes sync.WaitGroup
	for _, side := range []struct{ open, accept *Session }{{cs, ss}, {ss, cs}} {
		echoes.Go(func() {
			for {
				c, err := side.accept.Accept()
				if err != nil {
					return
				}
				echoes.Go(func() { respond(c.(*Stream)) })
			}
		})
		for worker := range workers {
			wg.Go(func() {
				dice := rand.New(rand.NewPCG(1, uint64(worker)))
				for range rounds {
					c, err := side.open.Open(context.Background())
					if err != nil {
						t.Error(err)
						return
					}
					abuse(t, c.(*Stream), dice)
				}
			})
		}
	}
	wg.Wait()
	for _, s := range []*Session{cs, ss} {
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
	// Streams whose other end is still open end with the session.
	cs.Close()
	ss.Close()
	echoes.Wait()
}

// respond reads what comes, writes as much, and closes without warning after a while.
func respond(c *Stream) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	io.Copy(c, io.LimitReader(c, 50_000))
}

// abuse uses a stream in one of the ways in which it may be used.
func abuse(t *testing.T, c *Stream, dice *rand.Rand) {
	data := make([]byte, dice.IntN(100_000))
	var wg sync.WaitGroup
	switch dice.IntN(7) {
	case 0: // never used
	case 1: // closed while written and read
		wg.Go(func() { c.Write(data) })
		wg.Go(func() { c.Read(data) })
	case 2: // a proper exchange
		wg.Go(func() {
			c.Write(data)
			c.CloseWrite()
		})
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, ErrStreamReset) {
			t.Error(err)
		}
		wg.Wait()
	case 3: // ended before the peer has it
		c.CloseWrite()
	case 4: // a deadline in the middle
		c.SetWriteDeadline(time.Now().Add(time.Duration(dice.IntN(1000)) * time.Microsecond))
		c.Write(data)
	case 5: // closed twice at once
		wg.Go(func() { c.Close() })
	case 6: // given up while written
		wg.Go(func() { c.Write(data) })
		c.Reset()
	}
	c.Close()
	if _, err := c.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	wg.Wait()
}
