package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/peterh/liner"
)

// editable reports whether this terminal can do what an editor of lines needs.
func editable() bool { return liner.TerminalSupported() }

// An editor lets a person edit lines on the terminal, and keeps them. It has the terminal until close: what is typed or pasted during a call
// is shown at the next prompt. A signal that ends or stops the program finds the terminal as it was (see obeySignals). Nothing can be done
// for a panic on another goroutine, and for SIGKILL.
type editor struct {
	terminal *liner.State
	history  string // the file; empty if there is none
	errOut   io.Writer

	quit    chan struct{}
	waiting sync.WaitGroup // for obeySignals

	mu             sync.Mutex // among prompt, close and obeySignals: of how the terminal is
	before, during liner.ModeApplier
	closed         bool
}

// newEditor takes the terminal, which close gives back as it was.
func newEditor(complete func(string) []string, history string, errOut io.Writer) (*editor, error) {
	before, err := liner.TerminalMode()
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the terminal's settings: %w", err)
	}
	e := &editor{terminal: liner.NewLiner(), history: history, errOut: errOut, quit: make(chan struct{}), before: before}
	if e.during, err = liner.TerminalMode(); err != nil {
		e.terminal.Close()
		return nil, fmt.Errorf("cannot ask for the terminal's settings: %w", err)
	}
	e.waiting.Go(e.obeySignals)
	if history == noHistory {
		e.history = ""
	}
	e.terminal.SetCompleter(complete)
	e.terminal.SetTabCompletionStyle(liner.TabPrints)
	e.terminal.SetMultiLineMode(true)
	e.terminal.SetBeep(false)
	for _, line := range e.load() {
		e.terminal.AppendHistory(line)
	}
	return e, nil
}

func (e *editor) next() <-chan read {
	next := make(chan read, 1)
	go func() {
		line, err := e.prompt()
		if err == nil {
			e.keep(line)
		} else if err != io.EOF {
			err = fmt.Errorf("cannot read the terminal: %w", err)
		}
		next <- read{[]byte(line), err}
	}()
	return next
}

// prompt returns the next line. A prompt that outlives close leaves the terminal as close did.
func (e *editor) prompt() (string, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return "", io.EOF
	}
	e.during.ApplyMode() // again, since a program that was stopped finds the terminal as the shell likes it
	e.mu.Unlock()
	line, err := e.terminal.Prompt(replPrompt)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		e.before.ApplyMode()
	}
	return line, err
}

func (e *editor) broken() { fmt.Fprintln(e.errOut) }

func (e *editor) close() {
	e.mu.Lock()
	e.closed = true
	e.terminal.Close()
	e.mu.Unlock()
	close(e.quit)
	e.waiting.Wait()
}

// History files: how long a line and a file may be, in bytes.
const (
	maxHistoryLine = 4 << 10
	maxHistoryFile = 1 << 20
	noHistory      = "none"
)

// defaultHistory is where lines are kept, after the XDG Base Directory Specification.
func defaultHistory() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return noHistory
		}
		dir = filepath.Join(home, ".local", "state")
	}
	if runtime.GOOS == "windows" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return noHistory
		}
		dir = cache
	}
	return filepath.Join(dir, "sealmux", "history")
}

// load returns the lines of the last times. A file that has grown too long loses its first half.
func (e *editor) load() []string {
	if e.history == "" {
		return nil
	}
	lines, size, err := readHistory(e.history)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && size > maxHistoryFile {
		lines = lines[len(lines)/2:]
		err = writeHistory(e.history, lines)
	}
	e.report(err)
	return lines
}

// keep adds a line to the history, unless the person says by a space before it that it is nobody's business.
func (e *editor) keep(line string) {
	if line == "" || line[0] == ' ' {
		return
	}
	e.terminal.AppendHistory(line)
	if e.history != "" && len(line) <= maxHistoryLine {
		e.report(appendHistory(e.history, line))
	}
}

// report says once that lines are not kept, and keeps none from then on.
func (e *editor) report(err error) {
	if err != nil {
		fmt.Fprintf(e.errOut, "lines are not kept: %s; name another file with --history, or none\n", oneLine(err))
		e.history = ""
	}
}

func readHistory(path string) (lines []string, size int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	text := bufio.NewScanner(io.LimitReader(file, 4*maxHistoryFile))
	for text.Scan() {
		if line := text.Text(); line != "" {
			lines = append(lines, strings.Map(printable, line))
		}
	}
	return lines, info.Size(), text.Err()
}

func appendHistory(path, line string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" { // somebody else made it, or copied it
		err = file.Chmod(0o600)
	}
	if err == nil {
		_, err = file.WriteString(line + "\n")
	}
	return errors.Join(err, file.Close())
}

// writeHistory replaces the file in one step.
func writeHistory(path string, lines []string) error {
	file, err := os.CreateTemp(filepath.Dir(path), "history") // of mode 0600
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, strings.Join(lines, "\n")+"\n")
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
	}
	return err
}
