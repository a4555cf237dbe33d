//go:build unix

package main

import (
	"context"
	"net"
	"syscall"
)

// listenUnix listens on a Unix socket that is this user's alone from its beginning: a chmod behind it would leave time to connect, where
// the umask is lax. It sets the umask of the whole process meanwhile.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o177))
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}
