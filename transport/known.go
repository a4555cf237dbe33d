package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
)

// KnownServers trusts, on a client, for each address the keys that a file names for it, and asks about the servers at others, as ssh
// does with its known_hosts. One Trust serves any number of dials, to any addresses. A line of the file is
//
//	example.org:7443 sealmux-rsa SHA256:...
//
// with an address as Dial is given it (IPv6 in brackets, the port a number; the case of letters does not matter). Several lines for
// one address are several keys, at most 16, any of which will do. # begins a comment. The file is read anew for each dial. One that is
// not there is empty; one with a line of another form, or of more than 1 MiB, is an error that matches ErrKnownServers, since a list
// that is read in part must not decide. A session outlives its line.
//
// The keys of a known address are pinned, as by PinFingerprint; another key is a *ServerKeyError and never asked about. A ticket
// (Config.Tickets) is used only for a key that the file names at that time.
//
// At an unknown address Dial learns which key the server offers, closes that connection, and calls ask: so no server waits for a
// person, who has as long as Dial's ctx. If ask returns nil, Dial connects anew and pins that key. Once the server has proven it, a line
// is added to the file, which is made if need be with mode 0600, its folder with 0700. Until then the offer is a claim, which anybody
// on the way can make: ask must compare the fingerprint with what the server's owner says, or takes the risk that somebody is in
// between this once. Any other error refuses the server; what Dial returns matches it, and is a *ServerKeyError. ask may be called by
// many goroutines at once, but for one address by one at a time: other dials to it wait, and ask no more about what it
// has answered. A nil ask refuses every server that is not known.
//
// Since ctx must leave time for the answer, Config.HandshakeTimeout bounds each connection from its beginning, not only the handshake.
// network must be one of tcp's. Client has but one connection, and takes its remote address for the server's: where that is not
// known it asks nobody, and refuses.
func KnownServers(path string, ask func(ctx context.Context, address string, key *PublicKey) error) *Trust {
	return &Trust{servers: &knownServers{path: path, ask: ask, open: make(map[string]*question)}}
}

type knownServers struct {
	path string
	ask  func(context.Context, string, *PublicKey) error

	mu   sync.Mutex // protects open
	open map[string]*question
}

// A question is about the server at one address, from before ask is called until what came of it is in the file.
type question struct {
	key     Fingerprint
	done    chan struct{} // closed at its end
	refusal error         // what ask answered, if it was no; set before that
}

// dial is Dial.
func (k *knownServers) dial(ctx context.Context, network, address string, full *Config) (*Session, error) {
	name, err := knownAddress(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("%w: a known-servers file is for TCP and HOST:PORT with a number for a port, not for %s %q; pin the server's key",
			ErrConfig, network, address)
	}
	c := &contact{k, network, address, name, full}
	for {
		lines, err := k.lines(name)
		if err != nil {
			return nil, err
		}
		if len(lines) > 0 {
			return c.session(ctx, pinLines(lines))
		}
		key, err := c.offer(ctx)
		if err != nil {
			return nil, err
		}
		if k.ask == nil {
			return nil, k.unknown(name, key)
		}
		session, err := c.settle(ctx, key)
		if err != errLookAgain {
			return session, err
		}
	}
}

// client is Client, on a connection whose address is all that is known of the server.
func (k *knownServers) client(ctx context.Context, raw net.Conn, full *Config) (*Session, error) {
	var lines []KnownServer
	name, err := knownAddress(fmt.Sprint(raw.RemoteAddr()))
	if err != nil {
		err = fmt.Errorf("%w: a known-servers file is for TCP, not for a connection to %v; pin the server's key", ErrConfig, raw.RemoteAddr())
	} else {
		lines, err = k.lines(name)
	}
	switch {
	case err != nil:
		raw.Close()
		return nil, err
	case len(lines) > 0:
		return client(ctx, raw, full.trusting(pinLines(lines)))
	}
	key, err := offeredKey(ctx, raw, full)
	if err != nil {
		return nil, err
	}
	return nil, k.unknown(name, key)
}

func (k *knownServers) unknown(name string, key *PublicKey) error {
	return fmt.Errorf("%w: %s is not in %s; if the server's owner confirms the key, add the line %q",
		&ServerKeyError{Offered: key.id}, name, k.path, knownLine(name, key.id))
}

