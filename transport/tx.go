package transport

import (
	"net"
	"sync"
	"sync/atomic"
)

// txHalf queues records and writes them. Appending never blocks, so whatever must not block may send: yamux's
// one sending goroutine, and the receiving one. Writers of stream data wait beforehand, for room. Who seals and writes
// is run, a goroutine, or whoever has just queued little (flush) as far as the raw connection takes it without waiting.
type txHalf struct {
	raw    net.Conn
	now    *writeNow    // nil if raw can only wait
	cipher *cipherState // owned by whoever has set busy
	room   *budget      // of stream data
	bound  int          // of what may be queued: txBound
	start  func()       // starts a goroutine that calls run
	since  atomic.Int64 // when the write in progress began, 0 when there is none

	flooded atomic.Bool // more is queued than an honest peer makes us queue

	mu       sync.Mutex // protects what follows
	queue    txBuffer
	out      txBuffer // taken from queue, and being written by whoever has set busy
	busy     bool
	running  bool // run is, or is about to
	left     bool // flush could not write all of out: run's, and before anything else
	finished bool // the last record has been queued
	broken   bool // the raw connection takes nothing any more
}

// txBuffer holds records that are not sealed yet, one behind the other.
type txBuffer struct {
	b      []byte
	ends   []int    // where each finished record ends
	box    *txStore // what b and ends came in
	start  int      // where the open record of frames begins, if len(b) > start
	credit int      // stream data in it, to give back to the budget
	ponged bool     // it holds a pong already
	sealed bool     // all of it is
	sent   int      // bytes of it that were written, if sealed
}

// A txStore is the memory of a txBuffer.
type txStore struct {
	b    []byte
	ends []int
}

var txBuffers = sync.Pool{New: func() any { return &txStore{b: make([]byte, 0, 4<<10)} }}

// frame queues one whole yamux frame (rule S1), and does not see to it that it is written: kick or flush does. credit is
// how much of it was taken from room. When nothing more can be written it is dropped, as by a connection that is cut: the
// session's end, and its cause, are on their way from the receiving side.
func (tx *txHalf) frame(header, body []byte, credit int) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.finished || tx.broken {
		tx.room.give(credit)
		return nil
	}
	q := &tx.queue
	if len(q.b) > tx.bound {
		tx.flooded.Store(true)
		return ErrWriteStalled
	}
	if open := len(q.b) - q.start; open > 0 && open+len(header)+len(body) > recordPrefix+maxData {
		q.closeRecord()
	}
	if len(q.b) == q.start {
		q.begin(recordData)
	}
	q.b = append(append(q.b, header...), body...)
	q.credit += credit
	return nil
}

// begin starts a record, on a borrowed buffer if it is the first. An idle session holds none.
func (q *txBuffer) begin(typ byte) {
	if q.box == nil {
		q.box = txBuffers.Get().(*txStore)
		q.b, q.ends = q.box.b[:0], q.box.ends[:0]
	}
	q.b = append(q.b, 0, 0, typ)
}

// release gives the buffer back, unless it has grown beyond what others should hold.
func (q *txBuffer) release() {
	if cap(q.b) <= 2*txBudget {
		q.box.b, q.box.ends = q.b, q.ends
		txBuffers.Put(q.box)
	}
}

func (q *txBuffer) closeRecord() {
	if len(q.b) > q.start {
		var tag [tagSize]byte
		q.b = append(q.b, tag[:]...)
		q.start = len(q.b)
		q.ends = append(q.ends, q.start)
	}
}

// record queues a record of its own. After last, nothing more is taken.
func (tx *txHalf) record(last bool, typ byte, data ...byte) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	q := &tx.queue
	if tx.finished || tx.broken || typ == recordPong && q.ponged {
		return
	}
	q.ponged = q.ponged || typ == recordPong
	q.closeRecord()
	q.begin(typ)
	q.b = append(q.b, data...)
	q.closeRecord()
	tx.finished = last
	tx.kickLocked()
}

// kick has run write what is queued.
func (tx *txHalf) kick() {
	tx.mu.Lock()
	tx.kickLocked()
	tx.mu.Unlock()
}

