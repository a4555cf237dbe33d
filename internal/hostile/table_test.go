package hostile

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTable: every test that README.md names is there.
func TestTable(t *testing.T) {
	table, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((Test|Fuzz|Benchmark)\w+)\(`)
	err = fs.WalkDir(os.DirFS("../.."), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile("../../" + path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((Test|Fuzz|Benchmark)\\w+)`").FindAllSubmatch(table, -1)
	for _, m := range named {
		if name := string(m[1]); !there[name] {
			t.Errorf("%s is not there", name)
		}
	}
	if len(named) < 50 {
		t.Errorf("the table names %d tests", len(named))
	}
}
