package writer

import (
	"hash/maphash"
	"sync"
)

const (
	// intakeLanes is over how many lanes the accounts are spread. One more is for secrets
	// that nobody was given: whoever tries them out waits behind himself.
	intakeLanes = 256
	// maxWaitingBytes bounds the bodies of the requests that wait.
	maxWaitingBytes = 256 << 20
)

// intake is the bounded queue in front of the writer, fair among accounts. Each account
// has its lane, which it may share with others (a hash chooses it); the requests of a
// lane stay in their order. While more waits than one group takes, every lane gets the
// same share of the group, so an account that floods makes its own requests wait.
//
// A lane may hold as many requests as there is room left in the whole intake: one that
// floods takes at most half, two a third each, and there is always room for the others
// (the dynamic threshold of Choudhury and Hahne, "Dynamic queue length thresholds for
// shared-memory packet switches", 1998). A slice under a lock is cheaper than a channel
// here: the writer takes all that waits in one step.
type intake struct {
	limit  int
	signal chan struct{} // holds one token while something may wait
	seed   maphash.Seed

	mu     sync.Mutex // guards all below
	front  []*Request // before all lanes, past the limit
	lanes  [intakeLanes + 1]lane
	active []int // lanes that hold something; the next to be served is first
	count  int   // requests in all
	bytes  int   // of their bodies
	closed bool
}

// lane is a queue of requests.
type lane struct {
	queue []*Request
	head  int // in front of it there is nothing
}

func (l *lane) len() int { return len(l.queue) - l.head }

// take moves up to most requests to into.
func (l *lane) take(most int, into []*Request) []*Request {
	n := min(most, l.len())
	into = append(into, l.queue[l.head:l.head+n]...)
	clear(l.queue[l.head : l.head+n])
	l.head += n
	switch {
	case l.len() == 0:
		l.queue, l.head = l.queue[:0], 0
	case l.head > len(l.queue)/2:
		rest := copy(l.queue, l.queue[l.head:])
		clear(l.queue[rest:])
		l.queue, l.head = l.queue[:rest], 0
	}
	return into
}

func newIntake(limit int) intake {
	return intake{limit: limit, signal: make(chan struct{}, 1), seed: maphash.MakeSeed()}
}

// laneOf is the lane of a request's account. An authorisation does not know its account,
// but its secret holds the account's slot, under a checksum, or the directory told it.
func (q *intake) laneOf(req *Request) int {
	if req.Lane != 0 {
		return int(req.Lane) % intakeLanes
	}
	if req.Authorize == nil {
		return int(maphash.String(q.seed, req.Account) % intakeLanes)
	}
	slot, ok := req.Authorize.Slot()
	if !ok {
		return intakeLanes
	}
	return int(slot) % intakeLanes
}

// put adds a request, or says that there is no room.
func (q *intake) put(req *Request) bool {
	at := q.laneOf(req)
	q.mu.Lock()
	l := &q.lanes[at]
	if q.closed || l.len() >= q.limit-q.count || q.bytes+req.Bytes > maxWaitingBytes {
		q.mu.Unlock()
		return false
	}
	if l.len() == 0 {
		q.active = append(q.active, at)
	}
	l.queue = append(l.queue, req)
	q.count++
	q.bytes += req.Bytes
	first := q.count == 1
	q.mu.Unlock()
	if first {
		q.wake()
	}
	return true
}

func (q *intake) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// take returns up to most requests in the memory of into: what was put back, then from
// every lane the same share, as far as it has so many.
func (q *intake) take(most int, into []*Request) []*Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(most, len(q.front))
	into = append(into[:0], q.front[:n]...)
	if q.front = q.front[n:]; len(q.front) == 0 {
		q.front = nil
	}
	for len(into) < most && len(q.active) > 0 {
		share := max(1, (most-len(into))/len(q.active))
		turns, kept := q.active, q.active[:0]
		for i, at := range turns {
			if len(into) == most {
				// These had no turn: they are first the next time.
				q.active = append(append(make([]int, 0, len(turns)), turns[i:]...), kept...)
				break
			}
			into = q.lanes[at].take(min(share, most-len(into)), into)
			if q.lanes[at].len() > 0 {
				kept = append(kept, at)
			}
			q.active = kept
		}
	}
	q.count -= len(into)
	for _, req := range into {
		q.bytes -= req.Bytes
	}
	if q.count > 0 {
		q.wake()
	}
	return into
}

// putBack puts requests in front of all others, past the limit.
func (q *intake) putBack(requests []*Request) {
	if len(requests) == 0 {
		return
	}
	q.mu.Lock()
	q.front = append(append(make([]*Request, 0, len(requests)+len(q.front)), requests...), q.front...)
	q.count += len(requests)
	for _, req := range requests {
		q.bytes += req.Bytes
	}
	q.mu.Unlock()
	q.wake()
}

// remove takes out the requests that f says yes to.
func (q *intake) remove(f func(*Request) bool) []*Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*Request
	sift := func(queue []*Request) []*Request {
		kept := queue[:0]
		for _, req := range queue {
			if f(req) {
				out = append(out, req)
			} else {
				kept = append(kept, req)
			}
		}
		clear(queue[len(kept):])
		return kept
	}
	q.front = sift(q.front)
	active := q.active[:0]
	for _, at := range q.active {
		l := &q.lanes[at]
		kept := sift(l.queue[l.head:])
		l.queue = l.queue[:l.head+len(kept)]
		if len(kept) > 0 {
			active = append(active, at)
		} else {
			l.queue, l.head = l.queue[:0], 0
		}
	}
	q.active = active
	q.count -= len(out)
	for _, req := range out {
		q.bytes -= req.Bytes
	}
	return out
}

// close refuses all that comes from now on and returns what was waiting.
func (q *intake) close() []*Request {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.remove(func(*Request) bool { return true })
}

func (q *intake) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}
