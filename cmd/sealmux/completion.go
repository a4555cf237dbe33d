package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// shells are those that cobra writes completions for.
var shells = map[string]func(root *cobra.Command, out io.Writer) error{
	"bash":       func(root *cobra.Command, out io.Writer) error { return root.GenBashCompletionV2(out, true) },
	"zsh":        func(root *cobra.Command, out io.Writer) error { return root.GenZshCompletion(out) },
	"fish":       func(root *cobra.Command, out io.Writer) error { return root.GenFishCompletion(out, true) },
	"powershell": func(root *cobra.Command, out io.Writer) error { return root.GenPowerShellCompletionWithDesc(out) },
}

func completionCommand() *cobra.Command {
	names := slices.Sorted(maps.Keys(shells))
	return &cobra.Command{
		Use:   "completion " + strings.Join(names, "|"),
		Short: "Print a script that completes commands and flags in a shell",
		Long: "completion prints a script for a shell, which then completes commands, flags and files of sealmux.\n" +
			"It asks no server: methods are completed in sealmux repl. The one for bash needs the package bash-completion.",
		Example: "  source <(sealmux completion bash)\n" +
			"  sealmux completion zsh > \"${fpath[1]}/_sealmux\"\n" +
			"  sealmux completion fish > ~/.config/fish/completions/sealmux.fish",
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || shells[args[0]] == nil {
				return usagef("name one shell: %s", strings.Join(names, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := shells[args[0]](cmd.Root(), cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("cannot print the script: %w", err)
			}
			return nil
		},
	}
}

// completeArguments has the shells offer files where a command or a flag takes one, as its help says, and nowhere else.
func completeArguments(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		takesFiles := strings.HasSuffix(cmd.Use, " FILE...")
		if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil && !takesFiles {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			directive := cobra.ShellCompDirectiveNoFileComp
			switch value, _ := pflag.UnquoteUsage(f); value {
			case "FILE":
				directive = cobra.ShellCompDirectiveDefault
			case "DIR":
				directive = cobra.ShellCompDirectiveFilterDirs
			}
			cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(nil, directive))
		})
	}
}

// completeCommand offers the commands, for those that are about one.
func completeCommand(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	for _, about := range cmd.Root().Commands() {
		if about.IsAvailableCommand() && len(args) == 0 {
			names = append(names, cobra.CompletionWithDesc(about.Name(), about.Short))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
