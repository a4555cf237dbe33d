package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmux/sealmux/internal/termtext"
)

// isTerminal reports whether a person reads or writes f.
func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// A style colours text, if that is wanted.
type style struct{ on bool }

// newStyle is for text that goes to w. It colours on a terminal only, and not if the user says no: with NO_COLOR (no-color.org) or
// TERM=dumb.
func newStyle(w io.Writer) style {
	return style{isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (s style) bold(text string) string   { return s.as("1", text) }
func (s style) dim(text string) string    { return s.as("2", text) }
func (s style) red(text string) string    { return s.as("31", text) }
func (s style) yellow(text string) string { return s.as("33", text) }

func (s style) as(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// addJSON adds the flag of the commands whose output a program may read.
func addJSON(cmd *cobra.Command, on *bool) {
	cmd.Flags().BoolVar(on, "json", false, "print JSON, one object a line")
}

// printJSON prints v on one line, of which a terminal obeys nothing.
func printJSON(w io.Writer, v any) error {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, termtext.Quiet(line.String()))
	return err
}
