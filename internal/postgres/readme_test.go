package postgres

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme: every line of Go in README.md is in a test. (That the tests which it names are there is seen to by internal/house.)
func TestReadme(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.WriteString(strings.ReplaceAll(string(src), "\n\t", "\n"))
	}
	pieces := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(pieces) != 2 {
		t.Errorf("%d pieces of Go found, want 2", len(pieces))
	}
	for _, piece := range pieces {
		if !strings.Contains(tests.String(), piece[1]) {
			t.Errorf("README.md has Go that is nowhere in the tests:\n%s", piece[1])
		}
	}
}
