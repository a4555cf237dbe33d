package plugin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

const (
	maxLine  = 64 << 10 // bytes of a line that are logged; the rest of it is dropped
	maxTail  = 4 << 10  // bytes of standard error that an ExitError has
	maxDepth = 8        // of groups in a line
)

// A tail keeps the last bytes of what was written.
type tail struct {
	mu  sync.Mutex // protects buf
	buf []byte
}

func (t *tail) add(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(append(t.buf, line...), '\n')
	if over := len(t.buf) - maxTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSuffix(t.buf, []byte("\n")))
}

// forward logs the lines of r until it ends. r must have room for maxLine bytes. It goes on reading whatever comes, so that
// the plug-in never waits for its logs.
func forward(r *bufio.Reader, logger *slog.Logger, stream string, keep *tail) {
	for {
		line, err := r.ReadSlice('\n')
		cut := 0
		text := bytes.TrimRight(bytes.Clone(line), "\r\n")
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = r.ReadSlice('\n')
			cut += len(line)
		}
		if len(text) > 0 {
			if keep != nil {
				keep.add(text)
			}
			logLine(logger, text, stream, cut)
		}
		if err != nil {
			return
		}
	}
}

// logLine logs a line of slog's JSON as the record that it was, and any other as a text.
func logLine(logger *slog.Logger, line []byte, stream string, cut int) {
	ctx := context.Background()
	record, ok := parseRecord(line)
	if !ok {
		record = slog.NewRecord(time.Now(), slog.LevelInfo, string(line), 0)
		record.AddAttrs(slog.String("stream", stream))
	}
	if cut > 0 {
		record.AddAttrs(slog.Int("cut", cut))
	}
	if logger.Enabled(ctx, record.Level) {
		_ = logger.Handler().Handle(ctx, record) // a log that cannot be written has nobody to tell
	}
}

// parseRecord reads what slog.JSONHandler writes: one object with a level, a message, attributes in order.
func parseRecord(line []byte) (slog.Record, bool) {
	if len(line) == 0 || line[0] != '{' || !json.Valid(line) {
		return slog.Record{}, false
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if _, err := d.Token(); err != nil {
		return slog.Record{}, false
	}
	record := slog.Record{Time: time.Now()}
	leveled, told := false, false
	for _, a := range members(d, 0) {
		switch text := a.Value.String(); {
		case a.Key == slog.LevelKey && !leveled:
			leveled = record.Level.UnmarshalText([]byte(text)) == nil
		case a.Key == slog.MessageKey && !told:
			record.Message, told = text, true
		case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindString:
			if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
				record.Time = at
			}
		default:
			record.AddAttrs(a)
		}
	}
	return record, leveled && told
}

// members reads the members of an object that json.Valid has passed, up to its end, in order.
func members(d *json.Decoder, depth int) (attrs []slog.Attr) {
	for d.More() {
		key, err := d.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return attrs
		}
		attrs = append(attrs, slog.Attr{Key: name, Value: value(d, depth+1)})
	}
	_, _ = d.Token() // the closing brace
	return attrs
}

// value reads one value: an object as a group, a list as its JSON, and so an object that lies deep inside others.
func value(d *json.Decoder, depth int) slog.Value {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return slog.Value{}
	}
	switch raw[0] {
	case '{':
		if depth > maxDepth {
			return slog.AnyValue(raw)
		}
		inner := json.NewDecoder(bytes.NewReader(raw))
		inner.UseNumber()
		_, _ = inner.Token()
		return slog.GroupValue(members(inner, depth)...)
	case '[':
		return slog.AnyValue(raw)
	case '"':
		var s string
		_ = json.Unmarshal(raw, &s)
		return slog.StringValue(s)
	case 't', 'f':
		return slog.BoolValue(raw[0] == 't')
	case 'n':
		return slog.AnyValue(nil)
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return slog.Int64Value(n)
	}
	f, _ := strconv.ParseFloat(string(raw), 64)
	return slog.Float64Value(f)
}

// reader gives r the room for a line.
func reader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, maxLine) }
