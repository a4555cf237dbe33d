package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// A Part is one message or record of one direction of a connection, as an onlooker sees it.
type Part struct {
	Kind       string  // "ClientHello" and so on, as SPEC.md names the messages of section 3, or "record"
	FromClient bool    // which side sent it: the kind of the first message tells
	Offset     int64   // of its first byte, from the beginning of the direction
	Size       int     // bytes on the wire, its header included
	Version    int     // that a handshake message names; 0 for a record, which names none
	Fields     []Field // what else is to be seen, in the order on the wire
}

// A Field is one thing that a Part shows: what it is, and its value, which is an int, a string or, for a list, a []string. Sizes
// are in bytes, keys are fingerprints as Fingerprint.String writes them. A string may have any bytes in it that the sender
// chose: quote it before a person sees it.
type Field struct {
	Name  string
	Value any
}

// Dissect reads one direction of a connection from its first byte on, and yields its parts: handshake messages through
// ClientFinished or ServerHello, or an Alert, which is the last; then records. It has no keys and needs none. Of what is sealed it
// tells the size alone: which record is data, and which the authenticated end, an onlooker cannot know.
//
// The sequence ends without an error where r ends between two records, or behind an Alert. Any error is its last element, and comes
// with the Part that it was found in: the Offset, the Size of what was there of it, and its Kind and Version as far as they were
// seen. Compare with errors.Is:
//
//   - ErrNotSealmux: the first bytes are not those of sealmux.
//   - ErrVersion: a message is of another version, which the Part tells.
//   - ErrTruncated: r ended within a part, or before the handshake was over.
//   - ErrHandshake: a message was malformed, or not due.
//   - ErrRecord: a record's length was not one that rule R2 admits. Nothing can be said of what follows.
//   - any other error of r's, as it is.
//
// At most one message, 4 KiB, is held at a time, and a buffer as large. Records are passed over, not held: with r's own method
// Discard if it has one as bufio.Reader's, and then r is not buffered.
func Dissect(r io.Reader) iter.Seq2[Part, error] {
	return func(yield func(Part, error) bool) {
		in, ok := r.(discarder)
		if !ok {
			in = bufio.NewReader(r)
		}
		d := dissection{in: in}
		for !d.over {
			part, err := d.next()
			if err == errNoMore || !yield(part, err) || err != nil {
				return
			}
			d.offset += int64(part.Size)
		}
	}
}

type discarder interface {
	io.Reader
	Discard(n int) (discarded int, err error)
}

const kindRecord = "record"

var kinds = [...]string{typeClientHello: "ClientHello", typeServerHello: "ServerHello", typeClientFinished: "ClientFinished",
	typeKeyRequest: "KeyRequest", typeKeyOffer: "KeyOffer", typeAlert: "Alert",
	typeResumeHello: "ResumeHello", typeTicketRefused: "TicketRefused"}

// errNoMore says that a direction ended where it may.
var errNoMore = errors.New("no more")

// A dissection is how far Dissect is.
type dissection struct {
	in     discarder
	offset int64
	client bool // the client's direction: its first message says so
	last   byte // type of the last message, 0 before the first
	sent   [len(kinds)]bool
	sealed bool // a record was seen
	over   bool // an Alert was seen
}

func (d *dissection) next() (Part, error) {
	part := Part{FromClient: d.client, Offset: d.offset}
	var header [messageHeader]byte
	switch {
	case d.last == typeServerHello && !d.sealed: // an Alert yet, or a record; the shortest of those is longer than this
		err := d.fill(&part, header[:])
		switch got := header[:part.Size]; {
		case len(got) == 0 || !looksAlert(got):
			return d.record(part, got, err)
		case err != nil: // one or the other
			return part, d.cut(part, err)
		}
		return d.message(part, header[:])
	case d.last == typeServerHello || d.last == typeClientFinished:
		err := d.fill(&part, header[:recordHeader])
		return d.record(part, header[:part.Size], err)
	}
	err := d.fill(&part, header[:])
	got := header[:part.Size]
	known := min(len(got), len(magic))
	switch {
	case string(got[:known]) != magic[:known] && d.last == 0: // H1
		return part, ErrNotSealmux
	case string(got[:known]) != magic[:known]:
		return part, fmt.Errorf("%w: what is at offset %d is no message, and one was due", ErrHandshake, d.offset)
	case len(got) > len(magic) && got[len(magic)] != version:
		part.Version = int(got[len(magic)])
		return part, fmt.Errorf("%w: version %d", ErrVersion, part.Version)
	case err != nil:
		return part, d.cut(part, err)
	}
	return d.message(part, header[:])
}

// fill reads into b, and counts what there was.
func (d *dissection) fill(part *Part, b []byte) error {
	n, err := io.ReadFull(d.in, b)
	part.Size += n
	return err
}

