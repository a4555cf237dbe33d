//go:build unix

package postgres

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A database is a PostgreSQL server of its own, in a temporary folder.
type database struct {
	dir      string // its data and its socket
	password string // of the user below
	port     int    // on loopback; 0: it listens on its Unix socket alone

	process *exec.Cmd      // holder, and the server as its child
	hold    io.WriteCloser // ends the server when it is closed
	ended   chan error     // what Wait said
}

const (
	databaseUser = "sealmux"
	databaseName = "postgres"
	socketPort   = 5432 // the number in the socket's name, of a server without a port
	install      = "apt-get install -y --no-install-recommends postgresql"
)

// startDatabase makes a database and waits until it takes connections.
func startDatabase(onTCP bool) (db *database, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	as, err := owner()
	if err != nil {
		return nil, err
	}
	db = &database{password: rand.Text()}
	if db.dir, err = os.MkdirTemp("", "sealmux-pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(db.dir)
		}
	}()
	secret := filepath.Join(db.dir, "password")
	if err := os.WriteFile(secret, []byte(db.password), 0o600); err != nil {
		return nil, err
	}
	if err := writeCertificate(db.certificate()); err != nil {
		return nil, err
	}
	if as != nil {
		for _, path := range []string{db.dir, secret, db.certificate()} {
			if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
				return nil, err
			}
		}
	}
	initdb := command(as, db.dir, filepath.Join(bin, "initdb"), "--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
		"--username="+databaseUser, "--pwfile="+secret, "--pgdata="+db.data())
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	for range 10 { // a port that was free a moment ago may be taken
		if err = db.start(bin, as, onTCP); !errors.Is(err, errPortTaken) {
			return db, err
		}
	}
	return nil, err
}

// programs is the folder of Debian's newest initdb and postgres.
func programs() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	newest, best := "", 0
	for _, path := range found {
		bin := filepath.Dir(path)
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin))); err == nil && n > best {
			newest, best = bin, n
		}
	}
	if newest == "" {
		return "", errors.New("there is no PostgreSQL below /usr/lib/postgresql; as root, " + install)
	}
	return newest, nil
}

// owner is whom PostgreSQL runs as, since it refuses root; nil is oneself.
func owner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w; as root, %s", err, install)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

func command(as *syscall.Credential, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	return cmd
}

// holder runs the server given as its arguments, and ends it ("fast") when its own input ends: so also when a test dies that is stuck.
const holder = `"$@" & server=$!; exec 2>&-; read -r never; kill -INT $server; wait $server`

var errPortTaken = errors.New("the port is taken")

// start starts the server, and reads its log until it is ready.
func (db *database) start(bin string, as *syscall.Credential, onTCP bool) error {
	listen, number := "", socketPort
	if onTCP {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		number = l.Addr().(*net.TCPAddr).Port
		l.Close()
		listen, db.port = "127.0.0.1", number
	}
	db.process = command(as, db.dir, "/bin/sh", "-c", holder, "holder", filepath.Join(bin, "postgres"), "-D", db.data(), "-k", db.dir, "-p", strconv.Itoa(number),
		"-c", "listen_addresses="+listen, "-c", "max_connections=200", "-c", "fsync=off", "-c", "log_checkpoints=off", "-c", "shared_buffers=32MB",
		"-c", "ssl=on", "-c", "ssl_cert_file="+db.certificate(), "-c", "ssl_key_file="+db.certificate(),
		"-c", "client_connection_check_interval=100ms") // so that a query ends whose client is gone
	db.process.SysProcAttr.Setpgid = true // an interrupt at the terminal is the test's, which ends the server
	log, err := db.process.StderrPipe()
	if err == nil {
		db.hold, err = db.process.StdinPipe()
	}
	if err == nil {
		err = db.process.Start()
	}
	if err != nil {
		return err
	}
	lines := bufio.NewReader(log)
	var said bytes.Buffer
	for {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if strings.Contains(line, "ready to accept connections") {
			break
		}
		if err != nil {
			db.hold.Close()
			err := fmt.Errorf("postgres: %w: %s", db.process.Wait(), &said)
			if strings.Contains(said.String(), "Address already in use") {
				err = errors.Join(errPortTaken, err)
			}
			return err
		}
	}
	db.ended = make(chan error, 1)
	go func() { // ends with the server; stop waits
		io.Copy(io.Discard, lines)
		db.ended <- db.process.Wait()
	}()
	return nil
}

// stop shuts the server down, cutting the connections that are left.
func (db *database) stop() error {
	defer os.RemoveAll(db.dir)
	db.hold.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	select {
	case err := <-db.ended:
		return err
	case <-ctx.Done():
		syscall.Kill(-db.process.Process.Pid, syscall.SIGQUIT) // "immediate"
		return errors.Join(errors.New("postgres did not shut down within a minute"), <-db.ended)
	}
}

func (db *database) data() string { return filepath.Join(db.dir, "data") }

// certificate is the path of its certificate and the key to that, for who reaches it by TLS to compare.
func (db *database) certificate() string { return filepath.Join(db.dir, "server.pem") }

// socket is the path of its Unix socket.
func (db *database) socket() string {
	number := db.port
	if number == 0 {
		number = socketPort
	}
	return filepath.Join(db.dir, ".s.PGSQL."+strconv.Itoa(number))
}

// address is where it listens on loopback.
func (db *database) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(db.port)) }

// dsn is how a driver reaches it, at an address that stands for it.
func (db *database) dsn(host string, port int) string {
	return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", host, port, databaseUser, db.password, databaseName)
}
