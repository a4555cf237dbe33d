package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmux/sealmux/rpc"
)

// A running is a command that runs in this process.
type running struct {
	lines  *bufio.Reader // what it prints
	errOut written
	cancel context.CancelFunc // as the first signal does
	ended  chan error
}

func runHere(t testing.TB, f func(ctx context.Context, out, errOut io.Writer) error) *running {
	t.Helper()
	r, w := io.Pipe()
	p := &running{lines: bufio.NewReader(r), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		err := f(ctx, w, &p.errOut)
		w.CloseWithError(io.EOF)
		p.ended <- err
	}()
	return p
}

func (p *running) line(t testing.TB) string {
	t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		t.Fatal(<-p.ended)
	}
	return line
}

// ends drains it.
func (p *running) ends(t testing.TB) {
	t.Helper()
	p.cancel()
	if err := <-p.ended; err != nil {
		t.Error(err, p.errOut.String())
	}
}

// Parties are the files of two keys, and a folder that admits the second.
type parties struct{ server, public, client, clients string }

func newParties(t testing.TB) parties {
	t.Helper()
	dir := t.TempDir()
	id := parties{filepath.Join(dir, "s", privateFile), filepath.Join(dir, "s", publicFile), filepath.Join(dir, "c", privateFile), filepath.Join(dir, "clients")}
	for _, who := range []string{"s", "c"} {
		if _, err := keygen(filepath.Join(dir, who), 2048); err != nil {
			t.Fatal(err)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "c", publicFile))
	if err = errors.Join(err, os.Mkdir(id.clients, 0o700)); err == nil {
		err = os.WriteFile(filepath.Join(id.clients, "me.pem"), public, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (id parties) serve(addr string, targets ...string) *serveOptions {
	return &serveOptions{listen: addr, keyFiles: []string{id.server}, authorized: id.clients, drain: 10 * time.Second,
		forwards: forwards{allowed: targets, most: defaultMaxForwards}}
}

func (id parties) forwarder(t testing.TB, addr string, specs ...string) *forwarder {
	t.Helper()
	d := &dialer{serverKeys: []string{id.public}, keyFile: id.client, timeout: 10 * time.Second}
	f := &forwarder{addr: addr, timeout: d.timeout, specs: specs, drain: 10 * time.Second}
	f.dial = func(ctx context.Context) (*link, error) { return d.dial(ctx, addr) }
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	return f
}

// forwarding is a server and a forwarder in this process. It returns where to connect, and what ends both.
func forwarding(t testing.TB, target string) (addr string, server, client *running) {
	t.Helper()
	id := newParties(t)
	server = runHere(t, id.serve("127.0.0.1:0", target).run)
	at, _, err := ready(server.line(t))
	if err != nil {
		t.Fatal(err)
	}
	client = runHere(t, id.forwarder(t, at, "0:"+target).run)
	if addr, err = forwardsFrom(client.line(t), false); err != nil {
		t.Fatal(err)
	}
	return addr, server, client
}

// targetOf serves connections with f, which need not close them, and returns where.
func targetOf(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Minute))
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
	return l.Addr().String()
}

func dialTCP(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c.(*net.TCPConn)
}

// TestForwardMany: 100 connections at once on one session, with 1 MiB each way on some, and nothing is left.
func TestForwardMany(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("", func(t *testing.T) { // its cleanup first
		all := make(chan struct{}) // closed once all connections are there
		var there sync.WaitGroup
		there.Add(100)
		go func() { there.Wait(); close(all) }()
		target := targetOf(t, func(c net.Conn) {
			there.Done()
			<-all
			piece := make([]byte, 10_000)
			for { // answers while it reads
				n, err := c.Read(piece)
				if err != nil {
					return
				}
				for i := range piece[:n] {
					piece[i] ^= 0xff
				}
				c.Write(piece[:n])
			}
		})
		addr, server, client := forwarding(t, target)
		var work sync.WaitGroup
		for i := range 100 {
			c := dialTCP(t, addr)
			work.Go(func() {
				size := 20_000
				if i%10 == 0 {
					size = 1 << 20
				}
				if err := inverted(c, uint64(i), size); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
				c.Close()
			})
		}
		work.Wait()
		client.ends(t)
		server.ends(t)
	})
}

// inverted sends random bytes and their end, and checks that they come back inverted, with the end.
func inverted(c *net.TCPConn, seed uint64, size int) error {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.CloseWrite())
	}()
	want, got := sha256.New(), sha256.New()
	n, err := io.Copy(got, c)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	for i := range data {
		data[i] ^= 0xff
	}
	want.Write(data)
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		return fmt.Errorf("%d bytes of %d, or others", n, size)
	}
	return nil
}

