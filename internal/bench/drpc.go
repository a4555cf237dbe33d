package main

import (
	"context"
	"errors"
	"fmt"

	"storj.io/drpc"
	"storj.io/drpc/drpcconn"
	"storj.io/drpc/drpcmux"
	"storj.io/drpc/drpcserver"
)

// drpcBytes passes bytes as they are.
type drpcBytes struct{}

func (drpcBytes) Marshal(m drpc.Message) ([]byte, error) {
	b, ok := m.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("a %T", m)
	}
	return *b, nil
}

func (drpcBytes) Unmarshal(data []byte, m drpc.Message) error {
	b, ok := m.(*[]byte)
	if !ok {
		return fmt.Errorf("a %T", m)
	}
	*b = append([]byte(nil), data...)
	return nil
}

// drpcEcho is what generated code would be: a service of one method.
type drpcEcho struct{}

func (drpcEcho) Bytes(_ context.Context, b *[]byte) (*[]byte, error) { return b, nil }

func (drpcEcho) NumMethods() int { return 1 }

func (drpcEcho) Method(n int) (string, drpc.Encoding, drpc.Receiver, any, bool) {
	return "/Echo/Bytes", drpcBytes{}, func(srv any, ctx context.Context, in, _ any) (drpc.Message, error) {
		return srv.(drpcEcho).Bytes(ctx, in.(*[]byte))
	}, drpcEcho.Bytes, n == 0
}

// startDRPC is drpc over TLS. A connection of it makes one call at a time, so that calls wait for one of so many.
func startDRPC(connections int) (*system, error) {
	s := &system{}
	mux := drpcmux.New()
	if err := mux.Register(drpcEcho{}, drpcEcho{}); err != nil {
		return nil, err
	}
	srv := drpcserver.New(mux)
	l, config, err := tlsListener()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.serve(func() { srv.Serve(ctx, l) })
	s.onClose(cancel)
	free := make(chan *drpcconn.Conn, connections)
	for range connections {
		conn, err := dialTLS(l.Addr().String(), config)
		if err != nil {
			s.close()
			return nil, err
		}
		c := drpcconn.New(conn)
		s.onClose(func() { c.Close() })
		free <- c
	}
	s.call = func(body []byte) (int, error) {
		c := <-free
		var reply []byte
		err := c.Invoke(ctx, "/Echo/Bytes", drpcBytes{}, &body, &reply)
		free <- c
		return len(reply), errors.Join(err)
	}
	return s, nil
}
