package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// environmentHelp ends the help of every command, and is in every manual page.
const environmentHelp = "Every flag also comes from the environment: SEALMUX_SERVER_KEY is --server-key, and so on; of a flag that may be\n" +
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
		if err != nil || f.Changed || f.Name == "help" || f.Name == "version" || value == "" {
			return
		}
		if f.Name == "server-key" && asked { // who says where to look, or how strictly, would not be heard
			return
		}
		if bad := setFlag(cmd.Flags(), f, value); bad != nil {
			err = usagef("%s: %s", variable(f.Name), plainFlagError(bad))
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

// plainFlagError says of a value that a flag does not take what it takes, rather than what Go's parsers say.
func plainFlagError(err error) string {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err.Error()
	}
	f := bad.GetFlag()
	takes := bad.Unwrap().Error()
	switch f.Value.Type() {
	case "duration":
		takes = "write a time with its unit, such as 10s or 1m30s"
	case "int", "int64":
		takes = "write a whole number"
	case "float64":
		takes = "write a number"
	case "bool":
		takes = "write true or false"
	}
	if errors.Is(err, strconv.ErrRange) {
		takes = "the number is too large or too small"
	}
	return fmt.Sprintf("%q is no value for --%s: %s", bad.GetValue(), f.Name, takes)
}
