package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/internal/legacy"
	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// secureBits is the least size of an RSA key that is worth something today.
const secureBits = transport.MinKeyBits

// insecurities are why nobody should use the wire of the scripts for longer than it takes to move.
func insecurities(bits int) string {
	reasons := []string{"RSA with PKCS#1 v1.5", "no integrity, so that recorded messages can be read with the server's help", "no forward secrecy"}
	if bits < secureBits {
		reasons[0] = fmt.Sprintf("RSA of %d bits with PKCS#1 v1.5", bits)
	}
	return strings.Join(reasons, ", ")
}

// An oldWire is what serve offers beside the sealed listener. All its methods do nothing for nil, which is what there is if nobody asked for it.
type oldWire struct {
	key      *legacy.PrivateKey
	listener net.Listener
	server   *legacy.Server // nil until serve
	client   *rpc.Client
	failed   chan error // what Serve returned
	work     sync.WaitGroup
}

func (o *serveOptions) checkLegacy() error {
	switch {
	case o.legacyListen == "" && o.legacyKey == "":
		return nil
	case o.legacyKey == "":
		return usagef("--legacy-listen needs a private key for that alone; name it with --legacy-key FILE")
	case o.legacyListen == "":
		return usagef("--legacy-key is for --legacy-listen HOST:PORT; give both or none")
	}
	return checkAddr("--legacy-listen", o.legacyListen)
}

// readLegacyKey reads the key for the old wire, which must not be one of the sealed listener: decryption with PKCS#1 v1.5 next to sealed
// sessions would be a risk to them.
func (o *serveOptions) readLegacyKey(sealed []*transport.PrivateKey) (*oldWire, error) {
	if o.legacyKey == "" {
		return nil, nil
	}
	key, err := legacy.ReadPrivateKey(o.legacyKey)
	if err != nil {
		return nil, keyError("--legacy-key", o.legacyKey, err)
	}
	for i, other := range sealed {
		if other.Fingerprint() == key.Fingerprint() {
			return nil, fmt.Errorf("--legacy-key: %s is the same key as --key %s, whose sealed sessions the old wire would endanger; give the old wire a key of its own",
				o.legacyKey, o.keyFiles[i])
		}
	}
	return &oldWire{key: key, failed: make(chan error, 1)}, nil
}

func (w *oldWire) listen(ctx context.Context, addr string) (err error) {
	if w == nil {
		return nil
	}
	if w.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", addr); err != nil {
		return fmt.Errorf("cannot listen on %s: %s; choose another --legacy-listen", addr, plain(err))
	}
	return nil
}

// announce warns of the old wire, and says where it is.
func (w *oldWire) announce(out, errOut io.Writer) error {
	if w == nil {
		return nil
	}
	w.warn(errOut)
	addr, key := w.where()
	_, err := fmt.Fprintf(out, "legacy on %s key %s\n", addr, key)
	return err
}

func (w *oldWire) warn(errOut io.Writer) {
	fmt.Fprintf(errOut, "%s --legacy-listen is insecure: %s, no proof of the server, and everybody is admitted, whatever --authorized-keys says; "+
		"stop using it once the clients have moved\n", newStyle(errOut).yellow("warning:"), insecurities(w.key.Bits()))
}

func (w *oldWire) where() (addr, key string) {
	return w.listener.Addr().String(), transport.Fingerprint(w.key.Fingerprint()).String()
}

// serve serves the old wire from the server's own handlers: each message is a call, with all that a call meets there. They all come over
// one session in memory: a stranger's connection costs the server no session, and the old wire as a whole has no more of
// its limits than one client has.
func (w *oldWire) serve(ctx context.Context, server *rpc.Server, log *refusals) {
	if w == nil {
		return
	}
	near, far := rpc.Pipe()
	w.client = rpc.NewClient(near, rpc.Options{})
	w.server = legacy.NewServer(legacy.Config{Key: w.key, Refused: log.add, Handle: func(ctx context.Context, text string) (string, error) {
		return rpc.Call[string](ctx, w.client, method, text)
	}})
	w.work.Go(func() { server.ServeSession(ctx, far) })          // ended by the server's Shutdown, and by close
	w.work.Go(func() { w.failed <- w.server.Serve(w.listener) }) // ended by stop, and by close
}

