package rpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"
)

// Metadata are named values beside a request (its header) or a reply (header and trailer): a tenant, a trace, a token.
// A key has 1 to 64 lower-case letters, digits, '-', '_' and '.'; a value is any bytes. A header or a trailer has at most 64
// values and 8 KiB of keys and values together. Like http.Header it may be read by many goroutines, changed by one.
type Metadata map[string][]string

// Get returns the first value of key, in whatever case it is given, or "".
func (m Metadata) Get(key string) string {
	if values := m[strings.ToLower(key)]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set makes value the only one of key, which it turns to lower case.
func (m Metadata) Set(key, value string) { m[strings.ToLower(key)] = []string{value} }

// Add appends a value of key, which it turns to lower case.
func (m Metadata) Add(key, value string) {
	key = strings.ToLower(key)
	m[key] = append(m[key], value)
}

// check reports what W7 does not allow.
func (m Metadata) check() error {
	pairs, size := 0, 0
	for key, values := range m {
		if !validKey(key) {
			return fmt.Errorf("metadata key %q: a key has 1 to %d lower-case letters, digits, '-', '_' and '.'", key, maxKey)
		}
		for _, v := range values {
			pairs++
			size += len(key) + len(v)
		}
	}
	if pairs > maxPairs || size > maxMetadata {
		return fmt.Errorf("metadata of %d values and %d bytes: %w", pairs, size, ErrTooLarge)
	}
	return nil
}

func (m Metadata) clone() Metadata {
	c := maps.Clone(m)
	for key, values := range c {
		c[key] = slices.Clone(values)
	}
	return c
}

func appendMetadata(b []byte, m Metadata) []byte {
	if len(m) == 0 {
		return append(b, 0x90)
	}
	pairs := 0
	for _, values := range m {
		pairs += len(values)
	}
	b = appendArrayHeader(b, 2*pairs)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		for _, v := range m[key] {
			b = appendBin(appendString(b, key), v)
		}
	}
	return b
}

// metadataSize is no less than what appendMetadata appends.
func metadataSize(m Metadata) int {
	n := 3
	for key, values := range m {
		for _, v := range values {
			n += 2 + len(key) + 3 + len(v)
		}
	}
	return n
}

// empty reports whether there is no value: a key without one is not sent.
func (m Metadata) empty() bool {
	for _, values := range m {
		if len(values) > 0 {
			return false
		}
	}
	return true
}

// An outgoing is what a context says of the calls that are made with it.
type outgoing struct {
	header    Metadata
	requestID string
	received  *Received
}

type outgoingKey struct{}

// noOutgoing stands for a context that says nothing.
var noOutgoing = &outgoing{}

func outgoingOf(ctx context.Context) *outgoing {
	if o, ok := ctx.Value(outgoingKey{}).(*outgoing); ok {
		return o
	}
	return noOutgoing
}

func withOutgoing(ctx context.Context, change func(*outgoing)) context.Context {
	o := *outgoingOf(ctx)
	change(&o)
	return context.WithValue(ctx, outgoingKey{}, &o)
}

// WithHeader returns a context whose typed calls (Call, Unary and so on) send this header, besides those that ctx has. What came in with
// a call is not sent on by itself: a handler's context starts with no header.
func WithHeader(ctx context.Context, key, value string) context.Context {
	return withOutgoing(ctx, func(o *outgoing) {
		if o.header = o.header.clone(); o.header == nil {
			o.header = make(Metadata)
		}
		o.header.Add(key, value)
	})
}

// WithRequestID returns a context whose typed calls carry this id, of at most 255 bytes of UTF-8. Handlers get it from
// Info.RequestID: who repeats a call that may have run sends the same id, so that the handler can tell.
func WithRequestID(ctx context.Context, id string) context.Context {
	return withOutgoing(ctx, func(o *outgoing) { o.requestID = id })
}

// Received is what came with a reply.
type Received struct{ Header, Trailer Metadata }

// WithReceived returns a context whose typed calls store the metadata of their reply, or of their error, in *into before they
// return; of a stream, when its loop ends. One call at a time may use it.
func WithReceived(ctx context.Context, into *Received) context.Context {
	return withOutgoing(ctx, func(o *outgoing) { o.received = into })
}

// Info tells a handler about its call. A handler's context has one: InfoFrom.
type Info struct{ call *serverCall }

type infoKey struct{}

// InfoFrom returns what is known of the call whose handler got ctx. For another context it is empty, and what is set in it
// goes nowhere, so that a handler can be tested as the plain function it is.
func InfoFrom(ctx context.Context) Info {
	call, _ := ctx.Value(infoKey{}).(*serverCall)
	return Info{call}
}

// Method is the name that was called.
func (i Info) Method() string {
	if i.call == nil {
		return ""
	}
	return i.call.req.Method
}

// RequestID is what the caller gave with WithRequestID. Otherwise it is unique to this call: of the session and a number.
func (i Info) RequestID() string {
	if i.call == nil {
		return ""
	}
	return i.call.requestID()
}

// Header is the metadata that came with the request. It must not be changed.
func (i Info) Header() Metadata {
	if i.call == nil {
		return nil
	}
	return i.call.req.Header
}

// SetHeader sets metadata that is sent before the reply, or before the first message of a stream; it fails if that has been
// sent, or if key or value are more than Metadata allows.
func (i Info) SetHeader(key, value string) error { return i.set(key, value, false) }

// SetTrailer sets metadata that is sent with the reply, or at a stream's end, or with the error. It fails if key or value are
// more than Metadata allows.
func (i Info) SetTrailer(key, value string) error { return i.set(key, value, true) }

func (i Info) set(key, value string, trailer bool) error {
	if i.call == nil {
		return nil
	}
	return i.call.answerMeta(key, value, trailer)
}

// Draining is closed when the server is about to shut down, so that a stream or a connection that lasts ends by itself.
func (i Info) Draining() <-chan struct{} {
	if i.call == nil {
		return nil
	}
	return i.call.ss.drained.begun
}

// Outcome is what the caller will be told of err, which a Server's interceptor is about to return: NotExecuted if the handler was
// not called, or was but not with a request that fits it, else Executed. The error alone does not say: it may be that of
// another interceptor, or one that the handler got from another server. Of nil, and of no call, it is OutcomeOf(err).
func (i Info) Outcome(err error) Outcome {
	if i.call == nil || err == nil {
		return OutcomeOf(err)
	}
	ran := i.call.runs.Load()
	if _, refused := errors.AsType[*refusal](err); ran <= 0 || refused && ran == 1 {
		return NotExecuted
	}
	return Executed
}

// BackFrom returns a Caller of the other side's handlers, over the session that brought the call whose handler got ctx. It
// may be kept: it works until the session ends. With another context its calls fail as FailedPrecondition, not sent.
func BackFrom(ctx context.Context) Caller {
	if call, ok := ctx.Value(infoKey{}).(*serverCall); ok {
		return call.ss.caller()
	}
	return nobody{}
}

// nobody is the Caller of a context without a session.
type nobody struct{}

func (nobody) Do(context.Context, *Request) (*Response, error)    { return nil, errNobody() }
func (nobody) Open(context.Context, *Request) (RawStream, error)  { return nil, errNobody() }
func (nobody) OpenConn(context.Context, string) (net.Conn, error) { return nil, errNobody() }

func errNobody() error {
	return fail(FailedPrecondition, NotSent, "this context is not of a handler's call; BackFrom needs one that is", nil)
}

// micros is d in microseconds, rounded up, within what the wire carries; 0 for none.
func micros(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return min((uint64(d)+999)/1000, maxTimeout)
}
