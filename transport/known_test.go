package transport

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// listening serves sessions until the test ends, and returns its address.
func listening(t *testing.T, cfg *Config) string {
	t.Helper()
	l, err := Listen(context.Background(), "tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			s, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			work.Go(func() {
				<-s.Done()
				s.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
	return l.Addr().String()
}

// scripted is a server that does with its connections what these functions do, the last with all that follow.
func scripted(t *testing.T, serve ...func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			use := serve[min(i, len(serve)-1)]
			work.Go(func() {
				defer c.Close()
				use(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
	return l.Addr().String()
}

func yes(context.Context, string, *PublicKey) error { return nil }

// never is for addresses that must not be asked about.
func never(t *testing.T) func(context.Context, string, *PublicKey) error {
	return func(_ context.Context, address string, _ *PublicKey) error {
		t.Errorf("asked about %s", address)
		return errors.New("not to be asked")
	}
}

// dialKnown dials and closes.
func dialKnown(t *testing.T, address string, cfg *Config) error {
	t.Helper()
	s, err := Dial(t.Context(), "tcp", address, cfg)
	if err == nil {
		err = s.Close()
	}
	return err
}

func contents(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKnownServersAskOnce(t *testing.T) {
	_, server := configs()
	server.Peers = AnyClient()
	address := listening(t, server)
	path := filepath.Join(t.TempDir(), "deep", "er", "known_servers")
	asked := 0
	cfg := &Config{Protocol: "test/1", Peers: KnownServers(path, func(_ context.Context, about string, key *PublicKey) error {
		asked++
		if about != address || !key.Equal(serverKeyForTest().Public()) {
			t.Errorf("asked about %s, %v", about, key)
		}
		return nil
	})}
	for range 3 {
		if err := dialKnown(t, address, cfg); err != nil {
			t.Fatal(err)
		}
	}
	if want := address + " sealmux-rsa " + serverKeyForTest().String() + "\n"; asked != 1 || contents(t, path) != want {
		t.Errorf("asked %d times; the file has %q", asked, contents(t, path))
	}
	if runtime.GOOS != "windows" {
		for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
			}
		}
	}
	cfg.Peers = KnownServers(path, never(t)) // another process, later
	if err := dialKnown(t, address, cfg); err != nil {
		t.Error(err)
	}
	_, port, _ := net.SplitHostPort(address)
	cfg.Peers = KnownServers(path, nil) // another name is another server
	if err := dialKnown(t, "LocalHost:"+port, cfg); !errors.Is(err, ErrServerKey) {
		t.Error(err)
	}
	write(t, path, "LOCALHOST:"+port+"\tsealmux-rsa  "+serverKeyForTest().String()+" # mine")
	if err := dialKnown(t, "localHost:0"+port, cfg); err != nil {
		t.Error(err)
	}
}

func TestKnownServersRefuse(t *testing.T) {
	client, server := configs()
	server.Keys = []*PrivateKey{otherKeyForTest()}
	address := listening(t, server)
	path := filepath.Join(t.TempDir(), "known_servers")
	no := errors.New("no")
	for name, ask := range map[string]func(context.Context, string, *PublicKey) error{
		"nobody to ask": nil,
		"no":            func(context.Context, string, *PublicKey) error { return no },
	} {
		client.Peers = KnownServers(path, ask)
		err := dialKnown(t, address, client)
		wrong, ok := errors.AsType[*ServerKeyError](err)
		if !ok || wrong.Offered != otherKeyForTest().Fingerprint() || len(wrong.Pinned) != 0 || errors.Is(err, no) != (ask != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
		if ask == nil && !strings.Contains(err.Error(), `"`+address+" sealmux-rsa "+otherKeyForTest().String()+`"`) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Another key than the one that is known is not asked about. Of several, any will do.
	old := serverKeyForTest().Fingerprint()
	write(t, path, "# mine\n\n"+knownLine(address, old)+"\n"+knownLine("example.org:1", otherKeyForTest().Fingerprint()))
	client.Peers = KnownServers(path, never(t))
	err := dialKnown(t, address, client)
	wrong, ok := errors.AsType[*ServerKeyError](err)
	if !ok || wrong.Offered != otherKeyForTest().Fingerprint() || len(wrong.Pinned) != 1 || wrong.Pinned[0] != old ||
		len(wrong.Known) != 1 || wrong.Known[0] != (KnownServer{address, old, path, 3}) || !strings.Contains(err.Error(), path+":3") {
		t.Errorf("%v: %+v", err, wrong)
	}
	if err := addKnown(path, address, otherKeyForTest().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if err := dialKnown(t, address, client); err != nil {
		t.Error(err)
	}
}

// While somebody is asked there is no connection: the server has seen its end.
func TestKnownServersNobodyWaits(t *testing.T) {
	client, server := configs()
	over := make(chan error, 1)
	server.HandshakeFailed = func(_ net.Addr, err error) { over <- err }
	address := listening(t, server)
	client.Peers = KnownServers(filepath.Join(t.TempDir(), "known_servers"), func(context.Context, string, *PublicKey) error {
		if err := <-over; !errors.Is(err, ErrTruncated) {
			t.Error(err)
		}
		return nil
	})
	if err := dialKnown(t, address, client); err != nil {
		t.Error(err)
	}
}

// What a server claims is not recorded before it has proven it; once it has, it is, even if it then refuses the client.
func TestKnownServersProof(t *testing.T) {
	offer := func(c net.Conn) {
		if _, err := receive(c, typeKeyRequest); err != nil {
			t.Error(err)
		}
		send(c, newTranscript(), typeKeyOffer, otherKeyForTest().Public().spki)
	}
	alert := func(code Alert) func(net.Conn) {
		return func(c net.Conn) {
			receive(c, typeClientHello)
			rejectWith(c, alertMessage{code: code}, nil)
		}
	}
	has := func(key *PrivateKey, peers *Trust) func(net.Conn) {
		return func(c net.Conn) {
			if s, err := Server(context.Background(), c, &Config{Keys: []*PrivateKey{key}, Peers: peers, Protocol: "test/1"}); err == nil {
				<-s.Done()
				s.Close()
			}
		}
	}
	for name, c := range map[string]struct {
		second   func(net.Conn) // what answers behind the question
		key      *PrivateKey    // the client's
		want     error
		recorded bool
	}{
		"holds it":  {has(otherKeyForTest(), AnyClient()), nil, nil, true},
		"goes away": {func(net.Conn) {}, nil, ErrTruncated, false},
		"sends what it heard": {func(c net.Conn) {
			body, _ := receive(c, typeClientHello)
			send(c, newTranscript(), typeServerHello, body)
		}, nil, ErrHandshake, false},
		"says not authorized, in clear": {alert(AlertUnauthorized), clientKeyForTest(), ErrHandshake, false},
		"says another protocol":         {alert(AlertApplicationProtocol), nil, ErrApplicationProtocol, false},
		"has another key":               {has(serverKeyForTest(), AnyClient()), nil, ErrServerKey, false},
		"wants a client key":            {has(otherKeyForTest(), Pin()), nil, ErrClientKeyRequired, true},
		"refuses the client":            {has(otherKeyForTest(), Pin()), clientKeyForTest(), ErrUnauthorized, true},
	} {
		t.Run(name, func(t *testing.T) {
			address := scripted(t, offer, c.second)
			path := filepath.Join(t.TempDir(), "known_servers")
			cfg := &Config{Peers: KnownServers(path, yes), Protocol: "test/1"}
			if c.key != nil {
				cfg.Keys = []*PrivateKey{c.key}
			}
			if err := dialKnown(t, address, cfg); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if got := contents(t, path); (got != "") != c.recorded {
				t.Errorf("the file has %q", got)
			}
		})
	}
}

func TestKnownServersTogether(t *testing.T) {
	client, server := configs()
	one, two := listening(t, server), listening(t, server)
	path := filepath.Join(t.TempDir(), "known_servers")
	var asked atomic.Int32
	client.Peers = KnownServers(path, func(context.Context, string, *PublicKey) error {
		asked.Add(1)
		return nil
	})
	var work sync.WaitGroup
	for range 8 {
		for _, address := range []string{one, two} {
			work.Go(func() {
				if err := dialKnown(t, address, client); err != nil {
					t.Error(err)
				}
			})
		}
	}
	work.Wait()
	lines, err := ReadKnownServers(path)
	if asked.Load() != 2 || len(lines) != 2 || err != nil {
		t.Error(asked.Load(), lines, err)
	}
}

// Who waits for another's answer gets it, if it is about the same key; if there is none, he asks himself.
func TestKnownServersOthersAnswer(t *testing.T) {
	key, other := serverKeyForTest().Public(), otherKeyForTest().Public()
	no := errors.New("no")
	for name, c := range map[string]struct {
		about   *PublicKey // what the first has asked about
		refusal error
		want    error
	}{
		"no":              {key, no, no},
		"no, another key": {other, no, errLookAgain},
		"yes":             {key, nil, errLookAgain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := KnownServers(filepath.Join(t.TempDir(), "known_servers"), never(t)).servers
				first := &contact{knownServers: k, name: "example.org:1"}
				q, mine := first.begin(c.about.id)
				if !mine {
					t.Fatal("somebody else asks")
				}
				got := make(chan error, 2)
				second := &contact{knownServers: k, name: first.name}
				go func() {
					_, err := second.settle(t.Context(), key)
					got <- err
				}()
				bounded, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if _, err := second.settle(bounded, key); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrServerKey) {
					t.Error(err)
				}
				select {
				case err := <-got:
					t.Fatal(err)
				default:
				}
				q.refusal = c.refusal
				first.end(q)
				if err := <-got; !errors.Is(err, c.want) {
					t.Error(err)
				}
				if len(k.open) != 0 {
					t.Error("the question is still open")
				}
			})
		})
	}
}

// A question that ends without an answer is no refusal, and whoever waits asks anew.
func TestKnownServersInterrupted(t *testing.T) {
	client, server := configs()
	address := listening(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int32
	path := filepath.Join(t.TempDir(), "known_servers")
	begun := make(chan struct{})
	client.Peers = KnownServers(path, func(ctx context.Context, _ string, _ *PublicKey) error {
		if asked.Add(1) > 1 {
			return nil
		}
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	var work sync.WaitGroup
	work.Go(func() {
		if _, err := Dial(ctx, "tcp", address, client); !errors.Is(err, context.Canceled) || errors.Is(err, ErrServerKey) {
			t.Error(err)
		}
	})
	<-begun
	work.Go(func() {
		if err := dialKnown(t, address, client); err != nil {
			t.Error(err)
		}
	})
	cancel()
	work.Wait()
	if asked.Load() != 2 {
		t.Error(asked.Load())
	}
}

// Somebody else may have answered while the question stood.
func TestKnownServersAnsweredElsewhere(t *testing.T) {
	client, server := configs()
	address := listening(t, server)
	for name, c := range map[string]struct {
		line string
		want error
	}{
		"the same":    {knownLine(address, serverKeyForTest().Fingerprint()), nil},
		"another key": {knownLine(address, otherKeyForTest().Fingerprint()), ErrServerKey},
		"damaged":     {"nonsense", ErrKnownServers},
	} {
		path := filepath.Join(t.TempDir(), "known_servers")
		client.Peers = KnownServers(path, func(context.Context, string, *PublicKey) error {
			write(t, path, c.line)
			return nil
		})
		if err := dialKnown(t, address, client); !errors.Is(err, c.want) || contents(t, path) != c.line {
			t.Errorf("%s: %v; the file has %q", name, err, contents(t, path))
		}
	}
}

// A ticket is no way round the file.
func TestKnownServersTickets(t *testing.T) {
	client, server := configs()
	address := listening(t, server)
	path := filepath.Join(t.TempDir(), "known_servers")
	line := knownLine(address, serverKeyForTest().Fingerprint())
	client.Tickets = NewTicketCache(4)
	for _, c := range []struct {
		name, file string
		resumed    bool
		want       error
	}{
		{"first", line, false, nil},
		{"again", line, true, nil},
		{"line gone", "", false, ErrServerKey},
		{"line is back", line, true, nil},
		{"line changed", knownLine(address, otherKeyForTest().Fingerprint()), false, ErrServerKey},
		{"one more line", knownLine(address, otherKeyForTest().Fingerprint()) + "\n" + line, true, nil},
	} {
		write(t, path, c.file)
		client.Peers = KnownServers(path, nil)
		s, err := Dial(t.Context(), "tcp", address, client)
		if !errors.Is(err, c.want) {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err == nil {
			if s.Resumed() != c.resumed {
				t.Errorf("%s: resumed %v", c.name, s.Resumed())
			}
			s.Close()
		}
	}
}

// Client takes the address of the connection, and asks nobody.
func TestKnownServersClient(t *testing.T) {
	client, server := configs()
	address := listening(t, server)
	path := filepath.Join(t.TempDir(), "known_servers")
	client.Peers = KnownServers(path, never(t))
	connect := func() error {
		raw, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Client(t.Context(), raw, client)
		if err == nil {
			return s.Close()
		}
		if _, err := raw.Write([]byte{0}); !errors.Is(err, net.ErrClosed) {
			t.Error("the connection is open")
		}
		return err
	}
	wrong, ok := errors.AsType[*ServerKeyError](connect())
	if !ok || wrong.Offered != serverKeyForTest().Fingerprint() || len(wrong.Pinned) > 0 {
		t.Errorf("%+v", wrong)
	}
	write(t, path, knownLine(address, otherKeyForTest().Fingerprint()))
	if wrong, ok := errors.AsType[*ServerKeyError](connect()); !ok || len(wrong.Known) != 1 {
		t.Errorf("%+v", wrong)
	}
	write(t, path, "nonsense")
	if err := connect(); !errors.Is(err, ErrKnownServers) {
		t.Error(err)
	}
	write(t, path, knownLine(address, serverKeyForTest().Fingerprint()))
	if err := connect(); err != nil {
		t.Error(err)
	}
	a, b := net.Pipe()
	defer b.Close()
	if _, err := Client(t.Context(), a, client); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

func TestKnownServersFaults(t *testing.T) {
	dir := t.TempDir()
	known := func(name string) *Config { return &Config{Peers: KnownServers(filepath.Join(dir, name), yes)} }
	for _, c := range []struct{ network, address string }{
		{"unix", filepath.Join(dir, "socket")}, {"unix", "a:1"}, {"tcp", "localhost:http"}, {"tcp", "localhost"}, {"tcp", "localhost:0"},
	} {
		if _, err := Dial(t.Context(), c.network, c.address, known("k")); !errors.Is(err, ErrConfig) {
			t.Errorf("%v: %v", c, err)
		}
	}
	_, server := configs()
	server.Peers = known("k").Peers
	if _, err := Listen(t.Context(), "tcp", "127.0.0.1:0", server); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	if err := server.Peers.Recheck(t.Context()); err != nil {
		t.Error(err)
	}
	nobody := scripted(t, func(net.Conn) { t.Error("connected to, with a file that is no good") })
	write(t, filepath.Join(dir, "damaged"), "# ok\nexample.org:1 sealmux-rsa\n")
	if err := dialKnown(t, nobody, known("damaged")); !errors.Is(err, ErrKnownServers) || !strings.Contains(err.Error(), "damaged:2: ") {
		t.Error(err)
	}
	if err := dialKnown(t, nobody, &Config{Peers: KnownServers("", yes)}); !errors.Is(err, ErrKnownServers) {
		t.Error(err)
	}
	silent := scripted(t, func(c net.Conn) { c.Read(make([]byte, 1<<10)); c.Read(make([]byte, 1)) })
	slow := known("k")
	slow.HandshakeTimeout = 20 * time.Millisecond
	if err := dialKnown(t, silent, slow); !errors.Is(err, ErrHandshakeTimeout) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, "tcp", silent, known("k")); !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
	nonsense := scripted(t, func(c net.Conn) { receive(c, typeKeyRequest); send(c, newTranscript(), typeKeyOffer, []byte("no key")) })
	if err := dialKnown(t, nonsense, known("k")); !errors.Is(err, ErrHandshake) {
		t.Error(err)
	}
	// An answer that cannot be recorded is no session.
	_, server = configs()
	address := listening(t, server)
	client, _ := configs()
	write(t, filepath.Join(dir, "file"), "")
	client.Peers = KnownServers(filepath.Join(dir, "file", "known_servers"), yes)
	if err := dialKnown(t, address, client); !errors.Is(err, ErrKnownServers) {
		t.Error(err)
	}
}
