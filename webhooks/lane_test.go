package webhooks

import (
	"testing"
	"time"

	"github.com/keyledger/keyledger/events"
)

// fullLane is a lane with a full queue that goes at its widest.
func fullLane() *lane {
	l := newLane(&subscriber{endpoint: &events.Endpoint{ID: "endpoint_1", Status: events.Active}})
	l.width = laneFlyingMax
	for i := range uint64(laneQueueMax + 10) {
		l.owed++
		l.owe(entry{feed: i + 1, commit: 1, number: i + 1})
	}
	return l
}

// fail makes n deliveries wait for a next try that is due.
func (l *lane) fail(n int, due time.Time) {
	for i := range n {
		l.wait(&delivery{entry: entry{feed: uint64(1000 + i), number: uint64(1000 + i)}, tries: 1, next: due})
	}
}

// Of the eight slots of an endpoint two go to later tries while there are any, and never
// more: neither kind can keep the other out.
func TestSlotsOfALane(t *testing.T) {
	now := time.Now()
	l := fullLane()
	start := func(again bool) {
		for l.firstReady(now) {
			l.takeFirst()
		}
		for again && l.againReady(now) {
			l.takeAgain()
		}
	}
	if start(true); l.firsts != laneFlyingMax || l.agains != 0 {
		t.Errorf("without failures %d first and %d later tries", l.firsts, l.agains)
	}
	l.fail(20, now.Add(time.Second))
	l.land(true)
	if start(true); l.firsts != laneFlyingMax || l.agains != 0 {
		t.Errorf("with failures that are not due %d first and %d later tries", l.firsts, l.agains)
	}
	now = now.Add(time.Second)
	for range 10 { // first tries always come to it first
		l.land(true)
		start(true)
	}
	if l.firsts != laneFlyingMax-laneAgainMax || l.agains != laneAgainMax {
		t.Errorf("with failures %d first and %d later tries", l.firsts, l.agains)
	}
	l = fullLane()
	l.fail(20, now)
	for l.againReady(now) {
		l.takeAgain()
	}
	if l.agains != laneAgainMax {
		t.Errorf("%d later tries before any first one", l.agains)
	}
	if start(true); l.firsts != laneFlyingMax-laneAgainMax {
		t.Errorf("%d first tries beside them", l.firsts)
	}
}

// What stops a lane stops both kinds of tries, and the timer then looks at it when time
// alone lets it go on.
func TestWhatStopsALane(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		change func(l *lane)
		wake   time.Time
	}{
		"nothing":  {func(*lane) {}, time.Time{}},
		"held":     {func(l *lane) { l.held = now.Add(time.Minute) }, now.Add(time.Minute)},
		"gone":     {func(l *lane) { l.gone = true }, time.Time{}},
		"paused":   {func(l *lane) { l.endpoint = &events.Endpoint{Status: events.Paused} }, time.Time{}},
		"disabled": {func(l *lane) { l.endpoint = &events.Endpoint{Status: events.Disabled} }, time.Time{}},
		"removed":  {func(l *lane) { l.drop() }, time.Time{}},
	} {
		l := fullLane()
		l.fail(3, now)
		tt.change(l)
		runs := name == "nothing"
		if l.firstReady(now) != runs || l.againReady(now) != runs {
			t.Errorf("%s: first tries %t, later ones %t", name, l.firstReady(now), l.againReady(now))
		}
		if at := l.wakeAt(now); !at.Equal(tt.wake) {
			t.Errorf("%s: the timer looks at %s, want %s", name, at, tt.wake)
		}
	}
	l := fullLane()
	l.fail(1, now.Add(time.Hour))
	l.fail(1, now.Add(time.Minute))
	if at := l.wakeAt(now); !at.Equal(now.Add(time.Minute)) {
		t.Errorf("with failures the timer looks at %s", at)
	}
}

// The timer has each lane once, and the earliest first, however their times move.
func TestAlarms(t *testing.T) {
	rng := random(t)
	start := time.Now()
	var a alarms
	lanes := make([]*lane, 50)
	for i := range lanes {
		lanes[i] = newLane(&subscriber{})
	}
	for range 5000 {
		l := lanes[rng.IntN(len(lanes))]
		at := time.Time{}
		if n := rng.IntN(20); n > 0 {
			at = start.Add(time.Duration(n) * time.Second)
		}
		before := time.Time{}
		if len(a) > 0 {
			before = a[0].at
		}
		changed := a.set(l, at)
		var earliest time.Time
		n := 0
		for _, l := range lanes {
			if l.at.IsZero() {
				continue
			}
			n++
			if earliest.IsZero() || l.at.Before(earliest) {
				earliest = l.at
			}
		}
		if len(a) != n || n > 0 && !a[0].at.Equal(earliest) {
			t.Fatalf("%d lanes, want %d; the first at %v, want %v", len(a), n, a[0].at, earliest)
		}
		if !changed && !before.Equal(earliest) {
			t.Fatal("the earliest time moved, and nobody was told")
		}
	}
}
