package transport

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/iotest"
)

// A byteConn is a net.Conn that reads from somewhere.
type byteConn struct {
	net.Conn
	io.Reader
}

func (c byteConn) Read(b []byte) (int, error) { return c.Reader.Read(b) }

func testSecret() []byte {
	secret := make([]byte, secretSize)
	rand.Read(secret)
	return secret
}

func sealRecord(c *cipherState, typ byte, data []byte) []byte {
	rec := append(append([]byte{0, 0, typ}, data...), make([]byte, tagSize)...)
	c.seal(rec)
	return rec
}

// openAll reads records until the error, which it returns behind what was delivered.
func openAll(secret []byte, stream io.Reader) (got [][]byte, err error) {
	rx := &rxHalf{raw: byteConn{Reader: stream}, cipher: newCipherState(bytes.Clone(secret)), buf: make([]byte, smallBuffer)}
	for {
		typ, data, err := rx.next()
		if err != nil {
			if _, _, again := rx.next(); again != err {
				return got, fmt.Errorf("the error did not stick: %w", again)
			}
			return got, err
		}
		got = append(got, append([]byte{typ}, data...))
	}
}

func recordStream(secret []byte) (stream []byte, plain [][]byte) {
	c := newCipherState(bytes.Clone(secret))
	for i, size := range []int{1, 0, 12, 300, 17, 700} {
		data := make([]byte, size)
		rand.Read(data)
		stream = append(stream, sealRecord(c, byte(1+i%3), data)...)
		plain = append(plain, append([]byte{byte(1 + i%3)}, data...))
		if i == 2 {
			stream = append(stream, sealRecord(c, recordUpdate, nil)...)
			c.update()
		}
	}
	return stream, plain
}