func pinLines(lines []KnownServer) *Trust {
	prints := make([]Fingerprint, len(lines))
	for i, line := range lines {
		prints[i] = line.Key
	}
	t := PinFingerprint(prints...)
	t.lines = lines
	return t
}

func (c *Config) trusting(peers *Trust) *Config {
	own := *c
	own.Peers = peers
	return &own
}

// A contact is one dial: to a server, and about it.
type contact struct {
	*knownServers
	network, address string
	name             string // the address as it is in the file
	full             *Config
}

func (c *contact) session(ctx context.Context, trust *Trust) (session *Session, err error) {
	err = c.connect(ctx, func(ctx context.Context, raw net.Conn) (err error) {
		session, err = client(ctx, raw, c.full.trusting(trust))
		return err
	})
	return session, err
}

func (c *contact) offer(ctx context.Context) (key *PublicKey, err error) {
	err = c.connect(ctx, func(ctx context.Context, raw net.Conn) (err error) {
		key, err = offeredKey(ctx, raw, c.full)
		return err
	})
	return key, err
}

// connect bounds a connection and what is done with it.
func (c *contact) connect(ctx context.Context, use func(context.Context, net.Conn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.full.HandshakeTimeout, ErrHandshakeTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, c.network, c.address)
	if err != nil {
		return err
	}
	return use(ctx, raw)
}

// offeredKey asks a server for its key, and leaves (H4).
func offeredKey(ctx context.Context, raw net.Conn, full *Config) (key *PublicKey, err error) {
	defer raw.Close()
	err = withDeadline(ctx, raw, full.HandshakeTimeout, func(context.Context) (err error) {
		if err := send(raw, newTranscript(), typeKeyRequest, appendKeyRequest(nil, nil)); err != nil {
			return err
		}
		body, err := receive(raw, typeKeyOffer)
		if err != nil {
			return err
		}
		if key, err = parseSPKI(body); err != nil {
			return reject(raw, ErrHandshake)
		}
		return nil
	})
	return key, err
}

// errLookAgain is for a dial that has to look into the file again.
var errLookAgain = errors.New("look again")

// settle asks about the key that a server offers, unless another dial is asking about this address: then it waits for what comes
// of that.
func (c *contact) settle(ctx context.Context, key *PublicKey) (*Session, error) {
	q, mine := c.begin(key.id)
	if mine {
		defer c.end(q)
		return c.answer(ctx, key, q)
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("transport: while somebody is asked about the server at %s: %w", c.name, context.Cause(ctx))
	}
	if q.refusal != nil && q.key == key.id {
		return nil, fmt.Errorf("%w: %w", &ServerKeyError{Offered: key.id}, q.refusal)
	}
	return nil, errLookAgain
}

func (c *contact) begin(key Fingerprint) (q *question, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.open[c.name]; q != nil {
		return q, false
	}
	q = &question{key: key, done: make(chan struct{})}
	c.open[c.name] = q
	return q, true
}

func (c *contact) end(q *question) {
	c.mu.Lock()
	delete(c.open, c.name)
	c.mu.Unlock()
	close(q.done)
}

// answer asks, and adds a line to the file once the server has proven the key. Before and after the question it looks whether
// somebody else has answered it in the meantime.
func (c *contact) answer(ctx context.Context, key *PublicKey, q *question) (*Session, error) {
	if err := c.stillUnknown(); err != nil {
		return nil, err
	}
	if err := c.ask(ctx, c.name, key); err != nil {
		if ctx.Err() != nil { // which is no answer: others may ask again
			return nil, fmt.Errorf("transport: while asking about the server at %s: %w", c.name, context.Cause(ctx))
		}
		q.refusal = err
		return nil, fmt.Errorf("%w: %w", &ServerKeyError{Offered: key.id}, err)
	}
	if err := c.stillUnknown(); err != nil {
		return nil, err
	}
	session, err := c.session(ctx, Pin(key))
	if err != nil && !errors.Is(err, ErrUnauthorized) && !errors.Is(err, ErrClientKeyRequired) { // those it says behind its proof
		return nil, err
	}
	if bad := addKnown(c.path, c.name, key.id); bad != nil {
		if session != nil {
			session.Close()
		}
		return nil, bad
	}
	return session, err
}

func (c *contact) stillUnknown() error {
	lines, err := c.lines(c.name)
	if err == nil && len(lines) > 0 {
		return errLookAgain
	}
	return err
}