func (tx *txHalf) kickLocked() {
	if !tx.running && !tx.broken && !tx.busy && (tx.left || len(tx.queue.b) > 0 || tx.finished) {
		tx.running = true
		tx.start()
	}
}

// run seals and writes what is queued until there is no more. It returns true once the last record is out; an error means that
// the connection is broken.
func (tx *txHalf) run() (over bool, err error) {
	for {
		some, over := tx.take()
		if !some {
			return over, nil
		}
		err := tx.write(&tx.out)
		tx.done(err != nil)
		if err != nil {
			return false, err
		}
	}
}

// take puts into out what is to be written and makes the caller, run, the one who does it, until done. It finds nothing while
// a flush does it, which starts run if there is more then. over says that the last record is out, and that run was called for
// the last time.
func (tx *txHalf) take() (some, over bool) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	switch {
	case tx.busy:
		tx.running = false
		return false, false
	case tx.left:
		tx.left = false
	case len(tx.queue.b) == 0:
		tx.running = tx.finished
		return false, tx.finished
	default:
		tx.takeQueueLocked()
	}
	tx.busy = true
	return true, false
}

func (tx *txHalf) takeQueueLocked() {
	tx.queue.closeRecord()
	tx.out, tx.queue = tx.queue, txBuffer{}
}

// done gives back what out held.
func (tx *txHalf) done(broken bool) {
	credit := tx.out.credit
	tx.out.release()
	tx.mu.Lock()
	tx.out = txBuffer{}
	tx.busy = false
	tx.broken = tx.broken || broken
	tx.mu.Unlock()
	tx.room.give(credit)
}

// flushRounds is how many buffers in a row a flush writes: the others' data must not keep its caller for ever.
const flushRounds = 4

// flush writes what is queued as far as that needs no waiting, unless somebody is at it, who then takes this along. So a
// small message leaves without waiting for run to be scheduled. It never blocks; what is left is run's.
func (tx *txHalf) flush() {
	if tx.now == nil {
		tx.kick()
		return
	}
	for range flushRounds {
		tx.mu.Lock()
		if tx.busy || tx.left || tx.broken || len(tx.queue.b) == 0 {
			tx.kickLocked()
			tx.mu.Unlock()
			return
		}
		tx.busy = true
		tx.takeQueueLocked()
		tx.mu.Unlock()
		if !tx.writeNow(&tx.out) {
			tx.mu.Lock()
			tx.left, tx.busy = true, false
			tx.mu.Unlock()
			break
		}
		tx.done(false)
	}
	tx.kick()
}

// writeNow seals and writes q without waiting, and reports whether all of it was written. A key update is left to run.
func (tx *txHalf) writeNow(q *txBuffer) bool {
	if tx.cipher.dueWithin(len(q.ends), len(q.b)) {
		return false
	}
	start := 0
	for _, end := range q.ends {
		tx.cipher.seal(q.b[start:end])
		start = end
	}
	q.sealed = true
	q.sent = tx.now.write(q.b)
	return q.sent == len(q.b)
}

// write seals and writes q, or the rest of it.
func (tx *txHalf) write(q *txBuffer) error {
	if q.sealed {
		return tx.put(q.b[q.sent:])
	}
	start, written := 0, 0
	for _, end := range q.ends {
		if tx.cipher.due() {
			if err := tx.put(q.b[written:start]); err != nil {
				return err
			}
			written = start
			if err := tx.rekey(); err != nil {
				return err
			}
		}
		tx.cipher.seal(q.b[start:end])
		start = end
	}
	return tx.put(q.b[written:])
}

// rekey announces the next key and moves to it (rule R7).
func (tx *txHalf) rekey() error {
	var rec [recordPrefix + tagSize]byte
	rec[recordHeader] = recordUpdate
	tx.cipher.seal(rec[:])
	tx.cipher.update()
	return tx.put(rec[:])
}

func (tx *txHalf) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	tx.since.Store(now() | 1) // odd, since 0 says that nothing is being written
	_, err := tx.raw.Write(b)
	tx.since.Store(0)
	return err
}
