//go:build unix

package etcd

import (
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestAway: while etcd is away the last set stands, and when it is back everything goes on, with leases that were kept.
func TestAway(t *testing.T) {
	t.Parallel()
	e := start(t)
	opts := quick(t)
	opts.TTL = 20 * time.Second
	r := New(connect(t, e.addr), "s", opts)
	s := observe(t, r)
	register(t, r, "a:1")
	s.await(t, "a:1")
	_, known, errs, _ := s.last()
	for round := range 2 {
		e.stop()
		s.awaitError(t, errs)
		s.await(t, "a:1")
		e.start(t)
		_, _, errs, _ = s.last()
		lease := register(t, r, fmt.Sprint("b:", round))
		s.await(t, "a:1", fmt.Sprint("b:", round))
		if err := lease.Deregister(t.Context()); err != nil {
			t.Error(err)
		}
		s.await(t, "a:1")
	}
	if n := s.empties(known); n > 0 {
		t.Errorf("%d sets were empty", n)
	}
}

// TestWatchWaits: a watch that begins without an etcd tells why there is no news, and has some when etcd is there.
func TestWatchWaits(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.stop()
	r := New(connect(t, e.addr), "s", quick(t))
	s := observe(t, r)
	s.awaitError(t, 0)
	e.start(t)
	register(t, r, "a:1")
	s.await(t, "a:1")
}

// TestWiped: an etcd that comes back without its data has the servers again, and watches notice, though the revision they wait
// for is far ahead.
func TestWiped(t *testing.T) {
	t.Parallel()
	e := start(t)
	client := connect(t, e.addr)
	r := New(client, "s", quick(t))
	s := observe(t, r)
	for i := range 50 { // raise the revision
		if _, err := client.Put(t.Context(), "s/old", fmt.Sprintf(`{"Addr":"old:%d"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	lease := register(t, r, "a:1")
	s.await(t, "a:1", "old:49")
	e.stop()
	e.wipe(t)
	e.start(t)
	back := time.Now()
	s.await(t, "a:1")
	t.Logf("registered and seen again %v after etcd was back", time.Since(back).Round(time.Millisecond))
	select {
	case <-lease.Lost():
		t.Error("a lease that is renewed is not lost")
	default:
	}
	if err := lease.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	s.await(t)
}

// TestOtherData: a watch notices that etcd has come back with other data: by a revision that is behind its own, though there are as many
// entries, or by their number, though the revision is ahead.
func TestOtherData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		before      int // changes before the data is lost
		keys, after int // entries that are there then, and further changes
		want        []string
	}{
		{"behind", 50, 1, 0, []string{"new:0"}},
		{"ahead", 1, 2, 50, []string{"new:0", "new:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := start(t)
			p := pathTo(t, e.addr)
			client := connect(t, e.addr)
			s := observe(t, New(connect(t, p.Addr()), "s", quick(t)))
			for i := range c.before {
				if _, err := client.Put(t.Context(), "s/0", fmt.Sprintf(`{"Addr":"old:%d"}`, i)); err != nil {
					t.Fatal(err)
				}
			}
			s.await(t, fmt.Sprint("old:", c.before-1)) // the last change: its revision is what the watch is at
			p.lose(true)
			e.stop()
			e.wipe(t)
			e.start(t)
			client = connect(t, e.addr)
			var ops []clientv3.Op
			for i := range c.keys {
				ops = append(ops, clientv3.OpPut(fmt.Sprint("s/", i), fmt.Sprintf(`{"Addr":"new:%d"}`, i)))
			}
			if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil { // at revision 2
				t.Fatal(err)
			}
			for range c.after {
				if _, err := client.Put(t.Context(), "other", ""); err != nil {
					t.Fatal(err)
				}
			}
			p.lose(false)
			s.await(t, c.want...)
		})
	}
}

// TestCutOff: a server that cannot reach etcd for longer than its lease is forgotten, and there again when it can.
func TestCutOff(t *testing.T) {
	t.Parallel()
	e := start(t)
	p := pathTo(t, e.addr)
	s := observe(t, New(connect(t, e.addr), "s", quick(t)))
	lease := register(t, New(connect(t, p.Addr()), "s", quick(t)), "a:1")
	s.await(t, "a:1")
	for range 2 {
		p.lose(true)
		s.await(t)
		p.lose(false)
		healed := time.Now()
		s.await(t, "a:1")
		t.Logf("announced again %v after the path was healed", time.Since(healed).Round(time.Millisecond))
	}
	if err := lease.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	s.await(t)
}

// TestDeregisterCutOff: Deregister without an etcd fails in time, and may be called again.
func TestDeregisterCutOff(t *testing.T) {
	t.Parallel()
	e := start(t)
	p := pathTo(t, e.addr)
	opts := quick(t)
	opts.TTL = time.Minute
	s := observe(t, New(connect(t, e.addr), "s", opts))
	lease := register(t, New(connect(t, p.Addr()), "s", opts), "a:1")
	s.await(t, "a:1")
	p.lose(true)
	if err := lease.Deregister(within(t, 200*time.Millisecond)); err == nil {
		t.Error("deregistered without an etcd")
	}
	p.lose(false)
	if err := lease.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	s.await(t)
}

// TestResume: a watch that was cut off has what it missed when it is back, from its revision on, without reading anew.
func TestResume(t *testing.T) {
	t.Parallel()
	e := start(t)
	p := pathTo(t, e.addr)
	opts := quick(t)
	opts.Recheck = time.Hour // so that it is the watch that tells
	s := observe(t, New(connect(t, p.Addr()), "s", opts))
	r := New(connect(t, e.addr), "s", quick(t))
	first := register(t, r, "a:1")
	s.await(t, "a:1")
	p.lose(true)
	register(t, r, "b:1")
	if err := first.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.lose(false)
	s.await(t, "b:1")
}

// TestCompaction: a watch that comes back for a revision which is compacted reads everything anew.
func TestCompaction(t *testing.T) {
	t.Parallel()
	e := start(t)
	p := pathTo(t, e.addr)
	client := connect(t, e.addr)
	opts := quick(t)
	opts.Recheck = time.Hour // so that it is the compaction that is noticed
	s := observe(t, New(connect(t, p.Addr()), "s", opts))
	put := func(key, addr string) (revision int64) {
		resp, err := client.Put(t.Context(), "s/"+key, fmt.Sprintf(`{"Addr":%q}`, addr))
		if err != nil {
			t.Fatal(err)
		}
		return resp.Header.Revision
	}
	put("1", "a:1")
	put("2", "b:1")
	s.await(t, "a:1", "b:1")
	p.lose(true)
	if _, err := client.Delete(t.Context(), "s/1"); err != nil {
		t.Fatal(err)
	}
	put("3", "c:1")
	if _, err := client.Compact(t.Context(), put("2", "b:2"), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	p.lose(false)
	s.await(t, "b:2", "c:1")
	put("4", "d:1")
	s.await(t, "b:2", "c:1", "d:1")
	if _, _, errs, _ := s.last(); errs > 0 {
		t.Errorf("%d errors: a compaction is none", errs)
	}
}

// TestMany: more entries than a page, changed under the watch; and more than are allowed.
func TestMany(t *testing.T) {
	t.Parallel()
	const count = 10*page + 7
	e := start(t)
	client := connect(t, e.addr)
	var addrs []string
	for batch := range slices.Chunk(make([]clientv3.Op, count), 100) {
		for i := range batch {
			addr := fmt.Sprintf("host-%05d:1", len(addrs))
			addrs = append(addrs, addr)
			batch[i] = clientv3.OpPut("s/"+addr, fmt.Sprintf(`{"Addr":%q}`, addr))
		}
		if _, err := client.Txn(t.Context()).Then(batch...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	s := observe(t, New(client, "s", Options{}))
	s.await(t, addrs...)
	t.Logf("%d endpoints are there after %v", count, time.Since(begin).Round(time.Millisecond))
	opts := quick(t)
	opts.Logger = nil
	opts.MaxEndpoints = 150
	few := observe(t, New(client, "s", opts))
	few.await(t, addrs[:150]...)
	if _, err := client.Delete(t.Context(), "s/"+addrs[0]); err != nil {
		t.Fatal(err)
	}
	s.await(t, addrs[1:]...)
	few.await(t, addrs[1:151]...)
	if _, err := client.Delete(t.Context(), "s/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	s.await(t)
	few.await(t)
}

// TestLeftOut: entries that say nothing of use harm nobody beside them, and count for the look at what is missing.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	e := start(t)
	client := connect(t, e.addr)
	r := New(client, "s", quick(t))
	if _, err := client.Put(t.Context(), "s/bad", "{"); err != nil {
		t.Fatal(err)
	}
	register(t, r, "a:1")
	s := observe(t, r)
	s.await(t, "a:1")
	if _, err := client.Put(t.Context(), "s/worse", string(make([]byte, 2*maxEntry))); err != nil {
		t.Fatal(err)
	}
	register(t, r, "b:1")
	s.await(t, "a:1", "b:1")
	_, before, _, _ := s.last()
	time.Sleep(1500 * time.Millisecond) // several looks, which must find nothing missing
	if _, after, _, _ := s.last(); after != before {
		t.Errorf("%d sets without a change", after-before)
	}
	if _, err := client.Put(t.Context(), "s/bad", `{"Addr":"c:1"}`); err != nil {
		t.Fatal(err)
	}
	s.await(t, "a:1", "b:1", "c:1")
}
