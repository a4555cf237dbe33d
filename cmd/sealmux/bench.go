package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/sealmux/sealmux/internal/jsonmsg"
	"github.com/sealmux/sealmux/rpc"
)

// The limits of bench's flags. They bound its memory, and are there to find slips of the keyboard.
const (
	maxCallers   = 100_000
	maxStreams   = 10_000
	maxSessions  = 1000
	maxRate      = 1_000_000
	maxBenchBody = rpc.DefaultMaxMessage - 1024 // leaves room for the envelope, and for what the echo adds
)

// The defaults that depend on other flags.
const (
	closedCallers   = 50
	openCallers     = 1000 // below the 1024 calls of a session that a server handles at once by default
	streamWindow    = 16
	defaultDuration = 10 * time.Second
	defaultWarmUp   = time.Second
)

type benchOptions struct {
	callers, streams, sessions, bytes int
	calls                             int64
	duration, warmUp                  time.Duration
	rate                              float64
	method, data                      string
	asJSON                            bool
	svg                               string
}

func benchCommand() *cobra.Command {
	var d dialer
	var o benchOptions
	cmd := &cobra.Command{
		Use: "bench [--server-key FILE|SHA256:...] [--key FILE] [-c CALLERS] [-n CALLS] [-d TIME] [-r RATE] [-z BYTES]\n" +
			"    [--streams N] [--sessions N] [--method NAME] [--data JSON] [--json] [--svg FILE] ADDR",
		Short: "Load a server with calls, and measure its rate and latency",
		Long: "bench calls a method of the server again and again, the echo unless --method says otherwise, and prints the rate,\n" +
			"the latency and the errors. The load goes to ADDR and nowhere else; it may be all that the server can bear.\n\n" +
			"Closed loop: without --rate each of the CALLERS makes one call after the other. That finds the highest rate, but when the\n" +
			"server stalls so do the callers, and the calls that they would have made meanwhile are missing from the latencies.\n\n" +
			"Open loop: with --rate calls begin by the clock, whether or not earlier ones have ended, as those of independent users\n" +
			"do. Latency is measured from when a call was to begin, so that a stall counts for every call that came during it (no\n" +
			"coordinated omission). At most CALLERS calls are in flight; others wait for their turn, and that counts as latency too.\n" +
			"Calls that had no turn by the end are reported as not begun: the rate is too much.\n\n" +
			"With --streams the messages go over N long-lived streams to a method that answers each message with one, as the echo\n" +
			"does, and CALLERS of them are in flight in all. Large --bytes then measure throughput.\n\n" +
			"Latencies are those of calls that succeed, and of those without a reply within --timeout, which have failed. A lost\n" +
			"session ends the run, and so does a first second in which every call failed. Ctrl-C does, too: calls in flight are\n" +
			"abandoned, what was measured so far is printed, and that is no failure. The exit code is 1 if a call failed or one of\n" +
			"the schedule did not begin, and 3 if a session was lost; the report comes all the same.\n\n" +
			"Warm-up calls are real calls, but not measured. With -n there are none, unless --warm-up asks for them.",
		Example: "  sealmux bench --server-key server/public.pem 127.0.0.1:7443\n" +
			"  sealmux bench --server-key server/public.pem -r 5000 -d 30s --svg latency.svg 127.0.0.1:7443\n" +
			"  sealmux bench --server-key server/public.pem --streams 4 -z 65536 127.0.0.1:7443\n" +
			"  sealmux bench --server-key server/public.pem -c 8 -n 1000 --method kv.Get --data '{\"Key\": \"a\"}' 127.0.0.1:7443",
		Args: oneAddress("bench takes one address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			if err := o.resolve(cmd.Flags().Changed); err != nil {
				return err
			}
			return bench(cmd.Context(), &d, &o, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	d.addFlags(cmd)
	flags := cmd.Flags()
	flags.IntVarP(&o.callers, "callers", "c", closedCallers, fmt.Sprintf("have `CALLERS` calls in flight at once; with --rate at most, and by default %d; with --streams by default %d a stream", openCallers, streamWindow))
	flags.Int64VarP(&o.calls, "calls", "n", 0, "stop after `CALLS` calls; 0: when the time is over")
	flags.DurationVarP(&o.duration, "duration", "d", defaultDuration, "begin no more calls after that `TIME`; with -n only if it is given")
	flags.Float64VarP(&o.rate, "rate", "r", 0, "begin `RATE` calls a second, by the clock; 0: each when the one before has ended")
	flags.IntVarP(&o.bytes, "bytes", "z", 16, "size of a call's data in `BYTES`; small, so that calls are measured rather than copying")
	flags.IntVar(&o.streams, "streams", 0, "send messages over `N` streams instead of calls")
	flags.IntVar(&o.sessions, "sessions", 1, "spread the load over `N` sessions")
	flags.StringVar(&o.method, "method", method, "`NAME` of the method to call")
	flags.StringVar(&o.data, "data", "", "what to call it with, as `JSON`, in place of --bytes; sealmux list shows the shapes")
	flags.DurationVar(&o.warmUp, "warm-up", defaultWarmUp, "`TIME` of the same load before anything is measured")
	flags.StringVar(&o.svg, "svg", "", "draw latency and rate into this `FILE`; one that exists is replaced")
	addJSON(cmd, &o.asJSON)
	return cmd
}

// resolve checks the flags, and sets those that were not given and depend on others.
func (o *benchOptions) resolve(given func(string) bool) error {
	if !given("duration") && o.calls > 0 {
		o.duration = 0
	}
	if !given("warm-up") && o.calls > 0 {
		o.warmUp = 0
	}
	switch {
	case given("callers"):
	case o.streams > 0:
		o.callers = streamWindow * o.streams
	case o.rate > 0:
		o.callers = openCallers
	}
	for _, f := range []struct {
		name         string
		n, low, high int64
	}{
		{"callers", int64(o.callers), 1, maxCallers},
		{"streams", int64(o.streams), 0, maxStreams},
		{"sessions", int64(o.sessions), 1, maxSessions},
		{"calls", o.calls, 0, maxCount},
		{"bytes", int64(o.bytes), 0, int64(maxBenchBody)},
	} {
		if f.n < f.low || f.n > f.high {
			return usagef("--%s must be from %d to %d", f.name, f.low, f.high)
		}
	}
	if !given("callers") && !given("streams") { // so that --sessions alone means something
		o.callers = max(o.callers, o.sessions)
	}
	return o.check(given)
}

func (o *benchOptions) check(given func(string) bool) error {
	switch {
	case !(o.rate >= 0 && o.rate <= maxRate) || o.rate > 0 && o.rate < 0.001:
		return usagef("--rate must be from 0.001 to %d calls a second, or 0 for a closed loop", maxRate)
	case o.duration < 0 || o.duration > longest || o.duration == 0 && o.calls == 0:
		return usagef("--duration must be more than zero and at most %v, such as 30s", longest)
	case o.warmUp < 0 || o.warmUp > longest:
		return usagef("--warm-up must be from 0 to %v", longest)
	case o.callers < o.streams:
		return usagef("--callers %d leaves some of %d streams without a message; give at least as many callers", o.callers, o.streams)
	case o.streams > 0 && o.streams < o.sessions:
		return usagef("--streams %d leaves some of %d sessions idle; give at least as many streams", o.streams, o.sessions)
	case o.callers < o.sessions:
		return usagef("--callers %d leaves some of %d sessions idle; give at least as many callers", o.callers, o.sessions)
	case given("bytes") && given("data"):
		return usagef("--bytes and --data exclude each other; give one")
	case o.method == "":
		return usagef("name a method with --method; sealmux list shows those of a server")
	}
	return nil
}

// bench opens the sessions, runs the load, and reports.
func bench(ctx context.Context, d *dialer, o *benchOptions, addr string, out, errOut io.Writer) error {
	picture, err := newBenchPicture(o.svg)
	if err != nil {
		return err
	}
	defer picture.discard()
	begin := time.Now()
	var links []*link
	defer func() {
		for _, l := range links {
			l.close()
		}
	}()
	for range o.sessions {
		l, err := d.dial(ctx, addr)
		if err != nil {
			return err
		}
		links = append(links, l)
	}
	took := time.Since(begin)
	l, err := o.load(ctx, links)
	if err != nil {
		return err
	}
	var free func()
	l.nap, free = newNap()
	defer free()
	r := &report{options: o, addr: addr, fingerprint: links[0].session.Peer().Fingerprint().String(), handshakes: took, body: len(l.request.Body)}
	if !o.asJSON {
		if err := r.header(out); err != nil {
			return err
		}
	}
	r.run = measure(ctx, o, l, errOut)
	if err := r.print(out); err != nil {
		return err
	}
	verdict, unsaved := o.verdict(r.run, links), picture.save(r)
	switch {
	case unsaved == nil:
		return verdict
	case verdict == nil:
		return unsaved
	}
	return fmt.Errorf("%w; %v", verdict, unsaved)
}

// load makes the calls' message, and opens what every session needs before its first call.
func (o *benchOptions) load(ctx context.Context, links []*link) (*load, error) {
	body, err := o.message(ctx, links[0])
	if err != nil {
		return nil, err
	}
	l := &load{
		request: rpc.Request{Method: o.method, Body: body},
		callers: o.callers, streams: o.streams, rate: o.rate, timeout: links[0].timeout,
	}
	for _, link := range links {
		bounded, cancel := context.WithTimeout(ctx, link.timeout)
		_, err := rpc.Health.Call(bounded, link.client, "")
		cancel()
		if errors.Is(err, rpc.Unavailable) || errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil { // else it answers, whatever it thinks of that
			return nil, link.callError(ctx, err)
		}
		l.clients = append(l.clients, link.client)
	}
	return l, nil
}

// message is what each call carries: the JSON in the shape that the method has, or so many bytes.
func (o *benchOptions) message(ctx context.Context, l *link) (rpc.Raw, error) {
	described, err := l.methods(ctx, o.method)
	if errors.Is(err, errHidden) {
		described, err = &rpc.Description{}, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := find(described, o.method)
	if err != nil {
		return nil, err
	}
	if known := len(described.Methods) > 0 && described.Methods[0].Name == o.method; known {
		if want := map[bool]string{false: "unary", true: "bidi"}[o.streams > 0]; m.Form != want {
			return nil, fmt.Errorf("%s is of the form %s; bench calls unary methods, and with --streams bidi ones", o.method, m.Form)
		}
	}
	if o.data != "" {
		return jsonmsg.From(described, m.Request, []byte(o.data))
	}
	data := make([]byte, o.bytes)
	for i := range data {
		data[i] = byte('a' + i%26)
	}
	shape, err := jsonmsg.Shape(described, m.Request)
	if err != nil {
		return nil, err
	}
	if shape.Kind == "text" {
		return msgpack.Marshal(string(data))
	}
	return msgpack.Marshal(data)
}

// measure warms up, and then measures.
func measure(ctx context.Context, o *benchOptions, l *load, errOut io.Writer) *benchRun {
	if o.warmUp > 0 {
		warm := newBenchRun(l, 0, o.warmUp)
		done := showProgress(warm, errOut, "warming up")
		warm.do(ctx)
		done()
		if t := warm.record.total; ctx.Err() != nil || warm.lost.Load() > 0 || t.answered == 0 && t.failed > 0 {
			warm.cold = true
			return warm
		}
	}
	r := newBenchRun(l, o.calls, o.duration)
	done := showProgress(r, errOut, "measuring")
	defer done()
	r.do(ctx)
	return r
}

// verdict is the error that the run ends with, if any.
func (o *benchOptions) verdict(r *benchRun, links []*link) error {
	t := r.record.total
	if i := r.lost.Load(); i > 0 {
		l := links[i-1]
		if l.session.Err() == nil {
			return l.callError(context.Background(), rpc.ErrDraining)
		}
		return l.ended()
	}
	switch {
	case t.failed > 0 && t.answered == 0 && t.failures[failure{rpc.Unimplemented, rpc.NotExecuted}] != nil:
		return fmt.Errorf("the server at %s has no method %s of that form; name another with --method; sealmux list shows those it has", links[0].addr, o.method)
	case t.failed > 0 && t.answered == 0 && o.data == "" && t.failures[failure{rpc.InvalidArgument, rpc.NotExecuted}] != nil:
		return fmt.Errorf("every call of %s failed; see why above, and give the request with --data; sealmux list shows its shape", o.method)
	case t.failed > 0 && t.answered == 0:
		return fmt.Errorf("every call of %s failed; see why above", o.method)
	case t.failed > 0:
		return fmt.Errorf("%d of %d calls failed; see why above", t.failed, t.failed+t.answered)
	case t.answered == 0 || r.cold:
		return errInterrupted
	case !r.broken && r.notBegun() > 0:
		return fmt.Errorf("%s of the schedule did not begin; ask for a lower --rate, or allow more --callers", plural(r.notBegun(), "call"))
	}
	return nil
}
