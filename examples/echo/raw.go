package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"

	"github.com/sealmux/sealmux/transport"
)

// exchange opens a raw stream to the peer, sends random bytes and compares what comes back.
func exchange(ctx context.Context, session *transport.Session, sum *tally) error {
	stream, err := session.Open(ctx)
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
		return errors.Join(err, stream.(*transport.Stream).CloseWrite())
	})
	if err == nil {
		sum.streams.Add(1)
		sum.compare(data, back, data)
	}
	return err
}

// echoStreams sends back what comes on each stream that the peer opens, until the session ends.
func echoStreams(session *transport.Session) {
	for {
		stream, err := session.Accept()
		if err != nil {
			return
		}
		go func() {
			defer stream.Close() // ends this side too, behind what was written
			io.Copy(stream, stream)
		}()
	}
}
