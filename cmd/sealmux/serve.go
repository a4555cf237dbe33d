package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

type serveOptions struct {
	listen     string
	keyFiles   []string
	authorized string
	anonymous  bool
	drain      time.Duration
	forwards   forwards

	legacyListen, legacyKey string

	json bool
}

func serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve --listen ADDR --key FILE (--authorized-keys DIR | --allow-anonymous)",
		Short: "Serve the echo",
		Long: "serve answers every call with the echo. Once it is ready it prints one line with its address and the\n" +
			"fingerprints of its keys. Whom it admits must be said: the clients whose public keys lie in a folder,\n" +
			"as files that end in .pem, or anybody. The folder is read anew for each client, and every few seconds: once a file\n" +
			"is removed, its client is cut off.\n\n" +
			"SIGINT or SIGTERM drains: no new connections and calls, those in progress end; a second one cuts them. A service manager that\n" +
			"asks for it (systemd with Type=notify) is told when the server is ready and when it drains.\n\n" +
			"--allow-forward lets the clients that are admitted reach that one address through this server (sealmux forward). It is\n" +
			"compared as it is written, and needs --authorized-keys.\n\n" +
			"--legacy-listen also serves the Python scripts that were not moved yet, over their insecure wire, with a key of its\n" +
			"own. It then prints a second line, with that address and key.",
		Example: "  sealmux serve --listen 127.0.0.1:7443 --key server/private.pem --allow-anonymous\n" +
			"  sealmux serve --listen :7443 --key new/private.pem --key old/private.pem --authorized-keys clients\n" +
			"  sealmux serve --listen :7443 --key server/private.pem --authorized-keys clients --allow-forward 127.0.0.1:5432\n" +
			"  sealmux serve --listen :7443 --key server/private.pem --authorized-keys clients --legacy-listen :9999 --legacy-key old.pem",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.listen, "listen", "", "`ADDR` to listen on, HOST:PORT; port 0 takes a free one (required)")
	flags.StringArrayVar(&o.keyFiles, "key", nil, "private key `FILE`; again for more, so that keys can be replaced (required)")
	flags.StringVar(&o.authorized, "authorized-keys", "", "folder `DIR` of the public keys of the clients to admit")
	flags.BoolVar(&o.anonymous, "allow-anonymous", false, "admit every client, with a key or without")
	flags.DurationVar(&o.drain, "drain", 10*time.Second, "`TIME` that calls in progress may take once a signal came")
	flags.StringArrayVar(&o.forwards.allowed, "allow-forward", nil, "let clients reach `HOST:PORT` through this server; again for more")
	flags.IntVar(&o.forwards.most, "max-forwards", defaultMaxForwards, "forward at most `N` connections at a time")
	flags.StringVar(&o.legacyListen, "legacy-listen", "", "`ADDR` to serve the insecure wire of the Python scripts on as well, to everybody")
	flags.StringVar(&o.legacyKey, "legacy-key", "", "private key `FILE` for that wire alone, of at least 1024 bits")
	addJSON(cmd, &o.json)
	return cmd
}

func (o *serveOptions) check() error {
	switch {
	case o.listen == "":
		return usagef("name the address to listen on with --listen HOST:PORT")
	case len(o.keyFiles) == 0:
		return usagef("name the server's private key with --key FILE")
	case o.authorized == "" && !o.anonymous:
		return usagef("say whom to admit: --authorized-keys DIR or --allow-anonymous")
	case o.authorized != "" && o.anonymous:
		return usagef("--authorized-keys and --allow-anonymous exclude each other; give one")
	case o.drain < 0:
		return usagef("--drain must not be negative")
	}
	if err := checkAddr("--listen", o.listen); err != nil {
		return err
	}
	if err := o.forwards.check(o.anonymous); err != nil {
		return err
	}
	return o.checkLegacy()
}

func (o *serveOptions) config() (*transport.Config, error) {
	config := &transport.Config{Protocol: rpc.Protocol, Peers: transport.AnyClient()}
	for _, path := range o.keyFiles {
		key, err := transport.ReadPrivateKey(path)
		if err != nil {
			return nil, keyError("--key", path, err)
		}
		config.Keys = append(config.Keys, key)
	}
	if o.anonymous {
		return config, nil
	}
	var err error
	if config.Peers, err = transport.AuthorizedKeys(o.authorized); err != nil {
		return nil, keyError("--authorized-keys", o.authorized, err)
	}
	return config, nil
}

