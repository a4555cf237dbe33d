//go:build unix

package hostile

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

var kills = flag.Int("kills", 10, "how many servers TestKilled kills")

// TestKilled: a server is killed at a random moment under load. Each call in flight may have run, each later one never ran,
// and what the server's journal says agrees.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var well, unknown, never int
	longest := time.Duration(0)
	for n := range *kills {
		file := filepath.Join(dir, fmt.Sprint(n))
		p := run(t, "server", file)
		client, err := dial(t.Context(), p.addr, clientConfig())
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		outcomes := make(map[uint64]error)
		var callers sync.WaitGroup
		for caller := range uint64(16) {
			callers.Go(func() {
				for i := uint64(0); ; i++ {
					id := caller<<32 | i
					_, err := rpc.Call[uint64](context.Background(), client, "work", id)
					mu.Lock()
					outcomes[id] = err
					mu.Unlock()
					if rpc.OutcomeOf(err) == rpc.NotSent {
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(rand.IntN(int(20 * time.Millisecond)))) // any moment will do
		p.Process.Kill()
		killed := time.Now()
		callers.Wait()
		longest = max(longest, time.Since(killed))
		client.Close()
		p.Wait()
		ran := journalOf(t, file)
		for id, err := range outcomes {
			times, wrong := ran[id], false
			delete(ran, id)
			switch o := rpc.OutcomeOf(err); {
			case err == nil:
				well++
				wrong = times != 1
			case o == rpc.OutcomeUnknown:
				unknown++
				wrong = times > 1
			case o == rpc.NotSent:
				never++
				wrong = times != 0
			default:
				wrong = true
			}
			if wrong {
				t.Errorf("kill %d: call %x ran %d times and ended: %v", n, id, times, err)
			}
		}
		if len(ran) > 0 {
			t.Errorf("kill %d: %d calls ran that nobody made", n, len(ran))
		}
	}
	t.Logf("%d kills: %d calls went well, %d may have run, %d never ran; the last ended %v after the kill", *kills, well, unknown, never, longest.Round(time.Microsecond))
	if bound := transport.DefaultKeepaliveInterval + transport.DefaultKeepaliveTimeout; longest > bound {
		t.Errorf("longer than %v", bound)
	}
}

// journalOf counts the ids in a journal, whose last line may be cut.
func journalOf(t *testing.T, file string) map[uint64]int {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(map[uint64]int)
	for line := range strings.Lines(string(data)) {
		var id uint64
		if _, err := fmt.Sscanf(line, "%d\n", &id); err == nil && strings.HasSuffix(line, "\n") {
			ran[id]++
		}
	}
	return ran
}
