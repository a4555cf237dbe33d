package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serveProcess starts sealmux serve with id, on addr.
func (id parties) serveProcess(t *testing.T, addr string, args ...string) (server *process, at string) {
	t.Helper()
	server = start(t, append([]string{"serve", "--listen", addr, "--key", id.server, "--authorized-keys", id.clients}, args...)...)
	at, _, err := ready(server.line(t))
	if err != nil {
		t.Fatal(err)
	}
	return server, at
}

func (id parties) forwardProcess(t *testing.T, addr string, args ...string) (client *process, at string) {
	t.Helper()
	client = start(t, append([]string{"forward", "--server-key", id.public, "--key", id.client, addr}, args...)...)
	at, err := forwardsFrom(client.line(t), false)
	if err != nil {
		t.Fatal(err)
	}
	return client, at
}

// answered sends a byte and waits for it to come back.
func answered(t *testing.T, c io.ReadWriter) {
	t.Helper()
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// TestForwardServerKilled: what the server's death cuts does not end as if that were all, and a connection that is made meanwhile waits
// for the server to be there again. Once it is another server, forward ends.
func TestForwardServerKilled(t *testing.T) {
	skipWithoutSignals(t)
	id := newParties(t)
	told := make(chan error, 10)
	target := targetOf(t, func(c net.Conn) { _, err := io.Copy(c, c); told <- err })
	server, addr := id.serveProcess(t, "127.0.0.1:0", "--allow-forward", target)
	client, local := id.forwardProcess(t, addr, "-L", "0:"+target)
	c := dialTCP(t, local)
	answered(t, c)
	server.cmd.Process.Kill()
	server.wait()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := <-told; err == nil {
		t.Error("to the target it looked as if that were all")
	}
	if err := client.stderr.says("connecting again\n"); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := exchange("tcp", local, "hello")
		waiting <- err
	}()
	server, _ = id.serveProcess(t, addr, "--allow-forward", target)
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	if err := client.stderr.says("connected again to " + addr + "\n"); err != nil {
		t.Error(err)
	}

	server.cmd.Process.Kill()
	server.wait()
	if got, err := exchange("tcp", local, "hello"); err == nil {
		t.Errorf("%q came back from nobody", got)
	}
	if err := client.stderr.says("was refused: there was no session with " + addr + " for 5s\n"); err != nil {
		t.Error(err)
	}
	other := newParties(t)
	other.clients = id.clients
	server, _ = other.serveProcess(t, addr, "--allow-forward", target)
	client.ends(t, exitIdentity, "offers the key")
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.ends(t, exitDone, "")
}

func echo(c net.Conn) { io.Copy(c, c) }

// TestForwardDrains: a signal to either side lets connections in progress end, and cuts them when the time is over, or at the second.
func TestForwardDrains(t *testing.T) {
	skipWithoutSignals(t)
	id := newParties(t)
	target := targetOf(t, echo)
	for _, c := range []struct {
		name                    string
		toServer, cut, twice    bool
		serverCode, clientCode  int
		serverSays, clientSays  string
		serverDrain, clientTime string
	}{
		{name: "the server", toServer: true, serverSays: "draining: "},
		{name: "the client", clientSays: "draining: connections in progress have 20s; a second signal cuts them\n"},
		{name: "the server, too late", toServer: true, cut: true, serverDrain: "300ms", serverCode: exitFailed, serverSays: "calls were cut after 300ms; allow them more with --drain"},
		{name: "the client, too late", cut: true, clientTime: "300ms", clientCode: exitFailed, clientSays: "connections were cut after 300ms; allow them more with --drain"},
		{name: "the client, twice", cut: true, twice: true, clientCode: -1, clientSays: "draining: "},
		{name: "the server, twice", toServer: true, cut: true, twice: true, serverCode: -1, serverSays: "draining: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			drain := func(text string) string {
				if text == "" {
					return "20s"
				}
				return text
			}
			server, addr := id.serveProcess(t, "127.0.0.1:0", "--allow-forward", target, "--drain", drain(c.serverDrain))
			client, local := id.forwardProcess(t, addr, "-L", "0:"+target, "--drain", drain(c.clientTime))
			conn := dialTCP(t, local)
			answered(t, conn)
			first, second := client, server
			if c.toServer {
				first, second = server, client
			}
			first.cmd.Process.Signal(syscall.SIGTERM)
			if err := first.stderr.says("draining: "); err != nil {
				t.Fatal(err)
			}
			if c.twice {
				first.cmd.Process.Signal(syscall.SIGTERM)
			}
			if !c.cut {
				answered(t, conn)
				conn.CloseWrite()
			}
			if n, err := conn.Read(make([]byte, 1)); n != 0 || (err == io.EOF) == c.cut || err == nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			conn.Close()
			codes := map[*process]int{server: c.serverCode, client: c.clientCode}
			says := map[*process]string{server: c.serverSays, client: c.clientSays}
			first.ends(t, codes[first], says[first])
			second.cmd.Process.Signal(syscall.SIGTERM)
			second.ends(t, codes[second], says[second])
		})
	}
}

