package rpc

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"

	"github.com/hashicorp/yamux"
)

// yamuxSession is the least that makes a yamux session a Session.
type yamuxSession struct{ *yamux.Session }

func (s yamuxSession) Open(context.Context) (net.Conn, error) { return s.Session.Open() }

// TestOverYamux: the same calls over a real multiplexer, small and large at once.
func TestOverYamux(t *testing.T) {
	a, b := net.Pipe()
	cs, _ := yamux.Client(a, nil)
	ss, _ := yamux.Server(b, nil)
	srv := NewServer(Options{})
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeSession(bg, yamuxSession{ss}) }()
	c := NewClient(yamuxSession{cs}, Options{})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			size := 20
			if i%20 == 0 {
				size = 1 << 20
			}
			data := bytes.Repeat([]byte{byte(i)}, size)
			got, err := Call[[]byte](bg, c, "echo", data)
			if err != nil || !bytes.Equal(got, append([]byte(EchoPrefix), data...)) {
				t.Error(i, len(got), err)
			}
		})
	}
	wg.Wait()
	if err := srv.Shutdown(bg); err != nil {
		t.Error(err)
	}
	c.Close()
	<-done
}
