package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Commands of the scripts about forwarding, which TestScripts has too:
//
//	target NAME KIND             listen on a TCP port as a target to forward to: whole (reads to the end, then writes it all back and ends),
//	                             absent (it refuses); set $NAME
//	forwarder NAME ARG...        start sealmux forward ARG..., wait until it is ready, set $FORWARD and $FORWARD2 to where it listens
//	tcp NETWORK ADDR TEXT        connect, write TEXT, end that, and read TEXT to the end; with ! there must be an error in place of an end
//	awaits NAME TEXT             wait until that server or forwarder has written TEXT to its stderr
func init() {
	scriptCommands["target"] = cmdTarget
	scriptCommands["forwarder"] = cmdForwarder
	scriptCommands["tcp"] = cmdTCP
	scriptCommands["awaits"] = cmdAwaits
}

func cmdTarget(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: target NAME KIND")
	}
	if args[1] == "absent" {
		addr, free, err := refusing()
		ts.Check(err)
		ts.Defer(free)
		ts.Setenv(args[0], addr)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	serve(ts, l, func() error {
		c, err := l.Accept()
		if err == nil {
			go func() {
				defer c.Close()
				all, err := io.ReadAll(c)
				if err == nil {
					c.Write(all)
				}
			}()
		}
		return err
	})
}

// refusing returns an address to which nobody can connect, and that nobody else is given until it is freed: the near end of a
// connection.
func refusing() (addr string, free func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.Close()
		return "", nil, err
	}
	return c.LocalAddr().String(), func() { c.Close(); l.Close() }, nil
}

func cmdForwarder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: forwarder NAME ARG...")
	}
	p, err := startProcess(ts.MkAbs("."), nil, append([]string{"forward"}, args[1:]...)...)
	ts.Check(err)
	ts.Defer(p.kill)
	servers(ts)[args[0]] = p
	names := []string{"FORWARD", "FORWARD2"}
	for i := range strings.Count(strings.Join(args, " "), "-L ") {
		line, err := p.stdout.ReadString('\n')
		if err != nil {
			p.wait()
			ts.Fatalf("forward did not become ready: %s", p.stderr.String())
		}
		addr, err := forwardsFrom(line, slices.Contains(args, "--json"))
		ts.Check(err)
		ts.Setenv(names[i], addr)
	}
}

// forwardsFrom reads a line that forward prints.
func forwardsFrom(line string, asJSON bool) (addr string, err error) {
	if asJSON {
		var ready struct{ Event, Addr, Target string }
		if err := json.Unmarshal([]byte(line), &ready); err != nil || ready.Target == "" {
			return "", fmt.Errorf("forward printed %q: %v", line, err)
		}
		return ready.Addr, nil
	}
	words := strings.Fields(line)
	if len(words) != 4 || words[0] != "forwarding" || words[2] != "->" {
		return "", fmt.Errorf("forward printed %q", line)
	}
	return words[1], nil
}

func cmdTCP(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: tcp NETWORK ADDR TEXT")
	}
	address := args[1]
	if args[0] == "unix" {
		address = ts.MkAbs(address)
	}
	got, err := exchange(args[0], address, args[2])
	switch {
	case neg && err == nil:
		ts.Fatalf("it ended well, with %q", got)
	case !neg && (err != nil || got != args[2]):
		ts.Fatalf("got %q, %v", got, err)
	}
}

// exchange writes text, ends that, and reads to the end.
func exchange(network, addr, text string) (string, error) {
	c, err := net.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = io.WriteString(c, text)
	err = errors.Join(err, closeWrite(c)) // a reset is told once
	all, readErr := io.ReadAll(c)
	return string(all), errors.Join(err, readErr)
}

func cmdAwaits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || servers(ts)[args[0]] == nil {
		ts.Fatalf("usage: awaits NAME TEXT")
	}
	if err := servers(ts)[args[0]].stderr.says(args[1]); err != nil {
		ts.Fatalf("%v", err)
	}
}

// says waits until text was written.
func (w *written) says(text string) error {
	for limit := time.Now().Add(30 * time.Second); !strings.Contains(w.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			return fmt.Errorf("%q is not in what it wrote: %s", text, w.String())
		}
	}
	return nil
}

// What a process has written may be looked at while it runs.
type written struct {
	mu   sync.Mutex // protects text
	text strings.Builder
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
