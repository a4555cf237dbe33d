//go:build unix

package transport

import (
	"net"
	"syscall"
)

// A writeNow writes to a connection as much as that takes without waiting. One goroutine at a time may use it.
type writeNow struct {
	raw syscall.RawConn
	b   []byte
	n   int
	try func(fd uintptr) bool // a method value, made once
}

// newWriteNow returns nil for a connection that can only wait.
func newWriteNow(conn net.Conn) *writeNow {
	raw := rawConn(conn)
	if raw == nil {
		return nil
	}
	w := &writeNow{raw: raw}
	w.try = w.writeTo
	return w
}

// rawConn returns nil for all but the operating system's own connections. A type that embeds one has SyscallConn too, but
// its Read and Write may do more, which must not be gone past.
func rawConn(conn net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}

// write returns how much was written. Why not all was is for a Write that waits to find out.
func (w *writeNow) write(b []byte) int {
	w.b, w.n = b, 0
	w.raw.Write(w.try)
	w.b = nil
	return w.n
}

func (w *writeNow) writeTo(fd uintptr) bool {
	if n, err := syscall.Write(int(fd), w.b); err == nil {
		w.n = n
	}
	return true // never wait
}
