package cluster

import (
	"context"
	"errors"
	"iter"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sealmux/sealmux/rpc"
)

// TestSetChanges: an endpoint that comes gets calls, one that goes gets no new ones and ends those it has; one that changes gets
// a new session if that matters.
func TestSetChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		release := make(chan struct{})
		for _, addr := range []string{"a", "b", "c"} {
			f.start(t, addr, rpc.Options{}, func(s *rpc.Server) {
				named(addr)(s)
				work.Handle(s, func(context.Context, int) (int, error) { <-release; return 1, nil })
			})
		}
		list := Static("a", "b")
		c := f.client(t, list, Options{Balancer: RoundRobin(), Eager: true})
		synctest.Wait()
		reached := func() (found string) {
			var all []string
			for range 16 { // from 13 turns on, RoundRobin leaves out no endpoint with an eighth of the weight
				at, err := where.Call(bg, c, "")
				if err != nil {
					t.Error(err)
				}
				all = append(all, at)
			}
			slices.Sort(all)
			for _, at := range slices.Compact(all) {
				found += at
			}
			return found
		}
		if got := reached(); got != "ab" {
			t.Error(got)
		}
		slow := make(chan error, 2)
		for range 2 { // one on each
			go func() { _, err := work.Call(bg, c, 1); slow <- err }()
		}
		synctest.Wait()
		list.Set(Endpoint{Addr: "b"}, Endpoint{Addr: "c"}, Endpoint{Addr: "c", Name: "the first of an address counts"})
		synctest.Wait()
		if got := reached(); got != "b" {
			t.Errorf("%q: a new server is not to be there at the same moment for everybody", got)
		}
		time.Sleep(500 * time.Millisecond)
		if got := reached(); got != "bc" {
			t.Error(got)
		}
		close(release)
		for range 2 {
			if err := <-slow; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		select {
		case <-f.servers["a"].sessions[0].(interface{ Done() <-chan struct{} }).Done():
		default:
			t.Error("the session to the server that is gone is still there, though its last call has ended")
		}
		sessions := func(addr string) uint64 { return c.Snapshot().endpoint(addr).Sessions }
		list.Set(Endpoint{Addr: "b", Weight: 7}, Endpoint{Addr: "c", Pins: []string{"x"}})
		synctest.Wait()
		if n := len(f.dialled("b")); n != 1 || sessions("b") != 1 || c.Snapshot().endpoint("b").Endpoint.Weight != 7 {
			t.Error("another weight needs no other session", n)
		}
		if n := len(f.dialled("c")); n != 2 || sessions("c") != 1 {
			t.Error("other pins need another session", n)
		}
		list.Set()
		synctest.Wait()
		if got := reached(); got != "bc" {
			t.Errorf("%q: an empty set is no news", got)
		}
	})
}

// TestRegistered: servers of one process register in a List and deregister before they drain.
func TestRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var registrar Registrar = new(List)
		f := new(fleet)
		c := f.client(t, registrar.(*List), Options{Eager: true})
		leases := make(map[string]Lease)
		servers := make(map[string]*server)
		for _, addr := range []string{"a", "b"} {
			servers[addr] = f.start(t, addr, rpc.Options{}, named(addr))
			lease, err := registrar.Register(bg, Endpoint{Addr: addr})
			if err != nil {
				t.Fatal(err)
			}
			leases[addr] = lease
		}
		time.Sleep(time.Second)
		for range 2 { // the second time there is nothing to do
			if err := leases["a"].Deregister(bg); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		for range 10 {
			if at, err := where.Call(bg, c, ""); err != nil || at != "b" {
				t.Error(at, err)
			}
		}
		servers["a"].drain(t)
		select {
		case <-leases["b"].Lost():
			t.Error("lost")
		default:
		}
		if s := c.Snapshot(); s.Retries != 0 || s.endpoint("a").State != "none" {
			t.Errorf("%+v", s)
		}
	})
}

// A flaky resolver ends, fails and goes on.
type flaky struct {
	mu        sync.Mutex // protects all below
	watches   []time.Time
	refreshes int
}

func (r *flaky) Refresh() { r.mu.Lock(); r.refreshes++; r.mu.Unlock() }

func (r *flaky) Watch(ctx context.Context) iter.Seq2[[]Endpoint, error] {
	return func(yield func([]Endpoint, error) bool) {
		r.mu.Lock()
		r.watches = append(r.watches, time.Now())
		n := len(r.watches)
		r.mu.Unlock()
		if n < 4 {
			yield(nil, errors.New("no directory"))
			return
		}
		if yield([]Endpoint{{Addr: "a"}}, nil) {
			<-ctx.Done()
		}
	}
}

