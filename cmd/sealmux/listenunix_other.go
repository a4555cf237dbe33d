//go:build !unix

package main

import (
	"context"
	"net"
)

// listenUnix listens on a Unix socket. Who may connect is its folder's to say: these systems have no permission bits.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}
