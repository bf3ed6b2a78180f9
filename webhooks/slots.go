package webhooks

import (
	"context"
	"time"
)

const (
	// DefaultFirstSlots is how many first tries are under way at once, over all endpoints
	// that answer promptly. None holds its slot for more than Config.SlowAfter, as long as
	// there are slow slots.
	DefaultFirstSlots = 256
	// DefaultRetrySlots is the same for second and later tries.
	DefaultRetrySlots = 64
	// DefaultUnsureSlots is the same for all tries of endpoints that are new, or answer
	// slowly.
	DefaultUnsureSlots = 256
	// DefaultSilentSlots is how many attempts are under way at endpoints whose last one
	// ended without a whole answer. One that hangs keeps its slot for its whole timeout.
	DefaultSilentSlots = 512
	// DefaultSlowSlots is how many other attempts may go on for longer than
	// Config.SlowAfter without holding a slot: with 256 begun a second that all hang, those
	// of 15 seconds.
	DefaultSlowSlots = 4096
	// DefaultSlowAfter is how long an attempt may take that counts as prompt.
	DefaultSlowAfter = time.Second

	slowKept = 4 // one in so many slow slots is kept for attempts at endpoints that were prompt
)

// manner is how an endpoint answers. It says whose slots an attempt takes, so that those
// that answer wait for nobody who does not.
type manner uint8

const (
	mannerUnsure manner = iota // not tried yet, or answers take longer than Config.SlowAfter
	mannerPrompt               // there is a whole answer, be it a refusal, within Config.SlowAfter
	mannerSilent               // the last attempt ended without a whole answer
)

// Slots are attempts under way, by the slots they hold.
type Slots struct {
	First  int `json:"first"`  // first tries, of endpoints that answer promptly
	Later  int `json:"later"`  // their later tries
	Unsure int `json:"unsure"` // of endpoints that are new, or answer slowly
	Silent int `json:"silent"` // of endpoints whose last attempt ended without a whole answer
	Slow   int `json:"slow"`   // that take long, and gave their slot back
}

// slots says what is in use. d.mu is held.
func (d *Dispatcher) slots() Slots {
	n := &d.lines
	return Slots{First: n[lineFirst].busy, Later: n[lineAgain].busy, Unsure: n[lineUnsure].busy, Silent: n[lineSilent].busy, Slow: d.slow}
}

// under is how many attempts are under way. d.mu is held.
func (s Slots) under() int { return s.First + s.Later + s.Unsure + s.Silent + s.Slow }

// lineFor says in which line a lane waits for a first try, or for a later one.
func (l *lane) lineFor(again bool) int {
	switch {
	case l.manner == mannerUnsure:
		return lineUnsure
	case l.manner == mannerSilent:
		return lineSilent
	case again:
		return lineAgain
	}
	return lineFirst
}

// take starts a try of a lane that stood in a line, and says which, lineFirst or lineAgain;
// nil if there is none to make there any more. Where both may be made a later one comes first.
func (l *lane) take(line int, now time.Time) (*delivery, int) {
	switch {
	case line == l.lineFor(true) && l.againReady(now):
		if l.due(now) {
			return l.takeAgain(), lineAgain
		}
		return l.takeReplay(), lineAgain
	case line == l.lineFor(false) && l.firstReady(now):
		return l.takeFirst(), lineFirst
	}
	return nil, line
}

// enter lets a lane stand in the line for a first or a later try, and has it served if a slot
// is free. d.mu is held.
func (d *Dispatcher) enter(l *lane, again bool) {
	n := &d.lines[l.lineFor(again)]
	n.push(l)
	d.staff(n)
}

// staff has a line served by one more, if it is to be and a slot is free. d.mu is held.
func (d *Dispatcher) staff(n *line) {
	if len(n.lanes) > 0 && n.busy < n.slots && !d.stopping {
		n.busy++
		d.hire(n)
	}
}

// work makes one attempt after the other, for the lanes in a line, until there is none to
// make, or its slot is another's. Its error is a *store.DamageError.
func (d *Dispatcher) work(ctx context.Context, n *line) error {
	ctx, cancel := context.WithCancel(ctx) // its own: each attempt adds itself to its parent
	defer cancel()
	for {
		f := d.pick(n)
		if f == nil {
			return nil
		}
		f.timer = time.AfterFunc(d.cfg.SlowAfter, func() { d.late(f) })
		err := d.deliver(ctx, f)
		f.timer.Stop()
		if err != nil || f.slow { // it has landed, so nobody writes slow any more
			return err
		}
	}
}

// pick starts the attempt whose turn it is in a line; nil: there is none, and the slot is free.
func (d *Dispatcher) pick(n *line) *flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.stopping {
		l := n.pop()
		if l == nil {
			break
		}
		now := d.cfg.Clock()
		job, line := l.take(n.kind, now)
		if job != nil {
			l.pace.spend(now)
		}
		f := &flight{lane: l, delivery: job, endpoint: l.endpoint, line: line, slot: n, at: now}
		d.arrange(l, now)
		if job != nil {
			return f
		}
	}
	n.busy--
	d.moved.Broadcast()
	return nil
}

// late is called when an attempt has taken Config.SlowAfter. It goes on, and gives its slot
// back if it can; its endpoint does not count as prompt until it has answered.
func (d *Dispatcher) late(f *flight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.landed {
		return
	}
	l := f.lane
	f.late = true
	l.late++
	if l.manner == mannerPrompt {
		l.manner, l.width = mannerUnsure, 1
	}
	limit := d.cfg.SlowSlots
	if f.slot.kind == lineUnsure {
		limit -= limit / slowKept
	}
	if f.slot.kind != lineSilent && d.slow < limit {
		f.slow = true
		d.slow++
		f.slot.busy--
		d.staff(f.slot)
	}
	d.arrange(l, d.cfg.Clock())
}

// land ends an attempt. d.mu is held.
func (d *Dispatcher) land(f *flight) {
	f.landed = true
	f.lane.land(f.line == lineFirst)
	if f.late {
		f.lane.late--
	}
	if f.slow {
		d.slow--
	}
}

// judge takes in how an attempt ended, which has landed.
func (l *lane) judge(f *flight) {
	switch {
	case f.result.Phase != "":
		l.manner, l.width = mannerSilent, 1
	case f.late || l.late > 0:
		l.manner = mannerUnsure
	default:
		l.manner, l.width = mannerPrompt, max(l.width, laneWidth)
	}
}
