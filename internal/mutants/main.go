// Mutants takes out one defence after the other, each alone, and runs the tests that should notice. A defence that can go
// without a test failing is untested. From the repository's top: go run ./internal/mutants
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A mutant is the code without one defence.
type mutant struct {
	rule string // of SPEC.md, or the file's job
	what string // is fenced off
	file string
	old  string // occurs once in file
	new  string
	test string // regexp: the tests that should notice
}

func main() {
	only := flag.String("rule", "", "only the rules that match this `regexp`")
	list := flag.Bool("list", false, "print the rules and do nothing")
	flag.Parse()
	if err := run(*only, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(only string, list bool) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	mutants := slices.DeleteFunc(all(), func(m mutant) bool { return !chosen.MatchString(m.rule + " " + m.what) })
	survived := 0
	for _, m := range mutants {
		verdict := ""
		if !list {
			if verdict, err = m.try(); err != nil {
				verdict = "ERROR: " + err.Error()
			} else if verdict == "" {
				verdict = "SURVIVED"
			}
			if err != nil || verdict == "SURVIVED" {
				survived++
			}
		}
		fmt.Printf("%-4s %-66s %s\n", m.rule, m.what, verdict)
	}
	if list {
		return nil
	}
	fmt.Printf("rules %d, tested %d, untested %d\n", len(mutants), len(mutants)-survived, survived)
	if survived > 0 {
		return errors.New("write the tests that notice")
	}
	return nil
}

// all is every mutant there is.
func all() []mutant {
	return slices.Concat(guardMutants, handshakeMutants, rpcMutants, codedMutants, legacyMutants)
}

// source returns the mutated file.
func (m mutant) source(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(data), m.old); n != 1 {
		return "", fmt.Errorf("its text occurs %d times in %s", n, m.file)
	}
	return strings.Replace(string(data), m.old, m.new, 1), nil
}

var failed = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)

// try runs the tests of the mutant and returns the one that noticed, "" if none did.
func (m mutant) try() (noticed string, err error) {
	source, err := m.source(".")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	mutated, overlay := filepath.Join(dir, "mutated.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: mutated}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(mutated, []byte(source), 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "test", "-overlay", overlay, "-vet=off", "-ldflags=-s -w", "-failfast", "-count=1", "-timeout=60s", "-run", m.test,
		"./"+filepath.Dir(m.file)).CombinedOutput()
	found := failed.FindAllStringSubmatch(string(out), -1)
	switch {
	case err == nil && strings.Contains(string(out), "[no tests to run]"):
		return "", fmt.Errorf("no test matches %q", m.test)
	case err == nil:
		return "", nil
	case len(found) > 0:
		return found[len(found)-1][1], nil
	case strings.Contains(string(out), "[build failed]") || strings.Contains(string(out), "[setup failed]"):
		return "", fmt.Errorf("it does not build:\n%s", out)
	case strings.Contains(string(out), "panic:"), strings.Contains(string(out), "fatal error:"), strings.Contains(string(out), "goleak"):
		return "the whole run", nil
	}
	return "", fmt.Errorf("%w\n%s", err, out)
}
