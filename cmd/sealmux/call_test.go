package main

import (
	"bytes"
	"context"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmux/sealmux/rpc"
)

type item struct {
	Key   string
	Value []byte    `msgpack:"value"`
	At    time.Time `msgpack:"at,omitempty"`
	Count uint8
}

// service serves a method of each form on loopback. It returns its address and the file of its key.
func service(t *testing.T, opts rpc.Options) (addr, keyFile string) {
	srv := rpc.NewServer(opts)
	rpc.Handle(srv, "kv.Get", func(_ context.Context, i item) (item, error) {
		if i.Key == "" {
			return item{}, rpc.Errorf(rpc.NotFound, "no key\x1b[2J")
		}
		i.Count++
		return i, nil
	})
	rpc.ServerStream[int, item]{Name: "kv.List"}.Handle(srv, func(_ context.Context, n int, send func(item) error) error {
		for i := range n {
			if err := send(item{Key: "k", Count: uint8(i)}); err != nil {
				return err
			}
		}
		return nil
	})
	rpc.ClientStream[item, int]{Name: "kv.Load"}.Handle(srv, func(_ context.Context, items iter.Seq2[item, error]) (n int, err error) {
		for _, err := range items {
			if err != nil {
				return 0, err
			}
			n++
		}
		return n, nil
	})
	rpc.Bidi[string, string]{Name: "upper"}.Handle(srv, func(_ context.Context, s *rpc.Stream[string, string]) error {
		for text, err := range s.All() {
			if err == nil {
				err = s.Send(strings.ToUpper(text))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	rpc.HandleConn(srv, "tunnel", func(context.Context, net.Conn) error { return nil })
	return serveHere(t, srv)
}

func TestCallAndList(t *testing.T) {
	addr, key := service(t, rpc.Options{})
	hidden, hiddenKey := service(t, rpc.Options{HideMethods: true})
	file := filepath.Join(t.TempDir(), "in.json")
	if err := os.WriteFile(file, []byte(`{"Key": "from file"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		args     []string
		in       string
		code     int
		out, err string // out whole, err a part
	}{
		"unary": {[]string{addr, "kv.Get", `{"Key":"a","value":"AQI=","Count":254,"at":"2026-01-02T03:04:05.000000006Z"}`}, "", 0,
			`{"Key":"a","value":"AQI=","at":"2026-01-02T03:04:05.000000006Z","Count":255}` + "\n", ""},
		"from a file":    {[]string{addr, "kv.Get", "@" + file}, "", 0, `{"Key":"from file","value":null,"Count":1}` + "\n", ""},
		"from input":     {[]string{addr, "kv.Get", "-"}, `{"Key":"x"}`, 0, `{"Key":"x","value":null,"Count":1}` + "\n", ""},
		"an error":       {[]string{addr, "kv.Get"}, "", 64 + 5, "", "sealmux: kv.Get failed: NotFound: no key [2J\n"},
		"wrong field":    {[]string{addr, "kv.Get", `{"Kee":1}`}, "", 1, "", "Key"},
		"out of range":   {[]string{addr, "kv.Get", `{"Count":256}`}, "", 1, "", "request.Count"},
		"bad JSON":       {[]string{addr, "kv.Get", `{`}, "", 1, "", "sealmux: "},
		"no such file":   {[]string{addr, "kv.Get", "@" + file + "x"}, "", 1, "", "there is no file"},
		"no such method": {[]string{addr, "kv.Got", "1"}, "", 64 + 12, "", "has no method kv.Got; sealmux list shows"},
		"server stream":  {[]string{addr, "kv.List", "2"}, "", 0, `{"Key":"k","value":null,"Count":0}` + "\n" + `{"Key":"k","value":null,"Count":1}` + "\n", ""},
		"client stream":  {[]string{addr, "kv.Load", "-"}, "{}\n\n{\"Key\":\"b\"}\n", 0, "2\n", ""},
		"bad line":       {[]string{addr, "kv.Load", "-"}, "{}\n{\"No\":1}\n", 1, "", "line 2: "},
		"bidi":           {[]string{addr, "upper", "-"}, "\"a\"\n\"b\"\n", 0, "\"A\"\n\"B\"\n", ""},
		"connection":     {[]string{addr, "tunnel", "1"}, "", 1, "", "tunnel is a connection"},
		"usage":          {[]string{addr}, "", 2, "", "the method"},
		"health":         {[]string{addr, "sealmux.Health", `""`}, "", 0, "\"serving\"\n", ""},
		"hidden":         {[]string{hidden, "kv.Get", `{"Key":"a"}`}, "", 0, `{"Key":"a","value":null,"Count":1}` + "\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			k := key
			if row.args[0] == hidden {
				k = hiddenKey
			}
			code := run(append([]string{"call", "--server-key", k}, row.args...), strings.NewReader(row.in), &out, &errOut)
			if code != row.code || out.String() != row.out || !strings.Contains(errOut.String(), row.err) || row.err == "" && errOut.Len() > 0 {
				t.Errorf("exit %d\nout %q\nerr %q", code, out.String(), errOut.String())
			}
		})
	}
	var out, errOut bytes.Buffer
	if code := run([]string{"list", "--server-key", key, addr, "kv."}, nil, &out, &errOut); code != 0 || errOut.Len() > 0 {
		t.Error(code, errOut.String())
	}
	const want = "kv.Get   unary          item{Key text, value binary, at time, Count uint8}  -> item{Key text, value binary, at time, Count uint8}\n" +
		"kv.List  server stream  int64                                               -> item{Key text, value binary, at time, Count uint8}\n" +
		"kv.Load  client stream  item{Key text, value binary, at time, Count uint8}  -> int64\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if code := run([]string{"list", "--json", "--server-key", key, addr, "kv.Lis"}, nil, &out, &errOut); code != 0 ||
		out.String() != `{"name":"kv.List","form":"server stream","request":"int64","reply":"item{Key text, value binary, at time, Count uint8}"}`+"\n" {
		t.Error(code, out.String())
	}
	out.Reset()
	if code := run([]string{"list", "--server-key", key, addr, "vk."}, nil, &out, &errOut); code != 0 || out.Len() > 0 ||
		errOut.String() != "the server at "+addr+" has no method that begins with vk.\n" {
		t.Error(code, out.String(), errOut.String())
	}
	errOut.Reset()
	if code := run([]string{"send", "--server-key", key, addr, "a"}, nil, &out, &errOut); code != callCode(rpc.Unimplemented) ||
		errOut.String() != "sealmux: message 1: the server at "+addr+" has no method echo; sealmux list shows those it has, sealmux call calls them\n" {
		t.Error(code, errOut.String())
	}
	if code := run([]string{"list", "--server-key", hiddenKey, hidden}, nil, &out, &errOut); code != 1 || !strings.Contains(errOut.String(), "does not tell its methods") {
		t.Error(code, errOut.String())
	}
}
