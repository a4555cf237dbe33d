package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/sealmux/sealmux/rpc"
)

// coded serves methods that have a codec.
func coded(t *testing.T) (addr, keyFile string) {
	srv := rpc.NewServer(rpc.Options{})
	rpc.Unary[map[string]any, any]{Name: "json.Echo", Codec: rpc.JSON}.Handle(srv, func(_ context.Context, v map[string]any) (any, error) {
		return v["answer"], nil
	})
	rpc.Bidi[*string, *string]{Name: "json.Chat", Codec: rpc.JSON}.Handle(srv, func(_ context.Context, s *rpc.Stream[*string, *string]) error {
		for text, err := range s.All() {
			if err == nil {
				err = s.Send(text)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	rpc.Unary[complex128, complex128]{Name: "gob.Square", Codec: rpc.Gob}.Handle(srv, func(_ context.Context, v complex128) (complex128, error) {
		return v * v, nil
	})
	return serveHere(t, srv)
}

func TestCallCoded(t *testing.T) {
	addr, key := coded(t)
	deep := strings.Repeat("[", 33) + strings.Repeat("]", 33)
	for name, row := range map[string]struct {
		args     []string
		in       string
		code     int
		out, err string // out whole, err a part
	}{
		"json":          {[]string{"json.Echo", "{\"answer\":\n[1.50, 2e400, {\"a\": \"\\u001b[2J\u202e\"}]}"}, "", 64 + 3, "", "InvalidArgument"}, // 2e400 fits no float64
		"json, text":    {[]string{"json.Echo", "{\"answer\":\n[1.5, {\"a\": \"\\u001b[2J\u202e<\"}]}"}, "", 0, `[1.5,{"a":"\u001b[2J\u202e\u003c"}]` + "\n", ""},
		"json, null":    {[]string{"json.Echo"}, "", 0, "null\n", ""},
		"json, cut":     {[]string{"json.Echo", "{"}, "", 1, "", "the JSON ends within the value"},
		"json, deep":    {[]string{"json.Echo", deep}, "", 1, "", "nested deeper than 32"},
		"json, another": {[]string{"json.Echo", "[]"}, "", 64 + 3, "", "not a map[string]interface {}"},
		"stream":        {[]string{"json.Chat", "-"}, "\"a\"\nnull\n", 0, "\"a\"\n\"\"\n", ""},
		"gob":           {[]string{"gob.Square", "1"}, "", 1, "", "its messages are in gob, which sealmux does not write; call it from a Go program"},
		"gob, null":     {[]string{"gob.Square"}, "", 0, `{"1668244581":["gob","BA4AAAA="]}` + "\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := run(append([]string{"call", "--server-key", key, addr}, row.args...), strings.NewReader(row.in), &out, &errOut)
			if code != row.code || out.String() != row.out || !strings.Contains(errOut.String(), row.err) || row.err == "" && errOut.Len() > 0 {
				t.Errorf("exit %d\nout %q\nerr %q", code, out.String(), errOut.String())
			}
		})
	}
	var out, errOut bytes.Buffer
	if code := run([]string{"list", "--server-key", key, addr, "json.E"}, nil, &out, &errOut); code != 0 || out.String() != "json.Echo  unary  json  -> json\n" {
		t.Error(code, out.String(), errOut.String())
	}
}
