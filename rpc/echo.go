package rpc

import (
	"context"
	"io"
	"slices"
)

// EchoPrefix is what Echo puts before the data: "server received data: ". It is 26 bytes of UTF-8.
const EchoPrefix = "服务端已收到数据: "

// Echo answers with EchoPrefix and the data it was sent: text for text, binary for binary, byte for byte. Anything else is
// InvalidArgument. It is the handler of every method while a Server has none, and can be registered with HandleRaw.
func Echo(_ context.Context, req *Request) (*Response, error) {
	reply, err := echo(nil, req.Body)
	return &Response{Body: reply}, err
}

// echo appends the answer to b.
func echo(b []byte, body Raw) (Raw, error) {
	t, err := next(body, 0)
	if err != nil || t.kind != tokStr && t.kind != tokBin {
		return nil, Errorf(InvalidArgument, "echo takes text or binary")
	}
	n := len(EchoPrefix) + t.end - t.start
	reply := slices.Grow(b, 5+n)
	if t.kind == tokStr {
		reply = appendStringHeader(reply, n)
	} else {
		reply = appendBinHeader(reply, n)
	}
	return append(append(reply, EchoPrefix...), body[t.start:t.end]...), nil
}

func echoUnary(_ context.Context, req *Request) (Raw, error) {
	s := req.scratch
	if s == nil {
		return echo(nil, req.Body)
	}
	reply, err := echo(s.b[:0], req.Body)
	if err == nil {
		s.b = reply
	}
	return reply, err
}

// echoStream answers each message of a stream.
func echoStream(_ context.Context, _ *Request, s MessageStream) error {
	for {
		message, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			message, err = echo(nil, message)
		}
		if err == nil {
			err = s.Send(message)
		}
		if err != nil {
			return err
		}
	}
}
