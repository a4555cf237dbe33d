package main

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
)

// TestRedial: forward outlives what time may mend, such as files that cannot be read while there are too many open, and ends with an
// identity that is refused.
func TestRedial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := withCode(exitIdentity, errors.New("not admitted"))
		there := &link{}
		for _, last := range []error{nil, refused} {
			results := []error{keyError("--key", "k", errors.New("too many open files")), knownFileError(errors.New("too many open files")),
				withCode(exitConnect, errors.New("nothing listens")), last}
			u := newUplink(&forwarder{dial: func(context.Context) (*link, error) {
				err := results[0]
				results = results[1:]
				if err != nil {
					return nil, err
				}
				return there, nil
			}}, &refusals{out: io.Discard})
			l, err := u.redial(t.Context())
			if err != last || (l == there) != (last == nil) || len(results) > 0 {
				t.Errorf("%v, %v; %d attempts not made", l, err, len(results))
			}
		}
	})
}
