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
