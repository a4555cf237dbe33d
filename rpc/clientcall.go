package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// Do makes a unary call: see Caller.
func (c *Client) Do(ctx context.Context, req *Request) (*Response, error) {
	if len(c.opts.Interceptors) == 0 {
		return c.do(ctx, req)
	}
	var tries attempts
	resp, err := chainUnary(c.opts.Interceptors, func(ctx context.Context, req *Request) (*Response, error) {
		tries.begin()
		resp, err := c.do(ctx, req)
		tries.end(err)
		return resp, err
	})(ctx, req)
	switch {
	case err != nil:
		return nil, tries.intercepted(err)
	case resp == nil:
		return nil, tries.intercepted(Errorf(Internal, "an interceptor returned neither a response nor an error"))
	}
	return resp, nil
}

// An attempts counts what interceptors make of a call: they may call next never, again, or from other goroutines.
type attempts struct{ all, noRun atomic.Int64 }

func (a *attempts) begin() { a.all.Add(1) }

// end notes that an attempt did not run, if err says so.
func (a *attempts) end(err error) {
	if o := OutcomeOf(err); err != nil && (o == NotSent || o == NotExecuted) {
		a.noRun.Add(1)
	}
}

// intercepted makes an *Error of what an interceptor returned. It says that the call did not run only if no attempt did.
func (a *attempts) intercepted(err error) error {
	none, mayHaveRun := a.all.Load() == 0, a.all.Load() > a.noRun.Load()
	e, _ := errors.AsType[*Error](err)
	if e == nil {
		e, _ = errors.AsType[*Error](fail(CodeOf(err), OutcomeUnknown, "", err))
	}
	own := *e
	switch {
	case none:
		own.Outcome = NotSent
	case mayHaveRun && (e.Outcome == NotSent || e.Outcome == NotExecuted):
		own.Outcome = OutcomeUnknown
	case !mayHaveRun && e.Outcome != NotSent:
		own.Outcome = NotExecuted
	}
	return &own
}

// do is Do behind the interceptors.
func (c *Client) do(ctx context.Context, req *Request) (*Response, error) {
	h := callHead{method: req.Method, requestID: req.ID, header: req.Header}
	a, err := c.invoke(ctx, &h, req.Body)
	if err != nil {
		return nil, err
	}
	return &Response{decodeMetadata(a.header), decodeMetadata(a.trailer), a.body}, nil
}

// An answer is a reply as it came, but unpacked.
type answer struct {
	body            Raw
	packed          bool
	header, trailer []byte
}

// invoke makes a call.
func (c *Client) invoke(ctx context.Context, h *callHead, body Raw) (answer, error) {
	if err := c.refuse(ctx, h, body); err != nil {
		return answer{}, err
	}
	if c.opts.CompressOver > 0 {
		h.flags = flagPack
	}
	body, pack := packer{c.opts.CompressOver}.pack(body)
	if err := c.enter(); err != nil {
		return answer{}, err
	}
	defer c.leave()
	cs, err := c.sharedStream(ctx)
	if err == nil && len(body) > LargeCall {
		// The shared stream must be there too: it is what carries the server's goaway, and what tells the server by its end
		// that no call is on its way, when between two large calls no other stream is open (C9).
		if err = c.large.acquire(ctx, 1); err == nil {
			defer c.large.release(1)
			if cs, err = c.open(ctx, true); err == nil {
				defer cs.end(errStreamDone)
			}
		}
	}
	if err != nil {
		return answer{}, notSent(ctx, err)
	}
	cl, err := cs.send(ctx, h, pack, body)
	if err != nil {
		return answer{}, err
	}
	a, err := cs.wait(ctx, cl)
	if err != nil {
		return answer{}, err
	}
	if a.body, err = unpack(a.packed, a.body, &c.opts); err == nil {
		err = Check(a.body)
	}
	if err != nil {
		return answer{}, fail(Internal, Executed, "the reply", err)
	}
	return a, nil
}

// refuse finds what is wrong with a call before anything is done for it.
func (c *Client) refuse(ctx context.Context, h *callHead, body Raw) error {
	if err := c.refuseHead(ctx, h); err != nil {
		return err
	}
	if size := len(h.method) + len(h.lead) + len(body); size > c.opts.MaxSend {
		return tooLarge(size, c.opts.MaxSend)
	}
	if err := checkBehind(h.lead, body); err != nil {
		return fail(InvalidArgument, NotSent, "the request", err)
	}
	return nil
}

func (c *Client) refuseHead(ctx context.Context, h *callHead) error {
	if ctx.Err() != nil {
		return failContext(ctx, NotSent)
	}
	req := Request{Method: h.method, ID: h.requestID, Header: h.header}
	if err := req.check(); err != nil {
		return fail(InvalidArgument, NotSent, "", err)
	}
	return nil
}

func tooLarge(size, limit int) error {
	return fail(ResourceExhausted, NotSent, fmt.Sprintf("a request of %d bytes, limit %d", size, limit), ErrTooLarge)
}

// roundTrip makes a typed call with what ctx says of it. lead stands before body if caller is a Client, nobody else sees the body, and
// ctx says nothing.
func roundTrip(ctx context.Context, caller Caller, method string, lead []byte, body Raw) (Raw, error) {
	o := outgoingOf(ctx)
	if c, ok := caller.(*Client); ok && o == noOutgoing && len(c.opts.Interceptors) == 0 {
		a, err := c.invoke(ctx, &callHead{method: method, lead: lead}, body)
		return a.body, err
	}
	resp, err := caller.Do(ctx, &Request{Method: method, ID: o.requestID, Header: o.header.clone(), Body: body})
	if o.received != nil {
		*o.received = receivedWith(resp, err)
	}
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// receivedWith is the metadata of a reply or of an error.
func receivedWith(resp *Response, err error) Received {
	if e, _ := errors.AsType[*Error](err); e != nil {
		return Received{e.header, e.Trailer}
	}
	if resp == nil {
		return Received{}
	}
	return Received{resp.Header, resp.Trailer}
}

var _ Caller = (*Client)(nil)
