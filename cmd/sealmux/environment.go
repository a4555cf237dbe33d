package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const environmentHelp = "\nEvery flag also comes from the environment: SEALMUX_SERVER_KEY is --server-key, and so on; of a flag that may be\n" +
	"given again, values are separated by commas. What the command line says comes first; with --known-servers or --trust there,\n" +
	"SEALMUX_SERVER_KEY does not count.\n"

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "SEALMUX_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment gives the flags that the command line does not have the values of their variables. An empty variable is as none.
func fromEnvironment(cmd *cobra.Command) (err error) {
	asked := cmd.Flags().Changed("known-servers") || cmd.Flags().Changed("trust") // on the command line, as long as this goes on
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value := os.Getenv(variable(f.Name))
		if err != nil || f.Changed || f.Name == "help" || value == "" {
			return
		}
		if f.Name == "server-key" && asked { // who says where to look, or how strictly, would not be heard
			return
		}
		if bad := setFlag(cmd.Flags(), f, value); bad != nil {
			err = usagef("%s: %q is no value for --%s: %s", variable(f.Name), value, f.Name, plainFlagError(bad))
		}
	})
	return err
}

func setFlag(flags *pflag.FlagSet, f *pflag.Flag, value string) error {
	values := []string{value}
	if _, many := f.Value.(pflag.SliceValue); many {
		values = strings.Split(value, ",")
	}
	for _, one := range values {
		if err := flags.Set(f.Name, one); err != nil {
			return err
		}
	}
	return nil
}

// plainFlagError is the part of pflag's error that is not about the form of the flag: it has been said.
func plainFlagError(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, `flag: `); i >= 0 {
		return text[i+len(`flag: `):]
	}
	return text
}
