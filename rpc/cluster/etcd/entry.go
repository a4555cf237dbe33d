package etcd

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sealmux/sealmux/rpc/cluster"
)

// Limits of one entry, in bytes.
const (
	maxEntry = 4096 // its value
	maxKey   = 1024
)

// ErrEntry is found with errors.Is in the error of a Register whose endpoint can never be announced: it has no address, or is too large.
// Shorten its attributes.
var ErrEntry = errors.New("cluster/etcd: not a possible entry")

// A value is an entry as etcd's endpoints package writes it. Op is always 0 there.
type value struct {
	Op       int
	Addr     string
	Metadata any
}

// A metadata is what this package writes as Metadata.
type metadata struct {
	Name       string            `json:"name,omitempty"`
	Weight     int               `json:"weight,omitempty"`
	Pins       []string          `json:"pins,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// encode makes the value of an entry; decode returns the same endpoint of it.
func encode(e cluster.Endpoint) (string, error) {
	if e.Addr == "" {
		return "", fmt.Errorf("%w: no address", ErrEntry)
	}
	data, err := json.Marshal(value{Addr: e.Addr, Metadata: metadata{e.Name, e.Weight, e.Pins, e.Attributes}})
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrEntry, err)
	case len(data) > maxEntry || len(e.Addr) > maxKey/2:
		return "", fmt.Errorf("%w: %d bytes, of %d at most, with an address of %d, of %d at most", ErrEntry, len(data), maxEntry, len(e.Addr), maxKey/2)
	}
	return string(data), nil
}

// decode reads the value of an entry, which anybody may have written.
func decode(data []byte) (e cluster.Endpoint, err error) {
	if len(data) > maxEntry {
		return e, fmt.Errorf("%d bytes, of %d at most", len(data), maxEntry)
	}
	var v struct {
		Addr     string
		Metadata json.RawMessage
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return e, fmt.Errorf("not an endpoint: %w", err)
	}
	if v.Addr == "" {
		return e, errors.New("no address")
	}
	e.Addr = v.Addr
	var fields map[string]json.RawMessage
	if json.Unmarshal(v.Metadata, &fields) != nil {
		return e, nil // somebody else's
	}
	if pins, ok := fields["pins"]; ok {
		if err := json.Unmarshal(pins, &e.Pins); err != nil {
			return cluster.Endpoint{}, fmt.Errorf("pins that cannot be obeyed: %w", err)
		}
	}
	take(fields["name"], &e.Name)
	take(fields["weight"], &e.Weight)
	take(fields["attributes"], &e.Attributes)
	return e, nil
}

// take reads a field if it is there and of the right kind.
func take[V any](data json.RawMessage, to *V) {
	var v V
	if len(data) > 0 && json.Unmarshal(data, &v) == nil {
		*to = v
	}
}
