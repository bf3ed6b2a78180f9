package writer

import "time"

const (
	// busyGroup is from how many requests in the last group on the writer counts as busy.
	busyGroup = 8
	// lingerMax is how long a group waits for more then. An fsync costs about as much.
	lingerMax = 200 * time.Microsecond
)

// linger holds a group back for a moment when it is likely to grow: callers that were
// just answered are about to send their next commands, and every group costs an fsync. A
// group that is as large as the last one goes at once, and so does every group of a
// writer that is not busy.
type linger struct {
	timer *time.Timer
	last  int  // requests in the last group that was appended
	armed bool // the timer runs for the open group
	over  bool // it has run out
}

func newLinger() linger {
	timer := time.NewTimer(lingerMax)
	timer.Stop()
	return linger{timer: timer}
}

// holds says whether a group of so many requests shall wait; elapsed ends that.
func (l *linger) holds(waiting int) bool {
	if waiting == 0 || waiting >= l.last || l.last < busyGroup || l.over {
		return false
	}
	if !l.armed {
		l.timer.Reset(lingerMax)
		l.armed = true
	}
	return true
}

// elapsed takes the timer's signal.
func (l *linger) elapsed() { l.over = l.armed }

// sent notes that a group of so many requests goes.
func (l *linger) sent(waiting int) {
	l.timer.Stop()
	l.last, l.armed, l.over = waiting, false, false
}
