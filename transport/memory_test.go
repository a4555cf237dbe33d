package transport

import (
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

func heapInUse() int {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A peer that fills every window of every stream, which nobody reads, costs what Config.StreamWindow says, and no more however
// small the pieces are that it sends.
func TestHostileMemory(t *testing.T) {
	const opens = 64
	for _, c := range []struct {
		name   string
		piece  int
		accept bool
	}{{"large pieces", 32 << 10, true}, {"odd pieces", 2049, true}, {"small pieces", 16, true}, {"nobody accepts", 32 << 10, false}} {
		t.Run(c.name, func(t *testing.T) {
			a, b := net.Pipe()
			client, server := configs()
			server.MaxStreams, server.StreamWindow = opens, MinStreamWindow
			cs, ss := sessionsOver(t, a, b, client, server)
			before := heapInUse()
			var writers sync.WaitGroup
			for range opens {
				st, err := cs.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if c.accept {
					if _, err := ss.Accept(); err != nil {
						t.Fatal(err)
					}
				}
				writers.Go(func() {
					for piece, sent := make([]byte, c.piece), 0; sent < initialWindow; sent += len(piece) {
						if _, err := st.Write(piece[:min(len(piece), initialWindow-sent)]); err != nil {
							t.Error(err)
							return
						}
					}
					st.SetWriteDeadline(time.Unix(1, 0))
					if n, err := st.Write([]byte{0}); n != 0 || err == nil {
						t.Error("there was room beyond the window")
					}
				})
			}
			writers.Wait()
			eventually(t, func() bool { // all of it has come
				n := 0
				ss.guard.mu.Lock()
				defer ss.guard.mu.Unlock()
				for _, f := range ss.guard.flows {
					n += initialWindow - f.recvWindow
				}
				return n == opens*initialWindow
			})
			held, bound := heapInUse()-before, opens*(initialWindow+34<<10)+1<<20
			t.Logf("%d bytes unread cost %.3f each; %d%% of the bound", opens*initialWindow, float64(held)/opens/initialWindow, 100*held/bound)
			if held > bound {
				t.Errorf("%d bytes are held, more than %d", held, bound)
			}
		})
	}
}
