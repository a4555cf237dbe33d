//go:build unix

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"

	"github.com/sealmux/sealmux/internal/faultnet"
	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/rpc/cluster"
	"github.com/sealmux/sealmux/transport"
)

// A route is a way to a database through a session.
type route struct {
	db       *database
	dsn      string
	client   rpc.Caller // the drivers dial through it; nil: they use TCP, to a sealmux forward
	line     *faultnet.Proxy
	sessions *atomic.Int32 // that were made
	only     bool          // there is no session but the first
}

// routes are all of them, each with processes or a server and a client of its own.
var routes = map[string]func(t testing.TB) *route{
	"sealmux forward": forwarded,
	"rpc.Client": func(t testing.TB) *route {
		r := embedded(t, newClient)
		r.only = true
		return r
	},
	"cluster.Client": func(t testing.TB) *route { return embedded(t, newCluster) },
}

// each runs a check on every route.
func each(t *testing.T, check func(t *testing.T, r *route)) {
	for name, open := range routes {
		t.Run(name, func(t *testing.T) {
			check(t, open(t))
		})
	}
}

// overLine puts a line that can be cut in front of a server, and counts the sessions that come over it. It returns where to connect.
func (r *route) overLine(t testing.TB, server string) string {
	t.Helper()
	if _, measured := t.(*testing.B); measured {
		return server
	}
	r.sessions = new(atomic.Int32)
	var err error
	r.line, err = faultnet.NewProxy(server, func(int) (up, down faultnet.Line) {
		r.sessions.Add(1)
		return
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.line.Close)
	return r.line.Addr()
}

// embedded is a server in this process, whose database is on no network.
func embedded(t testing.TB, connect func(t testing.TB, addr string, config *transport.Config) rpc.Caller) *route {
	t.Helper()
	key, err := transport.GenerateKey(transport.MinKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := transport.Listen(context.Background(), "tcp", "127.0.0.1:0", &transport.Config{
		Keys: []*transport.PrivateKey{key}, Peers: transport.AnyClient(), Protocol: rpc.Protocol})
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.NewServer(rpc.Options{})
	handleDatabase(srv, onSocket.socket())
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(context.Background(), srv, listener) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-served; !errors.Is(err, rpc.ErrServerClosed) {
			t.Error(err)
		}
	})
	r := &route{db: onSocket, dsn: onSocket.dsn("database", 5432)}
	addr := r.overLine(t, listener.Addr().String())
	r.client = connect(t, addr, &transport.Config{Peers: transport.Pin(key.Public()), Protocol: rpc.Protocol})
	return r
}

// newClient is one session, without another behind it.
func newClient(t testing.TB, addr string, config *transport.Config) rpc.Caller {
	t.Helper()
	session, err := transport.Dial(t.Context(), "tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	client := rpc.NewClient(session, rpc.Options{})
	t.Cleanup(func() { client.Close() })
	return client
}

// newCluster connects again when a session is lost.
func newCluster(t testing.TB, addr string, config *transport.Config) rpc.Caller {
	t.Helper()
	client := cluster.New(cluster.Static(addr), cluster.Options{Dial: cluster.DialTransport("tcp", config)})
	t.Cleanup(func() { client.Close() })
	return client
}

// config is how pgx takes the route.
func (r *route) config(t testing.TB) *pgx.ConnConfig {
	t.Helper()
	config, err := pgx.ParseConfig(r.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if r.client != nil {
		throughSession(config, r.client)
	}
	return config
}

func (r *route) connect(t testing.TB) *pgx.Conn {
	t.Helper()
	return connect(t, r.config(t))
}

func connect(t testing.TB, config *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func (r *route) pool(t testing.TB, most int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(r.dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = most
	if r.client != nil {
		throughSession(config.ConnConfig, r.client)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// pq is how lib/pq takes the route.
func (r *route) pq(t testing.TB) *sql.DB {
	t.Helper()
	connector, err := pq.NewConnector(r.dsn)
	if err != nil {
		t.Fatal(err)
	}
	if r.client != nil {
		connector.Dialer(sessionDialer{r.client})
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// direct is a connection on no session, to see what the database sees.
func (r *route) direct(t testing.TB) *pgx.Conn {
	t.Helper()
	number := r.db.port
	if number == 0 {
		number = socketPort
	}
	config, err := pgx.ParseConfig(r.db.dsn(r.db.dir, number))
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, config)
}

// forwarded is sealmux serve and sealmux forward, as processes.
func forwarded(t testing.TB) *route {
	t.Helper()
	r := &route{db: onTCP}
	keys := newKeys(t)
	server := start(t, "serve", "--listen", "127.0.0.1:0", "--key", keys.serverPrivate, "--authorized-keys", keys.authorized,
		"--allow-forward", onTCP.address())
	addr := r.overLine(t, server.ready(t, "listening on "))
	client := start(t, "forward", "--server-key", keys.serverPublic, "--key", keys.clientPrivate, addr, "-L", "0:"+onTCP.address())
	host, port, err := net.SplitHostPort(client.ready(t, "forwarding "))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	r.dsn = onTCP.dsn(host, number)
	return r
}
