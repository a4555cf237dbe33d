package main

import (
	"fmt"
	"io"
	"math"
	"time"
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
	_, err := fmt.Fprintf(t.out, "ping %s key %s: session in %s\n", t.style.bold(t.addr), fingerprint, milliseconds(took))
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
	_, err := fmt.Fprintf(t.out, "reply from %s: seq=%d time=%s%s\n", t.addr, seq, milliseconds(took), note)
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
			threeDigits(s.min), threeDigits(s.average()), threeDigits(s.max), threeDigits(s.mdev()))
	}
	return err
}

func milliseconds(d time.Duration) string { return threeDigits(d) + " ms" }

// threeDigits is d in milliseconds, with three digits or to the millisecond.
func threeDigits(d time.Duration) string {
	ms := float64(d) / 1e6
	switch {
	case ms < 1:
		return fmt.Sprintf("%.3f", ms)
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

type pingJSON struct {
	out  io.Writer
	addr string
}

// inMS is d in milliseconds, to the microsecond.
func inMS(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }

func (j pingJSON) session(fingerprint string, took time.Duration) error {
	return printJSON(j.out, struct {
		Event       string  `json:"event"`
		Addr        string  `json:"addr"`
		Fingerprint string  `json:"fingerprint"`
		Took        float64 `json:"handshake_ms"`
	}{"session", j.addr, fingerprint, inMS(took)})
}

func (j pingJSON) reply(seq int, took time.Duration, state pingState) error {
	return printJSON(j.out, struct {
		Event  string  `json:"event"`
		Seq    int     `json:"seq"`
		Took   float64 `json:"time_ms"`
		Serves bool    `json:"serves"`
		Status string  `json:"status"`
	}{"reply", seq, inMS(took), state.serves, state.text})
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
		trip = &times{inMS(s.min), inMS(s.average()), inMS(s.max), inMS(s.mdev())}
	}
	return printJSON(j.out, struct {
		Event    string  `json:"event"`
		Addr     string  `json:"addr"`
		Sent     int     `json:"sent"`
		Received int     `json:"received"`
		Lost     float64 `json:"lost_percent"`
		Took     float64 `json:"time_ms"`
		Trip     *times  `json:"round_trip_ms,omitempty"`
	}{"summary", j.addr, s.sent, s.received, math.Round(s.lost()*10) / 10, inMS(took), trip})
}
