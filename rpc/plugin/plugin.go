package plugin

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// Defaults of Options.
const (
	DefaultStartTimeout = 10 * time.Second
	DefaultStopTimeout  = 5 * time.Second
	DefaultBackoff      = 100 * time.Millisecond
)

const (
	maxBackoff = 30 * time.Second
	steady     = time.Minute // a plug-in that ran for so long has its restarts counted anew
	lastWait   = time.Second // after a signal to end, or the end of a session: how long a process has to end by itself
)

// Options are the habits of a host (Start) or a plug-in (Serve). The zero value works.
type Options struct {
	// Name is what logs and errors call the plug-in, default the file name of its program. To Serve it is the name of the
	// program that starts it, for who runs the plug-in by hand.
	Name string
	// Versions are the versions of the application protocol that this side speaks, each above 0. The highest that both speak
	// is used: Plugin.Version, VersionFrom. Default: 1.
	Versions []int
	// RPC are the options of the host's client. Handlers in it answers the plug-in's calls. Serve does not use it: its
	// server has its own.
	RPC rpc.Options
	// Logger gets what the plug-in writes to standard error, and says when it ends and is started again. Lines as
	// slog.JSONHandler writes them keep time, level and attributes; others are logged as they are, at level Info. At most
	// 64 KiB of a line are. Default: nothing is logged. Serve does not use it.
	Logger *slog.Logger
	// StartTimeout is how long a plug-in has from its start to its first call; to Serve, how long it waits for its host.
	// Default 10 s.
	StartTimeout time.Duration
	// StopTimeout is how long a plug-in that is stopped has to finish its calls and end, before it is killed; to Serve, how
	// long it waits for its handlers then. Default 5 s.
	StopTimeout time.Duration
	// Restarts is how many times a plug-in that failed is started again; negative: without limit; default 0: never. It counts
	// anew once a plug-in has run for a minute. One that ends with status 0 has not failed.
	Restarts int
	// Backoff is how long the first of these restarts waits; each further one waits twice as long, at most 30 s. Default 100 ms.
	Backoff time.Duration

	loopback bool // connect over TCP where a socket could be inherited; for tests
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Versions) == 0 {
		o.Versions = []int{1}
	}
	if len(o.Versions) > 256 || slices.Min(o.Versions) < 1 {
		return o, fmt.Errorf("%w: Versions must be at most 256 numbers above 0", ErrOptions)
	}
	if o.StartTimeout <= 0 {
		o.StartTimeout = DefaultStartTimeout
	}
	if o.StopTimeout <= 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	if o.Backoff <= 0 {
		o.Backoff = DefaultBackoff
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// A Plugin is a plug-in as its host sees it: one process at a time, which the Options may have replaced when it fails. It must
// be stopped. All methods may be called by many goroutines at once.
type Plugin struct {
	opts  Options
	begin func(ctx context.Context) (*run, error) // starts one more

	stopping chan struct{} // closed by Stop and Kill
	done     chan struct{} // closed when there is no process and will be none

	mu      sync.Mutex // protects all below; nothing blocks under it
	stopped bool       // stopping is closed
	current *run       // nil while there is none
	changed chan struct{}
	err     error // why there is none any more; set before done is closed
}

// Start starts a program as a plug-in and returns once it is ready for calls. The program must call Serve. cmd is a template
// that is not started itself: of it Path, Args, Env, Dir, ExtraFiles and SysProcAttr are used, for restarts too, and its
// standard files must not be set. ctx bounds the start alone. A program that cannot be run fails with os/exec's error; one that
// ends at once with an *ExitError; others with ErrNotPlugin, ErrStartTimeout, a *VersionError or ctx's error. After an error no
// process is left.
func Start(ctx context.Context, cmd *exec.Cmd, opts Options) (*Plugin, error) {
	if cmd.Stdin != nil || cmd.Stdout != nil || cmd.Stderr != nil || cmd.Process != nil {
		return nil, fmt.Errorf("%w: the command must be new and have no standard files of its own", ErrOptions)
	}
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	if opts.Name == "" {
		opts.Name = filepath.Base(cmd.Path)
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	opts.Logger = opts.Logger.With("plugin", opts.Name)
	template := exec.Cmd{Path: cmd.Path, Args: slices.Clone(cmd.Args), Env: slices.Clone(cmd.Env), Dir: cmd.Dir,
		ExtraFiles: slices.Clone(cmd.ExtraFiles), SysProcAttr: cmd.SysProcAttr}
	return start(ctx, opts, func(ctx context.Context) (*run, error) { return launch(ctx, template, opts) })
}

// start is Start for whatever begin starts.
func start(ctx context.Context, opts Options, begin func(context.Context) (*run, error)) (*Plugin, error) {
	p := &Plugin{opts: opts, begin: begin, stopping: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{})}
	first, err := begin(ctx)
	if err != nil {
		return nil, err
	}
	p.current = first
	go p.supervise(first) // until Stop, Kill or an end that is not followed by a restart; Done tells
	return p, nil
}

// supervise follows one process after the other.
func (p *Plugin) supervise(r *run) {
	restarts, wait := 0, p.opts.Backoff
	for {
		since := time.Now()
		err := r.wait()
		p.set(nil)
		if time.Since(since) >= steady {
			restarts, wait = 0, p.opts.Backoff
		}
		wanted := r.err.clean()
		for r = nil; r == nil; {
			if p.isStopped() {
				p.finish(ErrStopped)
				return
			}
			level := slog.LevelWarn
			if wanted {
				level = slog.LevelInfo
			}
			p.opts.Logger.Log(context.Background(), level, "plugin: ended", "error", err, "restarts", restarts)
			if wanted || p.opts.Restarts >= 0 && restarts >= p.opts.Restarts {
				p.finish(err)
				return
			}
			if !p.sleep(wait) {
				continue
			}
			restarts, wait = restarts+1, min(2*wait, maxBackoff)
			if r, err = p.again(); err == nil {
				p.set(r)
			}
		}
	}
}

// again starts one more, unless Stop is called meanwhile.
func (p *Plugin) again() (*run, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-p.stopping:
			cancel()
		case <-over:
		}
	}()
	r, err := p.begin(ctx)
	close(over)
	<-ended
	return r, err
}

