//go:build unix

package transport

import (
	"io"
	"net"
	"syscall"
)

// A readWait reads from a connection, and holds no buffer while there is nothing to read: an idle session has none.
type readWait struct {
	raw syscall.RawConn
	rx  *rxHalf
	n   int
	err error
	try func(fd uintptr) bool // a method value, made once
}

// newReadWait returns nil for all but the operating system's own connections, as newWriteNow does.
func newReadWait(conn net.Conn, rx *rxHalf) *readWait {
	raw := rawConn(conn)
	if raw == nil {
		return nil
	}
	r := &readWait{raw: raw, rx: rx}
	r.try = r.readFrom
	return r
}

// read reads what there is into the unused part of rx.buf, which it borrows if there is none.
func (r *readWait) read() (int, error) {
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return 0, err
	}
	return r.n, r.err
}

func (r *readWait) readFrom(fd uintptr) bool {
	r.rx.borrow()
	for {
		n, err := syscall.Read(int(fd), r.rx.buf[r.rx.w:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			r.rx.release()
			return false // and be called again when there is something
		case err != nil:
			r.err = err
		case n == 0:
			r.err = io.EOF
		default:
			r.n = n
		}
		return true
	}
}