// run serves until ctx ends, and then drains.
func (o *serveOptions) run(ctx context.Context, out, errOut io.Writer) error {
	config, err := o.config()
	if err != nil {
		return err
	}
	old, err := o.readLegacyKey(config.Keys)
	if err != nil {
		return err
	}
	log := &refusals{out: errOut}
	config.HandshakeFailed = log.add
	unbroken := context.WithoutCancel(ctx) // a signal drains; it must not cut
	listener, err := transport.Listen(unbroken, "tcp", o.listen, config)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %s; choose another --listen", o.listen, plain(err))
	}
	defer listener.Close()
	server := rpc.NewServer(rpc.Options{})
	o.forwards.register(server, log)
	if err := old.listen(unbroken, o.legacyListen); err != nil {
		return err
	}
	defer old.close()
	if err := o.announce(out, errOut, listener, config.Keys, old); err != nil {
		return err
	}

	served := make(chan error, 1)
	go func() { served <- rpc.Serve(unbroken, server, listener) }() // ended by Shutdown and Close, awaited below
	old.serve(unbroken, server, log)
	notify(errOut, daemon.SdNotifyReady)
	select {
	case err := <-served:
		return fmt.Errorf("the listener on %s failed: %s; start the server again", o.listen, plain(err))
	case err := <-old.failure():
		return fmt.Errorf("the listener on %s failed: %s; start the server again", o.legacyListen, plain(err))
	case <-ctx.Done():
	}
	notify(errOut, daemon.SdNotifyStopping)
	fmt.Fprintf(errOut, "draining: calls in progress have %v; a second signal cuts them\n", o.drain)
	bounded, cancel := context.WithTimeout(unbroken, o.drain)
	defer cancel()
	cut := shutdown(bounded, server, old)
	if err := <-served; err != nil && !errors.Is(err, rpc.ErrServerClosed) {
		return fmt.Errorf("the listener on %s failed: %s", o.listen, plain(err))
	}
	if cut != nil {
		return fmt.Errorf("calls were cut after %v; allow them more with --drain", o.drain)
	}
	return nil
}

// announce says that the server is ready, and where.
func (o *serveOptions) announce(out, errOut io.Writer, listener *transport.Listener, keys []*transport.PrivateKey, old *oldWire) error {
	prints := make([]string, len(keys))
	for i, key := range keys {
		prints[i] = key.Fingerprint().String()
	}
	if !o.json {
		if _, err := fmt.Fprintf(out, "listening on %s key %s\n", listener.Addr(), strings.Join(prints, " ")); err != nil {
			return err
		}
		return old.announce(out, errOut)
	}
	ready := struct {
		Listening string   `json:"listening"`
		Keys      []string `json:"keys"`
		Legacy    string   `json:"legacy,omitempty"`
		LegacyKey string   `json:"legacy_key,omitempty"`
	}{Listening: listener.Addr().String(), Keys: prints}
	if old != nil {
		old.warn(errOut)
		ready.Legacy, ready.LegacyKey = old.where()
	}
	return printJSON(out, ready)
}

// shutdown drains both wires, and cuts what is left when ctx ends, with an error.
func shutdown(ctx context.Context, server *rpc.Server, old *oldWire) error {
	old.stop(ctx) // first: the server refuses calls once it drains
	cut := server.Shutdown(ctx)
	if oldCut := old.drain(ctx); cut == nil {
		cut = oldCut
	}
	return cut
}

// maxRefusals is how many lines a second refusals writes: strangers decide how often they come.
const maxRefusals = 10

// refusals reports the connections that did not become sessions, or were not forwarded.
type refusals struct {
	out io.Writer

	mu    sync.Mutex // protects the rest, and keeps lines whole
	since time.Time
	count int // since then
}

func (r *refusals) add(from net.Addr, err error) {
	if from == nil {
		r.line("cannot accept: " + plain(err))
	} else {
		r.line(fmt.Sprintf("refused %v: %s", from, plain(err)))
	}
}

// line writes one, unless there were too many within the second.
func (r *refusals) line(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.since) >= time.Second {
		if more := r.count - maxRefusals; more > 0 {
			fmt.Fprintf(r.out, "and %d lines more like these\n", more)
		}
		r.since, r.count = now, 0
	}
	if r.count++; r.count <= maxRefusals {
		fmt.Fprintln(r.out, oneLine(errors.New(text)))
	}
}