// TestResolverFails: a resolver that gives up is asked again, and tells why calls wait.
func TestResolverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, r := new(fleet), new(flaky)
		c := f.client(t, r, Options{})
		_, err := where.Call(within(t, time.Nanosecond), c, "")
		want(t, err, rpc.DeadlineExceeded, rpc.NotSent)
		f.start(t, "a", rpc.Options{}, named("a"))
		if at, err := where.Call(within(t, time.Minute), c, ""); err != nil || at != "a" {
			t.Error(at, err)
		}
		r.mu.Lock()
		refreshes := r.refreshes
		r.mu.Unlock()
		if refreshes != 0 {
			t.Error("asked to look again without need")
		}
		f.servers["a"].kill()
		time.Sleep(time.Minute)
		c.Close()
		if dials := len(f.dialled("a")); r.refreshes < 3 || r.refreshes > dials {
			t.Error(r.refreshes, dials)
		}
	})
}

// A book answers DNS questions from what it has.
type book struct {
	mu     sync.Mutex // protects all below
	hosts  []string
	srv    []*net.SRV
	err    error
	asked  []time.Time
	blocks bool
}

func (b *book) LookupHost(ctx context.Context, host string) ([]string, error) {
	b.mu.Lock()
	blocks := b.blocks
	b.asked = append(b.asked, time.Now())
	hosts, err := b.hosts, b.err
	b.mu.Unlock()
	if blocks {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return hosts, err
}

func (b *book) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	_, err := b.LookupHost(ctx, name)
	return "", b.srv, err
}

func (b *book) questions() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.asked)
}

// follow collects what a resolver yields.
func follow(t *testing.T, r Resolver) (last func() ([]Endpoint, error)) {
	ctx, cancel := context.WithCancel(bg)
	t.Cleanup(cancel)
	var mu sync.Mutex
	var set []Endpoint
	var failure error
	go func() {
		for s, err := range r.Watch(ctx) {
			mu.Lock()
			set, failure = s, err
			mu.Unlock()
		}
	}()
	return func() ([]Endpoint, error) {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return set, failure
	}
}

