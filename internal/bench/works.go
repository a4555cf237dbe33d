package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// A work is something that peers are compared at. measure returns false for a peer that cannot do it.
type work struct {
	name    string
	fixed   bool // sizes and callers are its own
	measure func(p peer, bytes, callers int, d time.Duration) (row, bool, error)
}

var allWorks = []work{
	{"rpc", false, rpcWork}, {"typed", false, typedWork}, {"bulk", false, bulkWork}, {"handshake", false, handshakeWork}, {"resume", false, resumeWork},
	{"idle", true, idleWork}, {"manystreams", false, manyStreamsWork}, {"mixed", true, mixedWork},
	{"streams", false, streamsWork}, {"sessions", false, sessionsWork},
}

// rpcWork echoes bytes.
func rpcWork(p peer, bytes, callers int, d time.Duration) (row, bool, error) {
	return withSystem(p, func(s *system) (row, error) {
		body := make([]byte, bytes)
		return load(callers, d, func(int) error { return echo(s.call, body) })
	}, true)
}

func echo(call func([]byte) (int, error), body []byte) error {
	n, err := call(body)
	if err == nil && n != len(body) {
		err = fmt.Errorf("%d bytes came back of %d", n, len(body))
	}
	return err
}

// withSystem starts a peer for one measurement.
func withSystem(p peer, f func(*system) (row, error), can bool) (row, bool, error) {
	if !can {
		return row{}, false, nil
	}
	s, err := p.start()
	if err != nil {
		return row{}, false, err
	}
	defer s.close()
	r, err := f(s)
	return r, err == nil, err
}

// typedWork echoes a struct with a body of so many bytes.
func typedWork(p peer, bytes, callers int, d time.Duration) (row, bool, error) {
	return withSystem(p, func(s *system) (row, error) {
		body := make([]byte, bytes)
		return load(callers, d, func(i int) error {
			m := Message{ID: int64(i), Name: "some name", Tags: []string{"one", "two"}, Body: body}
			back, err := s.typed(&m)
			if err == nil && (back.ID != m.ID || len(back.Body) != bytes) {
				err = fmt.Errorf("%+v came back", back)
			}
			return err
		})
	}, p.typed)
}

// bulkWork writes blocks on streams, one way, and counts those that arrive.
func bulkWork(p peer, bytes, streams int, d time.Duration) (row, bool, error) {
	return withSystem(p, func(s *system) (row, error) {
		block := make([]byte, bytes)
		writers := make([]writer, streams)
		for i := range writers {
			w, err := s.stream()
			if err != nil {
				return row{}, err
			}
			writers[i] = w
		}
		before, start := s.received.Load(), time.Now()
		r, err := load(streams, d, func(i int) error { _, err := writers[i].Write(block); return err })
		r.PerSecond = float64(s.received.Load()-before) / float64(bytes) / time.Since(start).Seconds()
		return r, err
	}, p.streams)
}

// handshakeWork makes sessions, mutually authenticated, and ends them.
func handshakeWork(p peer, _, callers int, d time.Duration) (row, bool, error) {
	return shakeWork(p, false, callers, d)
}

// resumeWork is handshakeWork with tickets.
func resumeWork(p peer, _, callers int, d time.Duration) (row, bool, error) {
	return shakeWork(p, true, callers, d)
}

func shakeWork(p peer, resume bool, callers int, d time.Duration) (row, bool, error) {
	if p.shake == nil {
		return row{}, false, nil
	}
	dial, stop, err := p.shake(resume, callers)
	if stop != nil {
		defer stop()
	}
	if err != nil {
		return row{}, false, err
	}
	r, err := load(callers, d, dial)
	return r, err == nil, err
}

// shaking makes the first session of each caller, and a function that checks whether the others are resumed as they should be.
func shaking(dial func(caller int) (resumed bool, err error), resume bool, callers int) (func(caller int) error, error) {
	for i := range callers {
		if _, err := dial(i); err != nil {
			return nil, err
		}
	}
	return func(caller int) error {
		resumed, err := dial(caller)
		if err == nil && resumed != resume {
			err = errNotResumed
		}
		return err
	}, nil
}

