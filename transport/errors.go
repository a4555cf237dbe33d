package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// Errors of the handshake. Dial, Client, Server and Listener.Accept wrap them with context: compare with
// errors.Is. The comment says which side gets it.
var (
	// ErrServerKey (client): the server does not hold a key this client pins. The error is a *ServerKeyError.
	ErrServerKey = errors.New("transport: the server does not hold a pinned key")
	// ErrUnknownKey (server): the client asked for a key that this server does not hold.
	ErrUnknownKey = errors.New("transport: the client pins a key that this server does not hold")
	// ErrUnauthorized (both): the server does not admit this client's key, or not any more. The client is told so under
	// encryption, so the answer is the server's own. Have the key added to what the server admits.
	ErrUnauthorized = errors.New("transport: the server does not admit this client")
	// ErrClientKeyRequired (client): the server admits only clients with a key, and Config.Keys has none.
	ErrClientKeyRequired = errors.New("transport: the server wants a client key; set Config.Keys")
	// ErrNotSealmux (both): the peer speaks another protocol, such as HTTP or TLS.
	ErrNotSealmux = errors.New("transport: the peer does not speak sealmux")
	// ErrVersion (both): the peer speaks another version of sealmux. Upgrade the older side.
	ErrVersion = errors.New("transport: the peer speaks another version of sealmux")
	// ErrApplicationProtocol (both): the two sides name different application protocols in Config.Protocol.
	ErrApplicationProtocol = errors.New("transport: the peer speaks another application protocol")
	// ErrHandshake (both): a message was malformed or failed its check: bytes were changed on the way, the
	// server could not prove that it holds its key, or a signature is wrong. It never says which.
	ErrHandshake = errors.New("transport: handshake failed")
	// ErrHandshakeTimeout (both): the handshake took longer than Config.HandshakeTimeout. It also matches
	// os.ErrDeadlineExceeded.
	ErrHandshakeTimeout error = &also{"transport: handshake took too long", os.ErrDeadlineExceeded}
	// ErrBusy (both): the server takes no more handshakes from this source for now: too many are in progress, or too many
	// have failed, for which it keeps the source out for 15 seconds. Mend what makes them fail, wait, and dial again.
	ErrBusy = errors.New("transport: the server takes no handshakes from here for now; wait, then dial again")
	// ErrKnownServers (client): a known-servers file cannot be used; the text names the line, if it is about one. Mend the file, or
	// move it away.
	ErrKnownServers = errors.New("transport: unusable known-servers file")
	// ErrConfig (both): the Config cannot work; the text says what to set. Nothing was sent.
	ErrConfig = errors.New("transport: unusable configuration")
)

// Errors of a session and its streams.
var (
	// ErrSessionClosed: this side closed the session. It also matches net.ErrClosed.
	ErrSessionClosed error = &also{"transport: session closed", net.ErrClosed}
	// ErrStreamClosed: the stream was used after this side closed it, or written to after CloseWrite. It
	// also matches net.ErrClosed.
	ErrStreamClosed error = &also{"transport: stream closed", net.ErrClosed}
	// ErrPeerClosed: the peer ended the session in good order, with an authenticated end. A stream
	// which it had not ended itself returns this, never io.EOF. It also matches net.ErrClosed.
	ErrPeerClosed error = &also{"transport: session closed by the peer", net.ErrClosed}
	// ErrTruncated: the connection ended without the authenticated end: the peer died, or somebody cut
	// the connection. It also matches io.ErrUnexpectedEOF.
	ErrTruncated error = &also{"transport: connection cut before its authenticated end", io.ErrUnexpectedEOF}
	// ErrRecord: a record was changed, lost, repeated or moved on the way. The session is over.
	ErrRecord = errors.New("transport: record failed authentication")
	// ErrMisbehaved: the authenticated peer broke a rule of SPEC.md; the text names the rule.
	ErrMisbehaved = errors.New("transport: peer broke the protocol")
	// ErrRevoked: this side does not trust the peer's key any more (Trust.Recheck). The peer gets an *AlertError that matches
	// ErrUnauthorized.
	ErrRevoked = errors.New("transport: the peer's key is not trusted any more")
	// ErrPeerSilent: nothing was heard within Config.KeepaliveInterval + KeepaliveTimeout. It also matches
	// os.ErrDeadlineExceeded.
	ErrPeerSilent error = &also{"transport: peer went silent", os.ErrDeadlineExceeded}
	// ErrWriteStalled: the connection took no byte for Config.WriteTimeout. It also matches
	// os.ErrDeadlineExceeded.
	ErrWriteStalled error = &also{"transport: peer stopped reading", os.ErrDeadlineExceeded}
	// ErrStreamReset: the peer gave up this stream. Others live on.
	ErrStreamReset = errors.New("transport: stream reset by the peer")
	// ErrStreamsExhausted: the session has used up its stream ids (2^31). Dial a new session.
	ErrStreamsExhausted = errors.New("transport: session has used up its stream ids; dial a new one")
)

// also is a sentinel that matches a well-known error too, so that code written for net.Conns finds it.
type also struct {
	text string
	too  error
}

func (e *also) Error() string   { return e.text }
func (e *also) Unwrap() error   { return e.too }
func (e *also) Timeout() bool   { return e.too == os.ErrDeadlineExceeded }
func (e *also) Temporary() bool { return false }

// A ServerKeyError tells which keys the client pins and which the server said it holds. What the server
// said is advice: it was not authenticated, since the client trusts no key that could. It matches
// ErrServerKey.
type ServerKeyError struct {
	Pinned  []Fingerprint // what this client trusts; none if it knows nothing of this server, or asks a TrustFunc
	Offered Fingerprint   // what the server says it holds
	Known   []KnownServer // the lines that have Pinned, if they come from KnownServers
}

func (e *ServerKeyError) Error() string {
	if len(e.Pinned) == 0 {
		return fmt.Sprintf("transport: the server's key is not trusted: it offers %v", e.Offered)
	}
	pins := make([]string, len(e.Pinned))
	for i, pin := range e.Pinned {
		pins[i] = pin.String()
	}
	from := ""
	for _, line := range e.Known {
		from += " (" + line.String() + ")"
	}
	return fmt.Sprintf("%v: it offers %v, pinned is %v%s; if the server's owner confirms the new key, pin it",
		ErrServerKey, e.Offered, strings.Join(pins, " "), from)
}

// Is makes errors.Is(err, ErrServerKey) true.
func (e *ServerKeyError) Is(target error) bool { return target == ErrServerKey }

// An AlertError is the peer's word for why it ended the session, sent as an authenticated record. One of AlertUnauthorized
// matches ErrUnauthorized: the peer does not trust this side's key any more.
type AlertError struct{ Code Alert }

func (e *AlertError) Error() string {
	return "transport: the peer ended the session: " + e.Code.String()
}

// Is makes errors.Is(err, ErrUnauthorized) true for that alert.
func (e *AlertError) Is(target error) bool {
	return target == ErrUnauthorized && e.Code == AlertUnauthorized
}

// violation names the rule of SPEC.md that a peer broke.
func violation(rule, what string) error {
	return fmt.Errorf("%w: %s (rule %s)", ErrMisbehaved, what, rule)
}
