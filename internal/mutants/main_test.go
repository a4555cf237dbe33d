package main

import "testing"

// TestMutants: each mutant's text is in its file, once, so that the table keeps up with the code, and changes it.
func TestMutants(t *testing.T) {
	seen := make(map[string]bool)
	for _, m := range all() {
		source, err := m.source("../..")
		if err != nil {
			t.Errorf("%s, %s: %v", m.rule, m.what, err)
		}
		if seen[source] || m.old == m.new || m.test == "" {
			t.Errorf("%s, %s: it is there twice, changes nothing, or has no test", m.rule, m.what)
		}
		seen[source] = true
	}
}
