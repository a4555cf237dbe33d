package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/rpc"
)

func forwardCommand() *cobra.Command {
	var d dialer
	var f forwarder
	cmd := &cobra.Command{
		Use:   "forward [--server-key FILE|SHA256:...] --key FILE -L [BIND:]PORT:HOST:PORT [--timeout TIME] [--drain TIME] [--json] ADDR",
		Short: "Forward local TCP ports through a session",
		Long: "forward listens on local ports and carries each connection through one session to an address that the server\n" +
			"reaches, as ssh -L does. The server must allow that address: sealmux serve --allow-forward HOST:PORT, written alike.\n" +
			"BIND is 127.0.0.1 unless it is given; port 0 takes a free one. A path in place of [BIND:]PORT is a Unix socket, for\n" +
			"this user alone. Once it is ready it prints a line for each -L, with the address it listens on.\n\n" +
			"A session that is lost takes its connections with it; forward connects again by itself, and a new connection waits up\n" +
			fmt.Sprintf("to %v for that, and is reset behind that. It ends when the server is not who it was, or does not admit it any more.\n\n", reconnectWait) +
			"SIGINT or SIGTERM drains: no new connections, those in progress end; a second one cuts them. A service manager that asks\n" +
			"for it (systemd with Type=notify) is told when it is ready and when it drains.",
		Example: "  sealmux forward --server-key server/public.pem --key me/private.pem -L 5433:127.0.0.1:5432 db.example.org:7443\n" +
			"  sealmux forward --server-key SHA256:... --key me/private.pem -L /tmp/.s.PGSQL.5432:127.0.0.1:5432 db.example.org:7443",
		Args: oneAddress("forward takes one address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			if err := f.check(); err != nil {
				return err
			}
			f.addr, f.timeout = args[0], d.timeout
			f.dial = func(ctx context.Context) (*link, error) { return d.dial(ctx, args[0]) }
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	d.addFlags(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.specs, "local", "L", nil, "forward `[BIND:]PORT:HOST:PORT` or PATH:HOST:PORT; again for more (required)")
	flags.DurationVar(&f.drain, "drain", 10*time.Second, "`TIME` that connections in progress may take once a signal came")
	addJSON(cmd, &f.json)
	return cmd
}

// A forwarder forwards local connections through sessions with one server.
type forwarder struct {
	addr    string
	timeout time.Duration // of a session, and of the opening of a connection
	dial    func(context.Context) (*link, error)
	specs   []string
	drain   time.Duration
	json    bool

	locals []local
}

// A local is what -L says.
type local struct {
	network, address string // to listen on
	target           string
}

func (f *forwarder) check() error {
	switch {
	case len(f.specs) == 0:
		return usagef("say what to forward with -L [BIND:]PORT:HOST:PORT, such as -L 5433:127.0.0.1:5432")
	case f.drain < 0:
		return usagef("--drain must not be negative")
	}
	for _, spec := range f.specs {
		l, err := parseLocal(spec)
		if err != nil {
			return usagef("-L %s: %s", spec, err)
		}
		f.locals = append(f.locals, l)
	}
	return nil
}

// parseLocal reads what -L says, as ssh does.
func parseLocal(spec string) (local, error) {
	parts := splitSpec(spec)
	if len(parts) < 3 || len(parts) > 4 {
		return local{}, errors.New("must be [BIND:]PORT:HOST:PORT, such as 5433:127.0.0.1:5432, with brackets around IPv6 addresses")
	}
	target, err := parseTarget(strings.Join(parts[len(parts)-2:], ":"))
	if err != nil {
		return local{}, err
	}
	if len(parts) == 3 && strings.ContainsRune(parts[0], '/') {
		return local{"unix", parts[0], target}, nil
	}
	bind, port := "127.0.0.1", parts[0]
	if len(parts) == 4 {
		bind, port = strings.Trim(parts[0], "[]"), parts[1]
		if bind == "*" {
			bind = ""
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return local{}, fmt.Errorf("%q is no port to listen on: give a number from 0 to 65535; 0 takes a free one", port)
	}
	return local{"tcp", net.JoinHostPort(bind, strconv.FormatUint(n, 10)), target}, nil
}

// splitSpec splits at the colons that are not within brackets.
func splitSpec(spec string) (parts []string) {
	within, begin := false, 0
	for i, r := range spec {
		switch {
		case r == '[' || r == ']':
			within = r == '['
		case r == ':' && !within:
			parts = append(parts, spec[begin:i])
			begin = i + 1
		}
	}
	return append(parts, spec[begin:])
}

// listen listens for every -L, or for none.
func (f *forwarder) listen(ctx context.Context) (_ []net.Listener, err error) {
	var listeners []net.Listener
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	for _, l := range f.locals {
		listener, err := l.listen(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %s; choose another -L", l.address, listenFailure(err))
		}
		listeners = append(listeners, listener)
	}
	return listeners, nil
}

func (l local) listen(ctx context.Context) (net.Listener, error) {
	if l.network == "unix" {
		return listenUnix(ctx, l.address)
	}
	return new(net.ListenConfig).Listen(ctx, l.network, l.address)
}

// listenFailure is the part of an error that says why.
func listenFailure(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// announce says where it listens, and warns where others can reach that.
func (f *forwarder) announce(out, errOut io.Writer, listeners []net.Listener) error {
	for i, l := range listeners {
		target := f.locals[i].target
		if addr, ok := l.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
			fmt.Fprintf(errOut, "%s whoever reaches %v on the network reaches %s with this identity; leave BIND out to keep it to this machine\n",
				newStyle(errOut).yellow("warning:"), addr, target)
		}
		var err error
		if f.json {
			err = printJSON(out, struct {
				Event  string `json:"event"`
				Addr   string `json:"addr"`
				Target string `json:"target"`
			}{"ready", l.Addr().String(), target})
		} else {
			_, err = fmt.Fprintf(out, "forwarding %v -> %s\n", l.Addr(), target)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// allowed asks the server whether it allows every target, if it tells its methods.
func (f *forwarder) allowed(ctx context.Context, l *link) error {
	methods, err := l.methods(ctx, forwardPrefix)
	if errors.Is(err, errHidden) {
		return nil // each connection will tell
	}
	if err != nil {
		return err
	}
	for _, want := range f.locals {
		if !hasMethod(methods, forwardPrefix+want.target) {
			return f.notAllowed(want.target)
		}
	}
	return nil
}

func hasMethod(d *rpc.Description, name string) bool {
	for _, m := range d.Methods {
		if m.Name == name && m.Form == "conn" {
			return true
		}
	}
	return false
}

func (f *forwarder) notAllowed(target string) error {
	return withCode(callCode(rpc.Unimplemented), fmt.Errorf("the server at %s does not allow to forward to %s; have it started with --allow-forward %s",
		f.addr, target, target))
}
