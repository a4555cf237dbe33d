package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialListen(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			client, server := configs()
			var failed sync.WaitGroup
			failed.Add(1)
			server.HandshakeFailed = func(from net.Addr, err error) {
				if !errors.Is(err, ErrNotSealmux) || from == nil {
					t.Errorf("from %v: %v", from, err)
				}
				failed.Done()
			}
			l, err := Listen(context.Background(), network, address, server)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			// A stranger, and a silent one, are in nobody's way.
			for _, words := range []string{"GET / HTTP/1.1\r\n\r\n", ""} {
				c, err := net.Dial(network, l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				io.WriteString(c, words)
			}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					cs, err := Dial(context.Background(), network, l.Addr().String(), client)
					if err != nil {
						t.Error(err)
						return
					}
					c, err := cs.Open(context.Background())
					if err != nil {
						t.Error(err)
					}
					io.WriteString(c, "hello")
					c.(*Stream).CloseWrite()
					if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
						t.Error(string(got), err)
					}
					cs.Close()
				})
				wg.Go(func() {
					ss, err := l.Accept(context.Background())
					if err != nil {
						t.Error(err)
						return
					}
					c, err := ss.Accept()
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(c, c)
					c.Close()
					<-ss.Done()
					ss.Close()
				})
			}
			wg.Wait()
			failed.Wait()
			l.Close()
			if _, err := l.Accept(context.Background()); !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
		})
	}
}

func TestDialFaults(t *testing.T) {
	client, server := configs()
	if _, err := Dial(context.Background(), "tcp", "127.0.0.1:1", new(Config)); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	if _, err := Listen(context.Background(), "tcp", "127.0.0.1:0", &Config{Peers: AnyClient()}); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	l, err := Listen(context.Background(), "tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Accept(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l.Close()
	if _, err := Dial(context.Background(), "tcp", address, client); err == nil {
		t.Error("nobody listens")
	}
}

// A listener out of file descriptors waits, and goes on.
func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, server := configs()
		inner := &failingListener{fail: 10, closed: make(chan struct{})}
		reported := make(chan error)
		server.HandshakeFailed = func(_ net.Addr, err error) { reported <- err }
		begin := time.Now()
		l, err := NewListener(inner, server)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := <-reported; !errors.Is(err, errNoFiles) {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 2275*time.Millisecond { // 5, 10, 20 ... 640 ms, 1 s
			t.Error(took)
		}
		l.Close()
	})
}

var errNoFiles = errors.New("too many open files")

type failingListener struct {
	fail   int
	once   sync.Once
	closed chan struct{}
}

func (f *failingListener) Accept() (net.Conn, error) {
	if f.fail--; f.fail >= 0 {
		return nil, errNoFiles
	}
	<-f.closed
	return nil, net.ErrClosed
}
func (f *failingListener) Close() error   { f.once.Do(func() { close(f.closed) }); return nil }
func (f *failingListener) Addr() net.Addr { return &net.TCPAddr{} }
