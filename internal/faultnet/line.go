package faultnet

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A Line is what one direction of a connection does to its bytes. The zero Line passes them on.
type Line struct {
	Rate   int           // bytes a second; 0: as fast as may be
	Delay  time.Duration // of each byte
	Chunk  int           // the most that one Read returns; 0: no limit
	Window int           // bytes on their way before a writer must wait; 0: 256 KiB
	Faults []Fault       // in the order of At; one that begins inside another's bytes is left out
}

// A Fault strikes at a byte of what is written.
type Fault struct {
	At   int64 // how many bytes come before it
	Kind Kind
	Len  int           // of Drop, Duplicate, Reorder and Insert: how many bytes; of Flip: which bit, 0 to 7
	For  time.Duration // of Stall; 0: for ever
}

// A Kind is a kind of fault.
type Kind int

// The kinds of faults.
const (
	Flip      Kind = iota // one bit of the byte
	Drop                  // bytes are lost
	Duplicate             // bytes come twice
	Reorder               // bytes change places with as many that follow
	Insert                // bytes of 0xA5 come before it
	Stall                 // nothing more comes for a while
	Truncate              // the direction ends: io.EOF
	Cut                   // both directions end: connection reset
	kinds
)

// String is the kind's name in small letters.
func (k Kind) String() string {
	names := [kinds]string{"flip", "drop", "duplicate", "reorder", "insert", "stall", "truncate", "cut"}
	if k < 0 || k >= kinds {
		return fmt.Sprintf("kind %d", int(k))
	}
	return names[k]
}

// Changes reports whether the fault changes bytes, so that a receiver which checks them must notice.
func (k Kind) Changes() bool { return k < Stall }

// String is the fault on one line, to be printed when a test fails.
func (f Fault) String() string {
	return fmt.Sprintf("%v at %d (%d bytes, %v)", f.Kind, f.At, f.Len, f.For)
}

// Random draws a Line: some rate, delay and chunk, and n faults of the given kinds, or of any, in the first span bytes. A Stall
// is one of at most a minute.
func Random(random *rand.Rand, n int, span int64, of ...Kind) Line {
	l := Line{}
	if random.IntN(3) == 0 {
		l.Rate = 10_000 << random.IntN(12)
	}
	if random.IntN(2) == 0 {
		l.Delay = time.Duration(random.IntN(100)) * time.Millisecond
	}
	if random.IntN(4) == 0 {
		l.Chunk = 1 + random.IntN(1000)
	}
	for range n {
		f := Fault{At: random.Int64N(span), Len: random.IntN(8), For: time.Duration(1 + random.IntN(int(time.Minute)))}
		if len(of) > 0 {
			f.Kind = of[random.IntN(len(of))]
		} else {
			f.Kind = Kind(random.IntN(int(kinds)))
		}
		if f.Kind != Flip {
			f.Len = 1 + random.IntN(64)
		}
		l.Faults = append(l.Faults, f)
	}
	slices.SortStableFunc(l.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return l
}

// A mangler applies the faults of a Line to the bytes that pass.
type mangler struct {
	faults []Fault
	at     int64  // bytes that have come in
	held   []byte // of Drop, Duplicate and Reorder: what the fault waits for
	struck int    // faults that have struck
}

// A piece is what comes out: bytes, and then perhaps an end or a stall.
type piece struct {
	data []byte
	then Kind // Stall, Truncate or Cut; otherwise there is nothing behind the data
	wait time.Duration
}

// take puts bytes in and returns what comes out.
func (m *mangler) take(p []byte) (out []piece) {
	for len(p) > 0 {
		if len(m.faults) == 0 {
			m.at += int64(len(p))
			return append(out, piece{data: slices.Clone(p)})
		}
		f := m.faults[0]
		if before := f.At - m.at; before > 0 {
			n := min(int64(len(p)), before)
			out = append(out, piece{data: slices.Clone(p[:n])})
			p = p[n:]
			m.at += n
			continue
		}
		if f.At < m.at && len(m.held) == 0 {
			m.faults = m.faults[1:] // inside the bytes of the one before
			continue
		}
		n := min(len(p), f.span()-len(m.held))
		m.held = append(m.held, p[:n]...)
		p = p[n:]
		m.at += int64(n)
		if len(m.held) == f.span() {
			out = append(out, f.strike(m.held)...)
			m.held, m.faults = nil, m.faults[1:]
			m.struck++
		}
	}
	return out
}

// rest is what still waited for its fault when the writer ended.
func (m *mangler) rest() []byte {
	held := m.held
	m.held = nil
	return held
}

// span is how many bytes the fault needs to have.
func (f Fault) span() int {
	switch f.Kind {
	case Drop, Duplicate:
		return max(f.Len, 1)
	case Reorder:
		return 2 * max(f.Len, 1)
	}
	return 1
}

func (f Fault) strike(b []byte) []piece {
	switch f.Kind {
	case Flip:
		b[0] ^= 1 << (f.Len & 7)
	case Drop:
		return nil
	case Duplicate:
		b = slices.Concat(b, b)
	case Reorder:
		b = slices.Concat(b[len(b)/2:], b[:len(b)/2])
	case Insert:
		b = append(slices.Repeat([]byte{0xA5}, max(f.Len, 1)), b...)
	case Stall:
		return []piece{{then: Stall, wait: f.For}, {data: b}}
	case Truncate, Cut:
		return []piece{{then: f.Kind}}
	}
	return []piece{{data: b}}
}
