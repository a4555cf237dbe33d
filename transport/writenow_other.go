//go:build !unix

package transport

import "net"

// A writeNow writes without waiting. Here nothing can.
type writeNow struct{}

func newWriteNow(net.Conn) *writeNow { return nil }

func (*writeNow) write([]byte) int { return 0 }
