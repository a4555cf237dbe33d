package transport

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/internal/faultnet"
)

// A peer whose key is no longer trusted while its handshake is under way has no session after Recheck, on either side, with and
// without a ticket.
func TestRecheckDuringHandshake(t *testing.T) {
	for _, of := range []string{"client", "server"} {
		for _, resumed := range []bool{false, true} {
			t.Run(of+map[bool]string{true: ", resumed"}[resumed], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					client, server := configs()
					client.Tickets, server.TicketKeys = NewTicketCache(1), NewTicketKeys()
					var mu sync.Mutex
					var refusal error
					var after func()
					trust := TrustFunc(func(context.Context, *PublicKey) (string, error) {
						mu.Lock()
						defer mu.Unlock()
						answer := refusal
						if after != nil {
							after()
							after = nil
						}
						return "", answer
					})
					if of == "client" {
						server.Peers = trust
					} else {
						client.Peers = trust
					}
					a, b := faultnet.Pair(faultnet.Line{}, faultnet.Line{})
					if resumed {
						sessionsOver(t, a, b, client, server)
						a, b = faultnet.Pair(faultnet.Line{}, faultnet.Line{})
					}
					rechecked := make(chan error)
					after = func() { // asked, and answered, but not yet let in
						refusal = errors.New("no more")
						go func() { rechecked <- trust.Recheck(t.Context()) }()
					}
					var cs, ss *Session
					var cerr, serr error
					done := make(chan struct{})
					go func() {
						defer close(done)
						cs, ss, cerr, serr = shake(a, b, client, server)
					}()
					if err := <-rechecked; err != nil {
						t.Error(err)
					}
					<-done
					synctest.Wait()
					for _, end := range []*Session{cs, ss} {
						if end != nil {
							defer end.Close()
						}
					}
					mine, theirs := ss, cs
					if of == "server" {
						mine, theirs = cs, ss
					}
					if mine != nil && (mine.Err() != ErrRevoked || theirs != nil && !errors.Is(theirs.Err(), ErrUnauthorized)) {
						t.Fatal("it lives on:", mine.Err(), theirs.Err())
					} else if mine == nil && cerr == nil && serr == nil {
						t.Fatal("neither a session nor an error")
					}
					if n := len(trust.live.snapshot()); n != 0 {
						t.Error(n, "are remembered")
					}
				})
			})
		}
	}
}

// A peer whose key was added while the folder was read is not ended by that reading.
func TestRecheckIsNotStale(t *testing.T) {
	dir, write := keyFolder(t, clientKeyForTest())
	synctest.Test(t, func(t *testing.T) {
		trust, err := AuthorizedKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		read := trust.list
		reading, goOn := make(chan struct{}), make(chan struct{})
		var first atomic.Bool
		slow := func() (map[Fingerprint]string, error) {
			names, err := read()
			if first.CompareAndSwap(false, true) {
				close(reading)
				<-goOn
			}
			return names, err
		}
		trust.list = slow
		rechecked := make(chan error)
		go func() { rechecked <- trust.Recheck(t.Context()) }()
		<-reading
		write("new.pem", otherKeyForTest().Public().MarshalPEM())
		cs, ss := admitted(t, otherKeyForTest(), trust)
		close(goOn)
		if err := <-rechecked; err != nil || cs.Err() != nil || ss.Err() != nil {
			t.Fatal(err, cs.Err(), ss.Err())
		}
	})
}

// The minute begins anew with new sessions, however long ago the folder could not be read.
func TestPatienceBeginsAnew(t *testing.T) {
	dir, write := keyFolder(t, clientKeyForTest())
	synctest.Test(t, func(t *testing.T) {
		trust, err := AuthorizedKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		cs, ss := admitted(t, clientKeyForTest(), trust)
		write("half.pem", nil)
		time.Sleep(2 * recheckInterval)
		cs.Close()
		ss.Close()
		trust.Recheck(t.Context())
		os.Remove(filepath.Join(dir, "half.pem"))
		time.Sleep(time.Hour)
		cs, ss = admitted(t, clientKeyForTest(), trust)
		write("half.pem", nil)
		time.Sleep(2 * recheckInterval)
		if cs.Err() != nil || ss.Err() != nil {
			t.Fatal(cs.Err(), ss.Err())
		}
	})
}

