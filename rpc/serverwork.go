package rpc

import (
	"fmt"
	"sync"
)

// A queue has the calls of one stream that no worker has taken.
type queue struct {
	mu     sync.Mutex // protects all below; nothing else is locked under it
	calls  []*serverCall
	next   int  // calls[next:] wait
	coming bool // a worker is on its way, which has taken nothing yet
}

// enqueue has a worker run the call. Workers are goroutines that take calls until there are none. While calls wait, one more
// worker is on its way: a handler that takes long holds up nobody, and of many quick ones each costs no goroutine of its own.
func (st *serverStream) enqueue(sc *serverCall) {
	q := &st.due
	q.mu.Lock()
	q.calls = append(q.calls, sc)
	start := !q.coming
	q.coming = true
	q.mu.Unlock()
	if start {
		go st.work()
	}
}

// take returns the next call, nil if there is none. more says that there is one behind it, and that the caller is to start a
// worker if start.
func (q *queue) take() (sc *serverCall, more, start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == len(q.calls) {
		q.calls, q.next = q.calls[:0], 0
		if cap(q.calls) > maxIdleQueue {
			q.calls = nil
		}
		return nil, false, false
	}
	sc = q.calls[q.next]
	q.calls[q.next] = nil
	q.next++
	more = q.next < len(q.calls)
	start = more && !q.coming
	q.coming = q.coming || more
	return sc, more, start
}

// maxIdleQueue is how many places an empty queue keeps.
const maxIdleQueue = 64

// work is a worker. Replies are written together: by the worker that finds no more calls, or the one that is on its way.
func (st *serverStream) work() {
	over := false
	defer func() {
		if !over { // a handler has called runtime.Goexit
			go st.work()
		}
	}()
	q := &st.due
	q.mu.Lock()
	q.coming = false
	q.mu.Unlock()
	st.out.flush(false)
	for {
		sc, more, start := q.take()
		if sc == nil {
			break
		}
		if start {
			go st.work()
		}
		if !more { // nobody is on his way
			st.out.flush(false)
		}
		st.run(sc)
		st.out.flushIfEnough()
	}
	over = true
	st.out.flush(false)
}

// run answers one call.
func (st *serverStream) run(sc *serverCall) {
	var reply Raw
	var bad *wireStatus
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit, which recover does not see
			bad = sc.panicked(recover())
		}
		st.ss.held.release(sc.held)
		if st.ss.wanted(sc) {
			st.answer(sc, reply, bad)
		}
		sc.req.scratch.free()
		sc.leave()
		st.ss.done(sc)
	}()
	var err error
	if st.ss.held.crowded(sc.held) { // replies have piled up since the call was let in
		err = refuse(ResourceExhausted, heldText)
	} else {
		reply, err = sc.execute()
	}
	if err != nil {
		bad = sc.statusFor(err) // here, since the handler's error may panic too
	}
	returned = true
}

// answer queues a reply, or what stands in its place. It waits for room, which bounds what a slow reader costs, until the
// stream ends.
func (st *serverStream) answer(sc *serverCall, reply Raw, bad *wireStatus) {
	opts := &st.ss.srv.opts
	header, trailer := sc.meta()
	lead := sc.req.scratch.before()
	if bad == nil {
		if err := checkBehind(lead, reply); err != nil {
			bad = &wireStatus{code: Internal, outcome: Executed, text: "the reply: " + err.Error()}
		} else if size := replySize(sc.id, reply) + len(lead); size > opts.MaxSend {
			bad = &wireStatus{code: ResourceExhausted, outcome: Executed, text: fmt.Sprintf("a reply of %d bytes, limit %d", size, opts.MaxSend)}
		}
	}
	if bad != nil {
		if bad.outcome == Executed {
			bad.header, bad.trailer = header, trailer
		}
		st.answerError(sc.id, bad, true)
		return
	}
	pack := byte(0)
	if sc.flags&flagPack != 0 {
		reply, pack = packer{opts.CompressOver}.pack(reply)
	}
	n := len(lead) + len(reply)
	st.ss.held.force(n) // so that further calls are refused while replies pile up
	defer st.ss.held.release(n)
	for len(lead)+len(reply) > partSize { // C10
		if !st.ss.wanted(sc) || st.out.reserve(st.ctx, replyOverhead+partSize) != nil {
			return
		}
		n := partSize - len(lead)
		st.out.put(appendPart(st.out.begin(), sc.id, lead, reply[:n]), 0, replyOverhead+partSize)
		st.out.wake()
		lead, reply = nil, reply[n:]
	}
	room := replyOverhead + metadataSize(header) + metadataSize(trailer) + len(reply)
	if st.out.reserve(st.ctx, room) == nil {
		st.out.put(appendReply2(st.out.begin(), sc.id, header, trailer, pack, reply), 0, room) // work flushes
	}
}

// answerError refuses a call, or ends it with an error. Unless wait it takes room that there may not be, for one message.
func (st *serverStream) answerError(id uint64, s *wireStatus, wait bool) {
	room := maxEnvelope
	if len(s.details)+len(s.header)+len(s.trailer) == 0 {
		room = replyOverhead + 2 + 3 + len(s.text) + 9 + 3
	}
	if !wait {
		st.out.room.force(room)
	} else if st.out.reserve(st.ctx, room) != nil {
		return
	}
	st.out.put(appendError(st.out.begin(), id, s), 0, room)
	st.out.flush(false)
}