// TestForwardEnds: the end of one way is passed on and the other goes on, whichever ends first; what is cut ends with an error, on the
// far side too; and a connection that nobody ends is there to the end.
func TestForwardEnds(t *testing.T) {
	told := make(chan error, 1) // how it ended for the target, behind what it read
	read := func(c net.Conn, want string) {
		got, err := io.ReadAll(c)
		if err == nil && string(got) != want {
			err = fmt.Errorf("read %q", got)
		}
		told <- err
	}
	for name, c := range map[string]struct {
		target      func(net.Conn)
		client      func(t *testing.T, c *net.TCPConn)
		cut         bool // for the target
		cutAtClient bool
	}{
		"the client ends first": {
			func(c net.Conn) { read(c, "question"); io.WriteString(c, "answer") },
			func(t *testing.T, c *net.TCPConn) { io.WriteString(c, "question"); c.CloseWrite() }, false, false},
		"the target ends first": {
			func(c net.Conn) { io.WriteString(c, "answer"); closeWrite(c); read(c, "question") },
			func(t *testing.T, c *net.TCPConn) {
				if got, err := io.ReadAll(c); string(got) != "answer" || err != nil {
					t.Error(string(got), err)
				}
				io.WriteString(c, "question")
				c.CloseWrite()
			}, false, false},
		"the client resets": {
			func(c net.Conn) { io.WriteString(c, "answer"); read(c, "question") },
			func(t *testing.T, c *net.TCPConn) {
				io.WriteString(c, "question")
				io.ReadFull(c, make([]byte, len("answer")))
				reset(c)
			}, true, true},
		"the target resets": {
			func(c net.Conn) {
				io.ReadFull(c, make([]byte, len("question")))
				reset(c)
				told <- nil
			},
			func(t *testing.T, c *net.TCPConn) { io.WriteString(c, "question") }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			addr, server, client := forwarding(t, targetOf(t, c.target))
			conn := dialTCP(t, addr)
			c.client(t, conn)
			got, err := io.ReadAll(conn)
			if (err != nil) != c.cutAtClient {
				t.Errorf("the client: %q, %v", got, err)
			}
			if err := <-told; (err != nil) != c.cut {
				t.Errorf("the target: %v", err)
			}
			client.ends(t)
			server.ends(t)
		})
	}
}

// TestForwardPressure: who does not read makes the other side wait, and little is kept.
func TestForwardPressure(t *testing.T) {
	wrote := make(chan int, 1)
	addr, server, client := forwarding(t, targetOf(t, func(c net.Conn) {
		c.SetWriteDeadline(time.Now().Add(3 * time.Second))
		n := 0
		for piece := make([]byte, 64<<10); ; {
			k, err := c.Write(piece)
			if n += k; err != nil || n > 1<<30 {
				wrote <- n
				return
			}
		}
	}))
	conn := dialTCP(t, addr)
	n := <-wrote
	if n > 64<<20 { // two windows, and the buffers of the system's four sockets
		t.Errorf("the target has written %d bytes, of which none was read", n)
	}
	reset(conn)
	client.ends(t)
	server.ends(t)
}

