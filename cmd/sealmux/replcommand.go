package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sealmux/sealmux/rpc"
	"github.com/sealmux/sealmux/transport"
)

// errQuit is how a command leaves.
var errQuit = errors.New("quit")

// A replCommandLine is a line that begins with :, and does something here rather than being sent.
type replCommandLine struct {
	name, args, about string
	do                func(r *repl, ctx context.Context, args string) error
}

// replCommands are in the order in which :help tells them.
func replCommands() []replCommandLine {
	return []replCommandLine{
		{"call", "METHOD [JSON]", "call a method, as sealmux call does", (*repl).callLine},
		{"list", "[PREFIX]", "list the server's methods", (*repl).listLine},
		{"stats", "", "tell about the connection and its round trips", func(r *repl, _ context.Context, _ string) error { return r.printStats() }},
		{"help", "", "show this", func(r *repl, _ context.Context, _ string) error { return r.help() }},
		{"quit", "", "leave, as does the line quit", func(*repl, context.Context, string) error { return errQuit }},
	}
}

// replHelp is a line for each command.
func replHelp() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, c := range replCommands() {
		fmt.Fprintf(table, "%s\t%s\n", strings.TrimSpace(":"+c.name+" "+c.args), c.about)
	}
	table.Flush()
	return text.String()
}

// help prints that as it stands: it comes from no server, so print is not for it.
func (r *repl) help() error {
	_, err := io.WriteString(r.out, replHelp())
	return err
}

// indent makes of text what the manual pages' form takes for lines that stand as they are.
func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ") + "\n"
}

// command does what a line says after its colon.
func (r *repl) command(ctx context.Context, line string) error {
	name, args, _ := strings.Cut(strings.TrimSpace(line), " ")
	for _, c := range replCommands() {
		if c.name != name {
			continue
		}
		if args = strings.TrimSpace(args); args != "" && c.args == "" {
			return fmt.Errorf(":%s takes nothing after it", name)
		}
		return c.do(r, ctx, args)
	}
	return fmt.Errorf("there is no command :%s; :help lists them, and a text that begins with : is written with two of them", name)
}

var errOldWire = errors.New("the old wire has no methods; a line is all that it carries")

func (r *repl) callLine(ctx context.Context, args string) error {
	link, ok := r.link.(*link)
	method, input, _ := strings.Cut(args, " ")
	switch {
	case !ok:
		return errOldWire
	case method == "":
		return errors.New("name a method: :call METHOD [JSON]; :list shows those that there are")
	}
	return r.trip(func() error { return link.call(ctx, method, strings.NewReader(strings.TrimSpace(input)), printer{r}) })
}

func (r *repl) listLine(ctx context.Context, prefix string) error {
	link, ok := r.link.(*link)
	if !ok {
		return errOldWire
	}
	methods, err := link.methods(ctx, prefix)
	if err != nil {
		return err
	}
	return printMethods(r.out, methods)
}

// A printer prints lines as its repl prints replies.
type printer struct{ r *repl }

func (p printer) Write(b []byte) (int, error) {
	return len(b), p.r.print(strings.TrimSuffix(string(b), "\n"))
}

func (r *repl) printStats() error {
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("server", "%s", r.link.where())
	row("connected for", "%v", time.Since(r.since).Round(time.Second))
	if link, ok := r.link.(*link); ok {
		row("server's key", "%v", link.session.Peer().Fingerprint())
		row("own key", "%s", link.ownKey())
		row("channel", "%s", transport.Suite)
	} else {
		row("channel", "the insecure wire of the Python scripts")
	}
	t := r.trips
	row("calls", "%d, failed %d", t.sent, t.sent-t.received)
	if t.received > 0 {
		const to = time.Microsecond
		row("round trip", "min %v, mean %v, max %v", t.min.Round(to), t.average().Round(to), t.max.Round(to))
	}
	return table.Flush()
}

// completer completes what is typed after a colon: a command, or the method that it is about, of which it asks the server once.
func (r *repl) completer(ctx context.Context) func(line string) []string {
	var methods []string
	asked := false
	ask := func() []string {
		link, ok := r.link.(*link)
		if asked || !ok {
			return methods
		}
		asked = true
		bounded, cancel := context.WithTimeout(ctx, completionTimeout)
		defer cancel()
		described, err := rpc.Methods.Call(bounded, link.client, "")
		if err != nil {
			return nil
		}
		for _, m := range described.Methods {
			if strings.Map(printable, m.Name) == m.Name && !strings.ContainsAny(m.Name, " \t") { // else :call cannot name it
				methods = append(methods, m.Name)
			}
		}
		slices.Sort(methods)
		return methods
	}
	return func(line string) (found []string) {
		if !strings.HasPrefix(line, ":") {
			return []string{line + "\t"} // in a text, and one that is pasted, it is what it is
		}
		for _, c := range replCommands() {
			whole := ":" + c.name
			if c.args != "" {
				whole += " "
			}
			if strings.HasPrefix(whole, line) {
				found = append(found, whole)
			}
			if typed, ok := strings.CutPrefix(line, whole); ok && c.args != "" {
				for _, method := range ask() {
					if strings.HasPrefix(method, typed) {
						found = append(found, whole+method)
					}
				}
			}
		}
		return found
	}
}

// completionTimeout bounds how long a Tab may wait for the server's list.
const completionTimeout = 2 * time.Second
