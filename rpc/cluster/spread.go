package cluster

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// What this file decides, many clients decide each for themselves, so that together they do not all do the same: when
// they reconnect, and to which servers. It is pure, and the simulation (simulation_test.go) runs it for 100,000 clients.

// A Backoff is how long a Client waits before it connects again: a time between 0 and a bound, drawn anew each time, so that
// clients who have lost a server together do not come back together. The bound is Base at first, doubles with each failure in
// a row, and stays at Max. A session that lives for less than Base counts as a failure.
type Backoff struct {
	Base, Max time.Duration // default 500 ms and 30 s
}

// wait is the time to wait after so many failures in a row. rnd is uniform in [0, 1).
func (b Backoff) wait(failures int, rnd float64) time.Duration {
	bound := float64(b.Max)
	if failures < 62 {
		bound = min(bound, float64(b.Base)*float64(uint64(1)<<max(failures, 0)))
	}
	return time.Duration(rnd * bound)
}

// subset chooses which n endpoints of a set a client has sessions to: those with the highest hash of both names
// (rendezvous hashing). Each client chooses by itself, each endpoint is chosen by n/len(set) of all clients, and an
// endpoint that comes or goes changes the choice of those clients alone that chose it. n of 0 means all.
func subset(set []Endpoint, client string, n int) []Endpoint {
	if n <= 0 || n >= len(set) {
		return set
	}
	hashes := make([]uint64, len(set))
	for i, e := range set {
		hashes[i] = hashString(e.Addr)
	}
	chosen := make([]Endpoint, 0, n)
	for _, i := range highest(hashes, hashString(client), n) {
		chosen = append(chosen, set[i])
	}
	return chosen
}

// highest returns, in order, the indices of the n hashes that score highest for a client.
func highest(hashes []uint64, client uint64, n int) []int {
	type ranked struct {
		score uint64
		index int
	}
	best := make([]ranked, 0, n+1)
	for i, h := range hashes {
		score := mix(h ^ client)
		if len(best) == n && score <= best[n-1].score {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, score, func(r ranked, s uint64) int { return cmp.Compare(s, r.score) })
		best = slices.Insert(best, at, ranked{score, i})
		best = best[:min(len(best), n)]
	}
	indices := make([]int, len(best))
	for i, r := range best {
		indices[i] = r.index
	}
	slices.Sort(indices)
	return indices
}

// hashString is FNV-1a, mixed: the same in every process and version, so that clients agree on where a key belongs.
func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of splitmix64: each bit of x changes half of the bits.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// score ranks an endpoint of a weight for a key; the highest wins, and each wins its weight's share of all keys.
func score(endpoint, key uint64, weight float64) float64 {
	u := (float64(mix(endpoint^key)>>11) + 0.5) / (1 << 53) // in (0, 1)
	return -weight / math.Log(u)
}