// TestForwardTooMany: a server forwards no more than it was told to.
func TestForwardTooMany(t *testing.T) {
	target := targetOf(t, func(c net.Conn) { io.Copy(c, c) })
	id := newParties(t)
	o := id.serve("127.0.0.1:0", target)
	o.forwards.most = 2
	server := runHere(t, o.run)
	at, _, err := ready(server.line(t))
	if err != nil {
		t.Fatal(err)
	}
	client := runHere(t, id.forwarder(t, at, "0:"+target).run)
	addr, err := forwardsFrom(client.line(t), false)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c := dialTCP(t, addr)
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer c.CloseWrite()
	}
	if got, err := exchange("tcp", addr, "third"); err == nil {
		t.Errorf("a third was forwarded: %q", got)
	}
	for _, err := range []error{
		client.errOut.says("does not forward to " + target + " now: ResourceExhausted: the server forwards 2 connections already"),
		server.errOut.says("not forwarded to " + target + " for me SHA256:"), server.errOut.says(": 2 are there already (--max-forwards)\n"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		client.ends(t)
		server.ends(t)
	})
}

// TestForwardHidden: a server that keeps its methods to itself refuses each connection in the same words.
func TestForwardHidden(t *testing.T) {
	id := newParties(t)
	var addr string
	addr, id.public = serveHere(t, rpc.NewServer(rpc.Options{HideMethods: true}))
	client := runHere(t, id.forwarder(t, addr, "0:127.0.0.1:1").run)
	from, err := forwardsFrom(client.line(t), false)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := exchange("tcp", from, "x"); err == nil {
		t.Errorf("it was forwarded: %q", got)
	}
	client.ends(t)
	if said := client.errOut.String(); !strings.Contains(said, "does not allow to forward to 127.0.0.1:1; have it started with --allow-forward 127.0.0.1:1\n") {
		t.Error(said)
	}
}

// TestDialFailure: what a client is told of a target says no more than it must.
func TestDialFailure(t *testing.T) {
	for want, err := range map[string]error{
		"there is no such host":                  &net.OpError{Err: &net.DNSError{Err: "no such host", Name: "db", Server: "10.0.0.53:53", IsNotFound: true}},
		"the host's name cannot be resolved now": &net.OpError{Err: &net.DNSError{Err: "server misbehaving", Server: "10.0.0.53:53", IsTemporary: true}},
		"no answer within 10s":                   &net.OpError{Err: os.ErrDeadlineExceeded},
		"connection refused":                     &net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"no route to host":                       &net.OpError{Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)},
		"it cannot be reached":                   &net.OpError{Err: os.NewSyscallError("connect", syscall.EACCES)},
	} {
		if got := dialFailure(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// TestParseLocal: the forms of ssh -L.
func TestParseLocal(t *testing.T) {
	for spec, want := range map[string]local{
		"5433:db:5432":             {"tcp", "127.0.0.1:5433", "db:5432"},
		"0:[::1]:05432":            {"tcp", "127.0.0.1:0", "[::1]:5432"},
		"[::1]:80:[fe80::1%e0]:80": {"tcp", "[::1]:80", "[fe80::1%e0]:80"},
		"*:80:db:80":               {"tcp", ":80", "db:80"},
		":80:db:80":                {"tcp", ":80", "db:80"},
		"localhost:80:db:80":       {"tcp", "localhost:80", "db:80"},
		"/run/x.sock:db:80":        {"unix", "/run/x.sock", "db:80"},
		"./[x]:db:80":              {"unix", "./[x]", "db:80"},
	} {
		if got, err := parseLocal(spec); got != want || err != nil {
			t.Errorf("%s: %+v, %v", spec, got, err)
		}
	}
	for _, spec := range []string{"", "80", "80:db", "a:b:c:d:e", "80:db:0", "80:db:65536", "80::80", "80:d b:80", "-1:db:80", "x.sock:db:80", "80:\xff:80", "80:[::1:80"} {
		if got, err := parseLocal(spec); err == nil {
			t.Errorf("%q is %+v", spec, got)
		}
	}
}
