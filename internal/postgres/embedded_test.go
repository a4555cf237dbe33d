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
		conn.SetReadDeadline(time.Now()) // nobody answers any more
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
	conn, err := d.client.OpenConn(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	return opConn{conn}, nil
}

func (d sessionDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d sessionDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// An opConn has errors as those of package net. lib/pq takes no others for the end of a connection: one that a lost session has ended would
// stay in the pool of database/sql.
type opConn struct{ net.Conn }

func (c opConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.wrap("read", err)
}

func (c opConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.wrap("write", err)
}

func (c opConn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "sealmux", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
