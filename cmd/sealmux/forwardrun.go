package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/sealmux/sealmux/rpc"
)

// maxLocal is how many local connections are forwarded at a time; more wait to be accepted.
const maxLocal = 1024

// errDrainOver is why connections are cut at the end of a drain.
var errDrainOver = errors.New("the time to drain is over")

// run forwards until ctx ends, and then drains.
func (f *forwarder) run(ctx context.Context, out, errOut io.Writer) error {
	listeners, err := f.listen(ctx)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	first, err := f.dial(ctx)
	if err != nil {
		return err
	}
	if err := f.allowed(ctx, first); err != nil {
		first.close()
		return err
	}
	if err := f.announce(out, errOut, listeners); err != nil {
		first.close()
		return err
	}
	notify(errOut, daemon.SdNotifyReady)
	unbroken, cut := context.WithCancelCause(context.WithoutCancel(ctx)) // a signal drains; it must not cut
	defer cut(nil)
	log := &refusals{out: errOut}
	failed := make(chan error, 1+len(listeners))
	up := newUplink(f, log)
	defer up.close()
	up.start(unbroken, first, failed)

	conns := &localConns{forwarder: f, up: up, log: log, slots: make(chan struct{}, maxLocal)}
	var accepting sync.WaitGroup
	for i, l := range listeners {
		accepting.Go(func() { // ended by the listener's end, or by ctx
			if err := conns.accept(ctx, unbroken, l, f.locals[i].target); err != nil {
				failed <- err
			}
		})
	}
	select {
	case err = <-failed:
		cut(err)
	case <-ctx.Done():
		notify(errOut, daemon.SdNotifyStopping)
		fmt.Fprintf(errOut, "draining: connections in progress have %v; a second signal cuts them\n", f.drain)
	}
	closeAll(listeners)
	over := time.AfterFunc(f.drain, func() { cut(errDrainOver) })
	defer over.Stop()
	accepting.Wait()
	conns.work.Wait()
	if err == nil && conns.cut.Load() {
		err = fmt.Errorf("connections were cut after %v; allow them more with --drain", f.drain)
	}
	return err
}

// localConns are the local connections that are forwarded.
type localConns struct {
	*forwarder
	up    *uplink
	log   *refusals
	slots chan struct{} // has one value for each
	work  sync.WaitGroup
	cut   atomic.Bool // one was cut at the end of a drain
}

// accept forwards what l accepts until ctx ends or l is closed. What it has accepted lives until unbroken ends.
func (c *localConns) accept(ctx, unbroken context.Context, l net.Listener, target string) error {
	for {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		switch {
		case err == nil:
			linger(conn, 0)
			c.work.Go(func() {
				defer func() { <-c.slots }()
				c.forward(unbroken, conn, target)
			})
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE):
			return fmt.Errorf("the listener on %v failed: %s", l.Addr(), listenFailure(err))
		}
		<-c.slots
		c.log.line(fmt.Sprintf("cannot accept on %v: %s", l.Addr(), listenFailure(err)))
		wakeAt(ctx, time.Now().Add(100*time.Millisecond)) // one of the others may end by then
	}
}

// forward carries one connection.
func (c *localConns) forward(ctx context.Context, conn net.Conn, target string) {
	what := "a connection to " + target
	if conn.RemoteAddr().Network() != "unix" {
		what = fmt.Sprintf("the connection of %v to %s", conn.RemoteAddr(), target)
	}
	h, remote, err := c.up.open(ctx, forwardPrefix+target)
	if err == nil {
		err = (&relay{a: conn, b: remote}).run(ctx)
		h.conns.Done()
		if err != nil {
			err = fmt.Errorf("%s was cut: %s", what, plain(err))
		}
	} else {
		reset(conn)
		err = fmt.Errorf("%s was refused: %w", what, c.openError(target, err))
	}
	if err == nil {
		return
	}
	if context.Cause(ctx) == errDrainOver {
		c.cut.Store(true)
	}
	c.log.line(err.Error())
}

// openError says in one sentence why a connection was not forwarded.
func (f *forwarder) openError(target string, err error) error {
	e, ok := errors.AsType[*rpc.Error](err)
	switch {
	case !ok:
		return err
	case e.Code == rpc.Unimplemented:
		return f.notAllowed(target)
	case e.Code == rpc.Unavailable && e.Outcome == rpc.Executed:
		return fmt.Errorf("the server at %s cannot reach %s: %s", f.addr, target, e.Message)
	case e.Code == rpc.DeadlineExceeded:
		return fmt.Errorf("the server at %s has not said within %v whether it can reach %s; allow more with --timeout", f.addr, f.timeout, target)
	}
	return fmt.Errorf("the server at %s does not forward to %s now: %s", f.addr, target, plain(err))
}
