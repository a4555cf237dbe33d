//go:build unix

package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// BenchmarkQuery is a query without work, one at a time: directly, and by each route.
func BenchmarkQuery(b *testing.B) {
	ways(b, func(b *testing.B, conn *pgx.Conn) {
		for i := 0; b.Loop(); i++ {
			var got int
			if err := conn.QueryRow(context.Background(), "select $1::int", i).Scan(&got); err != nil || got != i {
				b.Fatal(got, err)
			}
		}
	})
}

// BenchmarkCopyOut is COPY of 16 MiB out of the database.
func BenchmarkCopyOut(b *testing.B) {
	ways(b, func(b *testing.B, conn *pgx.Conn) {
		const lines, width = 16384, 1023
		b.SetBytes(lines * (width + 1))
		for b.Loop() {
			out := new(counter)
			_, err := conn.PgConn().CopyTo(context.Background(), out, "copy (select repeat('x', 1023) from generate_series(1, 16384)) to stdout")
			if err != nil || out.n != lines*(width+1) {
				b.Fatal(out.n, err)
			}
		}
	})
}

// ways runs a benchmark over each route, and without one.
func ways(b *testing.B, run func(b *testing.B, conn *pgx.Conn)) {
	b.Run("direct TCP", func(b *testing.B) {
		config, err := pgx.ParseConfig(onTCP.dsn("127.0.0.1", onTCP.port))
		if err != nil {
			b.Fatal(err)
		}
		run(b, connect(b, config))
	})
	b.Run("direct TLS", func(b *testing.B) {
		config, err := pgx.ParseConfig(strings.Replace(onTCP.dsn("127.0.0.1", onTCP.port), "sslmode=disable", "sslmode=require", 1))
		if err != nil {
			b.Fatal(err)
		}
		run(b, connect(b, config))
	})
	b.Run("direct socket", func(b *testing.B) { run(b, (&route{db: onSocket}).direct(b)) })
	for name, open := range routes {
		b.Run(name, func(b *testing.B) { run(b, open(b).connect(b)) })
	}
}
