package main

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// sealmuxKeys are a server's and a client's.
var sealmuxKeys = sync.OnceValues(func() (keys [2]*transport.PrivateKey, err error) {
	for i := range keys {
		if keys[i], err = transport.GenerateKey(rsaBits); err != nil {
			break
		}
	}
	return keys, err
})

// maxStreams lets manystreams open its streams, and 10,000 callers have their calls wait; all else is as it is by default.
const maxStreams = 20_000

// sealmuxServer returns a listener and how to dial it.
func sealmuxServer() (*transport.Listener, func(*transport.TicketCache) (*transport.Session, error), error) {
	keys, err := sealmuxKeys()
	if err != nil {
		return nil, nil, err
	}
	l, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: keys[:1], Peers: transport.Pin(keys[1].Public()), Protocol: rpc.Protocol, MaxStreams: maxStreams})
	if err != nil {
		return nil, nil, err
	}
	return l, func(tickets *transport.TicketCache) (*transport.Session, error) {
		return transport.Dial(context.Background(), "tcp", l.Addr().String(), &transport.Config{
			Keys: keys[1:], Peers: transport.Pin(keys[0].Public()), Protocol: rpc.Protocol, Tickets: tickets})
	}, nil
}

var (
	bytesEcho = rpc.Unary[[]byte, []byte]{Name: "echo"}
	typedEcho = rpc.Unary[*Message, *Message]{Name: "typed"}
	idleEcho  = rpc.Bidi[[]byte, []byte]{Name: "idle"}
)

func startSealmux() (*system, error) {
	l, dial, err := sealmuxServer()
	if err != nil {
		return nil, err
	}
	s := &system{}
	srv := rpc.NewServer(rpc.Options{MaxStreams: maxStreams, MaxQueue: maxStreams})
	bytesEcho.Handle(srv, func(_ context.Context, b []byte) ([]byte, error) { return b, nil })
	typedEcho.Handle(srv, func(_ context.Context, m *Message) (*Message, error) { return m, nil })
	idleEcho.Handle(srv, func(ctx context.Context, _ *rpc.Stream[[]byte, []byte]) error { <-ctx.Done(); return ctx.Err() })
	rpc.HandleConn(srv, "sink", func(_ context.Context, c net.Conn) error { _, err := io.Copy(s, c); return err })
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), srv, l) }()
	s.onClose(func() { srv.Close(); <-served })
	connect := func() (*rpc.Client, error) {
		session, err := dial(nil)
		if err != nil {
			return nil, err
		}
		client := rpc.NewClient(session, rpc.Options{})
		s.onClose(func() { client.Close() })
		return client, nil
	}
	client, err := connect()
	if err != nil {
		s.close()
		return nil, err
	}
	ctx := context.Background()
	calls := func(client *rpc.Client) func([]byte) (int, error) {
		return func(body []byte) (int, error) {
			reply, err := bytesEcho.Call(ctx, client, body)
			return len(reply), err
		}
	}
	s.connect = func() (func([]byte) (int, error), error) {
		client, err := connect()
		return calls(client), err
	}
	s.call = calls(client)
	s.typed = func(m *Message) (*Message, error) { return typedEcho.Call(ctx, client, m) }
	s.open = func() error { _, err := idleEcho.Open(ctx, client); return err }
	s.stream = func() (io.Writer, error) { return client.OpenConn(ctx, "sink") }
	return s, nil
}

// shakeSealmux makes sessions that are authenticated both ways, with tickets if they are to be resumed.
func shakeSealmux(resume bool, callers int) (func(int) error, func(), error) {
	l, dial, err := sealmuxServer()
	if err != nil {
		return nil, nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			session, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			wg.Go(func() {
				session.Accept() // until the client closes
				session.Close()
			})
		}
	})
	caches := make([]*transport.TicketCache, callers)
	for i := range caches {
		if resume {
			caches[i] = transport.NewTicketCache(1)
		}
	}
	f, err := shaking(func(caller int) (bool, error) {
		session, err := dial(caches[caller])
		if err != nil {
			return false, err
		}
		session.Close()
		return session.Resumed(), nil
	}, resume, callers)
	return f, func() { l.Close(); wg.Wait() }, err
}
