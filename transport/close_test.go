package transport

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever waits to write on a stream that the other side closes without having read it is told at once.
func TestCloseFreesABlockedWriter(t *testing.T) {
	for _, opener := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			a, b := net.Pipe()
			client, server := configs()
			cs, ss := sessionsOver(t, a, b, client, server)
			writer, closer := streams(t, cs, ss)
			if !opener {
				writer, closer = closer, writer
			}
			result := make(chan error, 1)
			go func() {
				_, err := writer.Write(make([]byte, 4*DefaultStreamWindow))
				result <- err
			}()
			synctest.Wait()
			begun := time.Now()
			closer.Close()
			if err := <-result; !errors.Is(err, ErrStreamReset) || time.Since(begun) != 0 {
				t.Errorf("opener %v: %v after %v", opener, err, time.Since(begun))
			}
		})
	}
}

// What was written before Close is not lost to a reset that overtakes the end of the stream.
func TestResetDoesNotOvertakeTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := configs()
		cs, ss := sessionsOver(t, a, b, client, server)
		o, peer := streams(t, cs, ss)
		io.WriteString(peer, "last words")
		g := ss.guard
		g.mu.Lock()
		peer.flow.closed = true // Close has begun, and yamux has not come to send the end
		g.mu.Unlock()
		o.Write(make([]byte, 100)) // answered with a reset
		synctest.Wait()
		defer peer.Close()
		if got, err := io.ReadAll(o); string(got) != "last words" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// A reset is no end: behind what was written the peer reads that, unless the direction had ended before, and a peer that waits to write
// is told at once.
func TestReset(t *testing.T) {
	for _, opener := range []bool{true, false} {
		for _, half := range []bool{true, false} {
			bubble(t, func(t *testing.T) {
				a, b := net.Pipe()
				client, server := configs()
				cs, ss := sessionsOver(t, a, b, client, server)
				peer, s := streams(t, cs, ss)
				if opener {
					peer, s = s, peer
				}
				io.WriteString(s, "not all")
				want := ErrStreamReset
				if half {
					s.CloseWrite()
					want = nil // ReadAll's word for io.EOF
				}
				result := make(chan error, 1)
				go func() {
					_, err := peer.Write(make([]byte, 4*DefaultStreamWindow))
					result <- err
				}()
				synctest.Wait()
				begun := time.Now()
				if err := s.Reset(); err != nil {
					t.Error(err)
				}
				if got, err := io.ReadAll(peer); string(got) != "not all" || err != want {
					t.Errorf("opener %v, half %v: %q, %v", opener, half, got, err)
				}
				if err := <-result; !errors.Is(err, ErrStreamReset) || time.Since(begun) != 0 {
					t.Errorf("opener %v, half %v: write: %v after %v", opener, half, err, time.Since(begun))
				}
				for what, err := range map[string]error{"read": second(s.Read(make([]byte, 1))), "write": second(s.Write([]byte("x"))), "close write": s.CloseWrite()} {
					if !errors.Is(err, ErrStreamClosed) {
						t.Errorf("own %s: %v", what, err)
					}
				}
				s.Reset()
				s.Close()
				peer.Close()
				time.Sleep(2 * streamCloseTimeout) // yamux forgets it then
				synctest.Wait()
				expectNoStreams(t, cs, ss)
				if cs.Err() != nil || ss.Err() != nil {
					t.Error(cs.Err(), ss.Err())
				}
			})
		}
	}
}

func second(_ int, err error) error { return err }

// A stream that is reset before the peer has taken it is reset when it has, or over before that.
func TestResetBeforeAccept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := net.Pipe()
		client, server := configs()
		cs, ss := sessionsOver(t, a, b, client, server)
		go func() {
			for range 3 * acceptBacklog {
				if c, err := cs.Open(t.Context()); err == nil {
					io.WriteString(c, "some")
					c.(*Stream).Reset()
				}
			}
			if c, err := cs.Open(t.Context()); err == nil {
				c.Close()
			}
		}()
		for {
			p, err := ss.Accept()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(p)
			p.Close()
			if err == nil && len(got) == 0 {
				break // the last
			}
			if string(got) != "some" || err != ErrStreamReset {
				t.Fatalf("%q, %v", got, err)
			}
		}
		time.Sleep(2 * streamCloseTimeout)
		synctest.Wait()
		expectNoStreams(t, cs, ss)
	})
}

// A peer may have any number of streams reset, none of which counts for MaxStreams: nothing of them stays, yamux's part neither.
func TestManyResets(t *testing.T) {
	for _, opener := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			a, b := net.Pipe()
			client, server := configs()
			cs, ss := sessionsOver(t, a, b, client, server)
			for range 1000 {
				peer, s := streams(t, cs, ss)
				if opener {
					peer, s = s, peer
				}
				io.WriteString(s, "not all")
				s.Reset()
				if got, err := io.ReadAll(peer); string(got) != "not all" || err != ErrStreamReset {
					t.Fatalf("%q, %v", got, err)
				}
				peer.Close()
			}
			o, p := streams(t, cs, ss) // and what comes with them
			io.WriteString(o, "all")
			o.CloseWrite()
			if got, err := io.ReadAll(p); string(got) != "all" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			p.Close()
			o.Close()
			synctest.Wait()
			for _, s := range []*Session{cs, ss} {
				if n := s.mux.NumStreams(); n > 2 { // the last may wait for another record
					t.Errorf("opener %v: yamux keeps %d streams", opener, n)
				}
			}
		})
	}
}
