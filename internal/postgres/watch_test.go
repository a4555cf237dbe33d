//go:build unix

package postgres

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var tables atomic.Int32

// table makes a table of that shape, for this test alone, and returns its name.
func (r *route) table(t testing.TB, columns string) string {
	t.Helper()
	name := fmt.Sprintf("t%d", tables.Add(1))
	if _, err := r.direct(t).Exec(t.Context(), "create table "+name+" ("+columns+")"); err != nil {
		t.Fatal(err)
	}
	return name
}

// running waits until the query of a connection runs.
func (r *route) running(t testing.TB, watch *pgx.Conn, pid uint32) {
	t.Helper()
	r.count(t, watch, fmt.Sprintf("state = 'active' and pid = %d", pid), 1)
}

// noneSleeps waits until the database has ended all sleeps.
func (r *route) noneSleeps(t testing.TB, watch *pgx.Conn) {
	t.Helper()
	r.count(t, watch, "state = 'active' and query like 'select pg_sleep%'", 0)
}

// count waits until the database has so many connections, other than watch, of which that is true.
func (r *route) count(t testing.TB, watch *pgx.Conn, which string, want int) {
	t.Helper()
	deadline := time.Now().Add(promptly)
	for {
		var n int
		err := watch.QueryRow(t.Context(), "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and "+which).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections with %s, want %d", n, strings.TrimSpace(which), want)
		}
		if _, err := watch.Exec(t.Context(), "select pg_sleep(0.01)"); err != nil {
			t.Fatal(err)
		}
	}
}

// A netDialer is a pq.Dialer to the network.
type netDialer struct{ net.Dialer }

func (d *netDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}
