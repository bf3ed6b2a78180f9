package webhooks

import (
	"container/heap"
	"sync"
	"time"
)

// The lines in which lanes wait for somebody to serve them.
const (
	lineFirst  = iota // a first try can start, at an endpoint that answers promptly
	lineAgain         // a later one
	lineUnsure        // any, at an endpoint that is new, or answers slowly
	lineSilent        // any, at an endpoint that does not answer
	lineRefill        // the queue wants to be filled up
	lineTell          // somebody is to be told that every attempt fails
	lineCount
	attemptLines = lineRefill // those of attempts come first
)

// line is a first-in-first-out line of lanes. A lane stands in it once at most, is
// served one delivery and goes to the end again, so no endpoint can hold up another by
// having more to do. Guarded by Dispatcher.mu.
type line struct {
	kind  int
	lanes []*lane
	slots int        // of attempts: how many may be under way at once
	busy  int        // of attempts: how many hold a slot
	ready *sync.Cond // of refills, on Dispatcher.mu: signalled when a lane comes
}

// push lets a lane stand in the line, at the end, unless it already does.
func (n *line) push(l *lane) {
	if l.lined[n.kind] {
		return
	}
	l.lined[n.kind] = true
	n.lanes = append(n.lanes, l)
	if n.ready != nil {
		n.ready.Signal()
	}
}

// pop takes the first lane out of the line, nil if there is none.
func (n *line) pop() *lane {
	if len(n.lanes) == 0 {
		return nil
	}
	l := n.lanes[0]
	n.lanes[0] = nil
	n.lanes = n.lanes[1:]
	l.lined[n.kind] = false
	return l
}

// alarms has every lane that waits for a time, the earliest at its top: one entry a
// lane, however many deliveries wait in it. Guarded by Dispatcher.mu.
type alarms []*lane

// set makes a lane wait until at; zero takes it out. It says whether the top changed.
func (a *alarms) set(l *lane, at time.Time) bool {
	if l.at.Equal(at) {
		return false
	}
	wasTop := l.index == 0
	l.at = at
	switch {
	case at.IsZero():
		heap.Remove(a, l.index)
	case l.index < 0:
		heap.Push(a, l)
	default:
		heap.Fix(a, l.index)
	}
	return wasTop || l.index == 0
}

// Len implements heap.Interface.
func (a alarms) Len() int { return len(a) }

// Less implements heap.Interface.
func (a alarms) Less(i, j int) bool { return a[i].at.Before(a[j].at) }

// Swap implements heap.Interface.
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

// Push implements heap.Interface.
func (a *alarms) Push(x any) {
	l := x.(*lane)
	l.index = len(*a)
	*a = append(*a, l)
}

// Pop implements heap.Interface.
func (a *alarms) Pop() any {
	old := *a
	last := len(old) - 1
	l := old[last]
	old[last] = nil
	l.index = -1
	*a = old[:last]
	return l
}
