package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSize builds and runs the smallest useful program of each peer, client and server over an encrypted connection, and compares
// what a user would ship: go test -run Size -v.
func TestSize(t *testing.T) {
	type program struct {
		bytes   int64
		modules int
	}
	measure := func(name string) (p program) {
		dir, out := "./size/"+name, filepath.Join(t.TempDir(), name)
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, dir)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if text, err := exec.Command(out).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		info, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		list, err := exec.Command("go", "list", "-deps", "-f", "{{if and .Module (not .Module.Main)}}{{.Module.Path}}{{end}}", dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		modules := make(map[string]bool)
		for _, path := range strings.Fields(string(list)) {
			modules[path] = true
		}
		return program{info.Size(), len(modules)}
	}
	ours := measure("sealmux")
	t.Logf("%-8s 1.00 (%.1f MiB), %d modules", "sealmux", float64(ours.bytes)/(1<<20), ours.modules)
	for _, name := range []string{"netrpc", "drpc", "ttrpc", "grpc"} {
		p := measure(name)
		t.Logf("%-8s %.2f, %d modules", name, float64(p.bytes)/float64(ours.bytes), p.modules)
		if p.bytes <= ours.bytes {
			t.Errorf("%s is no larger: the README says otherwise", name)
		}
	}
}
