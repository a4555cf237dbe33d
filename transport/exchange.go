package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// How handshake messages, and the records that are part of the handshake, move over the raw connection.

// send writes one message and adds it to the transcript.
func send(raw net.Conn, log transcript, typ byte, body []byte) error {
	m := message(typ, body)
	log.add(m)
	if _, err := raw.Write(m); err != nil {
		// A peer that has closed may have said why before.
		if _, said := receive(raw); errors.As(said, new(*alertError)) {
			return said
		}
		return fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	return nil
}

// alertError is a plain-text alert: advice from whoever is at the other end of the wire.
type alertError struct{ alertMessage }

func (e *alertError) Error() string { return e.Unwrap().Error() + " (so the peer said)" }

// Unwrap finds the sentinel for what the alert says.
func (e *alertError) Unwrap() error {
	switch e.code {
	case AlertUnknownKey:
		return ErrServerKey
	case AlertApplicationProtocol:
		return ErrApplicationProtocol
	case AlertVersion:
		return ErrVersion
	case AlertBusy:
		return ErrBusy
	}
	return ErrHandshake
}

// explain adds to an alert what only the client knows: the keys that it pins.
func explain(err error, trust *Trust) error {
	var alert *alertError
	if errors.As(err, &alert) && alert.code == AlertUnknownKey {
		return trust.wrongKey(alert.held)
	}
	return err
}

// reject tells the peer, as far as that is possible, and returns err. Every failed check gives the same
// alert: the peer does not learn which it was (rule H8).
func reject(raw net.Conn, err error) error {
	return rejectWith(raw, alertMessage{code: AlertHandshake}, err)
}

func rejectWith(raw net.Conn, alert alertMessage, err error) error {
	raw.Write(message(typeAlert, alert.append(nil)))
	return err
}

// receive reads one message of the wanted type and returns its body. It reads not one byte beyond it.
func receive(raw net.Conn, want ...byte) ([]byte, error) {
	_, body, err := receiveAny(raw, want...)
	return body, err
}

func receiveAny(raw net.Conn, want ...byte) (byte, []byte, error) {
	header := make([]byte, messageHeader)
	// H1: judged byte by byte, so that another protocol is refused at its first impossible byte.
	for n := 0; n < len(header); {
		k, err := raw.Read(header[n:])
		n += k
		if got := header[:min(n, len(magic))]; string(got) != magic[:len(got)] {
			return 0, nil, ErrNotSealmux
		}
		if n > len(magic) && header[len(magic)] != version {
			return 0, nil, rejectWith(raw, alertMessage{code: AlertVersion}, ErrVersion)
		}
		if err != nil && n < len(header) {
			return 0, nil, readError(err)
		}
	}
	typ, size := header[5], int(header[6])<<8|int(header[7])
	if size > maxBody {
		return 0, nil, reject(raw, ErrHandshake) // H2, before a byte of it is read
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(raw, body); err != nil {
		return 0, nil, readError(err)
	}
	for _, w := range want {
		if typ == w {
			return typ, body, nil
		}
	}
	if typ == typeAlert {
		if alert, err := parseAlert(body); err == nil {
			return 0, nil, &alertError{alert}
		}
		return 0, nil, ErrHandshake
	}
	return 0, nil, reject(raw, ErrHandshake)
}

// readError says that the connection ended too early; io.EOF never leaves this package as such.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrTruncated, err)
}

// readRecord reads exactly one record from the raw connection, for the part of the handshake that is sealed.
func readRecord(raw net.Conn, c *cipherState) (byte, []byte, error) {
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(raw, header); err != nil {
		return 0, nil, readError(err)
	}
	size, ok := sealedSize(header)
	if !ok {
		return 0, nil, ErrHandshake
	}
	rec := append(header, make([]byte, size)...)
	if _, err := io.ReadFull(raw, rec[recordHeader:]); err != nil {
		return 0, nil, readError(err)
	}
	typ, data, err := c.open(rec)
	if err != nil {
		return 0, nil, ErrHandshake
	}
	return typ, data, nil
}

// writeRecord is its counterpart.
func writeRecord(raw net.Conn, c *cipherState, typ byte, data []byte) error {
	rec := append(append(make([]byte, recordHeader), typ), data...)
	rec = append(rec, make([]byte, tagSize)...)
	c.seal(rec)
	if _, err := raw.Write(rec); err != nil {
		return readError(err)
	}
	return nil
}
