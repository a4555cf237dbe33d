//go:build unix

package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

// TestTransactions: what is committed is there, what is rolled back is not, and a failed statement spoils its transaction alone.
func TestTransactions(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		conn, other := r.connect(t), r.pq(t)
		table := r.table(t, "id int primary key, who text")
		write := func(id int, who string) func(pgx.Tx) error {
			return func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), "insert into "+table+" values ($1, $2)", id, who)
				return err
			}
		}
		if err := pgx.BeginFunc(t.Context(), conn, write(1, "committed ✓")); err != nil {
			t.Fatal(err)
		}
		var failed *pgconn.PgError
		if err := pgx.BeginFunc(t.Context(), conn, write(1, "twice")); !errors.As(err, &failed) || failed.Code != "23505" {
			t.Errorf("a duplicate key: %v", err)
		}
		regret := errors.New("rolled back")
		if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			return errors.Join(write(2, "rolled back")(tx), regret)
		}); !errors.Is(err, regret) {
			t.Fatal(err)
		}
		tx, err := other.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var who string
		if err := tx.QueryRow("select who from "+table+" where id = $1 for update", 1).Scan(&who); err != nil || who != "committed ✓" {
			t.Errorf("%q, %v", who, err)
		}
		if _, err := tx.Exec("insert into "+table+" values (3, $1)", "lib/pq"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		rows, _ := conn.Query(t.Context(), "select id from "+table+" order by id")
		if ids, err := pgx.CollectRows(rows, pgx.RowTo[int]); err != nil || fmt.Sprint(ids) != "[1 3]" {
			t.Errorf("ids %v, %v", ids, err)
		}
	})
}

// copied is how many rows of how many bytes TestCopy copies: 6 MiB, each way.
const copied, rowSize = 6144, 1024

// TestCopy: COPY of some MiB in and out, and every byte is there, in order.
func TestCopy(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	sent := make([][]byte, copied)
	sum := sha256.New()
	for i := range sent {
		sent[i] = make([]byte, rowSize)
		random.Read(sent[i])
		sum.Write(sent[i])
	}
	want := sum.Sum(nil)
	each(t, func(t *testing.T, r *route) {
		conn, other := r.connect(t), r.pq(t)
		byPgx, byPq := r.table(t, "id int, data bytea"), r.table(t, "id int, data bytea")
		n, err := conn.CopyFrom(t.Context(), pgx.Identifier{byPgx}, []string{"id", "data"}, pgx.CopyFromSlice(len(sent), func(i int) ([]any, error) {
			return []any{i, sent[i]}, nil
		}))
		if n != copied || err != nil {
			t.Fatalf("pgx: %d of %d rows, %v", n, copied, err)
		}
		tx, err := other.Begin()
		if err != nil {
			t.Fatal(err)
		}
		in, err := tx.Prepare("copy " + byPq + " (id, data) from stdin")
		if err != nil {
			t.Fatal(err)
		}
		for i, data := range sent {
			if _, err := in.Exec(i, data); err != nil {
				t.Fatal(err)
			}
		}
		_, err = in.Exec()
		if err := errors.Join(err, in.Close(), tx.Commit()); err != nil {
			t.Fatal("lib/pq: ", err)
		}
		for _, table := range []string{byPgx, byPq} {
			rows, err := other.Query("select data from " + table + " order by id")
			if err != nil {
				t.Fatal(err)
			}
			got := sha256.New()
			for data := []byte(nil); rows.Next(); got.Write(data) {
				if err := rows.Scan(&data); err != nil {
					t.Fatal(err)
				}
			}
			if err := rows.Err(); err != nil || !bytes.Equal(got.Sum(nil), want) {
				t.Errorf("%s came back otherwise, %v", table, err)
			}
			out := new(counter)
			tag, err := conn.PgConn().CopyTo(t.Context(), out, "copy (select data from "+table+" order by id) to stdout")
			if most := int64(copied * (2*rowSize + 4)); tag.RowsAffected() != copied || out.n != most || err != nil { // \\x, hex, a line's end
				t.Errorf("%s: copied %d rows and %d bytes out, want %d and %d: %v", table, tag.RowsAffected(), out.n, copied, most, err)
			}
		}
	})
}

// A counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// TestNotify: what one connection notifies another hears, without asking.
func TestNotify(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		hears, says := r.connect(t), r.pq(t)
		var dialer pq.Dialer = &netDialer{}
		if r.client != nil {
			dialer = sessionDialer{r.client}
		}
		listener := pq.NewDialListener(dialer, r.dsn, time.Second, time.Minute, nil)
		defer listener.Close()
		if err := listener.Listen("news"); err != nil {
			t.Fatal(err)
		}
		if _, err := hears.Exec(t.Context(), "listen news"); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"first", "第二"} {
			if _, err := says.Exec("select pg_notify('news', $1)", text); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if got, err := hears.WaitForNotification(ctx); err != nil || got.Payload != text {
				t.Fatalf("pgx heard %+v, %v", got, err)
			}
			select {
			case got := <-listener.Notify:
				if got == nil || got.Extra != text {
					t.Fatalf("lib/pq heard %+v", got)
				}
			case <-ctx.Done():
				t.Fatal("lib/pq heard nothing")
			}
		}
	})
}

