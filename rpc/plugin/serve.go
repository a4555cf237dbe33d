package plugin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// IsPlugin says whether a host started this process as a plug-in. Ask before Serve: it takes that back from the environment,
// so that programs which the plug-in runs do not believe it of themselves.
func IsPlugin() bool { return os.Getenv(envName) == strconv.Itoa(wireVersion) }

// VersionFrom returns the version of the application protocol that host and plug-in agreed on, in a plug-in's handler or
// OnSession; 0 with another context.
func VersionFrom(ctx context.Context) int {
	v, _ := ctx.Value(versionKey{}).(int)
	return v
}

type versionKey struct{}

// Serve is what a plug-in's main calls: it answers the host's calls with srv until the host stops it, and then returns nil
// once they are answered or Options.StopTimeout is over; the process should end then. It uses srv up. Handlers call the host
// with rpc.BackFrom, and OnSession of srv's options at once. Nothing may be printed to standard output before.
//
// When ctx ends it cuts the calls and returns ctx's error. When the host dies, the handlers' contexts end, and within
// Options.StopTimeout the process with its children is killed by Serve, which does not return then. If nobody started
// the process as a plug-in it says so on standard error and exits with status 1.
func Serve(ctx context.Context, srv *rpc.Server, opts Options) error {
	if !IsPlugin() {
		host := opts.Name
		if host == "" {
			host = "another program"
		}
		fmt.Fprintf(os.Stderr, "this is a plug-in of %s; it is started by %s, not by hand\n", host, host)
		os.Exit(1)
	}
	os.Unsetenv(envName)
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(os.Stdin, maxHello)
	sess, err := meet(ctx, in, opts)
	if err != nil {
		return err
	}
	stop := make(chan bool, 1)
	go func() { // ends with the host, or with the process: nothing ends a read of standard input
		word, _ := io.ReadAll(io.LimitReader(in, int64(len(stopWord))))
		stop <- string(word) == stopWord
	}()
	err = serve(ctx, srv, sess, stop, opts)
	if errors.Is(err, ErrHostGone) {
		endSelf()
	}
	return err
}

// meet exchanges the two lines with the host, and makes the session.
func meet(ctx context.Context, in *bufio.Reader, opts Options) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.StartTimeout)
	defer cancel()
	var key *transport.PrivateKey
	var keyErr error
	var making sync.WaitGroup
	making.Go(func() { key, keyErr = transport.GenerateKey(transport.MinKeyBits) }) // while the host makes its own
	var hello hostHello
	err := readHello(in, &hello, &hello.Wire)
	making.Wait()
	if err != nil {
		return nil, fmt.Errorf("plugin: the host says nothing: %w", err)
	}
	if keyErr != nil {
		return nil, keyErr
	}
	answer := pluginHello{Wire: wireVersion, Versions: opts.Versions, Version: common(hello.Versions, opts.Versions),
		Key: string(key.Public().MarshalPEM())}
	if err := writeHello(os.Stdout, &answer); err != nil {
		return nil, err
	}
	if answer.Version == 0 {
		return nil, &VersionError{Host: hello.Versions, Plugin: opts.Versions}
	}
	host, err := transport.ParsePublicKey([]byte(hello.Key))
	if err != nil {
		return nil, err
	}
	conn, err := hello.connect(ctx)
	if err != nil {
		return nil, err
	}
	sess, err := transport.Client(ctx, conn, &transport.Config{Keys: []*transport.PrivateKey{key}, Peers: transport.Pin(host),
		Protocol: protocol(answer.Version)})
	if err != nil {
		return nil, err
	}
	return &session{sess, answer.Version}, nil
}

func (h *hostHello) connect(ctx context.Context) (net.Conn, error) {
	if h.Network == networkFD {
		return inherited(h.FD)
	}
	var d net.Dialer
	return d.DialContext(ctx, networkTCP, h.Address)
}

// A session is one that tells handlers the version.
type session struct {
	muxed
	version int
}

// muxed is what sessions of transport and rpc.Pipe have.
type muxed interface {
	rpc.Session
	Done() <-chan struct{}
	Err() error
}

// Context adds the version to the peer.
func (s *session) Context(ctx context.Context) context.Context {
	if inner, ok := s.muxed.(interface {
		Context(context.Context) context.Context
	}); ok {
		ctx = inner.Context(ctx)
	}
	return context.WithValue(ctx, versionKey{}, s.version)
}

// serve serves a session until stop tells that the host asks for the end, or is gone. A session that ends before is that of
// a host that is gone, too: one that stops asks first.
func serve(ctx context.Context, srv *rpc.Server, sess rpc.Session, stop <-chan bool, opts Options) error {
	served := make(chan struct{})
	var lost error
	go func() { // ends with the session, which Shutdown or Close ends
		defer close(served)
		lost = srv.ServeSession(ctx, sess)
	}()
	asked := false
	select {
	case <-served:
		select { // both may have come at once
		case asked = <-stop:
		default:
		}
	case asked = <-stop:
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(ctx, opts.StopTimeout)
	defer cancel()
	_ = srv.Shutdown(drain) // what is left then was cut
	<-served
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case asked:
		return nil
	}
	return fmt.Errorf("%w: %w", ErrHostGone, lost)
}
