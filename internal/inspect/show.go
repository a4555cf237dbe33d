package inspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sealmux/sealmux/internal/termtext"
	"github.com/sealmux/sealmux/transport"
)

// FirstRecords is how many records of a direction are shown, unless all are.
const FirstRecords = 10

// A shower prints lines. Its first error is kept, and ends the printing.
type shower struct {
	out       io.Writer
	json, all bool
	count     int // connections and files shown
	err       error
}

// A line is what one says, printed as JSON.
type line struct {
	Connection  int     `json:"connection"`
	File        string  `json:"file,omitempty"`
	Client      string  `json:"client,omitempty"`
	Server      string  `json:"server,omitempty"`
	Time        string  `json:"time,omitempty"` // RFC 3339; of a part, when the last of it was captured
	From        string  `json:"from,omitempty"` // "client" or "server"
	Offset      *int64  `json:"offset,omitempty"`
	Kind        string  `json:"kind"`
	Size        int     `json:"size,omitempty"`
	Version     int     `json:"version,omitempty"`
	Fields      members `json:"fields,omitempty"`
	End         string  `json:"end,omitempty"` // of a direction: "fin", "rst", "reset", "open", "dropped", "file"
	Error       string  `json:"error,omitempty"`
	Records     int64   `json:"records,omitempty"`
	RecordBytes int64   `json:"record_bytes,omitempty"`
}

// members are fields as an object, in their order.
type members []transport.Field

