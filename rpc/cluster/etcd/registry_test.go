//go:build unix

package etcd

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/sealmux/sealmux/rpc/cluster"
)

// TestRegistry: what is registered is seen by every watch, as it is, until it is deregistered.
func TestRegistry(t *testing.T) {
	t.Parallel()
	e := start(t)
	opts := quick(t)
	opts.TTL = 10 * patience // what goes does not go by itself
	r := New(connect(t, e.addr), "services/users", opts)
	first, second := observe(t, r), observe(t, New(connect(t, e.addr), "services/users", Options{}))
	other := observe(t, New(connect(t, e.addr), "services/user", Options{}))
	first.await(t)
	full := cluster.Endpoint{Addr: "10.0.0.7:7443", Name: "seven", Weight: 3, Pins: []string{"a", "b"}, Attributes: map[string]string{"zone": "<x>"}}
	lease, err := r.Register(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	bare := register(t, r, "10.0.0.8:7443")
	for _, s := range []*seen{first, second} {
		set := s.await(t, "10.0.0.7:7443", "10.0.0.8:7443")
		if !reflect.DeepEqual(set, []cluster.Endpoint{full, {Addr: "10.0.0.8:7443"}}) {
			t.Errorf("seen %+v", set)
		}
	}
	for range 2 { // the second has nothing to do
		if err := lease.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
	}
	first.await(t, "10.0.0.8:7443")
	second.await(t, "10.0.0.8:7443")
	if err := bare.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	second.await(t)
	other.await(t) // not of a name that begins alike
	if _, n, _, _ := other.last(); n != 1 {
		t.Errorf("another service has seen %d sets", n)
	}
	select {
	case <-lease.Lost():
		t.Error("what was deregistered is not lost")
	default:
	}
}

// TestLayout: etcd's own endpoints package reads what this one writes, and the other way round.
func TestLayout(t *testing.T) {
	t.Parallel()
	e := start(t)
	client := connect(t, e.addr)
	r := New(client, "s", quick(t))
	manager, err := endpoints.NewManager(client, "s")
	if err != nil {
		t.Fatal(err)
	}
	register(t, r, "a:1")
	list, err := manager.List(t.Context())
	if err != nil || len(list) != 1 || list["s/a:1"].Addr != "a:1" {
		t.Errorf("etcd's package reads %v, %v", list, err)
	}
	for key, metadata := range map[string]any{"b:1": nil, "c:1": "text", "d:1": map[string]any{"weight": 7, "name": 1, "more": []int{}}} {
		if err := manager.AddEndpoint(t.Context(), "s/some-id-"+key, endpoints.Endpoint{Addr: key, Metadata: metadata}); err != nil {
			t.Fatal(err)
		}
	}
	set := observe(t, r).await(t, "a:1", "b:1", "c:1", "d:1")
	if !reflect.DeepEqual(set[3], cluster.Endpoint{Addr: "d:1", Weight: 7}) {
		t.Errorf("read %+v", set[3])
	}
}

// TestSameAddress: of two entries with one address the last counts, and the first may go without it.
func TestSameAddress(t *testing.T) {
	t.Parallel()
	e := start(t)
	client := connect(t, e.addr)
	r := New(client, "s", quick(t))
	old := register(t, r, "a:1")
	lease, err := r.Register(t.Context(), cluster.Endpoint{Addr: "a:1", Name: "new"})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Deregister(t.Context())
	if err := old.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "s/0", `{"Addr":"a:1","Metadata":{"name":"newest"}}`); err != nil {
		t.Fatal(err)
	}
	s := observe(t, r)
	if set := s.await(t, "a:1"); set[0].Name != "newest" {
		t.Errorf("%+v", set)
	}
	if _, err := client.Delete(t.Context(), "s/0"); err != nil {
		t.Fatal(err)
	}
	for late := time.After(patience); ; {
		set, _, _, changed := s.last()
		if len(set) == 1 && set[0].Name == "new" {
			break
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%+v", set)
		}
	}
}

