//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/peterh/liner"
	"golang.org/x/sys/unix"
)

// obeySignals gives the terminal back before a signal ends or stops the program, and takes it again when that goes on. SIGINT and SIGTERM
// are not among these, since they end every command in good order. It ends with quit.
func (e *editor) obeySignals() {
	signals := make(chan os.Signal, 1)
	for _, one := range []os.Signal{syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTSTP} {
		if !signal.Ignored(one) { // as nohup has it: then it stays so
			signal.Notify(signals, one)
		}
	}
	defer signal.Stop(signals)
	for {
		select {
		case <-e.quit:
			return
		case caught := <-signals:
			if caught == syscall.SIGTSTP {
				e.stop()
				continue
			}
			e.mu.Lock()
			e.before.ApplyMode()
			e.mu.Unlock()
			signal.Stop(signals) // now the signal does what it does to other programs
			syscall.Kill(syscall.Getpid(), caught.(syscall.Signal))
			<-e.quit
			return
		}
	}
}

// stop stops the program until the shell says that it goes on.
func (e *editor) stop() {
	if !shellWatches() {
		return
	}
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, syscall.SIGCONT)
	defer signal.Stop(goOn)
	e.mu.Lock()
	now, err := liner.TerminalMode()
	e.before.ApplyMode()
	e.mu.Unlock()
	syscall.Kill(syscall.Getpid(), syscall.SIGSTOP) // after Notify the runtime does not let SIGTSTP have its effect
	select {
	case <-goOn:
	case <-e.quit:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && !e.closed {
		now.ApplyMode() // the next key draws the line again
	}
}

// shellWatches reports whether a shell could let a stopped program go on. To one without (ssh -t HOST sealmux repl ...) the system does not
// do what Ctrl-Z asks for either: the person could only close the terminal.
func shellWatches() bool {
	parent := os.Getppid()
	session, err := unix.Getsid(0)
	theirs, err2 := unix.Getsid(parent)
	group, err3 := unix.Getpgid(parent)
	leads := parent == session && group == unix.Getpgrp() // of this very group, so that nobody outside of it waits
	return err == nil && err2 == nil && err3 == nil && theirs == session && !leads
}
