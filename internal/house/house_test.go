package house

import (
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestHouse holds the module to every rule.
func TestHouse(t *testing.T) {
	source, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"transport", "rpc", "rpc/cluster", "cmd/sealmux", "examples/echo", "internal/house"} {
		if !slices.ContainsFunc(source.files, func(f *file) bool { return f.dir == dir }) {
			t.Errorf("no Go file seen in %s: is the test looking at the right folder?", dir)
		}
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, breach := range rule.check(source) {
				t.Errorf("%s (rule %s)", breach, rule.name)
			}
		})
	}
}

// TestDependencies looks at all that the public packages are built from, not only at their own imports.
func TestDependencies(t *testing.T) {
	for dir, allowed := range map[string][]string{
		"transport":   {yamuxPath},
		"rpc":         {msgpackPath, "github.com/vmihailenco/tagparser/v2"}, // msgpack needs tagparser
		"rpc/cluster": {yamuxPath, msgpackPath, "github.com/vmihailenco/tagparser/v2"},
	} {
		out, err := exec.Command("go", "list", "-deps", "../../"+dir).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if !strings.Contains(string(out), module+"/"+dir) {
			t.Errorf("go list -deps %s does not name the package itself", dir)
		}
		for _, dep := range thirdModules(string(out), allowed...) {
			t.Errorf("%s is built from %s (rule 4: public packages pull in no third module)", dir, dep)
		}
		if dir == "rpc" && strings.Contains(string(out), module+"/transport") {
			t.Errorf("rpc is built from transport (rule 2: it plugs into any session)")
		}
	}
	bad := thirdModules("errors\ncrypto/rsa\nexample.org/third\n"+yamuxPath+"\n"+yamuxPath+"x\n", yamuxPath)
	if !slices.Equal(bad, []string{"example.org/third", yamuxPath + "x"}) {
		t.Errorf("thirdModules found %q", bad)
	}
}

// good is a small module without a breach; each case of TestRulesBite spoils it in one way.
func good() fstest.MapFS {
	m := fstest.MapFS{
		".gitignore":           {Data: []byte("/sealmux\n")},
		"sealmux":              {Data: []byte("a built program\n")},
		"go.mod":               {Data: []byte("module " + module + "\n")},
		"transport/doc.go":     {Data: []byte("// Package transport is one.\npackage transport\n")},
		"transport/session.go": {Data: []byte("package transport\n\nimport _ \"" + yamuxPath + "\"\n")},
		"transport/keys.go":    {Data: []byte("package transport\n\nimport _ \"crypto/rsa\"\n\n// Bits counts.\nfunc Bits() {}\n")},
		"rpc/doc.go":           {Data: []byte("// Package rpc is another.\npackage rpc\n")},
		"rpc/codec.go":         {Data: []byte("package rpc\n\nimport _ \"" + msgpackPath + "\"\n")},
		"cmd/sealmux/main.go":  {Data: []byte("// Command sealmux is a tool.\npackage main\n\nimport _ \"example.org/cobra\"\n")},
		"transport/testdata/x": {Data: []byte("not Go")},
		"internal/legacy/rsa.go": {
			Data: []byte("// Package legacy is an old wire.\npackage legacy\n\nimport (\n\t_ \"crypto/rsa\"\n\n\t_ \"" + bigmodPath + "\"\n)\n"),
		},
		"internal/bench/go.mod": {
			Data: []byte("module bench\n"),
		},
		"internal/bench/b.go": {Data: []byte("package bench\n\nimport _ \"example.org/third\"\n")},
	}
	for _, name := range pure {
		m[name] = &fstest.MapFile{Data: []byte("package " + strings.Split(name, "/")[0] + "\n\nimport _ \"encoding/binary\"\n")}
	}
	return m
}

