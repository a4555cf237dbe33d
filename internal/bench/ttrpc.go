package main

import (
	"context"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// startTTRPC is containerd's ttrpc over TLS, with protobuf's own message of bytes.
func startTTRPC() (*system, error) {
	s := &system{}
	srv, err := ttrpc.NewServer()
	if err != nil {
		return nil, err
	}
	srv.RegisterService("Echo", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"Bytes": func(_ context.Context, decode func(any) error) (any, error) {
			m := &wrapperspb.BytesValue{}
			return m, decode(m)
		},
	}})
	l, config, err := tlsListener()
	if err != nil {
		return nil, err
	}
	s.serve(func() { srv.Serve(context.Background(), l) })
	s.onClose(func() { srv.Close() })
	connect := func() (*ttrpc.Client, error) {
		conn, err := dialTLS(l.Addr().String(), config)
		if err != nil {
			return nil, err
		}
		client := ttrpc.NewClient(conn)
		s.onClose(func() { client.Close() })
		return client, nil
	}
	calls := func(client *ttrpc.Client) func([]byte) (int, error) {
		return func(body []byte) (int, error) {
			reply := &wrapperspb.BytesValue{}
			err := client.Call(context.Background(), "Echo", "Bytes", &wrapperspb.BytesValue{Value: body}, reply)
			return len(reply.Value), err
		}
	}
	client, err := connect()
	if err != nil {
		s.close()
		return nil, err
	}
	s.connect = func() (func([]byte) (int, error), error) {
		client, err := connect()
		return calls(client), err
	}
	s.call = calls(client)
	return s, nil
}
