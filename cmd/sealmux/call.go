package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/internal/jsonmsg"
	"github.com/sealmux/sealmux/rpc"
)

// maxInput is the longest JSON text of one message that call reads, in bytes. A message is at most rpc.DefaultMaxMessage.
const maxInput = 16 << 20

func callCommand() *cobra.Command {
	var d dialer
	cmd := &cobra.Command{
		Use:   "call [--server-key FILE|SHA256:...] [--key FILE] [--timeout TIME] ADDR METHOD [JSON|@FILE|-]",
		Short: "Call a method with JSON and print its reply as JSON",
		Long: "call asks the server for the shapes of the method's messages, makes a message of the JSON, and prints the reply\n" +
			"as one line of JSON; of a method that streams, a line for each message. @FILE reads the JSON from a file and - from\n" +
			"the standard input; for a method that takes a stream, each line of that is a message. Without JSON it sends null.\n" +
			"Binary is base64 in JSON, a time is RFC 3339 text. sealmux list shows the methods and their shapes.",
		Example: "  sealmux call --server-key server/public.pem 127.0.0.1:7443 kv.Get '{\"Key\": \"a\"}'\n" +
			"  sealmux call --server-key server/public.pem 127.0.0.1:7443 kv.Load - < items.jsonl",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) < 2:
				return usagef("name the server's address, HOST:PORT, and the method")
			case len(args) > 3:
				return usagef("give the message as one argument; quote the JSON")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			input := ""
			if len(args) == 3 {
				input = args[2]
			}
			return callMethod(cmd.Context(), &d, args[0], args[1], input, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	d.addFlags(cmd)
	return cmd
}

func listCommand() *cobra.Command {
	var d dialer
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [--server-key FILE|SHA256:...] [--key FILE] [--timeout TIME] [--json] ADDR [PREFIX]",
		Short: "List a server's methods and the shapes of their messages",
		Long: "list shows the methods whose names begin with PREFIX, or all, their forms, and the shapes of their messages, as sealmux\n" +
			"call takes and prints them: NAME{...} is an object of JSON with those fields, told once; [] before a type is an array,\n" +
			"map[text] an object with any fields, text a string, binary a string in base64, time one such as 2026-11-23T20:00:00Z.\n\n" +
			"What begins with sealmux. is there on every server. A server without methods of its own, such as sealmux serve, answers\n" +
			"to every other name with the echo, and does not list that.",
		Example: "  sealmux list --server-key server/public.pem 127.0.0.1:7443\n" +
			"  sealmux list --server-key server/public.pem 127.0.0.1:7443 kv.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usagef("name the server's address, HOST:PORT, and at most one prefix of names")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(args[0]); err != nil {
				return err
			}
			prefix := ""
			if len(args) == 2 {
				prefix = args[1]
			}
			print := printMethods
			if asJSON {
				print = printMethodsJSON
			}
			return list(cmd.Context(), &d, args[0], prefix, cmd.OutOrStdout(), cmd.ErrOrStderr(), print)
		},
	}
	d.addFlags(cmd)
	addJSON(cmd, &asJSON)
	return cmd
}

func list(ctx context.Context, d *dialer, addr, prefix string, out, errOut io.Writer, print func(io.Writer, *rpc.Description) error) error {
	link, err := d.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer link.close()
	methods, err := link.methods(ctx, prefix)
	if err != nil {
		return err
	}
	if len(methods.Methods) == 0 {
		fmt.Fprintf(errOut, "the server at %s has no method that begins with %s\n", addr, strings.Map(printable, prefix))
	}
	return print(out, methods)
}

func printMethodsJSON(out io.Writer, methods *rpc.Description) error {
	for _, m := range methods.Methods {
		line := struct {
			Name    string `json:"name"`
			Form    string `json:"form"`
			Request string `json:"request,omitempty"`
			Reply   string `json:"reply,omitempty"`
		}{Name: m.Name, Form: m.Form}
		if m.Form != "conn" {
			line.Request, line.Reply = methods.String(m.Request), methods.String(m.Reply)
		}
		if err := printJSON(out, line); err != nil {
			return err
		}
	}
	return nil
}

func printMethods(out io.Writer, methods *rpc.Description) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, m := range methods.Methods {
		request, reply := "", ""
		if m.Form != "conn" {
			request, reply = methods.String(m.Request), "-> "+methods.String(m.Reply)
		}
		row := fmt.Sprintf("%s\t%s\t%s\t%s", m.Name, m.Form, request, reply)
		fmt.Fprintln(table, strings.Map(printable, strings.TrimRight(row, "\t")))
	}
	return table.Flush()
}

// printable keeps what a peer put into a text from moving the cursor, ending the line or turning its order around.
func printable(r rune) rune {
	if r != '\t' && unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
		return '?'
	}
	return r
}

// methods asks the server for its methods under a prefix.
func (l *link) methods(ctx context.Context, prefix string) (*rpc.Description, error) {
	bounded, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	d, err := rpc.Methods.Call(bounded, l.client, prefix)
	if errors.Is(err, rpc.Unimplemented) {
		return nil, fmt.Errorf("the server at %s %w", l.addr, errHidden)
	}
	return &d, l.callError(ctx, err)
}

var errHidden = errors.New("does not tell its methods")

