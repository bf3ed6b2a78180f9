package writer

import (
	"fmt"
	"time"

	"github.com/keyledger/keyledger/events"
)

// clockTolerance is how far the wall clock may leave the time that is expected.
const clockTolerance = 5 * time.Second

// clockGuard watches the wall clock. Commits bear its time, and time alone expires keys
// and resets allowances, for good: one bad clock must not. While the writer runs, the
// wall clock must go on as the monotonic clock does; at a start it must not be before
// the last commit. Where it is wrong, nothing is decided until it is back or an operator
// accepts it. The guard belongs to the writer's goroutine.
//
// A slow drift, as of a clock that is being slewed, is followed: what is compared with
// moves at each look. A machine that was suspended looks like one whose clock was set
// forward, because its monotonic clock stood still.
type clockGuard struct {
	wall      func() time.Time
	monotonic func() time.Duration

	anchored bool          // the wall clock was right once in this process:
	right    events.Time   // then it showed this
	at       time.Duration // when the monotonic clock showed this
	off      time.Duration // how far the wall clock is off, 0 while it is right
}

// look compares the clocks. It returns the time to go by, which is the wall clock's or,
// while that is wrong, what it should be; and whether that changed. last is the time of
// the last commit.
func (c *clockGuard) look(last events.Time) (now events.Time, changed bool) {
	wall, at := events.At(c.wall()), c.monotonic()
	tolerance := events.Time(clockTolerance.Milliseconds())
	expected := c.right + events.Time((at - c.at).Milliseconds())
	if !c.anchored {
		expected = max(wall, last)
	}
	wasRight := c.off == 0
	if off := wall - expected; off > tolerance || off < -tolerance {
		c.off = time.Duration(off) * time.Millisecond
		return expected, wasRight
	}
	c.anchored, c.right, c.at, c.off = true, wall, at, 0
	return wall, !wasRight
}

// accept takes the wall clock as right. Commit times never go back: until such a clock
// has passed the last commit, time stands still.
func (c *clockGuard) accept() {
	c.anchored, c.right, c.at, c.off = true, events.At(c.wall()), c.monotonic(), 0
}

// refusal is the answer while the clock is wrong, else nil.
func (c *clockGuard) refusal() *events.Error {
	if c.off == 0 {
		return nil
	}
	where := "ahead"
	if c.off < 0 {
		where = "behind"
	}
	return events.Errorf(events.Unavailable, "the ledger's clock is %s %s; set it right, or accept it with keyledger clock accept", c.off.Abs(), where).
		With("clock_off_ms", c.off.Milliseconds())
}

// now is the time to go by, never before the last commit.
func (w *Writer) now() events.Time {
	now, changed := w.clock.look(w.sent.Time)
	if changed {
		w.sayClock()
	}
	return max(now, w.sent.Time)
}

// forDeadlines is what deadlines are compared with: a time that no jump of the wall clock
// touches.
func (w *Writer) forDeadlines() time.Time { return w.zero.Add(w.cfg.Monotonic()) }

func (w *Writer) sayClock() {
	w.stats[statClockOff].Store(w.clock.off.Milliseconds())
	if err := w.clock.refusal(); err != nil {
		w.log.Error("nothing is decided: " + err.Message)
		return
	}
	w.log.Info("the clock is right again")
}

// acceptClock is an operator's word that the wall clock is right.
func (w *Writer) acceptClock() {
	if w.clock.off == 0 {
		return
	}
	w.log.Warn(fmt.Sprintf("an operator accepted the clock, which was off by %s", w.clock.off))
	w.clock.accept()
	w.sayClock()
}
