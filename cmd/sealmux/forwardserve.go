package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

const (
	// forwardPrefix and HOST:PORT are the name of the method whose connections are forwarded there.
	forwardPrefix = "forward/"
	// forwardDial is how long a server tries to connect to a target.
	forwardDial = 10 * time.Second
	// defaultMaxForwards is how many connections a server forwards at a time, unless told otherwise. Each is a file descriptor and
	// up to 64 KiB, besides the session's windows.
	defaultMaxForwards = 512
)

// forwards are the targets that serve lets its clients reach.
type forwards struct {
	allowed []string
	most    int

	slots chan struct{} // has one value for each connection there is
	log   *refusals
}

func (f *forwards) check(anonymous bool) error {
	if len(f.allowed) == 0 {
		return nil
	}
	if anonymous {
		return usagef("--allow-forward needs --authorized-keys DIR: with --allow-anonymous anybody could reach %s through this server", f.allowed[0])
	}
	if f.most < 1 {
		return usagef("--max-forwards must be at least 1")
	}
	seen := make(map[string]bool)
	for i, text := range f.allowed {
		target, err := parseTarget(text)
		if err != nil {
			return usagef("--allow-forward %s: %s", text, err)
		}
		if seen[target] {
			return usagef("--allow-forward %s is given twice", target)
		}
		seen[target] = true
		f.allowed[i] = target
	}
	return nil
}

// register makes each target a method. Calls of other names are still answered with the echo, which a server is without once it has
// methods.
func (f *forwards) register(server *rpc.Server, log *refusals) {
	if len(f.allowed) == 0 {
		return
	}
	f.slots, f.log = make(chan struct{}, f.most), log
	server.Fallback(rpc.Echo)
	for _, target := range f.allowed {
		rpc.HandleConn(server, forwardPrefix+target, func(ctx context.Context, conn net.Conn) error {
			return f.forward(ctx, conn, target)
		})
	}
}

// forward connects conn with its target. Its error is the client's, as long as conn was not taken.
func (f *forwards) forward(ctx context.Context, conn net.Conn, target string) error {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		f.refused(ctx, target, fmt.Sprintf("%d are there already (--max-forwards)", f.most))
		return rpc.Errorf(rpc.ResourceExhausted, "the server forwards %d connections already", f.most)
	}
	dialer := net.Dialer{Timeout: forwardDial}
	there, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why := dialFailure(err)
		f.refused(ctx, target, why)
		return rpc.Errorf(rpc.Unavailable, "%s", why)
	}
	linger(there, 0)
	if _, err := conn.Write(nil); err != nil { // takes it: the client's OpenConn returns
		reset(there)
		return err
	}
	return (&relay{a: conn, b: there}).run(ctx)
}

// refused reports a connection that was not forwarded.
func (f *forwards) refused(ctx context.Context, target, why string) {
	peer, _ := transport.PeerFrom(ctx)
	who := "a client"
	if peer.Key != nil {
		who = strings.TrimSpace(peer.Name + " " + peer.Fingerprint().String())
	}
	f.log.line(fmt.Sprintf("not forwarded to %s for %s: %s", target, who, why))
}

// dialFailure says why a target cannot be reached, in words that tell a client nothing else about the server's network.
func dialFailure(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "there is no such host"
		}
		return "the host's name cannot be resolved now"
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Sprintf("no answer within %v", forwardDial)
	}
	for _, errno := range []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, errno) {
			return errno.Error()
		}
	}
	return "it cannot be reached"
}

// parseTarget returns HOST:PORT in the one form in which it is compared.
func parseTarget(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return "", errors.New("must be HOST:PORT, such as 127.0.0.1:5432")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("%q is no port: give a number from 1 to 65535", port)
	}
	if !utf8.ValidString(host) || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '*' || r == 0x7f }) {
		return "", fmt.Errorf("%q is no host; there are no wildcards", host)
	}
	target := net.JoinHostPort(host, strconv.FormatUint(n, 10))
	if len(forwardPrefix)+len(target) > maxMethodName {
		return "", errors.New("the host's name is too long")
	}
	return target, nil
}

// maxMethodName is how long the name of a method may be.
const maxMethodName = 255
