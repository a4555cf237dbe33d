package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// A run is one process of a plug-in, from its start to its end.
type run struct {
	opts    Options
	version int
	client  *rpc.Client
	ended   <-chan struct{} // the session's end, and why
	sessErr func() error

	proc   *os.Process      // nil if it runs in this process
	hangup func(asked bool) // ends its standard input, which ends it: asked is Stop, in good order
	force  func(hard bool)  // asks process and children to end, or ends them
	asked  atomic.Bool      // stop was called
	exited chan struct{}    // the process has ended
	state  *os.ProcessState
	logs   tail
	close  func() // what is to be done after the end of process and session: waits for goroutines, closes files

	over chan struct{} // all is cleaned up, and err is set
	err  *ExitError
}

// launch starts a process and gets it ready for calls. After an error nothing of it is left.
func launch(ctx context.Context, cmd exec.Cmd, opts Options) (*run, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, opts.StartTimeout, ErrStartTimeout)
	defer cancel()
	link, err := newLink(ctx, &cmd, opts)
	if err != nil {
		return nil, err
	}
	defer link.close()
	p, err := spawn(&cmd)
	link.closeTheirs()
	if err != nil {
		return nil, fmt.Errorf("plugin: %s: %w", opts.Name, err)
	}
	r := &run{opts: opts, proc: cmd.Process, exited: make(chan struct{}), over: make(chan struct{})}
	r.hangup = func(asked bool) {
		if asked {
			_, _ = p.stdin.WriteString(stopWord) // to a process that has ended it need not be said
		}
		p.stdin.Close()
	}
	r.force = func(hard bool) {
		if hard {
			kill(r.proc)
		} else {
			terminate(r.proc)
		}
	}
	var readers sync.WaitGroup
	readers.Go(func() { forward(reader(p.stderr), opts.Logger, "stderr", &r.logs) })
	go func() { // ends with the process, which close waits for
		_ = cmd.Wait() // how it ended is in ProcessState
		r.state = cmd.ProcessState
		close(r.exited)
	}()
	out := reader(p.stdout)
	r.close = func() {
		<-r.exited
		kill(r.proc) // its children, which still make up its group
		for _, f := range []*os.File{p.stdout, p.stderr} {
			_ = f.SetReadDeadline(time.Now().Add(lastWait / 4)) // one that left the group may hold the other end
		}
		readers.Wait()
		for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
			f.Close()
		}
	}
	sess, err := r.greet(ctx, link, p, out)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	readers.Go(func() { forward(out, opts.Logger, "stdout", nil) })
	r.attach(sess)
	return r, nil
}

// attach makes the client, and follows the run to its end.
func (r *run) attach(sess muxed) {
	r.client, r.ended, r.sessErr = rpc.NewClient(sess, r.opts.RPC), sess.Done(), sess.Err
	go r.follow() // until process and session have ended; over tells
}

// follow waits for the end of the process or its session, and sees to it that the other ends too.
func (r *run) follow() {
	select {
	case <-r.exited:
	case <-r.ended:
		r.hangup(false)
		if !r.exits(lastWait) && !r.asked.Load() { // stop has more patience
			r.force(true)
		}
		<-r.exited
	}
	r.close()
	// The session has ended, or does now: its other end is gone. What the plug-in had written before is still to be read.
	if !waitFor(r.ended, lastWait) {
		_ = r.client.Close()
	}
	r.err = &ExitError{Name: r.opts.Name, State: r.state, Stderr: r.logs.String(), Err: r.sessErr()}
	_ = r.client.Close()
	close(r.over)
}

// failed ends a run that did not get ready, and makes the error of its start.
func (r *run) failed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if lost := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrClosed) ||
		errors.Is(err, errBroken); lost && r.exits(lastWait) {
		r.close()
		return &ExitError{Name: r.opts.Name, State: r.state, Stderr: r.logs.String(), Err: fmt.Errorf("before it was ready: %w", err)}
	}
	r.force(true)
	r.close()
	if text := r.logs.String(); text != "" {
		return fmt.Errorf("plugin: %s did not start: %w; its last lines: %q", r.opts.Name, err, text)
	}
	return fmt.Errorf("plugin: %s did not start: %w", r.opts.Name, err)
}

// errBroken marks that the plug-in does not read what the host says: it has most likely ended.
var errBroken = errors.New("it takes nothing from its host")

// greet exchanges the two lines and makes the session. It ends with ctx.
func (r *run) greet(ctx context.Context, l *link, p *pipes, out *bufio.Reader) (*transport.Session, error) {
	stop := context.AfterFunc(ctx, func() {
		r.force(true)
		_ = p.stdin.SetWriteDeadline(time.Now()) // a child that left the group may hold the other ends
		_ = p.stdout.SetReadDeadline(time.Now())
	})
	defer stop()
	key, err := hostKey()
	if err != nil {
		return nil, err
	}
	hello := l.hello
	hello.Wire, hello.Versions, hello.Key = wireVersion, r.opts.Versions, string(key.Public().MarshalPEM())
	if err := writeHello(p.stdin, &hello); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	var answer pluginHello
	if err := readHello(out, &answer, &answer.Wire); err != nil {
		return nil, err
	}
	if answer.Version == 0 || answer.Version != common(r.opts.Versions, answer.Versions) {
		return nil, &VersionError{Host: r.opts.Versions, Plugin: answer.Versions}
	}
	theirs, err := transport.ParsePublicKey([]byte(answer.Key))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotPlugin, err)
	}
	r.version = answer.Version
	return l.accept(ctx, &transport.Config{Keys: []*transport.PrivateKey{key}, Peers: transport.Pin(theirs),
		Protocol: protocol(answer.Version), HandshakeTimeout: r.opts.StartTimeout, NoTickets: true})
}

// protocol binds the agreed version to the session.
func protocol(version int) string { return rpc.Protocol + sessionLabel + strconv.Itoa(version) }

// wait returns how the run ended, once nothing of it is left.
func (r *run) wait() error {
	<-r.over
	return r.err
}

// stop lets the plug-in end, then makes it.
func (r *run) stop(ctx context.Context, patience time.Duration) error {
	r.asked.Store(true)
	r.hangup(true)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.exited:
		<-r.over
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	r.force(false)
	if !r.exits(lastWait) {
		r.kill()
	}
	<-r.over
	return ErrKilled
}

func (r *run) kill() {
	r.force(true)
	<-r.over
}

// exits waits for the process to end by itself.
func (r *run) exits(d time.Duration) bool { return waitFor(r.exited, d) }

func waitFor(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}