// TestDNS: the names are read, asked again in time, and on demand no more often than allowed; what is no answer is an error.
func TestDNS(t *testing.T) {
	bubble(t, "hosts", func(t *testing.T) {
		b := &book{hosts: []string{"10.0.0.1", "fd00::1"}}
		d := &DNS{Name: "svc.example:7443", Lookup: b}
		last := follow(t, d)
		set, err := last()
		if err != nil || len(set) != 2 || set[0].Addr != "10.0.0.1:7443" || set[1].Addr != "[fd00::1]:7443" || set[0].Name != "svc.example" {
			t.Error(set, err)
		}
		b.mu.Lock()
		b.hosts = nil
		b.mu.Unlock()
		time.Sleep(40 * time.Second)
		if set, err := last(); err == nil || set != nil {
			t.Error("an empty answer is no set", set, err)
		}
		b.mu.Lock()
		b.err, b.blocks = nil, true
		b.mu.Unlock()
		time.Sleep(40 * time.Second)
		if _, err := last(); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
	bubble(t, "pace", func(t *testing.T) {
		b := &book{hosts: []string{"10.0.0.1"}}
		d := &DNS{Name: "svc.example:7443", Lookup: b}
		follow(t, d)()
		time.Sleep(time.Hour)
		asked := b.questions()
		if n := len(asked); n < 110 || n > 130 {
			t.Errorf("asked %d times in an hour", n)
		}
		spread := make(map[time.Duration]bool)
		for i := 1; i < len(asked); i++ {
			since := asked[i].Sub(asked[i-1])
			spread[since] = true
			if since < 24*time.Second || since > 36*time.Second {
				t.Error(since)
			}
		}
		if len(spread) < 50 {
			t.Error("always the same time between two")
		}
		for range 600 { // failures, ten a second
			d.Refresh()
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(b.questions()) - len(asked); n < 11 || n > 13 {
			t.Errorf("asked %d times in a minute of failures, with a floor of 5 s", n)
		}
	})
	bubble(t, "services", func(t *testing.T) {
		b := &book{srv: []*net.SRV{{Target: "one.example.", Port: 1, Priority: 2, Weight: 5}, {Target: "two.example.", Port: 2, Priority: 1, Weight: 9},
			{Target: "three.example.", Port: 3, Priority: 1}}}
		set, err := follow(t, &DNS{Name: "_rpc._tcp.svc.example", Lookup: b})()
		if err != nil || len(set) != 2 || set[0].Addr != "two.example:2" || set[0].Weight != 9 || set[0].Name != "two.example" || set[1].weight() != 1 {
			t.Error(set, err)
		}
	})
	none := []*net.SRV{{Target: ".", Port: 1, Priority: 1}}
	for name, srv := range map[string][]*net.SRV{"": nil, "host": nil, "host:1:2": nil, "_rpc._tcp.svc.example": nil, "_none._tcp.svc.example": none} {
		bubble(t, "refused "+name, func(t *testing.T) {
			if set, err := follow(t, &DNS{Name: name, Lookup: &book{srv: srv}})(); err == nil || set != nil {
				t.Error(set, err)
			}
		})
	}
}

// TestDNSKeepsTheLastGoodSet: a Client goes on with what it has while the name has no answer, and follows the next.
func TestDNSKeepsTheLastGoodSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fleet)
		for _, addr := range []string{"10.0.0.1:1", "10.0.0.2:1"} {
			f.start(t, addr, rpc.Options{}, named(addr))
		}
		b := &book{hosts: []string{"10.0.0.1"}}
		c := f.client(t, &DNS{Name: "svc:1", Lookup: b}, Options{})
		at := func() string {
			t.Helper()
			at, err := where.Call(within(t, time.Minute), c, "")
			if err != nil {
				t.Error(err)
			}
			return at
		}
		if got := at(); got != "10.0.0.1:1" {
			t.Error(got)
		}
		b.mu.Lock()
		b.hosts, b.err = nil, errors.New("no such host")
		b.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if got := at(); got != "10.0.0.1:1" {
			t.Error(got)
		}
		b.mu.Lock()
		b.hosts, b.err = []string{"10.0.0.2"}, nil
		b.mu.Unlock()
		f.mu.Lock()
		old := f.servers["10.0.0.1:1"]
		f.mu.Unlock()
		time.Sleep(30 * time.Second)
		began := time.Now()
		old.kill() // has the name asked anew, if it was not by chance
		if got := at(); got != "10.0.0.2:1" || time.Since(began) > 7*time.Second {
			t.Error(got, time.Since(began))
		}
	})
}

// TestRealDNS: a *net.Resolver and a DNS server over UDP.
func TestRealDNS(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { answerDNS(t, conn) })
	defer serving.Wait()
	defer conn.Close()
	lookup := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	for name, addrs := range map[string][]string{
		"svc.test.:7443":        {"192.0.2.1:7443", "192.0.2.2:7443", "[2001:db8::7]:7443"},
		"_rpc._tcp.svc.test.":   {"svc.test:1", "svc.test:2"},
		"none.test.:7443":       nil,
		"_none._tcp.none.test.": nil,
	} {
		set, err := (&DNS{Name: name, Lookup: lookup}).ask(within(t, time.Minute), 10*time.Second)
		var got []string
		for _, e := range set {
			got = append(got, e.Addr)
		}
		slices.Sort(got)
		if !slices.Equal(got, addrs) || (err == nil) != (addrs != nil) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// answerDNS answers until conn is closed.
func answerDNS(t *testing.T, conn net.PacketConn) {
	b := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(b[:n]); err != nil || len(m.Questions) != 1 {
			t.Error(err)
			continue
		}
		q := m.Questions[0]
		m.Header.Response, m.Header.Authoritative, m.Additionals = true, true, nil
		add := func(body dnsmessage.ResourceBody) {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: body})
		}
		switch q.Name.String() + q.Type.String() {
		case "svc.test.TypeA":
			add(&dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}})
			add(&dnsmessage.AResource{A: [4]byte{192, 0, 2, 2}})
		case "svc.test.TypeAAAA":
			add(&dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 7}})
		case "_rpc._tcp.svc.test.TypeSRV":
			for port := range uint16(2) {
				add(&dnsmessage.SRVResource{Priority: 1, Weight: 1, Port: port + 1, Target: dnsmessage.MustNewName("svc.test.")})
			}
		default:
			m.Header.RCode = dnsmessage.RCodeNameError
		}
		if reply, err := m.Pack(); err != nil {
			t.Error(err)
		} else {
			conn.WriteTo(reply, from)
		}
	}
}
