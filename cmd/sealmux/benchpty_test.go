//go:build unix

package main

import (
	"strings"
	"testing"
)

// benchScreen is what a terminal shows of a line that was written over: of each part between carriage returns, the last.
func benchScreen(shown string) string {
	lines := strings.Split(strings.ReplaceAll(shown, "\r\n", "\n"), "\n")
	for i, line := range lines {
		if _, after, ok := strings.Cut(line, "\x1b[2K\r"); ok {
			for ok {
				line = after
				_, after, ok = strings.Cut(line, "\x1b[2K\r")
			}
			lines[i] = line
		}
	}
	return strings.Join(lines, "\n")
}

// TestBenchProgress: on a terminal a bar tells of the last second. Ctrl-C makes it give way to the report, with the exit code of a run
// that nothing was wrong with.
func TestBenchProgress(t *testing.T) {
	_, addr, public := newServer(t)
	p := sit(t, nil, "bench", "--server-key", public, "-r", "50", "-d", "1h", "--warm-up", "100ms", addr)
	shown := p.sees("bench ", addr, "warming up", "measuring", "measuring: ", " calls/s, p99 ", " ms")
	if !strings.Contains(shown, "0%") {
		t.Errorf("no bar in %q", shown)
	}
	p.types(keyCtrlC)
	shown = p.sees("interrupted; so far", " calls in ", "latency", "to ")
	if screen := benchScreen(shown); strings.Contains(screen, "measuring") || !strings.Contains(shown, "\x1b[2K\r") {
		t.Errorf("the bar is left behind: %q", shown)
	}
	p.leaves(exitDone)
}

// TestBenchCtrlCInWarmUp: nothing was measured.
func TestBenchCtrlCInWarmUp(t *testing.T) {
	_, addr, public := newServer(t)
	p := sit(t, nil, "bench", "--server-key", public, "-c", "2", "--warm-up", "1h", addr)
	p.sees("warming up: ")
	p.types(keyCtrlC)
	p.sees("it ended in the warm-up: nothing was measured", "interrupted")
	p.leaves(exitFailed)
}