// failure yields why the listener failed.
func (w *oldWire) failure() <-chan error {
	if w == nil {
		return nil
	}
	return w.failed
}

// stop takes no more messages and waits, until ctx ends, for those that are there to be answered by their handler.
func (w *oldWire) stop(ctx context.Context) {
	if w == nil {
		return
	}
	select {
	case <-w.server.Stop():
	case <-ctx.Done():
	}
}

// drain waits, until ctx ends, for the replies to be written.
func (w *oldWire) drain(ctx context.Context) error {
	if w == nil {
		return nil
	}
	return w.server.Shutdown(ctx)
}

// close ends what is left, and waits for it.
func (w *oldWire) close() {
	if w == nil {
		return
	}
	w.listener.Close()
	if w.server == nil {
		return
	}
	w.server.Close()
	w.client.Close()
	w.work.Wait()
}

// addLegacyFlag is for the commands that send texts.
func (d *dialer) addLegacyFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.legacy, "legacy", false, "speak the insecure wire of the Python scripts, to one that was not moved yet")
}

func (d *dialer) checkLegacy() error {
	switch {
	case len(d.serverKeys) == 0:
		return usagef("name the server's public key with --server-key FILE")
	case len(d.serverKeys) > 1:
		return usagef("--legacy takes one --server-key: nothing on that wire tells which key a server holds")
	case isFingerprint(d.serverKeys[0]):
		return usagef("--legacy needs the server's public key itself: --server-key FILE in place of a fingerprint")
	case d.keyFile != "":
		return usagef("--legacy and --key exclude each other: that wire has no keys of clients")
	}
	return nil
}

// connect connects to a server for texts: in a session, or over the old wire, of which it warns.
func (d *dialer) connect(ctx context.Context, addr string, errOut io.Writer) (talker, error) {
	if !d.legacy {
		link, err := d.dial(ctx, addr)
		if err != nil {
			return nil, err // and no talker, which a nil link would be
		}
		return link, nil
	}
	key, err := legacy.ReadPublicKey(d.serverKeys[0])
	if err != nil {
		return nil, keyError("--server-key", d.serverKeys[0], err)
	}
	fmt.Fprintf(errOut, "%s --legacy is insecure: %s, no proof of the server; stop using it once the server has moved\n",
		newStyle(errOut).yellow("warning:"), insecurities(key.Bits()))
	bounded, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	client, err := legacy.Dial(bounded, "tcp", addr, key)
	if err != nil {
		return nil, d.legacyDialError(ctx, addr, err)
	}
	return &oldLink{d, addr, client}, nil
}

func (d *dialer) legacyDialError(ctx context.Context, addr string, err error) error {
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case isNet && timeout.Timeout():
		return withCode(exitConnect, fmt.Errorf("no connection to %s within %v; check the address, or allow more with --timeout", addr, d.timeout))
	}
	return withCode(exitConnect, d.noSession(addr, err))
}

// An oldLink is a connection over the old wire.
type oldLink struct {
	*dialer
	addr   string
	client *legacy.Client
}

func (l *oldLink) echo(ctx context.Context, text string) (string, error) {
	bounded, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	reply, err := l.client.Call(bounded, text)
	switch {
	case err == nil:
		return reply, nil
	case ctx.Err() != nil:
		return "", errInterrupted
	case errors.Is(err, legacy.ErrTooLong) && len(text) > legacy.MaxText:
		return "", fmt.Errorf("the text is longer than the old wire carries (%d bytes); send it in pieces", legacy.MaxText)
	case errors.Is(err, context.DeadlineExceeded):
		return "", lost("no reply from %s within %v; check that it speaks the old wire, or allow more with --timeout", l.addr, l.timeout)
	case errors.Is(err, legacy.ErrNoReply):
		return "", lost("the server at %s ended the connection in place of a reply; check that it speaks the old wire and holds the key of --server-key", l.addr)
	}
	return "", lost("no reply from %s: %s; check that it speaks the old wire and holds the key of --server-key", l.addr, plain(err))
}

func (l *oldLink) where() string         { return l.addr }
func (l *oldLink) done() <-chan struct{} { return l.client.Done() }
func (l *oldLink) close()                { l.client.Close() }

func (l *oldLink) ended() error {
	return lost("the connection to %s is over: %s; connect again", l.addr, plain(l.client.Err()))
}