// sleep waits, and returns whether it waited to the end.
func (p *Plugin) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.stopping:
		return false
	}
}

// set says which process there is now. One that came up while Stop was called is stopped here.
func (p *Plugin) set(r *run) {
	p.mu.Lock()
	p.current = r
	close(p.changed)
	p.changed = make(chan struct{})
	stopped := p.stopped
	p.mu.Unlock()
	if stopped && r != nil {
		r.kill()
	}
}

// finish says that there will be none any more.
func (p *Plugin) finish(err error) {
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	close(p.done)
}

func (p *Plugin) isStopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// stop refuses restarts and returns the process that there is.
func (p *Plugin) stop() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.stopped = true
		close(p.stopping)
	}
	return p.current
}

// Stop ends the plug-in: it finishes the calls that it runs and takes no more, and its process ends. What is left of it and its
// children after Options.StopTimeout, or when ctx ends, gets SIGTERM and a second later SIGKILL. It returns once nothing is left:
// nil if the plug-in ended by itself, or had ended before; ErrKilled if not.
func (p *Plugin) Stop(ctx context.Context) error {
	r := p.stop()
	var err error
	if r != nil {
		err = r.stop(ctx, p.opts.StopTimeout)
	}
	<-p.done
	return err
}

// Kill ends the plug-in and its children at once, and returns when nothing is left. Calls in flight end with OutcomeUnknown.
func (p *Plugin) Kill() {
	if r := p.stop(); r != nil {
		r.kill()
	}
	<-p.done
}

// Client makes calls to the plug-in, whichever process that is at the time: a call that finds none waits for the restart, if
// there is to be one, until its context ends. A call that a crash interrupts fails as Unavailable, with the outcome that it
// has, and an *ExitError; it is not repeated unless it was NotSent.
func (p *Plugin) Client() rpc.Caller { return caller{p} }

// Version is the version of the application protocol that was agreed on; 0 while the plug-in is being started again.
func (p *Plugin) Version() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		return 0
	}
	return p.current.version
}

// Done is closed when the plug-in has ended for good.
func (p *Plugin) Done() <-chan struct{} { return p.done }

// Err says why it has ended: ErrStopped after Stop and Kill, else an *ExitError or why the last restart failed; nil before.
func (p *Plugin) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// clean says that a plug-in ended because it wanted to.
func (e *ExitError) clean() bool { return e.State != nil && e.State.Success() }

// hostKey is the key of this process for all of its plug-ins. It is never stored. It lives no longer than the process, and
// what was recorded stays secret without it, so 2048 bits do; they are made several times faster than 3072.
var hostKey = sync.OnceValues(func() (*transport.PrivateKey, error) { return transport.GenerateKey(transport.MinKeyBits) })

// environ is a template's environment, with what tells a program that it is a plug-in.
func environ(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	return append(slices.Clone(env), fmt.Sprintf("%s=%d", envName, wireVersion))
}
