package webhooks

import (
	"container/heap"
	"slices"
	"time"
)

// probeEvery is the longest time between two tries of a lane that is parked, once the first
// of its deliveries is dead.
const probeEvery = time.Hour

// A lane is parked when laneOpenMax of its deliveries failed and are not settled. Then only the oldest is tried, on its schedule; nothing behind it is, and so none
// of that can die. When the oldest is dead the next one is, and tries come probeEvery apart
// at most. Whatever is delivered ends it.

// oldest returns the delivery at the lane's cursor, nil where none was tried.
func (l *lane) oldest() *delivery {
	var first *delivery
	for _, d := range l.open {
		if first == nil || d.feed < first.feed {
			first = d
		}
	}
	return first
}

// upNext returns the delivery that the next later try is of, nil if there is none.
func (l *lane) upNext() *delivery {
	if !l.parked || len(l.open)+len(l.queue)+len(l.groups) == 0 && !l.behind { // then there are only replays
		if len(l.waiting) == 0 {
			return nil
		}
		return l.waiting[0]
	}
	d := l.oldest()
	if _, older := l.source(); older || d == nil || d.flying || l.firsts+l.agains > 0 {
		return nil
	}
	return d
}

// allFailed says whether every open delivery was tried.
func (l *lane) allFailed() bool {
	for _, d := range l.open {
		if d.tries == 0 {
			return false
		}
	}
	return true
}

// unwait takes a delivery out of those that wait for their next try.
func (l *lane) unwait(d *delivery) { heap.Remove(&l.waiting, slices.Index(l.waiting, d)) }

// park parks the lane, or ends that, after an attempt that was taken in; d is its delivery.
func (l *lane) park(d *delivery, state DeliveryState, s *Schedule, now time.Time) {
	switch {
	case state == StateDelivered:
		l.parked, l.probing = false, false
	case !l.parked:
		l.parked = l.openAll() >= laneOpenMax && l.allFailed()
	case state == StateDead && d.replay == nil:
		next := l.oldest()
		if next != nil && (next.feed < d.feed || next.flying) {
			return
		}
		l.probing = true
		if next != nil {
			l.unwait(next)
			next.next = s.probe(next, now)
			l.wait(next)
		}
	}
}

// probe has the oldest delivery of a parked lane tried now: its owner has seen to the
// endpoint, and shall not wait for hours to see whether that helped.
func (l *lane) probe(now time.Time) {
	d := l.oldest()
	if !l.parked || d == nil || d.flying || !slices.Contains(l.waiting, d) {
		return
	}
	l.unwait(d)
	d.next = now
	l.wait(d)
}

// probe is when a delivery is tried that has come to a parked lane's cursor: as if its last
// try had been made now, but within probeEvery; and not before the receiver asked for it.
func (s *Schedule) probe(d *delivery, now time.Time) time.Time {
	wait, ok := s.Wait(d.tries, 0)
	if !ok { // by a schedule of before it had more tries
		return now
	}
	if asked := d.next.Sub(d.last.Std()) > s.longest(d.tries); asked && d.next.After(now) {
		return d.next
	}
	return now.Add(min(wait, probeEvery))
}

// within cuts a step's waits to a limit, but not below what the receiver asked for.
func (s Step) within(limit, retryAfter time.Duration) Step {
	limit = max(limit, min(retryAfter, MaxWait))
	s.Wait, s.Hold = min(s.Wait, limit), min(s.Hold, limit)
	return s
}
