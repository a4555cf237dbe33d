package house

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestPages: every test that a page names is there, in modules of their own too.
func TestPages(t *testing.T) {
	named, breaches, err := pages(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, breach := range breaches {
		t.Error(breach)
	}
	for page, least := range map[string]int{"internal/hostile": 50, "internal/fleet": 9, "internal/postgres": 9, "rpc/cluster": 10} {
		if n := named[page+"/README.md"]; n < least { // else the test has not seen them
			t.Errorf("%s/README.md names %d tests, not %d or more", page, n, least)
		}
	}
}

// everywhere are the pages about tests of the whole repository; any other is about those of its folder, or of the one whose testdata it
// explains.
var everywhere = []string{"README.md", "internal/hostile/README.md"}

var (
	declared  = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	mentioned = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
)

// pages tells how many tests each page names, and those that are not there.
func pages(fsys fs.FS) (named map[string]int, breaches []string, err error) {
	tests := make(map[string][]string) // name to folders
	named = make(map[string]int)
	var texts []string
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != "." && strings.HasPrefix(path.Base(name), "."):
			return fs.SkipDir
		case path.Ext(name) == ".md":
			texts = append(texts, name)
		case strings.HasSuffix(name, "_test.go"):
			source, err := fs.ReadFile(fsys, name)
			for _, m := range declared.FindAllSubmatch(source, -1) {
				tests[string(m[1])] = append(tests[string(m[1])], path.Dir(name))
			}
			return err
		}
		return nil
	})
	for _, page := range texts {
		about, _, _ := strings.Cut(path.Dir(page), "/testdata")
		text, readErr := fs.ReadFile(fsys, page)
		if readErr != nil {
			return nil, nil, readErr
		}
		for _, m := range mentioned.FindAllSubmatch(text, -1) {
			named[page]++
			there := func(dir string) bool { return slices.Contains(everywhere, page) || within(dir, about) }
			if !slices.ContainsFunc(tests[string(m[1])], there) {
				breaches = append(breaches, fmt.Sprintf("%s names %s, which is not there", page, m[1]))
			}
		}
	}
	return named, breaches, err
}

func TestPagesBite(t *testing.T) {
	_, breaches, err := pages(fstest.MapFS{
		"a/README.md": {Data: []byte("`TestHere`, `TestBelow`, `TestElsewhere`, `FuzzNowhere`, `TestMethod` and `Testing`")},
		"a/go.mod":    {Data: []byte("module a\n")},
		"a/a_test.go": {Data: []byte("package a\n\nfunc TestHere(t *testing.T) {}\nfunc (s) TestMethod() {}\n")},
		"a/b/b_test.go": {
			Data: []byte("package b\n\nfunc TestBelow(t *testing.T) {}\n"),
		},
		"a/b/testdata/README.md": {Data: []byte("`TestBelow`, `TestHere`\n")},
		"c/c_test.go":            {Data: []byte("package c\n\nfunc TestElsewhere(t *testing.T) {}\n")},
		"c/c.go":                 {Data: []byte("package c\n\nfunc FuzzNowhere() {}\n")},
		"README.md":              {Data: []byte("`TestElsewhere`, `BenchmarkGone`\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(breaches)
	want := []string{"README.md names BenchmarkGone", "a/README.md names FuzzNowhere", "a/README.md names TestElsewhere", "a/README.md names TestMethod",
		"a/b/testdata/README.md names TestHere"}
	if !slices.EqualFunc(breaches, want, strings.HasPrefix) {
		t.Errorf("breaches %q, want %q", breaches, want)
	}
}
