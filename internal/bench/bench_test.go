package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryPeerAtEveryWork measures for a moment, so that nothing here rots.
func TestEveryPeerAtEveryWork(t *testing.T) {
	for _, w := range allWorks {
		for _, p := range allPeers {
			t.Run(w.name+"/"+p.name, func(t *testing.T) {
				if w.name == "idle" && testing.Short() {
					t.Skip("makes 100 sessions")
				}
				streams := 2
				if w.name == "bulk" && (p.name == "tls" || p.name == "tcp") {
					streams = 1
				}
				r, ok, err := w.measure(p, 100, streams, 10*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				if ok && w.name != "idle" && w.name != "bulk" && (r.PerSecond <= 0 || r.P50 <= 0 || r.P99 < r.P50) {
					t.Errorf("%+v", r)
				}
				if !ok && p.name == "sealmux" {
					t.Error("sealmux takes no part")
				}
			})
		}
	}
}

func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	var text, lines bytes.Buffer
	args := []string{"-peers", "sealmux,netrpc,tcp", "-callers", "1,2", "-seconds", "0.01", "-reps", "2"}
	if err := run(append(slices.Clone(args), "-svg", dir), &text, io.Discard); err != nil {
		t.Fatal(err)
	}
	if out := text.String(); strings.Count(out, "sealmux") != 2 || strings.Count(out, "1.00") < 2 {
		t.Error(out)
	}
	chart, err := os.ReadFile(filepath.Join(dir, "rpc-16-2.svg"))
	if err != nil || !strings.HasSuffix(string(chart), "</svg>\n") {
		t.Error(string(chart), err)
	}
	if err := run(append(args, "-json"), &lines, io.Discard); err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(&lines)
	for range 6 {
		var r row
		if err := dec.Decode(&r); err != nil || r.Work != "rpc" || r.PerSecond == 0 {
			t.Error(r, err)
		}
	}
	if dec.More() {
		t.Error("more than 6 lines")
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"-peers", "nobody"}, {"-work", "sleep"}, {"-bytes", "0"}, {"-callers", "x"}, {"-reps", "0"}, {"-seconds", "-1"}} {
		if err := run(args, io.Discard, io.Discard); err == nil {
			t.Error(args)
		}
	}
}

func TestMedian(t *testing.T) {
	m := median([]row{{PerSecond: 3, P50: 1}, {PerSecond: 1, P50: 9}, {PerSecond: 2, P50: 5}})
	if m.PerSecond != 2 || m.P50 != 5 {
		t.Error(m)
	}
}
