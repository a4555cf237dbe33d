package plugin

import (
	"context"
	"net"
	"os"
	"os/exec"

	"github.com/sealmux/sealmux/transport"
)

// pipes are the host's ends of a process's standard files.
type pipes struct{ stdin, stdout, stderr *os.File }

// spawn starts cmd with pipes for its standard files. They are files, so that cmd.Wait waits for the process alone, not for
// children that hold them.
func spawn(cmd *exec.Cmd) (p *pipes, err error) {
	p = &pipes{}
	var all []*os.File
	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		if r, w, err = os.Pipe(); err == nil {
			all = append(all, r, w)
		}
		return r, w
	}
	in, stdin := pipe()
	stdout, out := pipe()
	stderr, errs := pipe()
	if err == nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
		cmd.Env = environ(cmd.Env)
		ownGroup(cmd)
		err = cmd.Start()
	}
	if err != nil {
		for _, f := range all {
			f.Close()
		}
		return nil, err
	}
	in.Close()
	out.Close()
	errs.Close()
	return &pipes{stdin, stdout, stderr}, nil
}

// A link is how the session's connection comes about.
type link struct {
	hello    hostHello
	conn     net.Conn     // the host's end of an inherited one; nil once it is in use
	theirs   *os.File     // the plug-in's
	listener net.Listener // where it connects, if it cannot inherit
}

func newLink(ctx context.Context, cmd *exec.Cmd, opts Options) (l *link, err error) {
	l = &link{}
	if inherits && !opts.loopback {
		if l.conn, l.theirs, err = socketpair(); err != nil {
			return nil, err
		}
		l.hello.Network, l.hello.FD = networkFD, 3+len(cmd.ExtraFiles)
		cmd.ExtraFiles = append(cmd.ExtraFiles[:len(cmd.ExtraFiles):len(cmd.ExtraFiles)], l.theirs)
		return l, nil
	}
	var lc net.ListenConfig
	if l.listener, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	l.hello.Network, l.hello.Address = networkTCP, l.listener.Addr().String()
	return l, nil
}

// accept makes the session. Others that connect over TCP do not have the plug-in's key.
func (l *link) accept(ctx context.Context, cfg *transport.Config) (*transport.Session, error) {
	if l.conn != nil {
		conn := l.conn
		l.conn = nil
		return transport.Server(ctx, conn, cfg)
	}
	listener, err := transport.NewListener(l.listener, cfg)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	return listener.Accept(ctx)
}

func (l *link) closeTheirs() {
	if l.theirs != nil {
		l.theirs.Close()
	}
}

func (l *link) close() {
	if l.conn != nil {
		l.conn.Close()
	}
	if l.listener != nil {
		l.listener.Close()
	}
}
