package transport

import (
	"fmt"
	"net"
	"time"
)

// Defaults of Config, and the bounds it accepts.
const (
	DefaultHandshakeTimeout  = 10 * time.Second
	DefaultKeepaliveInterval = 15 * time.Second
	DefaultKeepaliveTimeout  = 10 * time.Second
	DefaultWriteTimeout      = 30 * time.Second
	DefaultCloseTimeout      = time.Second
	DefaultStreamWindow      = 512 << 10
	DefaultMaxStreams        = 1024
	DefaultMaxHandshakes     = 1024

	MinStreamWindow = 256 << 10 // yamux's initial window, which both sides start from
	MaxStreamWindow = 16 << 20
	MaxMaxStreams   = 50_000
	MaxProtocol     = 255

	MaxMaxHandshakes = 65_536
)

// A Config says who this side is, whom it trusts, and its limits. The same type serves clients and
// servers, and one Config any number of sessions at once, so it must not be changed once used.
// The zero value trusts nobody; Peers is the one field that everybody must set.
type Config struct {
	// Keys are the identities of this side. A server needs at least one; with several, a client chooses
	// by what it pins, which is how a server's key is replaced without a gap. A client proves Keys[0], if
	// there is one, to the servers it trusts.
	Keys []*PrivateKey
	// Peers says who the other side may be. nil refuses everybody.
	Peers *Trust
	// Protocol names what is spoken inside, as ALPN does in TLS: at most 255 bytes, and the same on both
	// sides. Default: empty.
	Protocol string
	// Tickets, on a client, makes handshakes after the first with a server several times faster: see TicketCache. Default: none.
	Tickets *TicketCache
	// TicketKeys, on a server, is what tickets are given out with. Default: a Listener makes its own; share one for several
	// Listeners to resume each other's sessions. Server, which is for one connection, gives tickets only if it is set.
	TicketKeys *TicketKeys
	// NoTickets has a server give out no tickets, so that every handshake proves every key anew.
	NoTickets bool
	// HandshakeTimeout bounds the whole handshake. Default 10 s. The context may end it sooner.
	HandshakeTimeout time.Duration
	// KeepaliveInterval is how long the peer may be silent before it is asked for a sign of life, and
	// KeepaliveTimeout how long after that the session is given up with ErrPeerSilent. Defaults 15 s, 10 s.
	KeepaliveInterval, KeepaliveTimeout time.Duration
	// WriteTimeout is how long the connection may take no byte before the session is given up with
	// ErrWriteStalled. Default 30 s.
	WriteTimeout time.Duration
	// CloseTimeout bounds how long Session.Close waits for the peer to have taken what was written.
	// Default 1 s.
	CloseTimeout time.Duration
	// StreamWindow is how many bytes a peer may send on one stream before this side has read them, from
	// 256 KiB to 16 MiB. A stream moves at most a window each round trip: raise it for bulk data over long
	// links. Default 512 KiB, measured best on loopback (larger ones leave the processor's cache).
	// What a session holds for a peer, however hostile: MaxStreams x (StreamWindow + 34 KiB) of what nobody reads, 256 KiB of
	// a stream that nobody has accepted, and 1 MiB for all else: 0.6 GiB by default, for a program that reads nothing.
	StreamWindow int
	// MaxStreams is how many streams the peer may have open at once, up to 50,000. The peer learns the
	// number in the handshake; its Open waits when it is reached. Default 1024.
	MaxStreams int
	// MaxHandshakes is how many connections of a Listener may be in their handshake at once, up to 65,536. Each holds one
	// goroutine and at most one message of 4 KiB. When they are all in use, a new connection takes the place of one that makes
	// the server wait, of the source that has held places for the longest, all its own together; while all wait for the server,
	// it waits too. Default 1024.
	MaxHandshakes int
	// MaxHandshakesPerSource is how many of them may be of one source. Beyond it a connection is refused with ErrBusy, unless
	// one of the same source makes the server wait. Default: half of MaxHandshakes.
	MaxHandshakesPerSource int
	// HandshakeSource says which source an address belongs to; the empty one has no limits of its own. Default: an IPv4
	// address, or an IPv6 /64, is a source, and all that is not TCP belongs to the empty one. Behind a proxy, where all
	// clients have one address, return "".
	HandshakeSource func(net.Addr) string
	// HandshakeFailed, if set, is told of connections to a Listener that did not become a session: from where (nil when
	// accepting failed) and why. One goroutine calls it, and Listener.Close waits for it. A stranger can make it be called as
	// often as he can connect, so what it logs should be limited; what fails while it keeps 64 others waiting is not told.
	HandshakeFailed func(from net.Addr, err error)
}

