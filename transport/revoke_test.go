package transport

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmux/sealmux/internal/faultnet"
)

// admitted is a session of a client with this key, from both ends, on a server that trusts peers.
func admitted(t *testing.T, key *PrivateKey, peers *Trust) (cs, ss *Session) {
	t.Helper()
	a, b := faultnet.Pair(faultnet.Line{}, faultnet.Line{})
	client, server := configs()
	client.Keys[0] = key
	server.Peers = peers
	return sessionsOver(t, a, b, client, server)
}

// keyFolder is a folder with these clients' keys.
func keyFolder(t *testing.T, keys ...*PrivateKey) (dir string, write func(name string, data []byte)) {
	dir = t.TempDir()
	write = func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, key := range keys {
		write(string(rune('a'+i))+".pem", key.Public().MarshalPEM())
	}
	return dir, write
}

// A client whose key is removed loses its session, within five seconds, and both sides are told why. Others stay.
func TestRevoked(t *testing.T) {
	dir, _ := keyFolder(t, clientKeyForTest(), otherKeyForTest())
	synctest.Test(t, func(t *testing.T) {
		trust, err := AuthorizedKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		goes, gone := admitted(t, clientKeyForTest(), trust)
		_, stays := admitted(t, otherKeyForTest(), trust)
		time.Sleep(time.Minute)
		if goes.Err() != nil || gone.Err() != nil || stays.Err() != nil {
			t.Fatal(goes.Err(), gone.Err(), stays.Err())
		}
		os.Remove(filepath.Join(dir, "a.pem"))
		begin := time.Now()
		<-gone.Done()
		<-goes.Done()
		if took := time.Since(begin); took > recheckInterval {
			t.Error(took)
		} else {
			t.Logf("the session ended %v after its key was removed", took)
		}
		if !errors.Is(gone.Err(), ErrRevoked) || !errors.Is(goes.Err(), ErrUnauthorized) {
			t.Error(gone.Err(), goes.Err())
		}
		time.Sleep(time.Minute)
		if stays.Err() != nil {
			t.Error(stays.Err())
		}
		stays.Close()
		if len(trust.live.guests) != 0 || trust.live.inside != 0 || trust.live.timer != nil {
			t.Error("the Trust keeps", trust.live.guests, trust.live.inside, trust.live.timer)
		}
	})
}

// A folder that cannot be read keeps its sessions for a minute, and no longer.
func TestRevokedUnreadable(t *testing.T) {
	dir, write := keyFolder(t, clientKeyForTest())
	synctest.Test(t, func(t *testing.T) {
		trust, err := AuthorizedKeys(dir)
		if err != nil {
			t.Fatal(err)
		}
		cs, ss := admitted(t, clientKeyForTest(), trust)
		write("half.pem", []byte("-----BEGIN"))
		time.Sleep(recheckPatience - recheckInterval)
		if err := trust.Recheck(t.Context()); !errors.Is(err, ErrKey) || cs.Err() != nil {
			t.Fatal(err, cs.Err())
		}
		os.Remove(filepath.Join(dir, "half.pem"))
		time.Sleep(recheckInterval + time.Second) // it was readable in between
		begin := time.Now()
		write("half.pem", nil)
		<-ss.Done()
		if took := time.Since(begin); took < recheckPatience || took > recheckPatience+2*recheckInterval || !errors.Is(ss.Err(), ErrRevoked) {
			t.Error(took, ss.Err())
		}
	})
}

// TrustFunc is asked anew when Recheck is called, by either side, and a context that ends decides nothing.
func TestRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refusal error
		ask := TrustFunc(func(context.Context, *PublicKey) (string, error) { return "", refusal })
		_, ss := admitted(t, clientKeyForTest(), ask)
		a, b := faultnet.Pair(faultnet.Line{}, faultnet.Line{})
		client, server := configs()
		client.Peers = ask
		cs, _ := sessionsOver(t, a, b, client, server)
		if err := ask.Recheck(t.Context()); err != nil || ss.Err() != nil || cs.Err() != nil {
			t.Fatal(err, ss.Err(), cs.Err())
		}
		refusal = errors.New("no more")
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := ask.Recheck(over); err != context.Canceled || ss.Err() != nil {
			t.Fatal(err, ss.Err())
		}
		if err := ask.Recheck(t.Context()); err != nil || ss.Err() != ErrRevoked || cs.Err() != ErrRevoked {
			t.Fatal(err, ss.Err(), cs.Err())
		}
		if err := (*Trust)(nil).Recheck(t.Context()); err != nil {
			t.Error(err)
		}
		if err := AnyClient().Recheck(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
