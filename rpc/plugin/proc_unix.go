//go:build unix

package plugin

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// inherits says that a connected socket is handed to the child: nothing is on disk, and nobody else can connect.
const inherits = true

// socketpair returns a connection and the file of its other end, for the child.
func socketpair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock() // no child of another goroutine inherits them
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "plugin-host"), os.NewFile(uintptr(fds[1]), "plugin")
	conn, err := net.FileConn(ours) // a copy
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// inherited is the connection that a plug-in finds at a descriptor. What it starts itself does not inherit it.
func inherited(fd int) (net.Conn, error) {
	if fd < 3 {
		return nil, fmt.Errorf("plugin: descriptor %d cannot be the connection", fd)
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "plugin")
	defer f.Close()
	return net.FileConn(f)
}

// ownGroup has the child lead a process group: it and its children are signalled as one, and do not get a terminal's Ctrl-C.
func ownGroup(cmd *exec.Cmd) {
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	if !attr.Setsid { // a session's leader leads a group already
		attr.Setpgid, attr.Pgid = true, 0
	}
	cmd.SysProcAttr = &attr
}

// terminate asks the group to end, kill ends it. There may be nobody left; that is no error.
func terminate(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }
func kill(p *os.Process)      { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

// endSelf ends this process and, if it leads its group, its children.
func endSelf() {
	if syscall.Getpgrp() == syscall.Getpid() {
		_ = syscall.Kill(0, syscall.SIGKILL)
	}
	os.Exit(1)
}
