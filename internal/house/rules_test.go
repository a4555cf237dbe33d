package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"path"
	"slices"
	"strings"
)

// A rule looks at the whole tree and returns one sentence for each breach.
type rule struct {
	name  string
	check func(*tree) []string
}

var rules = []rule{
	{"1: transport imports the standard library and yamux", transportImports},
	{"1: yamux in transport/session.go alone", yamuxInOneFile},
	{"1: crypto/rsa in transport/keys.go and handshake.go, and internal/legacy/rsa.go alone", rsaInFewFiles},
	{"1: pure files import no net, time, sync, context", pureFiles},
	{"1: internal/legacy in cmd/sealmux alone", legacyIsForTheTool},
	{"1: internal/legacy imports the standard library and bigmod", legacyImports},
	{"2: rpc imports the standard library and msgpack", rpcImports},
	{"3: examples import nothing internal", examplesImports},
	{"3: nobody imports cmd or examples", commandsAreLeaves},
	{"4: public packages pull in no third module", noThirdModule},
	{"5: every exported name has a doc comment", docComments},
	{"5: every package has a package comment, in doc.go if public", packageComments},
	{"gofmt", gofmt},
	{"no long files", shortFiles},
	{"the top folder holds only what the plan names", topFolder},
}

const (
	yamuxPath   = "github.com/hashicorp/yamux"
	msgpackPath = "github.com/vmihailenco/msgpack/v5"
	bigmodPath  = "filippo.io/bigmod"
)

// pure are the files that turn bytes into bytes and nothing else.
var pure = []string{
	"transport/messages.go", "transport/schedule.go", "transport/record.go", "transport/dissect.go",
	"rpc/wire.go", "rpc/parse.go", "rpc/msgpack.go", "rpc/check.go",
}

// imports returns a breach for each import of the chosen non-test files that is not allowed.
func (t *tree) imports(chosen func(*file) bool, allowed func(string) bool) (bad []string) {
	for _, f := range t.files {
		if f.test || !chosen(f) {
			continue
		}
		for _, imported := range f.imports {
			if !allowed(imported) {
				bad = append(bad, fmt.Sprintf("%s imports %s", f.path, imported))
			}
		}
	}
	return bad
}

func transportImports(t *tree) []string {
	return t.imports(func(f *file) bool { return within(f.dir, "transport") },
		func(p string) bool { return standard(p) || p == yamuxPath })
}

func rpcImports(t *tree) []string {
	return t.imports(func(f *file) bool { return f.dir == "rpc" },
		func(p string) bool { return standard(p) || within(p, msgpackPath) })
}

func yamuxInOneFile(t *tree) []string {
	return t.imports(func(f *file) bool { return f.path != "transport/session.go" },
		func(p string) bool { return !within(p, yamuxPath) })
}

// rsaFiles are the files that work with RSA keys. legacy's is for a wire with a padding that transport must never accept.
var rsaFiles = []string{"transport/keys.go", "transport/handshake.go", "internal/legacy/rsa.go"}

func rsaInFewFiles(t *tree) []string {
	return t.imports(func(f *file) bool { return !slices.Contains(rsaFiles, f.path) },
		func(p string) bool { return p != "crypto/rsa" && p != bigmodPath })
}

// legacyIsForTheTool keeps the insecure wire away from all but the command.
func legacyIsForTheTool(t *tree) []string {
	return t.imports(func(f *file) bool { return f.dir != "cmd/sealmux" },
		func(p string) bool { return !within(p, module+"/internal/legacy") })
}

func legacyImports(t *tree) []string {
	return t.imports(func(f *file) bool { return within(f.dir, "internal/legacy") },
		func(p string) bool { return standard(p) || p == bigmodPath })
}

func pureFiles(t *tree) []string {
	bad := t.imports(func(f *file) bool { return slices.Contains(pure, f.path) }, func(p string) bool {
		return !slices.ContainsFunc([]string{"net", "time", "sync", "context"}, func(root string) bool { return within(p, root) })
	})
	for _, name := range pure { // a file that was renamed must not escape
		if !slices.ContainsFunc(t.files, func(f *file) bool { return f.path == name }) {
			bad = append(bad, name+" does not exist, though the plan names it")
		}
	}
	return bad
}

