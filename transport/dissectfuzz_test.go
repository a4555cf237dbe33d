package transport

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"
)

// Whatever the bytes, the parts lie side by side, the error is one of those that are promised, and neither depends on how the bytes
// come. What is told of a prefix is told of the whole.
func FuzzDissect(f *testing.F) {
	c, s := configs()
	c.Peers = Pin(otherKeyForTest().Public(), serverKeyForTest().Public())
	fromClient, fromServer := recordedBy(f, c, s)
	f.Add(fromClient)
	f.Add(fromServer)
	f.Add(message(typeAlert, alertMessage{code: AlertUnknownKey}.append(nil)))
	f.Add(slices.Concat(message(typeTicketRefused, nil), message(typeServerHello, make([]byte, serverHelloSize)),
		message(typeAlert, alertMessage{code: AlertHandshake}.append(nil))))
	f.Fuzz(func(t *testing.T, wire []byte) {
		all, at, err := parts(bytes.NewReader(wire))
		offset := int64(0)
		for _, p := range append(slices.Clone(all), at) {
			if p.Offset != offset && (err != nil || p.Kind != "") {
				t.Fatalf("at %d: %+v", offset, p)
			}
			offset += int64(p.Size)
		}
		if offset > int64(len(wire)) {
			t.Fatalf("%d of %d bytes told", offset, len(wire))
		}
		alerted := len(all) > 0 && all[len(all)-1].Kind == "Alert"
		if err == nil && offset != int64(len(wire)) && !alerted {
			t.Fatalf("%d of %d bytes told, and no error", offset, len(wire))
		}
		promised := []error{nil, ErrNotSealmux, ErrVersion, ErrTruncated, ErrHandshake, ErrRecord}
		if !slices.ContainsFunc(promised, func(e error) bool { return errors.Is(err, e) }) {
			t.Fatal(err)
		}
		again, atAgain, errAgain := parts(iotest.OneByteReader(bytes.NewReader(wire)))
		if !reflect.DeepEqual(again, all) || !reflect.DeepEqual(atAgain, at) || (errAgain == nil) != (err == nil) {
			t.Fatalf("byte by byte %+v, %+v, %v\nat once %+v, %+v, %v", again, atAgain, errAgain, all, at, err)
		}
		some, _, _ := parts(bytes.NewReader(wire[:len(wire)/2]))
		if len(some) > len(all) || len(some) > 0 && !reflect.DeepEqual(some, all[:len(some)]) {
			t.Fatalf("of a half %+v\nof the whole %+v", some, all)
		}
	})
}
