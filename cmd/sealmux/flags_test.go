package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestPlaceholders: what stands for a flag's value in --help is a word in capitals, in every command.
func TestPlaceholders(t *testing.T) {
	seen := 0
	for _, cmd := range append([]*cobra.Command{newRoot()}, newRoot().Commands()...) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				return
			}
			seen++
			if name, _ := pflag.UnquoteUsage(f); name == "" || name != strings.ToUpper(name) {
				t.Errorf("%s: --%s %s", cmd.CommandPath(), f.Name, name)
			}
		})
	}
	if seen == 0 {
		t.Error("no flag has a value")
	}
}
