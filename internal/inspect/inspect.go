// Package inspect shows what an onlooker sees of captured sealmux connections: messages and records, their offsets, lengths and times,
// the ids of keys. It decrypts nothing. A capture may be anybody's: what is held of it is bounded, and nothing in it reaches the output
// that a terminal obeys.
//
// A file goes through these: Files (inspect.go) finds out of what kind it is. The packets of a capture (capture.go; blocks.go for
// pcapng) are put into order, connection by connection (stream.go), and transport.Dissect, of which one runs for each direction,
// yields the parts, which are printed (show.go). The bytes of one direction go to Dissect as they are.
package inspect

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sealmux/sealmux/transport"
)

// Options say what Files shows, and where. Out and Note must be set, and Stdin if the name - is given.
type Options struct {
	// Stdin is what the name - stands for. A goroutine reads it, which ends with it: where Files ends first, a Read may outlive that.
	Stdin io.Reader
	// Out gets the lines, each in one Write. Once that fails nothing more is printed.
	Out io.Writer
	// Note is told, a line at a time and without its end, what is not shown, and why. Files calls it, and waits for it.
	Note func(text string)
	// JSON prints an object a line, and every record.
	JSON bool
	// All prints every record, not only the first FirstRecords of a direction.
	All bool
	// Port leaves out, of captures, the connections without that port on either side; 0 leaves out none. Notes call it --port.
	Port int
}

// Files shows what files hold, of whatever kind each is: a pcap or pcapng file, or the bytes of one direction of a connection from its
// beginning, gzipped or not. The first that cannot be shown to its end, or in which there is nothing of sealmux, ends it with an
// error that is one sentence: which file (its name as it was given), what is wrong, what to do. What can be shown comes before that.
//
// When ctx ends, a capture and the standard input end there, in good order, and Files with them: an error only if nothing of that file
// was shown.
func Files(ctx context.Context, names []string, o Options) error {
	i := &inspector{in: o.Stdin, note: o.Note, port: o.Port, show: &shower{out: o.Out, json: o.JSON, all: o.All || o.JSON}}
	for _, name := range names {
		if err := i.file(ctx, name); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return i.show.err
}

// An inspector shows what files hold.
type inspector struct {
	in   io.Reader
	note func(string)
	port int
	show *shower
}

// file shows one, of whatever kind it is. The end of ctx ends it in good order, as the file's end would.
func (i *inspector) file(ctx context.Context, name string) error {
	file, err := i.open(ctx, name)
	if err != nil {
		return err
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 64<<10)
	start, err := in.Peek(4)
	if len(start) >= 2 && start[0] == 0x1f && start[1] == 0x8b { // gzip
		unzipped, zipErr := gzip.NewReader(in)
		if zipErr != nil {
			return fmt.Errorf("%s begins as gzip does, but is damaged: %w; capture anew", name, zipErr)
		}
		in = bufio.NewReaderSize(unzipped, 64<<10)
		start, err = in.Peek(4)
	}
	switch {
	case len(start) == 0 && err == io.EOF:
		return fmt.Errorf("%s is empty; capture with tcpdump -w FILE", name)
	case err != nil && err != io.EOF:
		return unreadable(name, err)
	}
	source, err := openCapture(start, in)
	switch {
	case err != nil:
		return fmt.Errorf("the capture %s is damaged: %w; capture anew", name, cutShort(err))
	case source != nil:
		return i.capture(ctx, name, source)
	}
	return i.direction(name, in)
}

func (i *inspector) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if name == "-" {
		return interruptible(ctx, i.in), nil
	}
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s; name a capture, or - for the standard input", name)
	}
	if err != nil {
		return nil, unreadable(name, err)
	}
	return file, nil
}

// interruptible ends with ctx, though nothing can interrupt the read of a pipe: a goroutine of its own does that. It ends with the
// input, or with the next of it that nobody wants any more.
func interruptible(ctx context.Context, in io.Reader) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { w.Close() })
	return r
}

func unreadable(name string, err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		err = path.Err
	}
	return fmt.Errorf("cannot read %s: %w; name a capture, or - for the standard input", name, err)
}

// direction shows a file of the bytes of one.
func (i *inspector) direction(name string, in io.Reader) error {
	var side *shownSide
	for part, err := range transport.Dissect(in) {
		if side == nil && !isSealmux(part, err) {
			return fmt.Errorf("%s is neither a capture (pcap or pcapng) nor begins with a message of sealmux; "+
				"capture with tcpdump -w FILE, or give the bytes of one direction from its beginning", name)
		}
		if side == nil {
			side = &shownSide{show: i.show, number: i.show.file(name)}
		}
		if part.Kind != "" {
			side.from = sender(part.FromClient)
		}
		side.see(part, err, time.Time{})
		if err != nil && !isDissected(err) {
			return unreadable(name, err)
		}
	}
	side.end("file", time.Time{})
	return nil
}

func sender(client bool) string {
	if client {
		return "client"
	}
	return "server"
}

// isSealmux judges by the first thing that Dissect tells of a direction.
func isSealmux(part transport.Part, err error) bool {
	const magic = 4 // bytes by which sealmux is known
	return err == nil || !errors.Is(err, transport.ErrNotSealmux) && part.Size >= magic
}

// isDissected tells what Dissect finds wrong from what reading finds.
func isDissected(err error) bool {
	for _, known := range []error{transport.ErrNotSealmux, transport.ErrVersion, transport.ErrTruncated, transport.ErrHandshake, transport.ErrRecord} {
		if errors.Is(err, known) {
			return true
		}
	}
	return errors.Is(err, errGap)
}