// withDefaults returns a copy with every default filled in, or ErrConfig.
func (c *Config) withDefaults() (*Config, error) {
	if c == nil {
		return nil, fmt.Errorf("%w: no Config; set Peers to whom you trust", ErrConfig)
	}
	full := *c
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&full.HandshakeTimeout, DefaultHandshakeTimeout},
		{&full.KeepaliveInterval, DefaultKeepaliveInterval},
		{&full.KeepaliveTimeout, DefaultKeepaliveTimeout},
		{&full.WriteTimeout, DefaultWriteTimeout},
		{&full.CloseTimeout, DefaultCloseTimeout},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
		if *d.field < 0 {
			return nil, fmt.Errorf("%w: a negative duration; zero means the default", ErrConfig)
		}
	}
	if full.StreamWindow == 0 {
		full.StreamWindow = DefaultStreamWindow
	}
	if full.MaxStreams == 0 {
		full.MaxStreams = DefaultMaxStreams
	}
	if full.MaxHandshakes == 0 {
		full.MaxHandshakes = DefaultMaxHandshakes
	}
	if full.MaxHandshakesPerSource == 0 {
		full.MaxHandshakesPerSource = max(1, full.MaxHandshakes/2)
	}
	if full.HandshakeSource == nil {
		full.HandshakeSource = defaultSource
	}
	switch {
	case full.MaxHandshakes < 1 || full.MaxHandshakes > MaxMaxHandshakes || full.MaxHandshakesPerSource < 1:
		return nil, fmt.Errorf("%w: MaxHandshakes must be 1 to %d, and MaxHandshakesPerSource at least 1", ErrConfig, MaxMaxHandshakes)
	case full.StreamWindow < MinStreamWindow || full.StreamWindow > MaxStreamWindow:
		return nil, fmt.Errorf("%w: StreamWindow must be 256 KiB to 16 MiB", ErrConfig)
	case full.MaxStreams < 1 || full.MaxStreams > MaxMaxStreams:
		return nil, fmt.Errorf("%w: MaxStreams must be 1 to %d", ErrConfig, MaxMaxStreams)
	case len(full.Protocol) > MaxProtocol:
		return nil, fmt.Errorf("%w: Protocol is longer than %d bytes", ErrConfig, MaxProtocol)
	case len(full.Keys) > maxKeyIDs:
		return nil, fmt.Errorf("%w: more than %d Keys", ErrConfig, maxKeyIDs)
	}
	for _, key := range full.Keys {
		if key == nil {
			return nil, fmt.Errorf("%w: a nil key in Keys", ErrConfig)
		}
	}
	if full.NoTickets {
		full.TicketKeys = nil
	}
	return &full, nil
}

// forClient and forServer check what only one role needs.
func (c *Config) forClient() (*Config, error) {
	full, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if !full.Peers.names() && (full.Peers == nil || full.Peers.servers == nil) {
		return nil, fmt.Errorf("%w: a client must name its server: set Peers to Pin(...), PinFingerprint(...) or KnownServers(...)", ErrConfig)
	}
	if len(full.Peers.pins) > maxKeyIDs {
		return nil, fmt.Errorf("%w: more than %d pinned server keys", ErrConfig, maxKeyIDs)
	}
	return full, nil
}

func (c *Config) forServer() (*Config, error) {
	full, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(full.Keys) == 0 {
		return nil, fmt.Errorf("%w: a server needs a key: set Keys", ErrConfig)
	}
	if !full.Peers.names() && (full.Peers == nil || !full.Peers.anyone) {
		return nil, fmt.Errorf("%w: a server must say whom it admits: set Peers to Pin(...), AuthorizedKeys(...) or AnyClient()", ErrConfig)
	}
	return full, nil
}
