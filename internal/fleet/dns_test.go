//go:build unix

package fleet

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

// A zone is a DNS server on one port of loopback, over UDP and TCP, and what it says.
type zone struct {
	addr     string
	udp, tcp atomic.Int64 // questions

	mu      sync.Mutex // protects all below
	records map[string][]dns.RR
	fails   bool
}

func newZone(t testing.TB) *zone {
	t.Helper()
	z := &zone{records: make(map[string][]dns.RR)}
	packets, conns := onePort(t)
	z.addr = packets.LocalAddr().String()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // behind the shutdowns
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: conns, Handler: z}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() {
			if err := s.ActivateAndServe(); err != nil {
				t.Error(err)
			}
		})
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return z
}

// onePort listens on a free port for both of what DNS uses. One that is free for packets may be taken for connections, by another test or
// by a client's end: then it draws another.
func onePort(t testing.TB) (packets net.PacketConn, conns net.Listener) {
	t.Helper()
	for try := 0; ; try++ {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if conns, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			return packets, conns
		}
		packets.Close()
		if try == 20 {
			t.Fatal(err)
		}
	}
}

// set makes records, in the form of zone files, the whole of what there is.
func (z *zone) set(t testing.TB, lines ...string) {
	t.Helper()
	records := make(map[string][]dns.RR)
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		records[rr.Header().Name] = append(records[rr.Header().Name], rr)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = records
}

// fail has every question answered with SERVFAIL, or not any more.
func (z *zone) fail(fails bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fails = fails
}

// ServeDNS answers. What is too much for UDP is cut off there, and had over TCP.
func (z *zone) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	reply := new(dns.Msg).SetReply(question)
	reply.Authoritative = true
	all, known := z.records[question.Question[0].Name]
	for _, rr := range all {
		if rr.Header().Rrtype == question.Question[0].Qtype {
			reply.Answer = append(reply.Answer, rr)
		}
	}
	switch {
	case z.fails:
		reply.SetRcode(question, dns.RcodeServerFailure)
	case !known:
		reply.SetRcode(question, dns.RcodeNameError)
	}
	if _, ok := w.LocalAddr().(*net.UDPAddr); !ok {
		z.tcp.Add(1)
	} else {
		z.udp.Add(1)
		size := dns.MinMsgSize
		if opt := question.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		reply.Truncate(size)
	}
	w.WriteMsg(reply)
}

// resolver asks the zone's server.
func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, z.addr)
	}}
}

// TestDNSAnswers: what a resolver makes of A, AAAA and SRV records, over UDP, and of answers that only TCP can carry.
func TestDNSAnswers(t *testing.T) {
	z := newZone(t)
	many := []string{"_work._tcp.many.test. 0 IN SRV 2 0 1 spare.test."}
	var want []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("_work._tcp.many.test. 0 IN SRV 1 %d 7000 host-%03d.test.", i, i))
		want = append(want, fmt.Sprintf("host-%03d.test:7000", i))
	}
	z.set(t, append(many, "both.test. 0 IN A 127.0.0.1", "both.test. 0 IN A 127.0.0.2", "both.test. 0 IN AAAA ::1")...)
	for name, want := range map[string][]string{
		"both.test.:7000":       {"127.0.0.1:7000", "127.0.0.2:7000", "[::1]:7000"},
		"_work._tcp.many.test.": want,
	} {
		tcp := z.tcp.Load()
		for set, err := range (&cluster.DNS{Name: name, Lookup: z.resolver()}).Watch(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range set {
				got = append(got, e.Addr)
				if e.Name != "both.test." && e.Addr != fmt.Sprintf("host-%03d.test:7000", e.Weight) {
					t.Errorf("%+v", e)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v", name, got)
			}
			break
		}
		t.Logf("%s: %d endpoints, %d questions over TCP", name, len(want), z.tcp.Load()-tcp)
		if len(want) > 100 && z.tcp.Load() == tcp {
			t.Error("so large an answer came over UDP")
		}
	}
}

// local is a server in this process.
type local struct {
	srv  *rpc.Server
	port int
	name string
}

// serve starts one at a free port of host, or the port given.
func serve(t testing.TB, name, host string, port int) *local {
	t.Helper()
	data, _ := keys()
	key, err := transport.ParsePrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	l, err := transport.Listen(context.Background(), "tcp", fmt.Sprintf("%s:%d", host, port), &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		t.Skip("this machine has not so many addresses of loopback: ", err)
	}
	s := &local{srv: rpc.NewServer(rpc.Options{}), port: l.Addr().(*net.TCPAddr).Port, name: name}
	Work.Handle(s.srv, func(context.Context, uint64) (string, error) { return name, nil })
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), s.srv, l) }()
	t.Cleanup(func() {
		s.srv.Close()
		<-served
	})
	return s
}

// every is how often the tests ask; a change is known after 1.2 of it, and used when a session is made, after a random pause of
// at most the backoff's base.
const every = time.Second

// TestDNSChanges: a client follows A records, SRV records, and does without a server that fails.
func TestDNSChanges(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	a := serve(t, "a", "127.0.0.1", 0)
	b, c := serve(t, "b", "127.0.0.2", a.port), serve(t, "c", "127.0.0.3", 0)
	srv := func(s *local) string { return fmt.Sprintf("_work._tcp.test. 0 IN SRV 1 1 %d %s.test.", s.port, s.name) }
	hosts := []string{"a.test. 0 IN A 127.0.0.1", "b.test. 0 IN A 127.0.0.2", "c.test. 0 IN A 127.0.0.3"}
	bound := every*12/10 + 500*time.Millisecond
	for _, kind := range []struct {
		name          string
		first, second []string // its records, before and after
	}{
		{fmt.Sprintf("work.test.:%d", a.port), []string{"work.test. 0 IN A 127.0.0.1"}, []string{"work.test. 0 IN A 127.0.0.2"}},
		{"_work._tcp.test.", append(slices.Clone(hosts), srv(b)), append(slices.Clone(hosts), srv(c))},
	} {
		_, pins := keys()
		cfg := &transport.Config{Peers: pins, Protocol: rpc.Protocol}
		client := cluster.New(&cluster.DNS{Name: kind.name, Every: every, Floor: every / 2, Lookup: z.resolver()}, cluster.Options{
			Dial: func(ctx context.Context, e cluster.Endpoint) (rpc.Session, error) { // names are this zone's
				conn, err := (&net.Dialer{Resolver: z.resolver()}).DialContext(ctx, "tcp", e.Addr)
				if err != nil {
					return nil, err
				}
				session, err := transport.Client(ctx, conn, cfg)
				if err != nil {
					return nil, err
				}
				return session, nil
			}})
		ask := func() string {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			name, err := Work.Call(ctx, client, 0)
			if err != nil {
				t.Fatal(err)
			}
			return name
		}
		z.set(t, kind.first...)
		first := ask()
		z.fail(true)
		for begin := time.Now(); time.Since(begin) < 3*every; time.Sleep(10 * time.Millisecond) {
			if name := ask(); name != first {
				t.Errorf("%s answers", name)
			}
		}
		z.fail(false)
		z.set(t, kind.second...)
		changed := time.Now()
		for ask() == first && time.Since(changed) < patience {
			time.Sleep(10 * time.Millisecond)
		}
		took := time.Since(changed)
		t.Logf("%s: the servers are others %v after the records (bound %v); %d questions over UDP", kind.name,
			took.Round(time.Millisecond), bound, z.udp.Load())
		if took > bound+time.Second {
			t.Error("too late")
		}
		client.Close()
	}
}
