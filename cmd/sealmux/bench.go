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
	"github.com/sealmux/sealmux/internal/load"
	"github.com/sealmux/sealmux/internal/termtext"
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

// benchOptions are what the flags say: a load without what comes with its sessions, and the rest.
type benchOptions struct {
	load.Load
	sessions, bytes int
	data            string
	asJSON          bool
	svg             string
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
	flags.IntVarP(&o.Callers, "callers", "c", closedCallers, fmt.Sprintf("have `CALLERS` calls in flight at once; with --rate at most, and by default %d; with --streams by default %d a stream", openCallers, streamWindow))
	flags.Int64VarP(&o.Calls, "calls", "n", 0, "stop after `CALLS` calls; 0: when the time is over")
	flags.DurationVarP(&o.Duration, "duration", "d", defaultDuration, "begin no more calls after that `TIME`; with -n only if it is given")
	flags.Float64VarP(&o.Rate, "rate", "r", 0, "begin `RATE` calls a second, by the clock; 0: each when the one before has ended")
	flags.IntVarP(&o.bytes, "bytes", "z", 16, "size of a call's data in `BYTES`; small, so that calls are measured rather than copying")
	flags.IntVar(&o.Streams, "streams", 0, "send messages over `N` streams instead of calls")
	flags.IntVar(&o.sessions, "sessions", 1, "spread the load over `N` sessions")
	flags.StringVar(&o.Request.Method, "method", method, "`NAME` of the method to call")
	flags.StringVar(&o.data, "data", "", "what to call it with, as `JSON`, in place of --bytes; sealmux list shows the shapes")
	flags.DurationVar(&o.WarmUp, "warm-up", defaultWarmUp, "`TIME` of the same load before anything is measured")
	flags.StringVar(&o.svg, "svg", "", "draw latency and rate into this `FILE`; one that exists is replaced")
	addJSON(cmd, &o.asJSON)
	return cmd
}

// resolve checks the flags, and sets those that were not given and depend on others.
func (o *benchOptions) resolve(given func(string) bool) error {
	if !given("duration") && o.Calls > 0 {
		o.Duration = 0
	}
	if !given("warm-up") && o.Calls > 0 {
		o.WarmUp = 0
	}
	switch {
	case given("callers"):
	case o.Streams > 0:
		o.Callers = streamWindow * o.Streams
	case o.Rate > 0:
		o.Callers = openCallers
	}
	for _, f := range []struct {
		name         string
		n, low, high int64
	}{
		{"callers", int64(o.Callers), 1, maxCallers},
		{"streams", int64(o.Streams), 0, maxStreams},
		{"sessions", int64(o.sessions), 1, maxSessions},
		{"calls", o.Calls, 0, maxCount},
		{"bytes", int64(o.bytes), 0, int64(maxBenchBody)},
	} {
		if f.n < f.low || f.n > f.high {
			return usagef("--%s must be from %d to %d", f.name, f.low, f.high)
		}
	}
	if !given("callers") && !given("streams") { // so that --sessions alone means something
		o.Callers = max(o.Callers, o.sessions)
	}
	return o.check(given)
}