// TestRulesBite shows that each rule finds the breach it is for, and names the file.
func TestRulesBite(t *testing.T) {
	for _, c := range []struct {
		rule, path, src string
		want            string // what the breach must say; empty means path
	}{
		{"1: transport imports", "transport/a.go", "package transport\n\nimport _ \"example.org/third\"\n", ""},
		{"1: transport imports", "transport/a.go", "package transport\n\nimport _ \"" + module + "/rpc\"\n", ""},
		{"1: yamux", "transport/guard.go", "package transport\n\nimport _ \"" + yamuxPath + "\"\n", ""},
		{"1: yamux", "cmd/sealmux/a.go", "package main\n\nimport _ \"" + yamuxPath + "\"\n", ""},
		{"1: crypto/rsa", "transport/conn.go", "package transport\n\nimport _ \"crypto/rsa\"\n", ""},
		{"1: crypto/rsa", "internal/legacy/conn.go", "package legacy\n\nimport _ \"crypto/rsa\"\n", ""},
		{"1: crypto/rsa", "rpc/a.go", "package rpc\n\nimport _ \"" + bigmodPath + "\"\n", ""},
		{"1: internal/legacy in", "rpc/a.go", "package rpc\n\nimport _ \"" + module + "/internal/legacy\"\n", ""},
		{"1: internal/legacy in", "internal/a/a.go", "package a\n\nimport _ \"" + module + "/internal/legacy\"\n", ""},
		{"1: internal/legacy imports", "internal/legacy/conn.go", "package legacy\n\nimport _ \"" + module + "/rpc\"\n", ""},
		{"1: pure", "transport/record.go", "package transport\n\nimport _ \"sync/atomic\"\n", ""},
		{"1: pure", "rpc/check.go", "package rpc\n\nimport _ \"context\"\n", ""},
		{"1: pure", "rpc/wire.go", "", ""},
		{"2: rpc imports", "rpc/a.go", "package rpc\n\nimport _ \"" + module + "/transport\"\n", ""},
		{"2: rpc imports", "rpc/a.go", "package rpc\n\nimport _ \"" + yamuxPath + "\"\n", ""},
		{"3: examples", "examples/a/a_test.go", "package main\n\nimport _ \"" + module + "/internal/house\"\n", ""},
		{"3: nobody", "rpc/a_test.go", "package rpc\n\nimport _ \"" + module + "/examples/a\"\n", ""},
		{"3: nobody", "internal/a/a.go", "package a\n\nimport _ \"" + module + "/cmd/sealmux\"\n", ""},
		{"4: public", "rpc/cluster/a.go", "package cluster\n\nimport _ \"example.org/third\"\n", ""},
		{"5: every exported", "rpc/a.go", "package rpc\n\nfunc Bare() {}\n", "Bare"},
		{"5: every exported", "rpc/a.go", "package rpc\n\n// T is told.\ntype T[A any] struct{}\n\nfunc (t *T[A]) Bare() {}\n", "Bare"},
		{"5: every exported", "rpc/a.go", "package rpc\n\n// Told.\ntype (\n\tBare int\n)\n", "Bare"},
		{"5: every exported", "rpc/a.go", "package rpc\n\nvar bare, Bare = 1, 2\n", "Bare"},
		{"5: every package", "rpc/doc.go", "package rpc\n", "rpc"},
		{"5: every package", "internal/a/a.go", "package a\n", "internal/a"},
		{"5: every package", "rpc/b/b.go", "// Package b is told elsewhere than in doc.go.\npackage b\n", "rpc/b"},
		{"gofmt", "rpc/a_test.go", "package rpc\nfunc  x() {}\n", ""},
		{"no long files", "rpc/a.go", "package rpc\n" + strings.Repeat("\n", maxLines), ""},
		{"no long files", "rpc/a_test.go", "package rpc\n" + strings.Repeat("\n", maxTestLines), ""},
		{"the top folder", "notes.txt", "notes", ""},
		{"the top folder", "pkg/a.go", "// Package pkg has no place.\npackage pkg\n", "pkg/"},
	} {
		t.Run(c.rule+" "+c.path, func(t *testing.T) {
			spoilt := good()
			spoilt[c.path] = &fstest.MapFile{Data: []byte(c.src)}
			if c.src == "" {
				delete(spoilt, c.path)
			}
			breaches := ruleNamed(t, c.rule).check(mustLoad(t, spoilt))
			want := c.want
			if want == "" {
				want = c.path
			}
			if len(breaches) != 1 || !strings.Contains(breaches[0], want) {
				t.Errorf("breaches %q; want one that names %s", breaches, want)
			}
		})
	}
	for _, rule := range rules {
		if breaches := rule.check(mustLoad(t, good())); len(breaches) != 0 {
			t.Errorf("rule %s finds in a good module: %q", rule.name, breaches)
		}
	}
}

func ruleNamed(t *testing.T, prefix string) rule {
	t.Helper()
	for _, rule := range rules {
		if strings.HasPrefix(rule.name, prefix) {
			return rule
		}
	}
	t.Fatalf("no rule begins with %q", prefix)
	return rule{}
}

func mustLoad(t *testing.T, fsys fs.FS) *tree {
	t.Helper()
	source, err := load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return source
}