func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, field := range m {
		value, err := json.Marshal(field.Value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%c%q:%s", "{,"[min(i, 1)], field.Name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// connection prints that there is one, and returns its number.
func (s *shower) connection(client, server string, start time.Time) int {
	s.count++
	at := stamp(start)
	if s.json {
		s.object(&line{Connection: s.count, Client: client, Server: server, Time: at, Kind: "connection"})
	} else {
		s.text("%d  %s -> %s  %s", s.count, client, server, at)
	}
	return s.count
}

// file is connection for the bytes of one direction.
func (s *shower) file(name string) int {
	s.count++
	if s.json {
		s.object(&line{Connection: s.count, File: name, Kind: "file"})
	} else {
		s.text("%d  %s", s.count, quoted(name))
	}
	return s.count
}

func (s *shower) text(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.out, format+"\n", args...)
	}
}

func (s *shower) object(l *line) {
	if s.err != nil {
		return
	}
	text, err := json.Marshal(l)
	if err != nil {
		s.err = err
		return
	}
	_, s.err = fmt.Fprintf(s.out, "%s\n", termtext.Quiet(string(text))) // JSON lets through some of what a terminal obeys
}

// A shownSide is one direction as it is shown: parts as they come, the last thing that was found, and the end.
type shownSide struct {
	show   *shower
	number int
	from   string    // "client" or "server", nothing if that is not known
	start  time.Time // of the connection

	offset  int64 // behind what was dissected
	records int64
	bytes   int64 // of records
	hidden  struct{ from, records, bytes int64 }
	alerted bool
	at      transport.Part // where err was found
	err     error
}

// see takes what Dissect yields, and when the last of it was captured, if that is known.
func (s *shownSide) see(part transport.Part, err error, when time.Time) {
	s.offset = part.Offset + int64(part.Size)
	if err != nil {
		s.at, s.err = part, err
		return
	}
	s.alerted = part.Kind == "Alert"
	if part.Kind == "record" {
		s.records++
		s.bytes += int64(part.Size)
		if !s.show.all && s.records > FirstRecords {
			if s.hidden.records++; s.hidden.records == 1 {
				s.hidden.from = part.Offset
			}
			s.hidden.bytes += int64(part.Size)
			return
		}
	}
	if s.show.json {
		s.show.object(&line{Connection: s.number, Time: stamp(when), From: s.from, Offset: &part.Offset, Kind: part.Kind, Size: part.Size,
			Version: part.Version, Fields: part.Fields})
		return
	}
	words := make([]string, 0, 1+len(part.Fields))
	if part.Version != 0 {
		words = append(words, fmt.Sprintf("version=%d", part.Version))
	}
	for _, field := range part.Fields {
		words = append(words, field.Name+"="+valueText(field.Value))
	}
	s.line(when, part.Offset, fmt.Sprintf("%-14s %5d bytes  %s", part.Kind, part.Size, strings.Join(words, " ")))
}

// end prints how the direction ended.
func (s *shownSide) end(how string, when time.Time) {
	if s.show.json {
		l := &line{Connection: s.number, Time: stamp(when), From: s.from, Offset: &s.offset, Kind: "end", End: how,
			Records: s.records, RecordBytes: s.bytes}
		if s.err != nil {
			l.Error = s.fault()
		}
		s.show.object(l)
		return
	}
	if s.hidden.records > 0 {
		s.line(when, s.hidden.from, fmt.Sprintf("… %s, %s", termtext.Plural(s.hidden.records, "record"), sizeText(s.hidden.bytes)))
	}
	words := map[string]string{"fin": "FIN", "rst": "RST", "reset": "the other side sent RST", "open": "the capture ends",
		"dropped": "not followed further, since it was silent and there were too many connections",
		"file":    "the file ends"}[how]
	switch {
	case s.err != nil:
		words += ": " + s.fault()
	case s.alerted:
		words += ", behind an alert"
	case s.records > 0:
		words += fmt.Sprintf(", behind %s, %s", termtext.Plural(s.records, "record"), sizeText(s.bytes))
	}
	s.line(when, s.offset, "end: "+words)
}

func (s *shownSide) line(when time.Time, offset int64, rest string) {
	arrow, since := map[string]string{"client": "->", "server": "<-", "": "??"}[s.from], ""
	if !when.IsZero() {
		since = fmt.Sprintf("%10.6f  ", when.Sub(s.start).Seconds())
	}
	s.show.text("%d  %s%s %8d  %s", s.number, since, arrow, offset, strings.TrimRight(rest, " "))
}

// stamp writes a time for machines, nothing if there is none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// fault says in words what was found wrong.
func (s *shownSide) fault() string {
	what := s.at.Kind
	if what == "" {
		what = "message"
	}
	switch {
	case errors.Is(s.err, transport.ErrTruncated) && s.at.Size == 0:
		return "the handshake was not over"
	case errors.Is(s.err, transport.ErrTruncated):
		return fmt.Sprintf("cut in the middle of a %s at offset %d, %s into it", what, s.at.Offset, termtext.Plural(int64(s.at.Size), "byte"))
	case errors.Is(s.err, transport.ErrVersion):
		return fmt.Sprintf("version %d of sealmux, which this program does not know", s.at.Version)
	case errors.Is(s.err, transport.ErrNotSealmux):
		return "this side does not speak sealmux"
	case errors.Is(s.err, errGap) && s.offset == 0:
		return "its beginning is not in the capture"
	case errors.Is(s.err, errGap):
		return fmt.Sprintf("bytes behind offset %d are not in the capture, and what follows cannot be read", s.offset)
	}
	text := s.err.Error()
	for _, known := range []error{transport.ErrHandshake, transport.ErrRecord} { // said of a session; nothing failed here
		text = strings.TrimPrefix(text, known.Error()+": ")
	}
	return text
}

func valueText(value any) string {
	switch v := value.(type) {
	case string:
		return quoted(v)
	case []string:
		return quoted(strings.Join(v, ","))
	}
	return fmt.Sprint(value)
}

// quoted returns a text as it is if it is one harmless word, and in quotes, with escapes, if it is not.
func quoted(text string) string {
	odd := func(r rune) bool {
		return !unicode.IsPrint(r) || r == ' ' || r == '"' || r == '\\' || r == unicode.ReplacementChar
	}
	if text == "" || strings.ContainsFunc(text, odd) {
		return strconv.Quote(text)
	}
	return text
}

// sizeText writes so many bytes, in decimal units from 10,000 on.
func sizeText(n int64) string {
	switch {
	case n < 10_000:
		return termtext.Plural(n, "byte")
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