// message dissects one whose header was read.
func (d *dissection) message(part Part, header []byte) (Part, error) {
	typ, size := header[5], int(header[6])<<8|int(header[7])
	part.Version = int(header[len(magic)])
	if int(typ) < len(kinds) {
		part.Kind = kinds[typ]
	}
	if d.last == 0 {
		d.client = typ == typeClientHello || typ == typeKeyRequest || typ == typeResumeHello || typ == typeClientFinished
		part.FromClient = d.client
	}
	switch {
	case !d.due(typ):
		return part, fmt.Errorf("%w: the message at offset %d, type %d, was not due", ErrHandshake, d.offset, typ)
	case size > maxBody:
		return part, fmt.Errorf("%w: the message at offset %d is longer than %d bytes (rule H2)", ErrHandshake, d.offset, maxMessage)
	}
	body := make([]byte, size)
	if err := d.fill(&part, body); err != nil {
		return part, d.cut(part, err)
	}
	fields, err := publicFields(typ, body)
	if err != nil {
		return part, fmt.Errorf("%w: the %s at offset %d is malformed", ErrHandshake, part.Kind, d.offset)
	}
	part.Fields = fields
	d.last, d.sent[typ], d.over = typ, true, typ == typeAlert
	return part, nil
}

// due reports whether one side may send such a message behind its last one (SPEC.md, section 3). None comes twice.
func (d *dissection) due(typ byte) bool {
	if typ == 0 || int(typ) >= len(kinds) || d.sent[typ] {
		return false
	}
	var after []byte
	switch d.last {
	case 0:
		return typ != typeClientFinished
	case typeKeyRequest:
		after = []byte{typeClientHello, typeResumeHello}
	case typeResumeHello: // how it was answered is not to be seen from this side
		after = []byte{typeClientFinished, typeClientHello, typeKeyRequest}
	case typeClientHello:
		after = []byte{typeClientFinished}
	case typeKeyOffer:
		after = []byte{typeServerHello, typeTicketRefused}
	case typeTicketRefused:
		after = []byte{typeServerHello, typeKeyOffer}
	}
	return typ == typeAlert || slices.Contains(after, typ)
}

// looksAlert tells, as far as what there is of a header shows, the plain alert behind a ServerHello, which answers a bad
// ClientFinished (H8), from a record: that one looks like it by chance once in 2^56 connections.
func looksAlert(got []byte) bool {
	for _, size := range []int{1, 1 + len(Fingerprint{})} {
		if bytes.HasPrefix(appendHeader(nil, typeAlert, size), got) {
			return true
		}
	}
	return false
}

// record passes over one. got are its first bytes, with the error that reading more of them gave.
func (d *dissection) record(part Part, got []byte, err error) (Part, error) {
	if len(got) == 0 && err == io.EOF {
		return part, errNoMore
	}
	part.Kind = kindRecord
	if len(got) < recordHeader {
		return part, d.cut(part, err)
	}
	size, ok := sealedSize(got)
	if !ok {
		return part, fmt.Errorf("%w: impossible length %d at offset %d (rule R2)", ErrRecord, size, d.offset)
	}
	if err == nil {
		var n int
		n, err = d.in.Discard(recordHeader + size - len(got))
		part.Size += n
	}
	if err != nil {
		return part, d.cut(part, err)
	}
	part.Fields = []Field{{"sealed", size}, {"data", size - minSealed}}
	d.sealed = true
	return part, nil
}

// cut says that a direction ends within a part, or before one that was due.
func (d *dissection) cut(part Part, err error) error {
	switch {
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return err
	case part.Size == 0:
		return fmt.Errorf("%w: at offset %d, with the handshake not over", ErrTruncated, d.offset)
	}
	return fmt.Errorf("%w: %d bytes into what is at offset %d", ErrTruncated, part.Size, d.offset)
}

// publicFields is what a message shows to whoever has no keys.
func publicFields(typ byte, body []byte) ([]Field, error) {
	switch typ {
	case typeClientHello, typeResumeHello:
		m, err := parseClientHello(body)
		if err != nil {
			return nil, err
		}
		secret := "ciphertext"
		if typ == typeResumeHello {
			secret = "ticket"
		}
		return []Field{{"server_key", m.keyID.String()}, {"protocol", string(m.protocol)}, {secret, len(m.secret)}}, nil
	case typeServerHello:
		_, err := parseServerHello(body)
		return []Field{{"sealed", sealedHello}}, err
	case typeClientFinished:
		if len(body) < tagSize {
			return nil, errMalformed
		}
		return []Field{{"sealed", len(body)}}, nil
	case typeKeyRequest:
		ids, err := parseKeyRequest(body)
		names := make([]string, len(ids))
		for i, id := range ids {
			names[i] = id.String()
		}
		return []Field{{"keys", names}}, err
	case typeKeyOffer:
		key, err := parseSPKI(body)
		if err != nil {
			return nil, err
		}
		return []Field{{"key", key.String()}, {"bits", key.Bits()}}, nil
	case typeAlert:
		m, err := parseAlert(body)
		fields := []Field{{"code", int(m.code)}, {"reason", m.code.String()}}
		if m.code == AlertUnknownKey {
			fields = append(fields, Field{"held", m.held.String()})
		}
		return fields, err
	case typeTicketRefused:
		if len(body) != 0 {
			return nil, errMalformed
		}
	}
	return nil, nil
}
