//go:build unix

package postgres

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sealmux/sealmux/rpc"
)

// TestOnNoNetwork: what the sessions reach listens on its socket alone.
func TestOnNoNetwork(t *testing.T) {
	r := embedded(t, newClient)
	var listens string
	if err := r.connect(t).QueryRow(t.Context(), "show listen_addresses").Scan(&listens); err != nil || listens != "" {
		t.Errorf("%q, %v", listens, err)
	}
}

// TestNoDatabase: a driver is told why there is no connection.
func TestNoDatabase(t *testing.T) {
	srv := rpc.NewServer(rpc.Options{})
	handleDatabase(srv, filepath.Join(t.TempDir(), "absent"))
	a, b := rpc.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeSession(context.Background(), a) }()
	client := rpc.NewClient(b, rpc.Options{})
	defer func() {
		client.Close()
		<-ended
	}()
	config, err := pgx.ParseConfig(onSocket.dsn("database", 5432))
	if err != nil {
		t.Fatal(err)
	}
	throughSession(config, client)
	_, err = pgx.ConnectConfig(t.Context(), config)
	if !errors.Is(err, rpc.Unavailable) || !strings.Contains(err.Error(), "the database does not answer") {
		t.Error(err)
	}
}

// TestWrongPassword: what the database refuses comes as the database said it.
func TestWrongPassword(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		config := r.config(t)
		config.Password += "x"
		_, err := pgx.ConnectConfig(t.Context(), config)
		if err == nil || !strings.Contains(err.Error(), "28P01") {
			t.Error(err)
		}
	})
}
