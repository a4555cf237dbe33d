package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBenchPictureFile: the file is whole or as it was, and nothing is left beside it.
func TestBenchPictureFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.svg")
	const drawn = "<svg>\n</svg>\n"
	for _, save := range []bool{false, true, true} {
		p, err := newBenchPicture(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(name); err == nil && !save {
			t.Error("the file is there before it is saved")
		}
		if save {
			if err := p.save(func() string { return drawn }); err != nil {
				t.Error(err)
			}
		}
		p.discard()
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != drawn {
		t.Errorf("the file: %v", err)
	}
	p, err := newBenchPicture(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.save(func() string { return "" }); err == nil || !strings.Contains(err.Error(), "is not written") {
		t.Errorf("nothing to draw: %v", err)
	}
	p.discard()
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "none", "a.svg"), os.DevNull} {
		if _, err := newBenchPicture(bad); err == nil || !strings.HasPrefix(err.Error(), "--svg") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
