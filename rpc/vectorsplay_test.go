package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing/synctest"

	"github.com/sealmux/sealmux/internal/vectors"
)

// This file has a Client make the calls of a case, and tells what came of them.

// do has the client send m.
func (p *player) do(m *message) {
	req := &Request{Method: string(m.method), ID: string(m.request), Header: decodeMetadata(m.header), Body: m.body}
	switch m.kind {
	case kindCall, kindCall2:
		ctx, c := p.begin()
		go c.call(ctx, p.client, req)
	case kindOpen:
		ctx, c := p.begin()
		if m.form == formStream {
			go c.open(ctx, p.client, req)
		} else {
			go c.openConn(ctx, p.client, req)
		}
	case kindItem, kindEnd:
		if n := len(p.calls); n == 0 || p.calls[n-1].stream == nil {
			return // which is found in what is written
		} else if m.kind == kindItem {
			p.calls[n-1].stream.Send(m.body)
		} else {
			p.calls[n-1].stream.CloseSend()
		}
	case kindCancel:
		if m.id <= uint64(len(p.calls)) {
			p.calls[m.id-1].cancel()
		}
	}
}

func (p *player) begin() (context.Context, *played) {
	ctx, cancel := context.WithCancel(bg)
	c := &played{id: len(p.calls) + 1, cancel: cancel}
	p.calls = append(p.calls, c)
	return ctx, c
}

func (c *played) call(ctx context.Context, client *Client, req *Request) {
	resp, err := client.Do(ctx, req)
	if err != nil {
		c.failed(err)
		return
	}
	c.meta(resp.Header, resp.Trailer)
	c.end("reply %x", []byte(resp.Body))
}

func (c *played) open(ctx context.Context, client *Client, req *Request) {
	req.Body = nil
	s, err := client.Open(ctx, req)
	for c.stream = s; err == nil; {
		var item Raw
		if item, err = s.Recv(); err == nil {
			c.got.Add("item", fmt.Sprintf("%d %x", c.id, []byte(item)))
		}
	}
	if err != io.EOF {
		c.failed(err)
		return
	}
	header, _ := s.Header()
	c.meta(header, s.Trailer())
	c.end("done")
}

func (c *played) openConn(ctx context.Context, client *Client, req *Request) {
	var received Received
	ctx = withOutgoing(ctx, func(o *outgoing) { o.header, o.requestID, o.received = req.Header, req.ID, &received })
	conn, err := client.OpenConn(ctx, req.Method)
	if err != nil {
		c.failed(err)
		return
	}
	c.meta(received.Header, received.Trailer)
	c.conn = conn
	b, err := io.ReadAll(conn)
	conn.Close()
	c.got.Add("bytes", fmt.Sprintf("%d %x", c.id, b))
	if err != nil {
		c.failed(err)
		return
	}
	c.end("taken")
}

func (c *played) meta(header, trailer Metadata) {
	before := fmt.Sprintf("%d ", c.id)
	addMetadata(&c.got, "header", before, header)
	addMetadata(&c.got, "trailer", before, trailer)
}

func (c *played) end(format string, args ...any) {
	c.got.Add("call", fmt.Sprintf("%d ", c.id)+fmt.Sprintf(format, args...))
	c.over = true
}

// failed tells of an error. Of one that the peer has sent all is told: what this side says of its own is for people.
func (c *played) failed(err error) {
	c.err = err
	e, _ := errors.AsType[*Error](err)
	if e == nil {
		c.end("error that is no *Error: %v", err)
		return
	}
	if e.cause == nil || len(e.Details) > 0 {
		c.meta(e.header, e.Trailer)
		c.got.Add("text", fmt.Sprintf("%d %s", c.id, e.Message))
		if e.RetryAfter > 0 {
			c.got.Add("retry", fmt.Sprintf("%d %d", c.id, e.RetryAfter.Microseconds()))
		}
		for _, d := range e.Details {
			c.got.Add("detail", fmt.Sprintf("%d %s=%x", c.id, d.Name, []byte(d.Body)))
		}
	}
	c.end("error %d %v", e.Code, e.Outcome)
}

// results is what came of all calls, in the order of their ids. A connection that was taken is ended for it by the peer.
func (p *player) results(stream *tap) []vectors.Header {
	for _, c := range p.calls {
		if c.conn != nil {
			stream.conn.(*pipeStream).CloseWrite()
		}
	}
	synctest.Wait()
	var all []vectors.Header
	for _, c := range p.calls {
		all = append(all, c.got.Headers...)
		if !c.over {
			all = append(all, vectors.Header{Name: "call", Value: fmt.Sprintf("%d waiting", c.id)})
		}
	}
	return all
}

// callerEnd checks what is to be true behind the last block.
func (v *vector) callerEnd(p *player, index int) error {
	expect := v.Get("expect")
	failed := slices.ContainsFunc(v.All("call"), func(s string) bool { return strings.Contains(s, " error ") })
	lost := slices.ContainsFunc(v.All("call"), func(s string) bool { return strings.HasSuffix(s, " error 14 unknown") })
	if (expect == "ok") == failed && (expect == "ok" || expect == "call-error") || expect == "cut" && !lost {
		return fmt.Errorf("expect: %s, and calls end otherwise", expect)
	}
	stream := p.tap(index)
	for i := range p.calls { // nothing more is written, and what needs no stream any more closes it
		if c := p.calls[i]; index > 0 && c.over && c.conn == nil && expect != "refused" {
			if err := stream.over(); err != nil {
				return err
			}
		}
	}
	if err := stream.expect(nil); err != nil {
		return err
	}
	ctx, c := p.begin()
	go c.call(ctx, p.client, &Request{Method: "after", Body: Raw{0xc0}})
	synctest.Wait()
	if expect == "refused" || expect == "goaway" {
		return p.noMore(c, expect)
	}
	return p.alive(c)
}

// noMore checks that the client makes no more calls, and why.
func (p *player) noMore(c *played, expect string) error {
	err := c.err
	if expect == "refused" {
		if !errors.Is(err, ErrProtocol) || sessionErr(p.client.sess) == nil {
			return fmt.Errorf("the session was not ended: %v", err)
		}
	} else if !errors.Is(err, ErrDraining) || c.got.Get("call") != fmt.Sprintf("%d error 14 not sent", c.id) {
		return fmt.Errorf("a call behind a goaway: %v, %v", c.got, err)
	}
	if expect == "goaway" {
		for i := range p.taps {
			if err := p.tap(i).over(); err != nil {
				return err
			}
		}
	}
	return nil
}

// alive answers the call that was made last.
func (p *player) alive(c *played) error {
	for i := range p.taps {
		got, _ := p.tap(i).take()
		if m, err := readMessage(got); err == nil && m.id == uint64(c.id) && string(m.method) == "after" {
			p.tap(i).conn.Write(appendReply(nil, m.id, []byte("\xc3")))
			synctest.Wait()
		}
	}
	if c.got.Get("call") != fmt.Sprintf("%d reply c3", c.id) {
		return fmt.Errorf("a call behind it all: %v", c.got.Headers)
	}
	return nil
}