// TestCancelRequest: a query is cancelled by a second connection, and the first goes on.
func TestCancelRequest(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		conn, watch := r.connect(t), r.direct(t)
		result := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), "select pg_sleep(3600)")
			result <- err
		}()
		r.running(t, watch, conn.PgConn().PID())
		if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-result; !isCanceled(err) {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// isCanceled reports whether the database says that a query was cancelled.
func isCanceled(err error) bool {
	var pgx *pgconn.PgError
	var libpq *pq.Error
	return errors.As(err, &pgx) && pgx.Code == "57014" || errors.As(err, &libpq) && libpq.Code == "57014"
}

// TestTerminated: the database ends a connection, says why, and the pools make others.
func TestTerminated(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		pool, db, watch := r.pool(t, 2), r.pq(t), r.direct(t)
		one, err := db.Conn(t.Context()) // a DB would have the query run again, on another connection
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error, 2)
		go func() {
			_, err := pool.Exec(t.Context(), "select pg_sleep(3600)")
			results <- err
		}()
		go func() {
			_, err := one.ExecContext(t.Context(), "select pg_sleep(3600)")
			results <- err
		}()
		const asleep = "state = 'active' and query like 'select pg_sleep%'"
		r.count(t, watch, asleep, 2)
		if _, err := watch.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and "+asleep); err != nil {
			t.Fatal(err)
		}
		for range cap(results) {
			// lib/pq makes driver.ErrBadConn of it
			if err := <-results; err == nil || !strings.Contains(err.Error(), "57P01") && !errors.Is(err, driver.ErrBadConn) {
				t.Error(err)
			}
		}
		one.Close()
		if err := errors.Join(pool.Ping(t.Context()), db.PingContext(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// promptly is far less than the sleeps in the queries, and far more than a busy machine takes.
const promptly = 30 * time.Second

// TestTimeout: a context's end ends the wait for a query that sleeps, and then the query itself.
func TestTimeout(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		pool, db, watch := r.pool(t, 2), r.pq(t), r.direct(t)
		for name, sleep := range map[string]func(ctx context.Context) error{
			"pgx":    func(ctx context.Context) error { _, err := pool.Exec(ctx, "select pg_sleep(3600)"); return err },
			"lib/pq": func(ctx context.Context) error { _, err := db.ExecContext(ctx, "select pg_sleep(3600)"); return err },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			begun := time.Now()
			err := sleep(ctx)
			took := time.Since(begun)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) && !isCanceled(err) || took > promptly {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		}
		r.noneSleeps(t, watch)
		if err := errors.Join(pool.Ping(t.Context()), db.PingContext(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// TestPool: fifty connections at once, all on one session.
func TestPool(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		const most = 50
		pool := r.pool(t, most)
		type answer struct {
			pid uint32
			err error
		}
		answers, all := make(chan answer, most), make(chan struct{})
		for i := range most {
			go func() {
				conn, err := pool.Acquire(t.Context())
				if err != nil {
					answers <- answer{0, err}
					return
				}
				defer conn.Release()
				var echo int
				if err := conn.QueryRow(t.Context(), "select $1::int from pg_sleep(0.01)", i).Scan(&echo); err != nil || echo != i {
					err = fmt.Errorf("%d came back as %d: %w", i, echo, err)
					answers <- answer{0, err}
					return
				}
				answers <- answer{conn.Conn().PgConn().PID(), nil}
				<-all // each holds its connection until every other has one
			}()
		}
		pids := make(map[uint32]bool)
		for range most {
			a := <-answers
			if a.err != nil {
				t.Error(a.err)
			}
			pids[a.pid] = true
		}
		close(all)
		if len(pids) != most || r.sessions.Load() != 1 {
			t.Errorf("%d connections on %d sessions, want %d on 1", len(pids), r.sessions.Load(), most)
		}
	})
}

// TestCut: the session is cut in the midst of queries. Each fails at once, the database ends those that nobody waits for, and where
// something connects again the pools go on.
func TestCut(t *testing.T) {
	each(t, func(t *testing.T, r *route) {
		pool, db, watch := r.pool(t, 4), r.pq(t), r.direct(t)
		results := make(chan error, 3)
		go func() {
			_, err := pool.Exec(t.Context(), "select pg_sleep(3600)")
			results <- err
		}()
		go func() {
			_, err := db.ExecContext(t.Context(), "select pg_sleep(3600)")
			results <- err
		}()
		go func() { // rows without end
			rows, err := pool.Query(t.Context(), "select repeat('x', 1000) from generate_series(1, 1000000000)")
			for err == nil && rows.Next() {
			}
			if err == nil {
				err = rows.Err()
			}
			results <- err
		}()
		r.count(t, watch, "state = 'active' and query ~ '^select (pg_sleep|repeat)'", 3)
		r.line.Cut()
		for range cap(results) {
			if err := <-results; err == nil {
				t.Error("a query that was cut has ended well")
			}
		}
		r.count(t, watch, "query ~ '^select (pg_sleep|repeat)'", 0)
		if r.only {
			return // nothing connects again, nor promises to
		}
		var one int
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := errors.Join(pool.QueryRow(ctx, "select 1").Scan(&one), db.QueryRowContext(ctx, "select 1").Scan(&one)); err != nil {
			t.Error(err)
		}
		if n := r.sessions.Load(); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
	})
}