// Rechecks, sessions that begin and end, and keys that come and go, all at once: whoever is let in is known, and whoever is not
// trusted in the end has no session.
func TestRecheckConcurrently(t *testing.T) {
	var mu sync.Mutex
	trusted := true
	trust := TrustFunc(func(context.Context, *PublicKey) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if !trusted {
			return "", errors.New("not now")
		}
		return "", nil
	})
	client, server := configs()
	client.Tickets, server.TicketKeys, server.Peers = NewTicketCache(1), NewTicketKeys(), trust
	for range 30 {
		var work sync.WaitGroup
		var all sync.Map
		for range 8 {
			work.Go(func() {
				a, b := faultnet.Pair(faultnet.Line{}, faultnet.Line{})
				cs, ss, _, _ := shake(a, b, client, server)
				for _, s := range []*Session{cs, ss} {
					if s != nil {
						all.Store(s, nil)
					}
				}
			})
		}
		mu.Lock()
		trusted = false
		mu.Unlock()
		for range 3 {
			work.Go(func() {
				if err := trust.Recheck(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		work.Wait()
		all.Range(func(s, _ any) bool {
			<-s.(*Session).Done()
			s.(*Session).Close()
			return true
		})
		if n := len(trust.live.snapshot()); n != 0 {
			t.Fatal(n, "are remembered")
		}
		mu.Lock()
		trusted = true
		mu.Unlock()
	}
}

// A file that gets another name while the folder is read is the same key, and a link that leads nowhere is none.
func TestRenamedWhileRead(t *testing.T) {
	dir, _ := keyFolder(t, clientKeyForTest(), otherKeyForTest())
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if names, whole, err := readKeys(dir, entries); len(names) != 2 || !whole || err != nil {
		t.Fatal(names, whole, err)
	}
	os.Rename(filepath.Join(dir, "b.pem"), filepath.Join(dir, "c.pem"))
	if names, whole, err := readKeys(dir, entries); len(names) != 1 || whole || err != nil {
		t.Fatal("it is not noticed", names, whole, err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "d.pem")); err != nil {
		t.Skip(err)
	}
	if names, err := readKeyDir(dir); len(names) != 2 || err != nil {
		t.Fatal(names, err)
	}
}

// Whoever is blocked on a stream of a session that is revoked is told why, on both sides, and nothing that comes later is delivered.
func TestRevokedStreams(t *testing.T) {
	var no atomic.Bool
	trust := TrustFunc(func(context.Context, *PublicKey) (string, error) {
		if no.Load() {
			return "", errors.New("no more")
		}
		return "", nil
	})
	cs, ss := admitted(t, clientKeyForTest(), trust)
	refused := func(err error) bool { return errors.Is(err, ErrUnauthorized) }
	revoked := func(err error) bool { return errors.Is(err, ErrRevoked) }
	full, theirs := streams(t, cs, ss)
	empty, ours := streams(t, cs, ss)
	var work sync.WaitGroup
	blocked := func(what string, is func(error) bool, f func() error) {
		work.Go(func() {
			if err := f(); !is(err) {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	blocked("their Write", refused, func() error { _, err := full.Write(make([]byte, 64<<20)); return err })
	blocked("their Read", refused, func() error { _, err := empty.Read(make([]byte, 1)); return err })
	blocked("their Accept", refused, func() error { _, err := cs.Accept(); return err })
	blocked("our Read", revoked, func() error { _, err := ours.Read(make([]byte, 1)); return err })
	blocked("our Accept", revoked, func() error { _, err := ss.Accept(); return err })
	no.Store(true)
	if err := trust.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty.Write([]byte("x")) // as far as it still goes out
	work.Wait()
	_, wrote := ours.Write([]byte("x"))
	_, opened := ss.Open(t.Context())
	for _, err := range []error{ss.Err(), wrote, opened} {
		if !revoked(err) {
			t.Error(err)
		}
	}
	if n, err := io.Copy(io.Discard, ours); n != 0 || !revoked(err) {
		t.Error(n, err)
	}
	if _, err := io.Copy(io.Discard, theirs); !revoked(err) { // what had come before may be read
		t.Error(err)
	}
	if _, err := cs.Open(t.Context()); !refused(err) {
		t.Error(err)
	}
}
