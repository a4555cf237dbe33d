package rpc

import "context"

// EchoPrefix is what Echo puts before the data: "server received data: ". It is 26 bytes of UTF-8.
const EchoPrefix = "服务端已收到数据: "

// Echo answers with EchoPrefix and the data it was sent: text for text, binary for binary, byte for byte. Anything else is
// InvalidArgument. It is the handler of every method while a Server has none, and can be registered with HandleRaw.
func Echo(_ context.Context, body Raw) (Raw, error) {
	t, err := next(body, 0)
	if err != nil || t.kind != tokStr && t.kind != tokBin {
		return nil, Errorf(InvalidArgument, "echo takes text or binary")
	}
	n := len(EchoPrefix) + t.end - t.start
	reply := make(Raw, 0, 5+n)
	if t.kind == tokStr {
		reply = appendStringHeader(reply, n)
	} else {
		reply = appendBinHeader(reply, n)
	}
	return append(append(reply, EchoPrefix...), body[t.start:t.end]...), nil
}

func echoAll(ctx context.Context, _ string, body Raw) (Raw, error) { return Echo(ctx, body) }
