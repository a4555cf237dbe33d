package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// A dialer is what send and repl share: the flags that say whom to talk to and as whom.
type dialer struct {
	serverKeys []string
	keyFile    string
	timeout    time.Duration
	legacy     bool
	known      *knownServers // in place of serverKeys
}

func (d *dialer) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&d.serverKeys, "server-key", nil,
		"the server's public key `FILE` or its fingerprint SHA256:...; again for more, any of which will do; without it, see --known-servers")
	flags.StringVar(&d.keyFile, "key", "", "own private key `FILE`, for servers that admit only clients they know")
	flags.DurationVar(&d.timeout, "timeout", 30*time.Second, "`TIME` that the connection, and each reply, may take")
	d.known = addKnownFlags(cmd)
}

func (d *dialer) check(addr string) error {
	if d.legacy {
		if err := d.checkLegacy(); err != nil {
			return err
		}
	}
	if len(d.serverKeys) == 0 {
		if err := d.known.check(addr); err != nil {
			return err
		}
	}
	for _, name := range d.serverKeys {
		if _, err := transport.ParseFingerprint(name); isFingerprint(name) && err != nil {
			return usagef("--server-key %s: %s", name, plain(err))
		}
	}
	if d.timeout <= 0 {
		return usagef("--timeout must be more than zero, such as 10s")
	}
	return checkAddr("ADDR", addr)
}

func checkAddr(name, addr string) error {
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return usagef("%s must be HOST:PORT, such as 127.0.0.1:7443; it is %q", name, addr)
	}
	return nil
}

// oneAddress is for commands whose one argument is the server's address; otherwise says what they do not take.
func oneAddress(otherwise string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return usagef("name the server's address, HOST:PORT")
		case 1:
			return nil
		}
		return usagef("unexpected argument %q; %s", args[1], otherwise)
	}
}

func isFingerprint(name string) bool { return strings.HasPrefix(name, "SHA256:") }

func (d *dialer) config() (*transport.Config, error) {
	peers, err := d.peers()
	if err != nil {
		return nil, err
	}
	config := &transport.Config{Peers: peers, Protocol: rpc.Protocol, HandshakeTimeout: d.timeout}
	if d.keyFile != "" {
		key, err := transport.ReadPrivateKey(d.keyFile)
		if err != nil {
			return nil, keyError("--key", d.keyFile, err)
		}
		config.Keys = []*transport.PrivateKey{key}
	}
	return config, nil
}

func (d *dialer) peers() (*transport.Trust, error) {
	if len(d.serverKeys) == 0 {
		return d.known.trusted(), nil
	}
	return d.pins()
}

func (d *dialer) pins() (*transport.Trust, error) {
	var keys []*transport.PublicKey
	var prints []transport.Fingerprint
	for _, name := range d.serverKeys {
		if isFingerprint(name) {
			print, err := transport.ParseFingerprint(name)
			if err != nil {
				return nil, err
			}
			prints = append(prints, print)
			continue
		}
		key, err := transport.ReadPublicKey(name)
		if err != nil {
			return nil, keyError("--server-key", name, err)
		}
		keys = append(keys, key)
		prints = append(prints, key.Fingerprint())
	}
	if len(keys) == len(prints) { // with every key at hand nothing need be asked of the server
		return transport.Pin(keys...), nil
	}
	return transport.PinFingerprint(prints...), nil
}

// A talker is what send and repl talk to.
type talker interface {
	// echo sends one text and returns the reply, or an error that says in one sentence why there is none, a lostError if there can be no other.
	echo(ctx context.Context, text string) (string, error)
	where() string         // the server's address
	done() <-chan struct{} // closed when it is over
	ended() error          // and why, in one sentence
	close()
}

// A link is one session to a server of calls.
type link struct {
	addr    string
	timeout time.Duration
	own     *transport.PrivateKey // nil without --key
	session *transport.Session
	client  *rpc.Client
}

func (d *dialer) dial(ctx context.Context, addr string) (*link, error) {
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	bounded, cancel := d.bounded(ctx)
	defer cancel()
	session, err := transport.Dial(bounded, "tcp", addr, config)
	if err != nil {
		return nil, d.dialError(ctx, addr, config, err)
	}
	l := &link{addr: addr, timeout: d.timeout, session: session, client: rpc.NewClient(session, rpc.Options{})}
	if len(config.Keys) > 0 {
		l.own = config.Keys[0]
	}
	return l, nil
}

// bounded is the context for connecting. A person who is asked about the server has all the time there is: then each connection is bounded by
// Config.HandshakeTimeout.
func (d *dialer) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if len(d.serverKeys) == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d.timeout)
}

// ownKey tells the key that this side has shown.
func (l *link) ownKey() string {
	if l.own == nil {
		return "none, this client is anonymous"
	}
	return l.own.Fingerprint().String()
}

// method is what send and repl call. Of a server with nothing registered any name will do.
const method = "echo"

// echo sends one text and returns the server's reply.
func (l *link) echo(ctx context.Context, text string) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	reply, err := rpc.Call[string](bounded, l.client, method, text)
	if errors.Is(err, rpc.Unimplemented) && rpc.OutcomeOf(err) == rpc.NotExecuted {
		return "", l.noMethod(method, "sealmux list shows those it has, sealmux call calls them")
	}
	return reply, l.callError(ctx, err)
}

// noMethod says that the server has no method of that name, and what else there is.
func (l *link) noMethod(name, instead string) error {
	return withCode(callCode(rpc.Unimplemented), fmt.Errorf("the server at %s has no method %s; %s", l.addr, name, instead))
}