// TestMortal: a process that is killed is forgotten when its lease has ended, and not before it has died.
func TestMortal(t *testing.T) {
	t.Parallel()
	e := start(t)
	s := observe(t, New(connect(t, e.addr), "s", quick(t)))
	p := exec.Command(os.Args[0])
	p.Env = append(os.Environ(), roleEnv+"="+e.addr)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer p.Process.Kill()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.await(t, "mortal:1")
	time.Sleep(2500 * time.Millisecond) // it outlives its lease, which is renewed
	if set, _, _, _ := s.last(); len(set) != 1 {
		t.Errorf("the set is %v while the process lives", set)
	}
	p.Process.Kill()
	killed := time.Now()
	s.await(t)
	t.Logf("forgotten %v after it was killed, with a TTL of 1s", time.Since(killed).Round(time.Millisecond))
}

// TestClosed: a lease whose etcd client is closed is lost.
func TestClosed(t *testing.T) {
	t.Parallel()
	e := start(t)
	client := connect(t, e.addr)
	lease := register(t, New(client, "s", quick(t)), "a:1")
	client.Close()
	select {
	case <-lease.Lost():
	case <-time.After(patience):
		t.Fatal("not lost")
	}
	if err := lease.Deregister(t.Context()); err == nil {
		t.Error("it was deregistered with a client that is closed")
	}
}

func TestRegisterErrors(t *testing.T) {
	t.Parallel()
	e := start(t)
	r := New(connect(t, e.addr), "s", quick(t))
	for _, bad := range []cluster.Endpoint{{}, {Addr: strings.Repeat("a", maxKey)}, {Addr: "a", Name: strings.Repeat("n", maxEntry)}} {
		if _, err := r.Register(t.Context(), bad); !errors.Is(err, ErrEntry) {
			t.Errorf("%.40v: %v", bad, err)
		}
	}
	e.stop()
	begin := time.Now()
	_, err := r.Register(within(t, 100*time.Millisecond), cluster.Endpoint{Addr: "a:1"})
	if err == nil || errors.Is(err, ErrEntry) {
		t.Error(err)
	}
	t.Logf("without an etcd Register ends after %v of 100ms: %v", time.Since(begin).Round(time.Millisecond), err)
}

func TestDecode(t *testing.T) {
	long := strings.Repeat("x", maxEntry)
	for _, c := range []struct {
		data string
		want cluster.Endpoint
		bad  bool
	}{
		{data: `{"Op":0,"Addr":"a:1","Metadata":null}`, want: cluster.Endpoint{Addr: "a:1"}},
		{data: `{"Addr":"a:1"}`, want: cluster.Endpoint{Addr: "a:1"}},
		{data: `{"Addr":"a:1","Metadata":5}`, want: cluster.Endpoint{Addr: "a:1"}},
		{data: `{"Addr":"a:1","Metadata":["x"]}`, want: cluster.Endpoint{Addr: "a:1"}},
		{data: `{"Addr":"a:1","Metadata":{"weight":"heavy","name":"n"}}`, want: cluster.Endpoint{Addr: "a:1", Name: "n"}},
		{data: `{"Addr":"a:1","Metadata":{"attributes":{"a":"b"}}}`, want: cluster.Endpoint{Addr: "a:1", Attributes: map[string]string{"a": "b"}}},
		{data: `{"Addr":"a:1","Metadata":{"attributes":{"a":"b","c":1}}}`, want: cluster.Endpoint{Addr: "a:1"}},
		{data: `{"Addr":"a:1","Metadata":{"pins":["p"]}}`, want: cluster.Endpoint{Addr: "a:1", Pins: []string{"p"}}},
		{data: `{"Addr":"a:1","Metadata":{"pins":"p"}}`, bad: true},
		{data: `{"Addr":"a:1","Metadata":{"pins":["p",1]}}`, bad: true},
		{data: `{"Addr":""}`, bad: true},
		{data: `{"Addr":7}`, bad: true},
		{data: `{}`, bad: true},
		{data: ``, bad: true},
		{data: `a:1`, bad: true},
		{data: `{"Addr":"a:1","more":"` + long + `"}`, bad: true},
	} {
		got, err := decode([]byte(c.data))
		if !reflect.DeepEqual(got, c.want) || (err != nil) != c.bad {
			t.Errorf("%.60s: %+v, %v", c.data, got, err)
		}
	}
}