// Whatever is done to a stream of records, what is delivered is a true prefix, and the error is typed.
func expectPrefix(t *testing.T, what string, secret, stream []byte, plain [][]byte, whole bool) {
	t.Helper()
	got, err := openAll(secret, bytes.NewReader(stream))
	if len(got) > len(plain) || !slices.EqualFunc(got, plain[:len(got)], bytes.Equal) || (len(got) == len(plain)) != whole {
		t.Fatalf("%s: delivered %d of %d records, or other ones", what, len(got), len(plain))
	}
	if !errors.Is(err, ErrRecord) && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMisbehaved) || errors.Is(err, io.EOF) {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestRecordsEveryOffset(t *testing.T) {
	secret := testSecret()
	stream, plain := recordStream(secret)
	expectPrefix(t, "untouched", secret, stream, plain, true)
	for at := range stream {
		for bit := range 8 {
			bad := bytes.Clone(stream)
			bad[at] ^= 1 << bit
			expectPrefix(t, fmt.Sprintf("bit %d of byte %d", bit, at), secret, bad, plain, false)
		}
		expectPrefix(t, fmt.Sprintf("cut at %d", at), secret, stream[:at], plain, false)
	}
	t.Logf("%d offsets, 9 faults each", len(stream))
}

func TestRecordsMoved(t *testing.T) {
	secret := testSecret()
	c := newCipherState(bytes.Clone(secret))
	var recs, plain [][]byte
	for i := range 4 {
		data := []byte{recordData, byte(i), 9}
		recs = append(recs, sealRecord(c, data[0], data[1:]))
		plain = append(plain, data)
	}
	other := sealRecord(newCipherState(testSecret()), recordData, []byte{9, 9})
	for what, order := range map[string][][]byte{
		"dropped":    {recs[0], recs[2], recs[3]},
		"first lost": {recs[1], recs[2], recs[3]},
		"swapped":    {recs[0], recs[2], recs[1], recs[3]},
		"repeated":   {recs[0], recs[1], recs[1], recs[2]},
		"spliced":    {recs[0], other, recs[1]},
	} {
		expectPrefix(t, what, secret, bytes.Join(order, nil), plain, false)
	}
}

func TestRecordSizes(t *testing.T) {
	secret := testSecret()
	for _, size := range []int{1, maxData - 1, maxData} {
		data := bytes.Repeat([]byte{5}, size)
		got, err := openAll(secret, iotest.OneByteReader(bytes.NewReader(sealRecord(newCipherState(bytes.Clone(secret)), 1, data))))
		if len(got) != 1 || !bytes.Equal(got[0][1:], data) || !errors.Is(err, ErrTruncated) {
			t.Fatalf("size %d: %d records, %v", size, len(got), err)
		}
	}
	for _, size := range []int{maxData + 1, 65535 - 17} {
		got, err := openAll(secret, bytes.NewReader(sealRecord(newCipherState(bytes.Clone(secret)), 1, make([]byte, size))))
		if len(got) != 0 || !errors.Is(err, ErrRecord) {
			t.Fatalf("size %d: %d records, %v", size, len(got), err)
		}
	}
}

func TestKeyLimits(t *testing.T) {
	secret := testSecret()
	out, in := newCipherState(bytes.Clone(secret)), newCipherState(bytes.Clone(secret))
	in.hardRecords = 3
	for range 3 {
		if _, _, err := in.open(sealRecord(out, recordData, []byte{1})); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := in.open(sealRecord(out, recordData, []byte{1})); err != errOveruse {
		t.Fatal(err)
	}
	// An update with nothing before it is a storm's beginning.
	out = newCipherState(bytes.Clone(secret))
	storm := sealRecord(out, recordUpdate, nil)
	if _, err := openAll(secret, bytes.NewReader(storm)); !errors.Is(err, ErrMisbehaved) {
		t.Fatal(err)
	}
}

// Key updates in the middle of everything, both ways.
func TestSessionAcrossKeyUpdates(t *testing.T) {
	for _, limit := range []uint64{1, 2, 7} {
		a, b := tcpPair(t)
		client, server := configs()
		cs, ss := sessionsOver(t, a, b, client, server)
		for _, s := range []*Session{cs, ss} {
			s.conn.tx.mu.Lock() // before the first record is sealed; run reads it afterwards
			s.conn.tx.cipher.softRecords = limit
			s.conn.tx.mu.Unlock()
		}
		o, p := streams(t, cs, ss)
		go func() {
			io.Copy(p, p)
			p.CloseWrite()
		}()
		data := make([]byte, 1<<20)
		rand.Read(data)
		go func() {
			for rest := data; len(rest) > 0; rest = rest[min(1000, len(rest)):] {
				o.Write(rest[:min(1000, len(rest))])
			}
			o.CloseWrite()
		}()
		got, err := io.ReadAll(o)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("limit %d: %d bytes, %v", limit, len(got), err)
		}
		cs.Close()
		if n := cs.conn.tx.cipher.records; n > limit+1 {
			t.Errorf("limit %d: %d records under one key", limit, n)
		}
	}
}

// Whatever arrives, what is delivered is a beginning of what was sealed, and the error is typed.
func FuzzRecords(f *testing.F) {
	// Another secret for each set of records: what a fuzzer remembers of an older set would open, and be no forgery.
	secret := bytes.Repeat([]byte{2}, secretSize)
	c := newCipherState(bytes.Clone(secret))
	plain := [][]byte{[]byte("\x01hello"), []byte("\x05"), []byte("\x01world"), []byte("\x02")}
	var stream []byte
	for i, p := range plain {
		stream = append(stream, sealRecord(c, p[0], p[1:])...)
		if i == 1 {
			stream = append(stream, sealRecord(c, recordUpdate, nil)...)
			c.update()
		}
		f.Add(bytes.Clone(stream))
		f.Add(append(bytes.Clone(stream), stream...))
	}
	f.Add(stream[1:])
	f.Add([]byte{0, minSealed - 1})
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := openAll(secret, bytes.NewReader(stream))
		if len(got) > len(plain) || !slices.EqualFunc(got, plain[:len(got)], bytes.Equal) {
			t.Fatalf("delivered %q", got)
		}
		if !errors.Is(err, ErrRecord) && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrMisbehaved) || err == io.EOF {
			t.Fatal(err)
		}
	})
}