// callMethod makes one call, of whatever form the method is.
func callMethod(ctx context.Context, d *dialer, addr, name, input string, in io.Reader, out io.Writer) error {
	source, err := openInput(input, in)
	if err != nil {
		return err
	}
	defer source.Close()
	link, err := d.dial(ctx, addr)
	if err != nil {
		return err
	}
	defer link.close()
	return link.call(ctx, name, source, out)
}

// call calls a method with JSON, and prints JSON.
func (l *link) call(ctx context.Context, name string, source io.Reader, out io.Writer) error {
	described, err := l.methods(ctx, name)
	if errors.Is(err, errHidden) {
		described, err = &rpc.Description{}, nil
	}
	if err != nil {
		return err
	}
	c := caller{link: l, types: described, out: out}
	c.method, _ = find(described, name)
	switch c.method.Form {
	case "unary", "server stream":
		text, err := io.ReadAll(io.LimitReader(source, maxInput+1))
		if err != nil {
			return err
		}
		if len(text) > maxInput {
			return fmt.Errorf("the JSON is longer than %d bytes", maxInput)
		}
		body, err := jsonmsg.From(described, c.method.Request, text)
		if err != nil {
			return err
		}
		if c.method.Form == "unary" {
			return c.unary(ctx, body)
		}
		return c.stream(ctx, body, nil)
	case "client stream", "bidi":
		return c.stream(ctx, nil, source)
	}
	return fmt.Errorf("%s is a connection, not a method to call with JSON", name)
}

// find returns the method of that name, and whether the server told of it. A server on which nothing is registered tells of none, and
// answers any with an echo.
func find(d *rpc.Description, name string) (m rpc.MethodInfo, told bool) {
	for _, m := range d.Methods {
		if m.Name == name {
			return m, true
		}
	}
	d.Types = append(d.Types, rpc.Shape{Kind: "any"})
	any := len(d.Types) - 1
	return rpc.MethodInfo{Name: name, Form: "unary", Request: any, Reply: any}, false
}

// openInput returns the JSON that an argument names.
func openInput(input string, in io.Reader) (io.ReadCloser, error) {
	switch {
	case input == "-":
		return io.NopCloser(in), nil
	case strings.HasPrefix(input, "@"):
		f, err := os.Open(input[1:])
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no file %s", input[1:])
		}
		return f, err
	}
	return io.NopCloser(strings.NewReader(input)), nil
}

// A caller makes a call of one method.
type caller struct {
	link   *link
	types  *rpc.Description
	method rpc.MethodInfo
	out    io.Writer
}

func (c *caller) unary(ctx context.Context, body rpc.Raw) error {
	bounded, cancel := context.WithTimeout(ctx, c.link.timeout)
	defer cancel()
	resp, err := c.link.client.Do(bounded, &rpc.Request{Method: c.method.Name, Body: body})
	if err != nil {
		return c.failed(ctx, err)
	}
	return c.print(resp.Body)
}

// stream sends body, or a message for each line of source, and prints what comes back meanwhile.
func (c *caller) stream(ctx context.Context, body rpc.Raw, source io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.link.client.Open(ctx, &rpc.Request{Method: c.method.Name, Body: body})
	if err != nil {
		return c.failed(ctx, err)
	}
	defer s.Close()
	sent := make(chan error, 1)
	if body == nil {
		go func() { // ends with the stream; a read of the standard input ends with the process
			err := c.send(s, source)
			sent <- err // first: whom Close wakes looks there
			if err != nil {
				s.Close()
			}
		}()
	}
	for {
		message, err := s.Recv()
		if err == nil {
			err = c.print(message)
		} else if err == io.EOF {
			return nil
		} else {
			select {
			case mine := <-sent: // what is wrong with the input is said rather than that the stream was closed
				if mine != nil {
					return mine
				}
			default:
			}
			err = c.failed(ctx, err)
		}
		if err != nil {
			return err
		}
	}
}

// send makes a message of each line.
func (c *caller) send(s rpc.RawStream, source io.Reader) error {
	lines := bufio.NewScanner(source)
	lines.Buffer(nil, maxInput)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		body, err := jsonmsg.From(c.types, c.method.Request, lines.Bytes())
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := s.Send(body); err == io.EOF {
			return nil // the handler has ended: Recv says how
		} else if err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return s.CloseSend()
}

func (c *caller) print(body rpc.Raw) error {
	text, err := jsonmsg.To(c.types, c.method.Reply, body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", text)
	return err
}

// failed says in one sentence why the call failed, and whether it may have run.
func (c *caller) failed(ctx context.Context, err error) error {
	e, ok := errors.AsType[*rpc.Error](err)
	if !ok || ctx.Err() != nil || e.Outcome != rpc.Executed && e.Code != rpc.Unimplemented {
		err := c.link.callError(ctx, err)
		if e != nil && e.Outcome == rpc.OutcomeUnknown {
			return fmt.Errorf("%w (the call may have run)", err)
		}
		return err
	}
	if e.Code == rpc.Unimplemented && e.Outcome == rpc.NotExecuted {
		return c.link.noMethod(c.method.Name, "sealmux list shows those it has")
	}
	return withCode(callCode(e.Code), fmt.Errorf("%s failed: %v: %s", c.method.Name, e.Code.String(), e.Message))
}