// idleWork measures what a session costs, both ends together, that has made a call and makes no more.
func idleWork(p peer, _, _ int, _ time.Duration) (row, bool, error) {
	if p.pool {
		return row{}, false, nil // it has no session, but many connections
	}
	const sessions = 100
	first, err := p.start() // what is there only once
	if err != nil {
		return row{}, false, err
	}
	defer first.close()
	before, goroutines := inUse(), runtime.NumGoroutine()
	connect := first.connect
	if connect == nil {
		connect = func() (func([]byte) (int, error), error) {
			s, err := p.start()
			if err != nil {
				return nil, err
			}
			first.onClose(s.close)
			return s.call, nil
		}
	}
	for range sessions {
		call, err := connect()
		if err == nil {
			err = echo(call, make([]byte, 1<<10))
		}
		if err != nil {
			return row{}, false, err
		}
	}
	time.Sleep(200 * time.Millisecond) // for what is given back after a while
	return row{Memory: (inUse() - before) / sessions, Allocs: float64(runtime.NumGoroutine()-goroutines) / sessions}, true, nil
}

func inUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}

// crowd is how many callers the works have that grow in something else.
const crowd = 128

// manyStreamsWork is rpcWork beside 10,000 idle streams of the same session.
func manyStreamsWork(p peer, bytes, callers int, d time.Duration) (row, bool, error) {
	return besideStreams(p, bytes, callers, 10_000, d)
}

// streamsWork is rpcWork of 128 callers beside so many.
func streamsWork(p peer, bytes, streams int, d time.Duration) (row, bool, error) {
	return besideStreams(p, bytes, crowd, streams, d)
}

func besideStreams(p peer, bytes, callers, streams int, d time.Duration) (row, bool, error) {
	return withSystem(p, func(s *system) (row, error) {
		for range streams {
			if err := s.open(); err != nil {
				return row{}, err
			}
		}
		body := make([]byte, bytes)
		return load(callers, d, func(int) error { return echo(s.call, body) })
	}, p.opens)
}

// sessionsWork is rpcWork of 128 callers, each of which calls on one session after the other of its share of so many, all with the
// same server.
func sessionsWork(p peer, bytes, sessions int, d time.Duration) (row, bool, error) {
	if p.pool {
		return row{}, false, nil
	}
	s, err := p.start()
	if err != nil {
		return row{}, false, err
	}
	defer s.close()
	if s.connect == nil {
		return row{}, false, nil
	}
	calls := make([]func([]byte) (int, error), sessions)
	for i := range calls {
		if calls[i], err = s.connect(); err == nil {
			err = echo(calls[i], make([]byte, bytes)) // some connect only now
		}
		if err != nil {
			return row{}, false, err
		}
	}
	body, next := make([]byte, bytes), make([]int, crowd)
	r, err := load(crowd, d, func(caller int) error {
		i := (next[caller]*crowd + caller) % sessions
		next[caller]++
		return echo(calls[i], body)
	})
	return r, err == nil, err
}

// mixedWork measures the small calls of 4 callers beside 4 that send 1 MiB.
func mixedWork(p peer, _, _ int, d time.Duration) (row, bool, error) {
	return withSystem(p, func(s *system) (row, error) {
		small, large := make([]byte, 64), make([]byte, 1<<20)
		var over atomic.Bool
		failed := make(chan error, 4)
		for range 4 {
			go func() {
				var err error
				for err == nil && !over.Load() {
					err = echo(s.call, large)
				}
				failed <- err
			}()
		}
		r, err := load(4, d, func(int) error { return echo(s.call, small) })
		over.Store(true)
		for range 4 {
			if e := <-failed; err == nil {
				err = e
			}
		}
		return r, err
	}, true)
}
