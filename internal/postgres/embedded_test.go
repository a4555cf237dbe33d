//go:build unix

package postgres

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sealmux/sealmux/rpc"
)

// handleDatabase has srv hand the connections of method "postgres" to the database at a Unix socket, which so need be on no network.
func handleDatabase(srv *rpc.Server, socket string) {
	rpc.HandleConn(srv, "postgres", func(ctx context.Context, conn net.Conn) error {
		var dialer net.Dialer
		db, err := dialer.DialContext(ctx, "unix", socket)
		if err != nil {
			return rpc.Errorf(rpc.Unavailable, "the database does not answer: %w", err)
		}
		defer context.AfterFunc(ctx, func() { db.Close() })()
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			if _, err := io.Copy(db, conn); err != nil {
				db.Close() // the caller is gone
			}
			db.(*net.UnixConn).CloseWrite()
		}()
		_, err = io.Copy(conn, db)
		conn.Close()
		<-asked
		db.Close()
		return err
	})
}

// throughSession has pgx reach the database through a session.
func throughSession(config *pgx.ConnConfig, client rpc.Caller) {
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return client.OpenConn(ctx, "postgres")
	}
}

// A sessionDialer is that for lib/pq: a pq.Dialer.
type sessionDialer struct{ client rpc.Caller }

func (d sessionDialer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	return d.client.OpenConn(ctx, "postgres")
}

func (d sessionDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d sessionDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}