func examplesImports(t *tree) (bad []string) {
	for _, f := range t.files { // their tests too
		for _, imported := range f.imports {
			if within(f.dir, "examples") && within(imported, module+"/internal") {
				bad = append(bad, fmt.Sprintf("%s imports %s", f.path, imported))
			}
		}
	}
	return bad
}

func commandsAreLeaves(t *tree) (bad []string) {
	for _, f := range t.files {
		for _, imported := range f.imports {
			if within(imported, module+"/cmd") || within(imported, module+"/examples") {
				bad = append(bad, fmt.Sprintf("%s imports %s", f.path, imported))
			}
		}
	}
	return bad
}

func noThirdModule(t *tree) []string {
	return t.imports((*file).public, func(p string) bool {
		return standard(p) || p == yamuxPath || within(p, msgpackPath) || within(p, module)
	})
}

func docComments(t *tree) (bad []string) {
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, decl := range f.syntax.Decls {
			for _, name := range undocumented(decl) {
				bad = append(bad, fmt.Sprintf("%s: %s has no doc comment", f.path, name))
			}
		}
	}
	return bad
}

// undocumented lists the exported names that a declaration makes without a comment. A comment on a group
// serves all of its constants or variables, not its types. Error and Unwrap say all by their names.
func undocumented(decl ast.Decl) (names []string) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		exported := d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv)))
		told := d.Doc != nil || d.Recv != nil && (d.Name.Name == "Error" || d.Name.Name == "Unwrap")
		if exported && !told {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func receiver(list *ast.FieldList) string {
	kind := list.List[0].Type
	for {
		switch k := kind.(type) {
		case *ast.StarExpr:
			kind = k.X
		case *ast.IndexExpr:
			kind = k.X
		case *ast.IndexListExpr:
			kind = k.X
		case *ast.Ident:
			return k.Name
		default:
			return ""
		}
	}
}

func packageComments(t *tree) (bad []string) {
	told := make(map[string]bool)
	public := make(map[string]bool)
	for _, f := range t.files {
		if f.test {
			continue
		}
		public[f.dir] = f.public()
		good := f.syntax.Doc != nil && (!f.public() || path.Base(f.path) == "doc.go")
		told[f.dir] = told[f.dir] || good
	}
	for dir, ok := range told {
		switch {
		case !ok && public[dir]:
			bad = append(bad, dir+" has no package comment in doc.go")
		case !ok:
			bad = append(bad, dir+" has no package comment")
		}
	}
	return bad
}

func gofmt(t *tree) (bad []string) {
	for _, f := range t.files {
		if want, err := format.Source(f.src); err != nil || !bytes.Equal(want, f.src) {
			bad = append(bad, f.path+" is not as gofmt writes it")
		}
	}
	return bad
}

// Most lines of a file; a longer one holds two things.
const (
	maxLines     = 380
	maxTestLines = 600
)

func shortFiles(t *tree) (bad []string) {
	for _, f := range t.files {
		limit := maxLines
		if f.test {
			limit = maxTestLines
		}
		if n := t.fset.File(f.syntax.Pos()).LineCount(); n > limit {
			bad = append(bad, fmt.Sprintf("%s has %d lines, more than %d", f.path, n, limit))
		}
	}
	return bad
}

// planned is what the top folder may hold beside names with a leading dot and what .gitignore names there.
var planned = []string{"go.mod", "go.sum", "LICENSE", "README.md", "transport/", "rpc/", "examples/", "cmd/", "internal/"}

func topFolder(t *tree) (bad []string) {
	ignored := strings.Fields(t.keep)
	for _, name := range t.top {
		ok := strings.HasPrefix(name, ".") || slices.Contains(planned, name) || slices.Contains(ignored, "/"+name)
		if !ok {
			bad = append(bad, name+" is not in the plan of the top folder")
		}
	}
	return bad
}

// thirdModules names the packages, of those a public package is built from, that are neither the standard
// library's, nor this module's, nor allowed. list is what go list -deps prints.
func thirdModules(list string, allowed ...string) (bad []string) {
	for dep := range strings.FieldsSeq(list) {
		ok := standard(dep) || within(dep, module) ||
			slices.ContainsFunc(allowed, func(root string) bool { return within(dep, root) })
		if !ok {
			bad = append(bad, dep)
		}
	}
	return bad
}
