package writer

import "sync"

// intake is the bounded queue in front of the writer. A slice under a lock is cheaper
// than a channel here: the writer takes all that waits in one step.
type intake struct {
	limit  int
	signal chan struct{} // holds one token while the queue may have something

	mu     sync.Mutex // guards all below
	queue  []*Request
	closed bool
}

// put adds a request, or says that there is no room.
func (q *intake) put(req *Request) bool {
	q.mu.Lock()
	if q.closed || len(q.queue) >= q.limit {
		q.mu.Unlock()
		return false
	}
	q.queue = append(q.queue, req)
	first := len(q.queue) == 1
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

// take returns up to most requests in their order, in the memory of into.
func (q *intake) take(most int, into []*Request) []*Request {
	q.mu.Lock()
	n := min(most, len(q.queue))
	into = append(into[:0], q.queue[:n]...)
	rest := copy(q.queue, q.queue[n:])
	clear(q.queue[rest:])
	q.queue = q.queue[:rest]
	q.mu.Unlock()
	if rest > 0 {
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
	q.queue = append(append(make([]*Request, 0, len(requests)+len(q.queue)), requests...), q.queue...)
	q.mu.Unlock()
	q.wake()
}

// remove takes out the requests that f says yes to.
func (q *intake) remove(f func(*Request) bool) []*Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*Request
	kept := q.queue[:0]
	for _, req := range q.queue {
		if f(req) {
			out = append(out, req)
		} else {
			kept = append(kept, req)
		}
	}
	clear(q.queue[len(kept):])
	q.queue = kept
	return out
}

// close refuses all that comes from now on and returns what was waiting.
func (q *intake) close() []*Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	left := q.queue
	q.queue = nil
	return left
}

func (q *intake) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}
