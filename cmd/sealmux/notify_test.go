package main

import (
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// serviceManager waits at an address to be told.
func serviceManager(t *testing.T) (address string, told func(want string)) {
	t.Helper()
	address = filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	manager.SetReadDeadline(time.Now().Add(30 * time.Second))
	return address, func(want string) {
		t.Helper()
		buf := make([]byte, 100)
		if n, err := manager.Read(buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("told %q, %v; want %q", buf[:n], err, want)
		}
	}
}

// TestNotify is a service manager that starts a server and stops it.
func TestNotify(t *testing.T) {
	skipWithoutSignals(t)
	dir := t.TempDir()
	if _, err := keygen(dir, 2048); err != nil {
		t.Fatal(err)
	}
	address, told := serviceManager(t)
	server, err := startProcess(".", []string{"NOTIFY_SOCKET=" + address}, "serve", "--listen", "127.0.0.1:0", "--key", filepath.Join(dir, privateFile), "--allow-anonymous")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.kill)
	told("READY=1")
	server.cmd.Process.Signal(syscall.SIGTERM)
	told("STOPPING=1")
	server.ends(t, exitDone, "")

	server, err = startProcess(".", []string{"NOTIFY_SOCKET=" + address + "x"}, "serve", "--listen", "127.0.0.1:0", "--key", filepath.Join(dir, privateFile), "--allow-anonymous")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.kill)
	server.line(t)
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.ends(t, exitDone, `cannot tell the service manager "READY=1"`)
}

// TestForwardNotifies: a service manager that starts sealmux forward is told too.
func TestForwardNotifies(t *testing.T) {
	skipWithoutSignals(t)
	id := newParties(t)
	target := targetOf(t, echo)
	_, addr := id.serveProcess(t, "127.0.0.1:0", "--allow-forward", target)
	address, told := serviceManager(t)
	client, err := startProcess(".", []string{"NOTIFY_SOCKET=" + address}, "forward", "--server-key", id.public, "--key", id.client, "-L", "0:"+target, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.kill)
	told("READY=1")
	client.cmd.Process.Signal(syscall.SIGTERM)
	told("STOPPING=1")
	client.ends(t, exitDone, "")
}
