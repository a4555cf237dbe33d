//go:build unix

package main

import (
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/mattn/go-runewidth"
)

var update = flag.Bool("update", false, "draw session.svg anew")

// picture is what the README shows.
const picture = "session.svg"

// TestPicture does what the README's picture shows, at a terminal, and holds the picture to it: but for keys, numbers and times, which differ
// each time, the tool must still say the same. With -update it draws the picture.
func TestPicture(t *testing.T) {
	t.Chdir(t.TempDir())
	var lines []string
	shows := func(command, output string) {
		lines = append(lines, "\x1b[1m$ "+command+"\x1b[0m")
		lines = append(lines, screenLines(output)...)
	}
	at := func(command string, addr string) {
		t.Helper()
		args := strings.Fields(strings.ReplaceAll(command, pictureAddr, addr))
		for i := range args {
			args[i] = strings.ReplaceAll(strings.Trim(args[i], "'"), "_", " ")
		}
		p := sit(t, []string{"SEALMUX_SERVER_KEY=server/public.pem"}, args[1:]...)
		output := p.whole(0)
		if addr != "" {
			output = strings.ReplaceAll(output, addr, pictureAddr)
		}
		shows(strings.ReplaceAll(command, "_", " "), output)
	}
	at("sealmux keygen --out server", "")

	server := start(t, "serve", "--listen", "127.0.0.1:0", "--key", "server/private.pem", "--allow-anonymous")
	line := server.line(t)
	addr, _, err := ready(line)
	if err != nil {
		t.Fatal(err)
	}
	shows("sealmux serve --listen "+pictureAddr+" --key server/private.pem --allow-anonymous &", strings.ReplaceAll(line, addr, pictureAddr))
	shows("export SEALMUX_SERVER_KEY=server/public.pem", "")
	at("sealmux send "+pictureAddr+" hello 你好", addr)
	at("sealmux call "+pictureAddr+" anything '\"JSON_as_well\"'", addr)
	at("sealmux ping -c 3 -i 200ms "+pictureAddr, addr)
	at("sealmux bench -c 16 -d 2s --warm-up 500ms "+pictureAddr, addr)
	server.cmd.Process.Signal(syscall.SIGTERM)
	server.ends(t, exitDone, "draining")

	drawn := drawScreen(lines)
	if *update {
		if err := os.WriteFile(pictureFile, drawn, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(pictureFile)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := masked(t, drawn), masked(t, committed); got != want {
		t.Errorf("the picture is out of date; go test ./cmd/sealmux -run Picture -update draws it anew. It shows\n%s\nand is\n%s", want, got)
	}
}

const pictureAddr = "127.0.0.1:7443"

// pictureFile is found from wherever the test has gone.
var pictureFile = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir + "/" + picture
}()

// whole waits for the end of the program and returns all that it showed.
func (p *person) whole(code int) string {
	p.t.Helper()
	p.leaves(code)
	p.screen.Close() // the last of the program's side: reading ends
	<-p.read
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out
}

// screenLines are the lines as they stay on a terminal: of what was written over, the last.
func screenLines(output string) (lines []string) {
	for line := range strings.SplitSeq(strings.TrimRight(strings.ReplaceAll(output, "\r\n", "\n"), "\n"), "\n") {
		shown := ""
		for part := range strings.SplitSeq(line, "\r") {
			if at := strings.LastIndex(part, "\x1b[2K"); at >= 0 { // the whole line goes
				shown, part = "", part[at+len("\x1b[2K"):]
			}
			if part = strings.ReplaceAll(part, "\x1b[K", ""); part != "" {
				shown = part
			}
		}
		lines = append(lines, shown)
	}
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	return lines
}

// The picture's measures, in pixels.
const (
	cellWidth  = 8
	cellHeight = 18
	margin     = 14
)

var colours = map[string]string{"1": "#ffffff", "2": "#8b949e", "31": "#ff7b72", "32": "#7ee787", "33": "#e3b341"}

// drawScreen draws lines with their colours as SVG. Each piece of a line has its own place, so that no font changes a column.
func drawScreen(lines []string) []byte {
	columns := 0
	for _, line := range lines {
		columns = max(columns, runewidth.StringWidth(escapes.ReplaceAllString(line, "")))
	}
	var svg strings.Builder
	width, height := columns*cellWidth+2*margin, len(lines)*cellHeight+2*margin
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="a session at a shell">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" rx="8" fill="#0d1117"/>`+"\n", width, height)
	svg.WriteString(`<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace" font-size="13" xml:space="preserve">` + "\n")
	for row, line := range lines {
		y, column, colour := margin+row*cellHeight+13, 0, "#c9d1d9"
		for line != "" {
			text := line
			if at := escapes.FindStringIndex(line); at != nil {
				text = line[:at[0]]
				if text == "" {
					if colour = colours[strings.Trim(line[:at[1]], "\x1b[m")]; colour == "" {
						colour = "#c9d1d9"
					}
					line = line[at[1]:]
					continue
				}
			}
			line = line[len(text):]
			cells := runewidth.StringWidth(text)
			fmt.Fprintf(&svg, `<text x="%d" y="%d" fill="%s" textLength="%d">`, margin+column*cellWidth, y, colour, cells*cellWidth)
			xml.EscapeText(&svg, []byte(text))
			svg.WriteString("</text>\n")
			column += cells
		}
	}
	svg.WriteString("</g>\n</svg>\n")
	return []byte(svg.String())
}

var (
	escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")
	unlike  = []*regexp.Regexp{ // what differs from one time to the next
		regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`),
		regexp.MustCompile(`^([a-z]+ ){7}[a-z]+$`),
		regexp.MustCompile(`^\|.*\|$`),
		regexp.MustCompile(`^to [0-9.]+ .*`), // the bars that there are
		regexp.MustCompile(`^ms [0-9. ]+$`),
		regexp.MustCompile(`\b[0-9][0-9.,]* ?(ns|µs|ms|s|%|[kMG]?B/s)?`),
	}
)

// masked is the text of a picture without what differs each time.
func masked(t *testing.T, svg []byte) string {
	t.Helper()
	var text strings.Builder
	decoder := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return text.String()
		}
		if err != nil {
			t.Fatalf("%s is no XML: %v", picture, err)
		}
		data, ok := token.(xml.CharData)
		if !ok {
			continue
		}
		line := strings.Join(strings.Fields(string(data)), " ") // columns are as wide as their numbers
		for _, r := range unlike {
			line = r.ReplaceAllString(line, "#")
		}
		if strings.Trim(line, "# ") != "" {
			text.WriteString(line + "\n")
		}
	}
}
