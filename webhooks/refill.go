package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// feedLook is how soon a lane looks again at a feed that is not as far as the log.
	feedLook = 20 * time.Millisecond
	// feedPatience is how long it does, before it reads the log itself.
	feedPatience = 2 * time.Second
	// feedRest is how long it then leaves the feed alone: one that does not answer holds a
	// refill up for refillWithin.
	feedRest = 30 * time.Second

	refillWithin   = 10 * time.Second // for one reading of the feed, or of the log
	refillPause    = time.Second      // after one that failed
	refillMessages = 1024             // of the feed, looked at in one refill
	refillCommits  = 256              // of the log, likewise
)

// refill fills up one lane that is behind after the other. Its error is a
// *store.DamageError.
func (d *Dispatcher) refill(ctx context.Context) error {
	for {
		d.mu.Lock()
		l := d.next(&d.refills)
		if l == nil {
			d.mu.Unlock()
			return nil
		}
		now := d.cfg.Clock()
		w := d.wants(l, now)
		d.mu.Unlock()
		if w == nil {
			continue
		}
		f, err := d.readOn(ctx, w)
		d.counts.refilled(f, err)
		d.refilled(l, w, f, err)
		if isDamage(err) {
			return fmt.Errorf("deliver webhooks: %w", err)
		}
	}
}

// wants is what is to be read for a lane, nil if nothing is. Its queue and its replays take
// turns. d.mu is held.
func (d *Dispatcher) wants(l *lane, now time.Time) (w *want) {
	replay, queue := l.wantsReplay(now), l.wantsRefill(now)
	switch {
	case replay && (l.replayFirst || !queue):
		w = d.wantedReplay(l, l.readable(), now)
	case queue:
		w = d.wantedOwed(l, now)
	default:
		return nil
	}
	l.refilling, l.replayFirst = true, w.replay == nil
	return w
}

// wanted is what a lane that is behind wants now. One that has waited for the feed long
// enough turns to the log for a while. d.mu is held.
func (d *Dispatcher) wanted(l *lane, now time.Time) *want {
	if !l.lagging.IsZero() && now.Sub(l.lagging) >= feedPatience {
		l.lagging, l.fromLog = time.Time{}, now.Add(feedRest)
	}
	return &want{
		account: l.account, endpoint: l.endpoint.ID, registered: l.registered, from: l.next,
		to: d.read.Ordinal, commit: d.read.Sequence, settled: l.restored, room: laneQueueMax - len(l.queue),
		began: now, log: now.Before(l.fromLog),
	}
}

// readOn reads the feed, and the log where the feed cannot serve.
func (d *Dispatcher) readOn(ctx context.Context, w *want) (*found, error) {
	if w.locate {
		return d.rangeOf(ctx, w.replay)
	}
	if !w.log {
		f, err := d.readFeed(ctx, w)
		if !errors.Is(err, errFeedGap) && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return f, err
		}
	}
	return d.readLog(ctx, w)
}

// refilled puts what was read into the lane's queue.
func (d *Dispatcher) refilled(l *lane, w *want, f *found, err error) {
	d.mu.Lock()
	now := d.cfg.Clock()
	l.refilling = false
	var say notices
	switch {
	case l.removed:
	case err != nil:
		say = d.refillFailed(l, w, err, now)
	case w.replay != nil:
		d.takeReplayIn(l, w, f, now)
	case w.group != nil:
		if g := l.groups[w.name]; g == w.group && g.more > 0 && g.next == w.from { // it has not jumped meanwhile
			say = d.takeGroup(l, w, f)
		}
	case l.behind && l.next == w.from: // likewise
		say = d.takeIn(l, f)
	}
	if !l.removed {
		d.arrange(l, now)
	}
	d.mu.Unlock()
	say.log(d.cfg.Logger)
}

// refillFailed has the lane look again. d.mu is held.
func (d *Dispatcher) refillFailed(l *lane, w *want, err error, now time.Time) (say notices) {
	if l.lagging.IsZero() && !w.log {
		l.lagging = w.began
	}
	l.look = now.Add(feedLook)
	if !errors.Is(err, errFeedBehind) && !d.stopping {
		l.look = now.Add(refillPause)
		if !isDamage(err) {
			say.add(l, slog.LevelWarn, "cannot read on for an endpoint; trying again", "error", err)
		}
	}
	return say
}

// takeIn moves the lane on over what was read. d.mu is held.
func (d *Dispatcher) takeIn(l *lane, f *found) (say notices) {
	if f.feed {
		l.lagging = time.Time{}
	}
	for _, p := range f.entries {
		l.meet(p)
	}
	d.unsaved += f.next.feed - l.next.feed
	l.next = f.next
	if !l.rereads() {
		l.leaveOut(&say)
	}
	if l.next.feed > d.read.Ordinal {
		l.behind = false
		if l.next.number != l.owed+1 || !l.next.terms.equal(l.terms) {
			say.add(l, slog.LevelError, "the feed and the log do not agree on what an endpoint is owed", "feed", l.next.number-1, "log", l.owed)
		}
	}
	return say
}
