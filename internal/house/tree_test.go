package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

const module = "github.com/sealmux/sealmux"

// A tree is the module's source as the rules see it.
type tree struct {
	fset  *token.FileSet
	files []*file
	top   []string // what lies in the repository's top folder, folders with a slash
	keep  string   // the text of .gitignore
}

// A file is one parsed Go file.
type file struct {
	path    string // slash-separated, from the top
	dir     string
	src     []byte
	syntax  *ast.File
	test    bool
	imports []string
}

// load reads every Go file of the module: not those in testdata, in folders that begin with a dot, or in
// modules of their own.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet()}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() {
			name += "/"
		}
		t.top = append(t.top, name)
	}
	if ignore, err := fs.ReadFile(fsys, ".gitignore"); err == nil {
		t.keep = string(ignore)
	}
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && skipped(fsys, name):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		return t.add(fsys, name)
	})
	return t, err
}

func skipped(fsys fs.FS, dir string) bool {
	if dir == "." {
		return false
	}
	base := path.Base(dir)
	_, err := fs.Stat(fsys, dir+"/go.mod")
	return err == nil || base == "testdata" || strings.HasPrefix(base, ".")
}

func (t *tree) add(fsys fs.FS, name string) error {
	src, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(t.fset, name, src, parser.ParseComments)
	if err != nil {
		return err
	}
	f := &file{path: name, dir: path.Dir(name), src: src, syntax: syntax, test: strings.HasSuffix(name, "_test.go")}
	for _, spec := range syntax.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.imports = append(f.imports, imported)
	}
	t.files = append(t.files, f)
	return nil
}

// within reports whether a slash-separated path is root or lies below it.
func within(name, root string) bool {
	return name == root || strings.HasPrefix(name, root+"/")
}

// standard reports whether an import path is the standard library's: its first element has no dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// public reports whether others may import the packages of this folder.
func (f *file) public() bool {
	return !within(f.dir, "cmd") && !within(f.dir, "examples") && !within(f.dir, "internal")
}
