//go:build unix

package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestForward(t *testing.T) {
	const long = maxLine + 1000
	for name, test := range map[string]struct{ in, want string }{
		"text":        {"hello\n", "level=INFO msg=hello stream=s\n"},
		"no newline":  {"hello", "level=INFO msg=hello stream=s\n"},
		"empty lines": {"\n\r\n\n", ""},
		"level":       {`{"level":"ERROR","msg":"m"}`, "level=ERROR msg=m\n"},
		"level + 2":   {`{"level":"INFO+2","msg":"m"}`, "level=INFO+2 msg=m\n"},
		"kinds": {`{"level":"INFO","msg":"m","i":-3,"f":1.5,"b":true,"n":null,"l":[1,{"a":2}],"g":{"h":{"x":"y"}}}`,
			`level=INFO msg=m i=-3 f=1.5 b=true n=<nil> l="[1,{\"a\":2}]" g.h.x=y` + "\n"},
		"level twice":   {`{"level":"INFO","msg":"m","level":"ERROR"}`, "level=INFO msg=m level=ERROR\n"},
		"no message":    {`{"level":"INFO"}`, `level=INFO msg="{\"level\":\"INFO\"}" stream=s` + "\n"},
		"no such level": {`{"level":"x","msg":"m"}`, `level=INFO msg="{\"level\":\"x\",\"msg\":\"m\"}" stream=s` + "\n"},
		"broken":        {`{"level":"INFO"`, `level=INFO msg="{\"level\":\"INFO\"" stream=s` + "\n"},
		"too long":      {strings.Repeat("x", long) + "\nnext\n", "level=INFO msg=" + strings.Repeat("x", maxLine) + " stream=s cut=1001\nlevel=INFO msg=next stream=s\n"},
	} {
		var out bytes.Buffer
		handler := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			if raw, ok := a.Value.Any().(json.RawMessage); ok {
				a.Value = slog.StringValue(string(raw))
			}
			return a
		}})
		var kept tail
		forward(reader(strings.NewReader(test.in)), slog.New(handler), "s", &kept)
		if out.String() != test.want {
			t.Errorf("%s: got %.300q, want %.300q", name, out.String(), test.want)
		}
		if n := len(kept.String()); n > maxTail {
			t.Errorf("%s: kept %d bytes", name, n)
		}
	}
}

func TestRecordKeepsTime(t *testing.T) {
	record, ok := parseRecord([]byte(`{"time":"2026-01-02T03:04:05.6Z","level":"DEBUG","msg":"m"}`))
	if want := time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC); !ok || !record.Time.Equal(want) || record.Level != slog.LevelDebug {
		t.Errorf("got %v", record)
	}
}

// A line nests as deep as its length allows. What is read of it does not grow with the square of that.
func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"level":"INFO","msg":"m","a":{"b":[1,2.5,"x",null,true]}}`))
	f.Add([]byte(`{"level":"INFO","msg":"m","a":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5001)))
	f.Fuzz(func(t *testing.T, line []byte) {
		if record, ok := parseRecord(line); ok {
			_ = slog.DiscardHandler.Handle(t.Context(), record)
			if !json.Valid(line) {
				t.Errorf("accepted %q", line)
			}
		}
	})
}

// A child that left the group lives on, and holds standard error; that keeps nobody waiting.
func TestEscapedChild(t *testing.T) {
	p := mustStart(t, "good", Options{})
	n, err := escape.Call(testContext(t), p.Client(), struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(n, syscall.SIGKILL)
	if err := p.Stop(testContext(t)); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if err := syscall.Kill(n, 0); err != nil {
		t.Errorf("the child: %v", err)
	}
}

// Nor does one that holds standard output keep Start waiting, when its parent has not answered.
func TestEscapedChildOfNoPlugin(t *testing.T) {
	n := 0
	for limit := 2 * time.Second; n == 0; limit *= 4 { // more for a machine that takes longer to start the child
		since := time.Now()
		_, err := Start(t.Context(), self("escapes"), Options{StartTimeout: limit})
		if !errors.Is(err, ErrStartTimeout) || time.Since(since) > limit+patience {
			t.Fatalf("after %v: %v", time.Since(since), err)
		}
		if _, text, _ := strings.Cut(err.Error(), `"left `); text != "" {
			fmt.Sscan(text, &n)
		}
		if n == 0 && limit > time.Minute {
			t.Fatalf("no child: %v", err)
		}
	}
	syscall.Kill(n, syscall.SIGKILL)
}
