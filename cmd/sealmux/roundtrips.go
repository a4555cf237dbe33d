package main

import (
	"math"
	"time"
)

// roundTrips are what ping and repl say of theirs.
type roundTrips struct {
	sent, received int
	min, max       time.Duration
	mean, squares  float64 // of the round trips in ns, and the sum of the squared distances from the mean (Welford)
}

func (s *roundTrips) add(took time.Duration) {
	if s.received++; s.received == 1 {
		s.min = took
	}
	s.min, s.max = min(s.min, took), max(s.max, took)
	off := float64(took) - s.mean
	s.mean += off / float64(s.received)
	s.squares += off * (float64(took) - s.mean)
}

// mdev is the standard deviation, as ping(8) calls it.
func (s *roundTrips) mdev() time.Duration {
	if s.received == 0 {
		return 0
	}
	return time.Duration(math.Round(math.Sqrt(s.squares / float64(s.received))))
}

func (s *roundTrips) average() time.Duration { return time.Duration(math.Round(s.mean)) }

// lost is how many of a hundred got no reply.
func (s *roundTrips) lost() float64 {
	if s.sent == 0 {
		return 0
	}
	return 100 * float64(s.sent-s.received) / float64(s.sent)
}
