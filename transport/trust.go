package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Trust says who the other side may be: which servers a client talks to, which clients a server admits.
// The zero value and nil trust nobody. Make one with Pin, PinFingerprint, AuthorizedKeys, TrustFunc or, on
// a client, KnownServers or, on a server, AnyClient. It may be shared by any number of sessions.
type Trust struct {
	known   []*PublicKey  // a client can address these without asking
	pins    []Fingerprint // what errors show, and what a client asks for
	lines   []KnownServer // where they come from, if that is a file
	admit   func(context.Context, *PublicKey) (string, error)
	list    func() (map[Fingerprint]string, error) // of AuthorizedKeys: the folder as it is
	servers *knownServers                          // of KnownServers, which is the only thing set then
	anyone  bool
	fixed   bool   // its answers never change
	live    roster // of sessions that it has let in, unless it is fixed
}

// Pin trusts exactly these keys. A client that pins one key saves the round trip in which it would ask
// the server for the key it holds.
func Pin(keys ...*PublicKey) *Trust {
	t := &Trust{known: keys, fixed: true}
	for _, key := range keys {
		t.pins = append(t.pins, key.id)
	}
	t.admit = t.admitPinned
	return t
}

// PinFingerprint trusts exactly the keys with these fingerprints.
func PinFingerprint(prints ...Fingerprint) *Trust {
	t := &Trust{pins: prints, fixed: true}
	t.admit = t.admitPinned
	return t
}

// AnyClient admits every client, with a key or without. Only a server may use it: a client must name its
// server, and is refused with ErrConfig.
func AnyClient() *Trust {
	return &Trust{anyone: true}
}

// TrustFunc asks admit for each peer, once its key is known and, for a client's key, proven. admit returns
// a name for the peer (Peer.Name, may be empty) or an error, which refuses it. It may be called by many
// goroutines at once and should honour ctx, which ends with the handshake. When its answers have changed, call Recheck.
func TrustFunc(admit func(ctx context.Context, key *PublicKey) (name string, err error)) *Trust {
	return &Trust{admit: admit}
}

// AuthorizedKeys trusts the public keys in a folder: each file ending in .pem holds one, and the rest of its name is the
// peer's name. The folder is read anew in every handshake, and every five seconds (or, if that takes longer than 250 ms, 20 times
// as long) while there are sessions: when a file is removed, the sessions of its key end with ErrRevoked. A file that cannot be
// used is an error here, and later refuses every peer, since a half-read list must not decide; sessions outlive that by a minute.
// Put files there by renaming them. Errors match ErrKey.
func AuthorizedKeys(dir string) (*Trust, error) {
	t := &Trust{list: func() (map[Fingerprint]string, error) { return readKeyDir(dir) }}
	t.admit = t.admitListed
	_, err := t.list()
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Trust) admitListed(_ context.Context, key *PublicKey) (string, error) {
	names, err := t.list()
	if err != nil {
		return "", err
	}
	name, ok := names[key.id]
	if !ok {
		return "", errUntrusted
	}
	return name, nil
}

var errUntrusted = errors.New("not among the trusted keys")

// maxKeyDir bounds what each handshake reads; a larger set belongs in a database behind TrustFunc.
const maxKeyDir = 10_000

// readKeyDir reads the folder again if a file of it went while it was read: the file may only have another name now. One that is
// listed and not there again and again is a link that leads nowhere.
func readKeyDir(dir string) (names map[Fingerprint]string, err error) {
	for whole, try := false, 0; !whole && try < 3; try++ {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		if names, whole, err = readKeys(dir, entries); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// readKeys reads the files of a folder. whole is false if one of them is not there.
func readKeys(dir string, entries []fs.DirEntry) (names map[Fingerprint]string, whole bool, err error) {
	names, whole = make(map[Fingerprint]string), true
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".pem")
		if !ok || entry.IsDir() {
			continue
		}
		if len(names) == maxKeyDir {
			return nil, false, fmt.Errorf("%w: more than %d keys in %s; use TrustFunc", ErrKey, maxKeyDir, dir)
		}
		key, err := ReadPublicKey(filepath.Join(dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			whole = false
			continue
		}
		if err != nil {
			return nil, false, err
		}
		names[key.id] = name
	}
	return names, whole, nil
}

func (t *Trust) admitPinned(_ context.Context, key *PublicKey) (string, error) {
	for _, pin := range t.pins {
		if pin == key.id {
			return "", nil
		}
	}
	return "", errUntrusted
}

// names reports whether the Trust names anybody, as a client's must, by their keys.
func (t *Trust) names() bool { return t != nil && t.admit != nil }

// wrongKey is the error for a server that offers a key which is not trusted.
func (t *Trust) wrongKey(offered Fingerprint) *ServerKeyError {
	return &ServerKeyError{Pinned: t.pins, Offered: offered, Known: t.lines}
}

// admits asks whether a peer with this key may come in; nil is a client without one.
func (t *Trust) admits(ctx context.Context, key *PublicKey) (name string, err error) {
	switch {
	case t == nil:
		return "", errUntrusted
	case t.anyone:
		return "", nil
	case key == nil || t.admit == nil:
		return "", errUntrusted
	}
	return t.admit(ctx, key)
}
