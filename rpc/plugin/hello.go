package plugin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The two lines of JSON with which the sides agree: the host's on the plug-in's standard input, then the plug-in's on its
// standard output. Nothing in them is secret.

const (
	wireVersion  = 1
	envName      = "SEALMUX_PLUGIN" // set to wireVersion: this process was started as a plug-in; it is no secret
	maxHello     = 16 << 10         // of a host's line, in bytes
	networkFD    = "fd"
	networkTCP   = "tcp"
	sessionLabel = " plugin "
	stopWord     = "stop\n" // what the host writes to standard input before it ends it: without that, the host has died
)

// A hostHello is the host's line.
type hostHello struct {
	Wire     int    `json:"sealmux_plugin"`
	Versions []int  `json:"versions"` // of the application protocol, that the host speaks
	Key      string `json:"key"`      // the host's public key in PEM
	Network  string `json:"network"`
	FD       int    `json:"fd,omitempty"`
	Address  string `json:"address,omitempty"`
}

// A pluginHello is the plug-in's line.
type pluginHello struct {
	Wire     int    `json:"sealmux_plugin"`
	Versions []int  `json:"versions"`
	Version  int    `json:"version"` // the chosen one; 0 if there is none in common
	Key      string `json:"key"`
}

// writeHello writes a line.
func writeHello(w io.Writer, hello any) error {
	line, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// readHello reads a line, of as many bytes as r has room for.
func readHello(r *bufio.Reader, hello any, wire *int) error {
	line, err := r.ReadSlice('\n')
	if err != nil && len(line) == 0 {
		return err
	}
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
		return err
	}
	if err != nil || json.Unmarshal(line, hello) != nil || *wire != wireVersion {
		return fmt.Errorf("%w: it printed %.200q", ErrNotPlugin, line)
	}
	return nil
}

// common returns the highest version that both have, or 0.
func common(host, plugin []int) (best int) {
	for _, v := range host {
		if v > best && slices.Contains(plugin, v) {
			best = v
		}
	}
	return best
}