func (l *link) close()                { l.client.Close() }
func (l *link) where() string         { return l.addr }
func (l *link) done() <-chan struct{} { return l.session.Done() }

func (l *link) ended() error { return l.over(l.session.Err()) }

// over says that the session has ended, and why.
func (l *link) over(err error) error {
	if errors.Is(l.session.Err(), transport.ErrUnauthorized) {
		return lostError{withCode(exitIdentity, fmt.Errorf("the server at %s does not admit the key %s any more; have its public half put back into the server's --authorized-keys folder",
			l.addr, l.ownKey()))}
	}
	return lost("the session with %s is over: %s; connect again", l.addr, plain(err))
}

// dialError says in one sentence why there is no session, and what helps.
func (d *dialer) dialError(ctx context.Context, addr string, config *transport.Config, err error) error {
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case errors.Is(err, transport.ErrServerKey), errors.Is(err, transport.ErrUnauthorized), errors.Is(err, transport.ErrClientKeyRequired):
		return withCode(exitIdentity, d.identityError(addr, config, err))
	case errors.Is(err, transport.ErrKnownServers):
		return knownFileError(err)
	}
	return withCode(exitConnect, d.noSession(addr, err))
}

var errInterrupted = errors.New("interrupted")

func (d *dialer) identityError(addr string, config *transport.Config, err error) error {
	if wrong, ok := errors.AsType[*transport.ServerKeyError](err); ok {
		if len(d.serverKeys) == 0 {
			return d.known.refusal(addr, wrong, err)
		}
		return fmt.Errorf("the server at %s offers the key %v, not one named with --server-key; only if its owner confirms that key, name it",
			addr, wrong.Offered)
	}
	switch {
	case errors.Is(err, transport.ErrUnauthorized):
		return fmt.Errorf("the server at %s does not admit the key %v; have its public half put into the server's --authorized-keys folder",
			addr, config.Keys[0].Fingerprint())
	case errors.Is(err, transport.ErrClientKeyRequired):
		return fmt.Errorf("the server at %s admits only clients it knows; name your private key with --key FILE", addr)
	}
	return fmt.Errorf("the server at %s is not the one named with --server-key: %s", addr, plain(err))
}

func (d *dialer) noSession(addr string, err error) error {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("cannot find the host of %s; check the name", addr)
	}
	switch {
	case errors.Is(err, transport.ErrNotSealmux):
		return fmt.Errorf("what answers at %s does not speak sealmux; check the address and the port", addr)
	case errors.Is(err, transport.ErrVersion):
		return fmt.Errorf("the server at %s speaks another version of sealmux; upgrade the older side", addr)
	case errors.Is(err, transport.ErrApplicationProtocol):
		return fmt.Errorf("the server at %s does not serve calls but another protocol; check the address and the port", addr)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s; start the server or check the address", addr)
	case errors.Is(err, transport.ErrHandshakeTimeout), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no session with %s within %v; check the address, or allow more with --timeout", addr, d.timeout)
	}
	return fmt.Errorf("cannot connect to %s: %s", addr, plain(err))
}

// A lostError is the end of a session: no further call on it can succeed.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

func lost(format string, args ...any) error {
	return lostError{withCode(exitConnect, fmt.Errorf(format, args...))}
}

// callError says in one sentence why a call failed, with a lostError if no other can succeed.
func (l *link) callError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errInterrupted
	case errors.Is(err, rpc.ErrDraining):
		return lost("the server at %s is shutting down and takes no new calls; connect again later", l.addr)
	case errors.Is(err, rpc.Unavailable) && (l.session.Err() != nil || !serverSaid(err)):
		return l.over(err)
	case errors.Is(err, rpc.ErrTooLarge):
		return fmt.Errorf("the text is longer than a call carries (%d bytes); send it in pieces", rpc.DefaultMaxMessage)
	case errors.Is(err, context.DeadlineExceeded):
		return withCode(exitConnect, fmt.Errorf("no reply from %s within %v; allow more with --timeout", l.addr, l.timeout))
	}
	return withCode(callCode(rpc.CodeOf(err)), fmt.Errorf("the server at %s refused the call: %s", l.addr, plain(err)))
}

// serverSaid reports whether a call failed by what the server said of it.
func serverSaid(err error) bool {
	outcome := rpc.OutcomeOf(err)
	return outcome == rpc.Executed || outcome == rpc.NotExecuted
}

// keyError says what is wrong with a key file or folder that a flag names.
func keyError(flag, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist) && flag == "--authorized-keys":
		return fmt.Errorf("%s: there is no folder %s; make it and put the clients' public keys into it", flag, path)
	case errors.Is(err, fs.ErrNotExist) && flag == "--server-key":
		return fmt.Errorf("%s: there is no file %s; have the server's owner give you its public.pem", flag, path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no file %s; sealmux keygen --out DIR makes a key", flag, path)
	case slices.Contains([]string{"--key", "--legacy-key", "--public"}, flag) && begins(path, "PUBLIC"): // whoever may read it
		return fmt.Errorf("%s: %s: unusable key: this is the public half; give the private key", flag, path)
	}
	if denied, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s: this user may not read %s, or reach it; change the mode or the owner of the file, or of a folder above it", flag, denied.Path)
	}
	return fmt.Errorf("%s: %s", flag, plain(err))
}

// plain is an error's text without the names of packages, which mean nothing to a user of the tool.
func plain(err error) string {
	return strings.NewReplacer("transport: ", "", "rpc: ", "", "legacy: ", "").Replace(err.Error())
}
