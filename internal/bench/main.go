// Command bench measures sealmux beside other RPC systems, client and server in this process over loopback TCP, each in the
// same run: only ratios within one run mean anything. README.md says how, and with what settings.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A plan is what is to be measured.
type plan struct {
	peers   []peer
	works   []work
	bytes   []int
	callers []int
	seconds time.Duration
	reps    int
}

func run(args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	names := flags.String("peers", "sealmux,netrpc,grpc,drpc,drpcpool,ttrpc,http2,goplugin,msgpackrpc,yamuxtls,tls,tcp", "who is measured")
	workNames := flags.String("work", "rpc", "rpc, typed, bulk, handshake, resume, idle, manystreams, mixed, streams, sessions; several with commas")
	sizes := flags.String("bytes", "16", "sizes of a request and of its reply, or of a block in bulk")
	callers := flags.String("callers", "1,16,128", "how many call at once; in bulk and streams how many streams, in sessions how many sessions")
	seconds := flags.Float64("seconds", 1, "how long each measurement takes")
	reps := flags.Int("reps", 3, "how often each peer is measured, in turn; the median counts")
	asJSON := flags.Bool("json", false, "print a JSON object a line")
	svg := flags.String("svg", "", "write bar charts into this `folder`")
	profile := flags.String("cpuprofile", "", "write a CPU profile of the whole run to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	p := plan{seconds: time.Duration(*seconds * float64(time.Second)), reps: *reps}
	var err error
	if p.peers, err = choose(*names, allPeers, func(p peer) string { return p.name }); err != nil {
		return err
	}
	if p.works, err = choose(*workNames, allWorks, func(w work) string { return w.name }); err != nil {
		return err
	}
	if p.bytes, err = numbers(*sizes); err != nil {
		return err
	}
	if p.callers, err = numbers(*callers); err != nil {
		return err
	}
	if p.seconds <= 0 || p.reps < 1 {
		return fmt.Errorf("-seconds and -reps must be above 0")
	}
	if *asJSON {
		enc := json.NewEncoder(out)
		return p.each(func() {}, func(rows []row) error {
			for _, r := range rows {
				if err := enc.Encode(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	bar := progressbar.NewOptions(p.steps(), progressbar.OptionSetWriter(progress), progressbar.OptionSetPredictTime(true))
	return p.each(func() { bar.Add(1) }, func(rows []row) error {
		bar.Clear()
		printTable(out, rows)
		if *svg != "" {
			return drawChart(*svg, rows)
		}
		return nil
	})
}

// choose finds things by their names.
func choose[T any](list string, all []T, name func(T) string) (chosen []T, err error) {
next:
	for _, want := range strings.Split(list, ",") {
		for _, t := range all {
			if name(t) == want {
				chosen = append(chosen, t)
				continue next
			}
		}
		return nil, fmt.Errorf("there is no %q", want)
	}
	return chosen, nil
}

func numbers(list string) (ns []int, err error) {
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number above 0", text)
		}
		ns = append(ns, n)
	}
	return ns, nil
}
