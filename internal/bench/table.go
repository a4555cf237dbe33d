package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// printTable shows a cell, with each rate as a ratio to that of the best RPC peer.
func printTable(w io.Writer, rows []row) {
	if len(rows) == 0 {
		return
	}
	first := rows[0]
	fmt.Fprintf(w, "%s, %d bytes, %d callers\n", first.Work, first.Bytes, first.Callers)
	if first.Work == "idle" {
		printIdle(w, rows)
		return
	}
	best := 0.0
	for _, r := range rows {
		if r.isRPC && r.Peer != "sealmux" {
			best = max(best, r.PerSecond)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "peer\tper second\tto the best peer\tp50 µs\tp99 µs\tallocs\tbytes\tCPU µs\t")
	for _, r := range rows {
		ratio := "-"
		if best > 0 {
			ratio = fmt.Sprintf("%.2f", r.PerSecond/best)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%s\t%.0f\t%.0f\t%.1f\t%.0f\t%.1f\t\n", r.Peer, r.PerSecond, ratio, r.P50, r.P99, r.Allocs, r.Memory, r.CPU)
	}
	t.Flush()
	fmt.Fprintln(w)
}

// printIdle shows what a session costs.
func printIdle(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "peer\tKiB of heap and stack\tgoroutines\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%.0f\t%.1f\t\n", r.Peer, r.Memory/1024, r.Allocs)
	}
	t.Flush()
	fmt.Fprintln(w)
}
