//go:build unix

package fleet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/rpc/cluster/etcd"
	"github.com/sealmux/sealmux/transport"
)

// The tests run their own binary again, in a role.

const roleEnv = "SEALMUX_FLEET_ROLE"

func TestMain(m *testing.M) {
	if role := map[string]func() error{"server": serverRole, "clients": clientsRole}[os.Getenv(roleEnv)]; role != nil {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// The methods of the servers.
var (
	// Work is told an id, writes it into the server's journal, takes a few milliseconds and answers with the server's name.
	Work = rpc.Unary[uint64, string]{Name: "work"}
	// Read is Work, but may run twice.
	Read = rpc.Unary[uint64, string]{Name: "read"}
	// Usage tells what the server's process holds.
	Usage = rpc.Unary[string, usage]{Name: "usage"}
)

// takes is how long a call of Work takes at least.
const takes = 4 * time.Millisecond

// A process runs a role.
type process struct {
	*exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader // what it prints
}

func run(t testing.TB, role string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0], args...)}
	p.Env = append(os.Environ(), roleEnv+"="+role)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	if err == nil {
		p.in, err = p.StdinPipe()
	}
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	p.lines = bufio.NewReader(out)
	return p
}

// kill is SIGKILL. It may be called again.
func (p *process) kill() {
	p.Process.Kill()
	p.Wait()
}

func (p *process) line(t testing.TB) string {
	t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		t.Fatal("a process has ended: ", err)
	}
	return strings.TrimSpace(line)
}

// stop stops all threads of the process, until SIGCONT.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	for !status.Stopped() {
		if _, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil && err != syscall.EINTR {
			t.Fatal(err)
		}
	}
}

// terminate is SIGTERM, and waits until the process has drained.
func (p *process) terminate(t testing.TB) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("a server that was to drain: %v", err)
	}
}

// serverRole is one server: of a key file, a journal file, a name, and an etcd with a TTL, or none. It prints where it listens. With an
// etcd it is told then which address to announce, and says so when it has. SIGTERM drains it.
func serverRole() error {
	key, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	own, err := transport.ParsePrivateKey(key)
	if err != nil {
		return err
	}
	journal, err := os.OpenFile(os.Args[2], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	srv, name := rpc.NewServer(rpc.Options{}), os.Args[3]
	work := func(_ context.Context, id uint64) (string, error) {
		_, err := fmt.Fprintln(journal, id) // one write: it is in the kernel, which outlives us
		time.Sleep(takes)
		return name, err
	}
	Work.Handle(srv, work)
	Read.Handle(srv, work)
	l, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{own}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		return err
	}
	sessions := &census{Listener: l}
	Usage.Handle(srv, func(context.Context, string) (usage, error) {
		open := sessions.count() // forgets the others
		u := use()
		u.Sessions = open
		return u, nil
	})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), srv, sessions) }()
	fmt.Println(l.Addr())
	withdraw := func() error { return nil }
	if len(os.Args) > 4 {
		if withdraw, err = announce(os.Args[4], os.Args[5], name); err != nil {
			return err
		}
	}
	<-signals
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := withdraw(); err != nil {
		return err
	}
	if err := srv.Shutdown(ctx); err != nil {
		return err
	}
	<-served
	return nil
}

// announce registers the address that it reads from its input.
func announce(addr, ttl, name string) (withdraw func() error, err error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	long, err := time.ParseDuration(ttl)
	if err != nil {
		return nil, err
	}
	public, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return nil, err
	}
	registry := etcd.New(client, service, etcd.Options{TTL: long})
	lease, err := registry.Register(context.Background(), cluster.Endpoint{Addr: strings.TrimSpace(public), Name: name})
	if err != nil {
		return nil, err
	}
	fmt.Println("announced")
	return func() error { return lease.Deregister(context.Background()) }, nil
}
