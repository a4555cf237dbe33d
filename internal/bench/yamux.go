package main

import (
	"errors"
	"io"
	"net"
	netrpc "net/rpc"
	"sync"

	"github.com/hashicorp/net-rpc-msgpackrpc/v2"
	"github.com/hashicorp/yamux"
)

// yamuxPair returns both ends of a yamux session over TLS, with yamux's defaults.
func yamuxPair(s *system) (client, server *yamux.Session, err error) {
	ours, theirs, err := tlsPair()
	if err != nil {
		return nil, nil, err
	}
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	client, err1 := yamux.Client(ours, config)
	server, err2 := yamux.Server(theirs, config)
	s.onClose(func() { client.Close(); server.Close() })
	return client, server, errors.Join(err1, err2)
}

// yamuxStream opens one stream, served by serve.
func yamuxStream(s *system, serve func(net.Conn)) (net.Conn, error) {
	client, server, err := yamuxPair(s)
	if err != nil {
		return nil, err
	}
	ours, err := client.Open()
	if err != nil {
		return nil, err
	}
	theirs, err := server.Accept()
	if err != nil {
		return nil, err
	}
	s.serve(func() { serve(theirs) })
	return ours, nil
}

// startGoPlugin is what hashicorp/go-plugin does with net/rpc: gob on a stream of yamux on TLS.
func startGoPlugin() (*system, error) {
	s := &system{}
	conn, err := yamuxStream(s, func(c net.Conn) { netrpc.ServeConn(c) })
	if err != nil {
		return nil, err
	}
	s.useNetRPC(netrpc.NewClient(conn))
	return s, nil
}

// startMsgpackRPC is what Nomad does: net/rpc with msgpack on a stream of yamux on TLS.
func startMsgpackRPC() (*system, error) {
	s := &system{}
	conn, err := yamuxStream(s, func(c net.Conn) { msgpackrpc.ServeConn(c) })
	if err != nil {
		return nil, err
	}
	s.useNetRPC(msgpackrpc.NewClient(conn))
	return s, nil
}

// startYamux is a floor: yamux on TLS, an echo on a stream for each that calls at once.
func startYamux() (*system, error) {
	s := &system{}
	client, server, err := yamuxPair(s)
	if err != nil {
		return nil, err
	}
	s.serve(func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go serveYamux(s, conn) // until the session ends
		}
	})
	s.onClose(func() { client.Close(); server.Close() }) // before serve is waited for
	var mu sync.Mutex
	var idle []net.Conn
	s.call = func(body []byte) (int, error) {
		mu.Lock()
		var conn net.Conn
		if n := len(idle); n > 0 {
			conn, idle = idle[n-1], idle[:n-1]
		}
		mu.Unlock()
		if conn == nil {
			var err error
			if conn, err = openYamux(client, 'e'); err != nil {
				return 0, err
			}
		}
		sent := make(chan error, 1)
		if len(body) > 64<<10 { // more than fits on the way
			go func() { _, err := conn.Write(body); sent <- err }()
		} else {
			_, err := conn.Write(body)
			sent <- err
		}
		n, err := io.ReadFull(conn, make([]byte, len(body)))
		mu.Lock()
		defer mu.Unlock()
		idle = append(idle, conn)
		return n, errors.Join(err, <-sent)
	}
	s.stream = func() (io.Writer, error) { return openYamux(client, 's') }
	return s, nil
}

// openYamux opens a stream and says what it is for.
func openYamux(client *yamux.Session, use byte) (net.Conn, error) {
	conn, err := client.Open()
	if err != nil {
		return nil, err
	}
	_, err = conn.Write([]byte{use})
	return conn, err
}

func serveYamux(s *system, conn net.Conn) {
	defer conn.Close()
	var use [1]byte
	if _, err := io.ReadFull(conn, use[:]); err != nil {
		return
	}
	if use[0] == 's' {
		io.Copy(s, onlyReader{conn})
		return
	}
	io.CopyBuffer(struct{ io.Writer }{conn}, onlyReader{conn}, make([]byte, 4<<10))
}
