package main

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// bytesCodec passes bytes as they are: no peer is cheaper to encode.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "bytes" }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("a %T", v)
	}
	return *b, nil
}

func (bytesCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a %T", v)
	}
	*b = append([]byte(nil), data...) // data is gRPC's
	return nil
}

// grpcService is what generated code would describe.
func grpcService(s *system) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Bytes", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var b []byte
			return &b, decode(&b)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Sink", ClientStreams: true, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				var b []byte
				if err := stream.RecvMsg(&b); err != nil {
					return err
				}
				s.Write(b)
			}
		}}},
	}
}

// startGRPC is grpc-go over TLS with windows for large messages and no limit that gets in the way.
func startGRPC() (*system, error) {
	c, err := tlsCredentials()
	if err != nil {
		return nil, err
	}
	s := &system{}
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(c.server)), grpc.ForceServerCodec(bytesCodec{}), grpc.MaxRecvMsgSize(8<<20),
		grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(4<<20), grpc.MaxConcurrentStreams(20_000))
	srv.RegisterService(grpcService(s), nil)
	l, err := listenTCP()
	if err != nil {
		return nil, err
	}
	s.serve(func() { srv.Serve(l) })
	s.onClose(srv.Stop)
	connect := func() (*grpc.ClientConn, error) {
		conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(c.client)),
			grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(4<<20),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{}), grpc.MaxCallRecvMsgSize(8<<20)))
		if err == nil {
			s.onClose(func() { conn.Close() })
		}
		return conn, err
	}
	conn, err := connect()
	if err != nil {
		s.close()
		return nil, err
	}
	calls := func(conn *grpc.ClientConn) func([]byte) (int, error) {
		return func(body []byte) (int, error) {
			var reply []byte
			err := conn.Invoke(context.Background(), "/Echo/Bytes", &body, &reply)
			return len(reply), err
		}
	}
	s.connect = func() (func([]byte) (int, error), error) {
		conn, err := connect()
		return calls(conn), err
	}
	s.call = calls(conn)
	open := func() (grpc.ClientStream, error) {
		ctx, cancel := context.WithCancel(context.Background())
		s.onClose(cancel)
		return conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/Echo/Sink")
	}
	s.open = func() error { _, err := open(); return err }
	s.stream = func() (io.Writer, error) {
		stream, err := open()
		return grpcWriter{stream}, err
	}
	_, err = s.call(nil) // so that it is connected
	return s, err
}

type grpcWriter struct{ grpc.ClientStream }

func (w grpcWriter) Write(b []byte) (int, error) { return len(b), w.SendMsg(&b) }
