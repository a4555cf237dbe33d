package main

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/sealmux/sealmux/internal/termtext"
)

// A pingPrinter shows what ping finds. Its methods fail if that cannot be written.
type pingPrinter interface {
	session(fingerprint string, took time.Duration) error
	reply(seq int, took time.Duration, state pingState) error
	lost(seq int, why error) error
	summary(s *roundTrips, took time.Duration) error
}

func newPingPrinter(out io.Writer, addr string, asJSON bool) pingPrinter {
	if asJSON {
		return pingJSON{out, addr}
	}
	return pingText{out, addr, newStyle(out)}
}

type pingText struct {
	out   io.Writer
	addr  string
	style style
}

func (t pingText) session(fingerprint string, took time.Duration) error {
	_, err := fmt.Fprintf(t.out, "ping %s key %s: session in %s ms\n", t.style.bold(t.addr), fingerprint, termtext.Milliseconds(took))
	return err
}

func (t pingText) reply(seq int, took time.Duration, state pingState) error {
	note := ""
	switch {
	case !state.serves:
		note = " " + t.style.yellow("("+state.text+")")
	case state.text != "serving":
		note = " " + t.style.dim("("+state.text+")")
	}
	_, err := fmt.Fprintf(t.out, "reply from %s: seq=%d time=%s ms%s\n", t.addr, seq, termtext.Milliseconds(took), note)
	return err
}

func (t pingText) lost(seq int, why error) error {
	_, err := fmt.Fprintf(t.out, "%s from %s: seq=%d: %s\n", t.style.red("no reply"), t.addr, seq, oneLine(why))
	return err
}

func (t pingText) summary(s *roundTrips, took time.Duration) error {
	_, err := fmt.Fprintf(t.out, "\n--- %s ping statistics ---\n%d sent, %d received, %.3g%% lost, time %d ms\n",
		t.addr, s.sent, s.received, s.lost(), took.Milliseconds())
	if err == nil && s.received > 0 {
		_, err = fmt.Fprintf(t.out, "round trip min/avg/max/mdev = %s/%s/%s/%s ms\n",
			termtext.Milliseconds(s.min), termtext.Milliseconds(s.average()), termtext.Milliseconds(s.max), termtext.Milliseconds(s.mdev()))
	}
	return err
}

type pingJSON struct {
	out  io.Writer
	addr string
}

func (j pingJSON) session(fingerprint string, took time.Duration) error {
	return printJSON(j.out, struct {
		Event       string  `json:"event"`
		Addr        string  `json:"addr"`
		Fingerprint string  `json:"fingerprint"`
		Took        float64 `json:"handshake_ms"`
	}{"session", j.addr, fingerprint, termtext.InMilliseconds(took)})
}

func (j pingJSON) reply(seq int, took time.Duration, state pingState) error {
	return printJSON(j.out, struct {
		Event  string  `json:"event"`
		Seq    int     `json:"seq"`
		Took   float64 `json:"time_ms"`
		Serves bool    `json:"serves"`
		Status string  `json:"status"`
	}{"reply", seq, termtext.InMilliseconds(took), state.serves, state.text})
}

func (j pingJSON) lost(seq int, why error) error {
	return printJSON(j.out, struct {
		Event string `json:"event"`
		Seq   int    `json:"seq"`
		Why   string `json:"error"`
	}{"lost", seq, oneLine(why)})
}

func (j pingJSON) summary(s *roundTrips, took time.Duration) error {
	type times struct {
		Min  float64 `json:"min"`
		Mean float64 `json:"avg"`
		Max  float64 `json:"max"`
		Mdev float64 `json:"mdev"`
	}
	var trip *times
	if s.received > 0 {
		trip = &times{termtext.InMilliseconds(s.min), termtext.InMilliseconds(s.average()), termtext.InMilliseconds(s.max), termtext.InMilliseconds(s.mdev())}
	}
	return printJSON(j.out, struct {
		Event    string  `json:"event"`
		Addr     string  `json:"addr"`
		Sent     int     `json:"sent"`
		Received int     `json:"received"`
		Lost     float64 `json:"lost_percent"`
		Took     float64 `json:"time_ms"`
		Trip     *times  `json:"round_trip_ms,omitempty"`
	}{"summary", j.addr, s.sent, s.received, math.Round(s.lost()*10) / 10, termtext.InMilliseconds(took), trip})
}
