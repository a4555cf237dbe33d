package main

import (
	"errors"
	"io"
	"sync/atomic"
)

// A peer is a system to compare.
type peer struct {
	name    string
	rpc     bool // else it is a floor: it has no calls, errors, deadlines
	typed   bool // what its systems can, besides call
	streams bool
	opens   bool
	pool    bool // a connection for each that calls at once
	start   func() (*system, error)
	shake   func(resume bool, callers int) (dial func(caller int) error, stop func(), err error) // nil if nothing of its own
}

type writer = io.Writer

// A system is a client and its server, on one connection. call and typed may be used by many goroutines at once.
type system struct {
	call   func(body []byte) (replied int, err error)
	typed  func(*Message) (*Message, error)
	stream func() (io.Writer, error) // its bytes are counted in received
	open   func() error              // opens a stream that stays idle
	// connect opens one more session with the same server; nil if the server is one session's.
	connect  func() (call func(body []byte) (int, error), err error)
	received atomic.Int64
	closers  []func()
}

func (s *system) onClose(f func()) { s.closers = append(s.closers, f) }

// close ends everything, what was made last first.
func (s *system) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// sink counts what is written to it.
func (s *system) Write(b []byte) (int, error) {
	s.received.Add(int64(len(b)))
	return len(b), nil
}

// A Message is what typed calls echo.
type Message struct {
	ID   int64
	Name string
	Tags []string
	Body []byte
}

var allPeers = []peer{
	{name: "sealmux", rpc: true, typed: true, streams: true, opens: true, start: startSealmux, shake: shakeSealmux},
	{name: "netrpc", rpc: true, typed: true, start: startNetRPC},
	{name: "grpc", rpc: true, streams: true, opens: true, start: startGRPC},
	{name: "drpc", rpc: true, start: func() (*system, error) { return startDRPC(1) }},
	{name: "drpcpool", rpc: true, pool: true, start: func() (*system, error) { return startDRPC(128) }},
	{name: "ttrpc", rpc: true, start: startTTRPC},
	{name: "http2", rpc: true, start: startHTTP2},
	{name: "goplugin", rpc: true, typed: true, start: startGoPlugin},
	{name: "msgpackrpc", rpc: true, typed: true, start: startMsgpackRPC},
	{name: "yamuxtls", streams: true, start: startYamux},
	{name: "tls", streams: true, start: func() (*system, error) { return startBare(true) }, shake: shakeTLS},
	{name: "tcp", streams: true, start: func() (*system, error) { return startBare(false) }},
}

var (
	errOneStream  = errors.New("this peer has one stream: use -callers 1")
	errNotResumed = errors.New("a session was resumed, or not, as it should not be")
)
