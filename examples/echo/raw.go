package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"

	"github.com/sealmux/sealmux/rpc"
)

// exchange opens a raw stream to the other side, sends random bytes and compares what comes back.
func exchange(ctx context.Context, other rpc.Caller, sum *tally) error {
	stream, err := other.OpenConn(ctx, "raw")
	if err != nil {
		return err
	}
	defer stream.Close()
	data := make([]byte, rawBytes)
	rand.Read(data) // never fails
	var back []byte
	err = inParallel(2, func(i int) (err error) { // at once, since the peer does not hold it all
		if i == 0 {
			back, err = io.ReadAll(stream)
			return err
		}
		_, err = stream.Write(data)
		return errors.Join(err, stream.(interface{ CloseWrite() error }).CloseWrite())
	})
	if err == nil {
		sum.streams.Add(1)
		sum.compare(data, back, data)
	}
	return err
}

// echoRaw sends back what comes on a raw stream, which is closed behind it.
func echoRaw(_ context.Context, stream net.Conn) error {
	_, err := io.Copy(stream, stream)
	return err
}
