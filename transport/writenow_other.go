//go:build !unix

package transport

import "net"

// A writeNow writes without waiting. Here nothing can.
type writeNow struct{}

func newWriteNow(net.Conn) *writeNow { return nil }

func (*writeNow) write([]byte) int { return 0 }

// A readWait reads from a connection without a buffer while there is nothing to read, which needs the operating system's help.
type readWait struct{}

func newReadWait(net.Conn, *rxHalf) *readWait { return nil }

func (r *readWait) read() (int, error) { return 0, nil }
