package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func manCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [--dir DIR] [COMMAND]",
		Short: "Print a manual page, or write them all",
		Long: "man prints the manual page of sealmux, or of one of its commands, in troff's form; with --dir it writes those\n" +
			"of all commands into a folder, which it makes if absent, over older ones. They bear no date, unless SOURCE_DATE_EPOCH gives one.",
		Example: "  sealmux man serve | man -l -\n" +
			"  sealmux man --dir /usr/local/share/man/man1",
		ValidArgsFunction: completeCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir != "" && len(args) > 0 {
				return usagef("--dir writes the pages of all commands; give no %s", args[0])
			}
			if dir != "" {
				return writeManuals(cmd.Root(), dir)
			}
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), strings.Join(args, " "))
			}
			page, err := manual(about)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(page)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder `DIR` to write the pages of all commands into")
	return cmd
}

// manual is the page of a command. Its date is that of SOURCE_DATE_EPOCH (reproducible-builds.org), in seconds, and otherwise none.
func manual(about *cobra.Command) ([]byte, error) {
	header := &doc.GenManHeader{Section: "1", Source: "Sealmux", Manual: "Sealmux Manual", Date: &time.Time{}}
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, errors.New("SOURCE_DATE_EPOCH must be a number of seconds")
		}
		date := time.Unix(seconds, 0).UTC()
		header.Date = &date
	}
	about.DisableAutoGenTag = true
	var page bytes.Buffer
	if err := doc.GenMan(about, header, &page); err != nil {
		return nil, fmt.Errorf("cannot make the page: %w", err)
	}
	text := strings.Replace(page.String(), noDate, `""`, 1)
	return []byte(strings.Replace(text, seeAlso, "\n"+manualEnd+seeAlso, 1)), nil
}

const seeAlso = "\n.SH SEE ALSO\n" // cobra's last section

// manualEnd are the sections before it, which every page has.
var manualEnd = ".SH ENVIRONMENT\n" + regexp.MustCompile(`--[a-z-]+`).ReplaceAllString(environmentHelp, `\fB$0\fP`) +
	".PP\nWith NO_COLOR, or TERM=dumb, nothing is coloured.\n\n\n.SH EXIT STATUS\n" + exitCodesHelp + ".\n\n"

var noDate = time.Time{}.Format(`"Jan 2006"`) // what cobra makes of the zero time

func writeManuals(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder %s: %w; choose another --dir", dir, err)
	}
	for _, about := range append([]*cobra.Command{root}, root.Commands()...) {
		if about.Hidden || !about.IsAvailableCommand() && about != root {
			continue
		}
		page, err := manual(about)
		if err != nil {
			return err
		}
		name := strings.ReplaceAll(about.CommandPath(), " ", "-") + ".1"
		if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
			return fmt.Errorf("cannot write the page: %w; choose another --dir", err)
		}
	}
	return nil
}