func (o *benchOptions) check(given func(string) bool) error {
	switch {
	case !(o.Rate >= 0 && o.Rate <= maxRate) || o.Rate > 0 && o.Rate < 0.001:
		return usagef("--rate must be from 0.001 to %d calls a second, or 0 for a closed loop", maxRate)
	case o.Duration < 0 || o.Duration > load.Longest || o.Duration == 0 && o.Calls == 0:
		return usagef("--duration must be more than zero and at most %v, such as 30s", load.Longest)
	case o.WarmUp < 0 || o.WarmUp > load.Longest:
		return usagef("--warm-up must be from 0 to %v", load.Longest)
	case o.Callers < o.Streams:
		return usagef("--callers %d leaves some of %d streams without a message; give at least as many callers", o.Callers, o.Streams)
	case o.Streams > 0 && o.Streams < o.sessions:
		return usagef("--streams %d leaves some of %d sessions idle; give at least as many streams", o.Streams, o.sessions)
	case o.Callers < o.sessions:
		return usagef("--callers %d leaves some of %d sessions idle; give at least as many callers", o.Callers, o.sessions)
	case given("bytes") && given("data"):
		return usagef("--bytes and --data exclude each other; give one")
	case o.Request.Method == "":
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
	if err := o.prepare(ctx, links); err != nil {
		return err
	}
	r := &load.Report{Load: &o.Load, Call: o.call(), Addr: addr, Fingerprint: links[0].session.Peer().Fingerprint().String(), Handshakes: took}
	if err := o.run(ctx, r, out, errOut); err != nil {
		return err
	}
	verdict, unsaved := o.verdict(r.Run, links), picture.save(r.SVG)
	switch {
	case unsaved == nil:
		return verdict
	case verdict == nil:
		return unsaved
	}
	return fmt.Errorf("%w; %v", verdict, unsaved)
}

// run says what it will do, does it, and prints what came of it.
func (o *benchOptions) run(ctx context.Context, r *load.Report, out, errOut io.Writer) error {
	s := newStyle(out)
	style := load.Style{Bold: s.bold, Dim: s.dim, Red: s.red, Yellow: s.yellow}
	if !o.asJSON {
		if _, err := io.WriteString(out, r.Header(style)); err != nil {
			return err
		}
	}
	var progress io.Writer
	if isTerminal(errOut) {
		progress = errOut
	}
	r.Run = o.Measure(ctx, progress)
	if o.asJSON {
		return printJSON(out, r.JSON())
	}
	_, err := io.WriteString(out, r.Text(style))
	return err
}

// prepare completes the load with what only the server's sessions tell: the calls' message, and that each of them answers.
func (o *benchOptions) prepare(ctx context.Context, links []*link) error {
	body, err := o.message(ctx, links[0])
	if err != nil {
		return err
	}
	o.Request.Body, o.Timeout = body, links[0].timeout
	o.Clean = func(text string) string { return oneLine(errors.New(plain(errors.New(text)))) }
	for _, link := range links {
		bounded, cancel := context.WithTimeout(ctx, link.timeout)
		_, err := rpc.Health.Call(bounded, link.client, "")
		cancel()
		if errors.Is(err, rpc.Unavailable) || errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil { // else it answers, whatever it thinks of that
			return link.callError(ctx, err)
		}
		o.Clients = append(o.Clients, link.client)
	}
	return nil
}

// call is each call in words.
func (o *benchOptions) call() string {
	size := termtext.Plural(int64(o.bytes), "byte") + " of data"
	if o.data != "" {
		size = termtext.Plural(int64(len(o.Request.Body)), "byte") // as it is encoded
	}
	return oneLine(errors.New(o.Request.Method)) + ", " + size
}

// message is what each call carries: the JSON in the shape that the method has, or so many bytes.
func (o *benchOptions) message(ctx context.Context, l *link) (rpc.Raw, error) {
	described, err := l.methods(ctx, o.Request.Method)
	if errors.Is(err, errHidden) {
		described, err = &rpc.Description{}, nil
	}
	if err != nil {
		return nil, err
	}
	m, told := find(described, o.Request.Method)
	if want := map[bool]string{false: "unary", true: "bidi"}[o.Streams > 0]; told && m.Form != want {
		return nil, fmt.Errorf("%s is of the form %s; bench calls unary methods, and with --streams bidi ones", o.Request.Method, m.Form)
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

// verdict is the error that the run ends with, if any.
func (o *benchOptions) verdict(r *load.Run, links []*link) error {
	if i, lost := r.Lost(); lost {
		l := links[i]
		if l.session.Err() == nil {
			return l.callError(context.Background(), rpc.ErrDraining)
		}
		return l.ended()
	}
	method, answered, failed := o.Request.Method, r.Answered(), r.Failed()
	switch {
	case failed > 0 && answered == 0 && r.FailedWith(rpc.Unimplemented, rpc.NotExecuted):
		return fmt.Errorf("the server at %s has no method %s of that form; name another with --method; sealmux list shows those it has", links[0].addr, method)
	case failed > 0 && answered == 0 && o.data == "" && r.FailedWith(rpc.InvalidArgument, rpc.NotExecuted):
		return fmt.Errorf("every call of %s failed; see why above, and give the request with --data; sealmux list shows its shape", method)
	case failed > 0 && answered == 0:
		return fmt.Errorf("every call of %s failed; see why above", method)
	case failed > 0:
		return fmt.Errorf("%d of %d calls failed; see why above", failed, failed+answered)
	case answered == 0 || r.WarmUpOnly():
		return errInterrupted
	case !r.Interrupted() && r.NotBegun() > 0:
		return fmt.Errorf("%s of the schedule did not begin; ask for a lower --rate, or allow more --callers", termtext.Plural(r.NotBegun(), "call"))
	}
	return nil
}
