//go:build !unix

package main

// obeySignals has nothing to do where no signal stops or ends a program at its terminal.
func (e *editor) obeySignals() {}
