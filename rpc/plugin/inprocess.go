package plugin

import (
	"context"
	"slices"
	"sync"

	"github.com/sealmux/sealmux/rpc"
)

// InProcess is Start for tests: the plug-in is srv, which it uses up, in this process and over rpc.Pipe. There are no keys, no
// logs and no restarts, but calls both ways, VersionFrom, Stop, Kill and the errors of calls are as with a process. It works
// inside a testing/synctest bubble.
func InProcess(srv *rpc.Server, opts Options) (*Plugin, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	opts.Restarts = 0
	if opts.Name == "" {
		opts.Name = "in-process plug-in"
	}
	return start(context.Background(), opts, func(context.Context) (*run, error) { return inProcess(srv, opts), nil })
}

func inProcess(srv *rpc.Server, opts Options) *run {
	ctx, cancel := context.WithCancel(context.Background())
	host, plug := rpc.Pipe()
	r := &run{opts: opts, version: slices.Max(opts.Versions), exited: make(chan struct{}), over: make(chan struct{})}
	stop := make(chan bool, 1)
	var once sync.Once
	r.hangup = func(asked bool) { once.Do(func() { stop <- asked }) }
	r.force = func(bool) { cancel() }
	r.close = func() { <-r.exited; cancel() }
	go func() { // ends by hangup, force or the session's end
		defer close(r.exited)
		_ = serve(ctx, srv, &session{plug.(muxed), r.version}, stop, opts)
	}()
	r.attach(host.(muxed))
	return r
}
