package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// The limits of ping's flags. Statistics take no memory for each reply, so they are there to find slips of the keyboard.
const (
	minInterval = time.Millisecond
	maxInterval = 24 * time.Hour
	maxCount    = 1_000_000_000
)

func pingCommand() *cobra.Command {
	var d dialer
	var p pinger
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ping [--server-key FILE|SHA256:...] [--key FILE] [--timeout TIME] [-c COUNT] [-i INTERVAL] [--json] ADDR",
		Short: "Ask a server again and again whether it serves, and measure how long it takes",
		Long: "ping opens one session and asks the server for its health at every interval, until it is interrupted or has asked\n" +
			"COUNT times; then it prints statistics as ping(8) does. The first probe goes out at once, and none while another\n" +
			"waits. One that has no reply within --timeout is lost. So is one whose session breaks; the next opens another.\n\n" +
			"The exit code is 0 if any reply came from a server that serves, even if others were lost; 1 if none did, as from\n" +
			"a server that drains or says that it does not serve; 3 or 4 if there was no session to begin with. So\n" +
			"ping -c 1 --timeout 2s tells whether a server is ready. One that keeps its health to itself but answers counts as serving.",
		Example: "  sealmux ping --server-key server/public.pem 127.0.0.1:7443\n" +
			"  sealmux ping --server-key server/public.pem -c 1 --timeout 2s 127.0.0.1:7443",
		Args: oneAddress("ping takes one address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			if err := p.check(); err != nil {
				return err
			}
			p.addr = args[0]
			p.dial = func(ctx context.Context) (*link, string, error) {
				l, err := d.dial(ctx, args[0])
				if err != nil {
					return nil, "", err
				}
				return l, l.session.Peer().Fingerprint().String(), nil
			}
			p.show = newPingPrinter(cmd.OutOrStdout(), args[0], asJSON)
			return p.run(cmd.Context())
		},
	}
	d.addFlags(cmd)
	cmd.Flags().IntVarP(&p.count, "count", "c", 0, "stop after `COUNT` probes; 0: when interrupted")
	cmd.Flags().DurationVarP(&p.interval, "interval", "i", time.Second, "`TIME` from one probe to the next, at least 1ms")
	addJSON(cmd, &asJSON)
	return cmd
}

// A pinger asks one server for its health.
type pinger struct {
	addr     string
	count    int // 0: no end
	interval time.Duration
	dial     func(context.Context) (l *link, fingerprint string, err error)
	show     pingPrinter

	link  *link // nil: dial before the next probe
	stats roundTrips
	// unfit is what the last reply of a server that does not serve said.
	unfit  string
	served bool // a reply came from a server that serves
}

func (p *pinger) check() error {
	switch {
	case p.count < 0 || p.count > maxCount:
		return usagef("--count must be from 0 to %d; 0 asks until interrupted", maxCount)
	case p.interval < minInterval || p.interval > maxInterval:
		return usagef("--interval must be from %v to %v, such as 200ms", minInterval, maxInterval)
	}
	return nil
}

// run asks until ctx ends or the count is reached. Probes go out at whole intervals from the first one; those whose time
// passes while another waits for its reply are not sent.
func (p *pinger) run(ctx context.Context) error {
	defer p.hangUp()
	if err := p.connect(ctx); err != nil {
		return err
	}
	begin := time.Now()
	for next := begin; wakeAt(ctx, next); next = nextTick(begin, p.interval) {
		if err := p.ask(ctx); err != nil {
			return err
		}
		if p.stats.sent == p.count {
			break
		}
	}
	return p.finish(time.Since(begin))
}

// wakeAt waits until t, and reports whether ctx has not ended.
func wakeAt(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// nextTick is the next time that is whole intervals after begin.
func nextTick(begin time.Time, interval time.Duration) time.Time {
	return begin.Add((time.Since(begin)/interval + 1) * interval)
}

func (p *pinger) connect(ctx context.Context) error {
	begin := time.Now()
	l, fingerprint, err := p.dial(ctx)
	if err != nil {
		return err
	}
	p.link = l
	return p.show.session(fingerprint, time.Since(begin))
}

func (p *pinger) hangUp() {
	if p.link != nil {
		p.link.close()
		p.link = nil
	}
}

// ask sends one probe and shows what becomes of it. A probe that the user interrupts does not count. It fails only if
// nothing can be shown any more.
func (p *pinger) ask(ctx context.Context) error {
	if p.link == nil {
		if err := p.connect(ctx); ctx.Err() != nil {
			return nil
		} else if p.link == nil {
			p.stats.sent++
			return p.show.lost(p.stats.sent, err)
		} else if err != nil {
			return err
		}
	}
	bounded, cancel := context.WithTimeout(ctx, p.link.timeout)
	defer cancel()
	begin := time.Now()
	status, err := rpc.Health.Call(bounded, p.link.client, "")
	took := time.Since(begin)
	if ctx.Err() != nil && !serverSaid(err) {
		return nil
	}
	p.stats.sent++
	why := lostBecause(err, p.link.timeout)
	if errors.Is(err, rpc.Unavailable) { // also a server that drains: its next session, if any, is with its successor
		p.hangUp()
	}
	if !serverSaid(err) {
		return p.show.lost(p.stats.sent, why)
	}
	p.stats.add(took)
	state := healthState(status, err)
	if state.serves {
		p.served = true
	} else {
		p.unfit = state.text
	}
	return p.show.reply(p.stats.sent, took, state)
}

// A pingState is what a reply says of the server.
type pingState struct {
	serves bool
	text   string // a HealthStatus, or why there is none
}

// healthState reads a reply. A server that refuses to tell its health, or does not know the method, does serve calls: it answered.
func healthState(status rpc.HealthStatus, err error) pingState {
	switch code := rpc.CodeOf(err); {
	case err == nil:
		return pingState{status == rpc.Serving, oneLine(errors.New(string(status)))}
	case errors.Is(err, rpc.ErrDraining):
		return pingState{false, string(rpc.HealthDraining)}
	case code == rpc.Unimplemented || code == rpc.PermissionDenied || code == rpc.Unauthenticated:
		return pingState{true, "keeps its health to itself: " + code.String()}
	default:
		return pingState{false, oneLine(errors.New(plain(err)))}
	}
}

// lostBecause says why a probe that failed with err got no reply.
func lostBecause(err error, timeout time.Duration) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpc.ErrDraining):
		return errors.New("the server is shutting down")
	case errors.Is(err, transport.ErrUnauthorized):
		return errors.New("the server does not admit this client any more")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("none within %v", timeout)
	}
	if cause := errors.Unwrap(err); cause != nil {
		return errors.New("the session is over: " + plain(cause))
	}
	return errors.New(plain(err))
}

// finish shows the statistics and says whether the server serves.
func (p *pinger) finish(took time.Duration) error {
	if err := p.show.summary(&p.stats, took); err != nil {
		return err
	}
	switch {
	case p.served:
		return nil
	case p.stats.sent == 0:
		return errInterrupted
	case p.stats.received == 0:
		return fmt.Errorf("no reply from %s; see why above", p.addr)
	}
	return fmt.Errorf("the server at %s answers but does not serve: %s", p.addr, p.unfit)
}
