//go:build !unix

package plugin

import (
	"errors"
	"net"
	"os"
	"os/exec"
)

// inherits: there is no socket to hand to a child, so it connects over loopback TCP.
const inherits = false

var errNoInherit = errors.New("plugin: this system hands no socket to a child")

func socketpair() (net.Conn, *os.File, error) { return nil, nil, errNoInherit }
func inherited(int) (net.Conn, error)         { return nil, errNoInherit }
func ownGroup(*exec.Cmd)                      {}

// terminate and kill are the same here, and reach the process alone, not its children.
func terminate(p *os.Process) { _ = p.Kill() }
func kill(p *os.Process)      { _ = p.Kill() }

func endSelf() { os.Exit(1) }