// TestForwardNotAdmitted: forward ends when its key is not admitted any more, and says so.
func TestForwardNotAdmitted(t *testing.T) {
	skipWithoutSignals(t)
	id := newParties(t)
	target := targetOf(t, echo)
	server, addr := id.serveProcess(t, "127.0.0.1:0", "--allow-forward", target)
	client, local := id.forwardProcess(t, addr, "-L", "0:"+target)
	answered(t, dialTCP(t, local))
	if err := os.Rename(filepath.Join(id.clients, "me.pem"), filepath.Join(id.clients, "me.gone")); err != nil {
		t.Fatal(err)
	}
	server.cmd.Process.Kill()
	server.wait()
	id.serveProcess(t, addr, "--allow-forward", target)
	client.ends(t, exitIdentity, "does not admit the key")
}

// TestForwardLines: what strangers do does not fill the log.
func TestForwardLines(t *testing.T) {
	id := newParties(t)
	target, free, err := refusing()
	if err != nil {
		t.Fatal(err)
	}
	defer free()
	server, addr := id.serveProcess(t, "127.0.0.1:0", "--allow-forward", target)
	client, local := id.forwardProcess(t, addr, "-L", "0:"+target)
	begun := time.Now()
	for range 10 * maxRefusals {
		if _, err := exchange("tcp", local, "x"); err == nil {
			t.Fatal("it was forwarded")
		}
	}
	seconds := int(time.Since(begun)/time.Second) + 2
	client.cmd.Process.Signal(syscall.SIGTERM)
	client.ends(t, exitDone, "connection refused")
	if n := strings.Count(client.stderr.String(), "\n"); n > seconds*(maxRefusals+1)+1 {
		t.Errorf("%d lines", n)
	}
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.ends(t, exitDone, "")
}

// TestForwardSuccessor: while a server drains, what it carries goes on, and what comes later is carried by the one in its place.
func TestForwardSuccessor(t *testing.T) {
	id := newParties(t)
	target := targetOf(t, echo)
	old := runHere(t, id.serve("127.0.0.1:0", target).run)
	addr, _, err := ready(old.line(t))
	if err != nil {
		t.Fatal(err)
	}
	client := runHere(t, id.forwarder(t, addr, "0:"+target).run)
	local, err := forwardsFrom(client.line(t), false)
	if err != nil {
		t.Fatal(err)
	}
	early := dialTCP(t, local)
	answered(t, early)
	old.cancel()
	if err := client.errOut.says("is over: it is shutting down; connecting again\n"); err != nil {
		t.Fatal(err)
	}
	var successor *running
	for line := ""; line == ""; { // until the old one has left the address
		successor = runHere(t, id.serve(addr, target).run)
		if line, err = successor.lines.ReadString('\n'); err != nil {
			if err := <-successor.ended; !strings.Contains(err.Error(), "address already in use") {
				t.Fatal(err)
			}
		}
	}
	late := dialTCP(t, local)
	answered(t, late)
	answered(t, early)
	for _, c := range []*net.TCPConn{early, late} {
		c.CloseWrite()
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v; %s", n, err, client.errOut.String())
		}
	}
	old.ends(t)
	client.ends(t)
	successor.ends(t)
}

// TestForwardNothingShort: servers are killed under load, and whatever ends well is whole.
func TestForwardNothingShort(t *testing.T) {
	skipWithoutSignals(t)
	id := newParties(t)
	text := strings.Repeat("0123456789abcdef", 20_000)
	target := targetOf(t, func(c net.Conn) {
		if all, err := io.ReadAll(c); err == nil && len(all) == len(text) { // a question that is cut gets no answer
			c.Write(all)
		} else if err == nil && len(all) > 0 { // none, if the server was killed as it connected
			t.Errorf("the target took %d bytes for all", len(all))
		}
	})
	server, addr := id.serveProcess(t, "127.0.0.1:0", "--allow-forward", target)
	client, local := id.forwardProcess(t, addr, "-L", "0:"+target)
	stop := make(chan struct{})
	var work sync.WaitGroup
	var whole, cut atomic.Int32
	for range 8 {
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch got, err := exchange("tcp", local, text); {
				case err != nil:
					cut.Add(1)
				case got != text:
					t.Errorf("%d bytes of %d looked like all", len(got), len(text))
				default:
					whole.Add(1)
				}
			}
		})
	}
	for range 5 {
		for before := whole.Load(); whole.Load() < before+20; {
			time.Sleep(time.Millisecond)
		}
		server.cmd.Process.Kill()
		server.wait()
		server, _ = id.serveProcess(t, addr, "--allow-forward", target)
	}
	close(stop)
	work.Wait()
	client.cmd.Process.Signal(syscall.SIGTERM)
	client.ends(t, exitDone, "connected again")
	t.Logf("%d whole, %d cut", whole.Load(), cut.Load())
}
