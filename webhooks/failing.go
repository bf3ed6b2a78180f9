package webhooks

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/keyledger/keyledger/events"
)

const (
	// DefaultDisableAfter is how long every attempt may fail until the endpoint is disabled.
	DefaultDisableAfter = 5 * 24 * time.Hour
	tellWithin          = 10 * time.Second // for one call of Config.Failing
	tellPause           = 10 * time.Second // until a call that failed is made again
)

// failingMarks are the percents of Config.DisableAfter at which somebody is told; at the
// last one the endpoint is disabled.
var failingMarks = [...]int{50, 70, 90, 100}

// failing says since when every attempt of a lane that ended has failed. Whatever is
// delivered ends it, and so does an event that pauses or disables the endpoint, or changes
// its URL. Time in which there is nothing to try does not count.
type failing struct {
	since    events.Time // of the first failure, later by the time that does not count
	told     int         // the last of failingMarks that was told
	idle     events.Time // since when there is nothing to try; 0: there is something
	seen     bool        // an attempt failed since the start: nobody is disabled for what was before
	telling  bool        // somebody is being told
	again    time.Time   // after a call that failed: not before
	endpoint *events.Endpoint
}

// ended takes the end of an attempt in.
func (l *lane) ended(f *flight, state DeliveryState, now time.Time) {
	switch {
	case f.result.Phase == PhaseSeal: // nothing was sent: it says nothing about the receiver
	case state == StateDelivered:
		l.failing = nil
	case l.endpoint != f.endpoint: // an answer from before the endpoint changed
	case l.failing == nil:
		l.failing = &failing{since: events.At(now), seen: true, endpoint: l.endpoint}
	default:
		l.failing.seen = true
	}
}

// heard takes in that the endpoint's state has changed. What a checkpoint has seen already
// is not news.
func (l *lane) heard(news bool) {
	f := l.failing
	if f == nil {
		return
	}
	same := f.endpoint.URL == l.endpoint.URL && bytes.Equal(f.endpoint.SealedQuery, l.endpoint.SealedQuery)
	if news && (l.endpoint.Status != events.Active || !same) {
		l.failing = nil
		return
	}
	f.endpoint = l.endpoint
	if l.endpoint.FailingSince == f.since {
		f.told = max(f.told, int(l.endpoint.FailingPercent))
	}
}

// count stops the time while there is nothing to try, and lets it go on.
func (l *lane) count(now time.Time) {
	f := l.failing
	if f == nil {
		return
	}
	switch idle := l.pending() == 0 && len(l.replays) == 0; {
	case idle && f.idle == 0:
		f.idle = events.At(now)
	case !idle && f.idle != 0:
		f.since, f.idle = f.since+max(events.At(now)-f.idle, 0), 0
	}
}

// mark is the next of failingMarks, 0 if all were told.
func (f *failing) mark() int {
	for _, mark := range failingMarks {
		if mark > f.told {
			return mark
		}
	}
	return 0
}

// tellAt is when somebody is to be told next, zero if that is not known yet.
func (l *lane) tellAt(after time.Duration) time.Time {
	f := l.failing
	if f == nil || f.idle != 0 || f.telling || !l.runs() {
		return time.Time{}
	}
	mark := f.mark()
	if mark == 0 || mark == 100 && !f.seen {
		return time.Time{}
	}
	if at := f.since.Std().Add(after / 100 * time.Duration(mark)); at.After(f.again) {
		return at
	}
	return f.again
}

// tell tells of one lane after the other whose time has come. Who is told knows each mark of
// a time since by both, so that telling again changes nothing.
//
// If we crash before a checkpoint says that it was told, it is told again.
func (d *Dispatcher) tell(ctx context.Context) error {
	for {
		d.mu.Lock()
		l := d.next(&d.tells)
		if l == nil {
			d.mu.Unlock()
			return nil
		}
		now, f := d.cfg.Clock(), l.failing
		if at := l.tellAt(d.cfg.DisableAfter); at.IsZero() || at.After(now) {
			d.mu.Unlock()
			continue
		}
		mark, since, endpoint := f.mark(), f.since, l.endpoint
		f.telling, l.gone = true, l.gone || mark == 100
		d.arrange(l, now)
		d.mu.Unlock()
		err := d.tellOf(ctx, l, endpoint, since, mark)
		d.mu.Lock()
		now = d.cfg.Clock()
		if f.telling = false; err == nil {
			f.told, d.dirty = max(f.told, mark), true
		} else {
			f.again = now.Add(tellPause)
		}
		d.arrange(l, now)
		d.mu.Unlock()
	}
}

// tellOf tells that an endpoint has failed for so many percent of the time after which it is
// disabled, or disables it.
func (d *Dispatcher) tellOf(ctx context.Context, l *lane, endpoint *events.Endpoint, since events.Time, mark int) error {
	if mark == 100 {
		return d.disable(ctx, l, endpoint, "every attempt failed for "+duration(d.cfg.DisableAfter))
	}
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	err := d.cfg.Failing(ctx, endpoint.Account, endpoint.ID, since, mark)
	if err != nil && ctx.Err() == nil {
		d.cfg.Logger.Error("cannot note that an endpoint fails; trying again", "account", endpoint.Account, "endpoint", endpoint.ID, "percent", mark, "error", err)
	}
	return err
}

// duration says how long a time is: in days where it has no smaller part.
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day != 0 || d < 2*day {
		return d.String()
	}
	return fmt.Sprintf("%d days", d/day)
}

// failingState is since when every attempt of an endpoint fails, in a checkpoint.
type failingState struct {
	Since   events.Time // 0: not every one does
	Percent int         // that was told last
	Idle    events.Time // since when there is nothing to try; 0: there is something
}

func (f *failing) state() failingState {
	if f == nil {
		return failingState{}
	}
	return failingState{Since: f.since, Percent: f.told, Idle: f.idle}
}

// failing goes on from a checkpoint. Nobody tried while there was no dispatcher: the time
// since the checkpoint does not count.
func (s failingState) failing(e *events.Endpoint, stopped events.Time) *failing {
	if s.Since == 0 {
		return nil
	}
	if s.Idle == 0 {
		s.Since += max(stopped, 0)
	}
	return &failing{since: s.Since, told: s.Percent, idle: s.Idle, endpoint: e}
}

func (s *failingState) code(c *events.Coder) {
	percent := uint64(s.Percent)
	c.Time(&s.Since)
	c.Uint(&percent)
	c.Time(&s.Idle)
	s.Percent = int(percent)
}
