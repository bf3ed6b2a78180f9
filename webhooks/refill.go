package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
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

var (
	// errFeedBehind: the feed has nothing yet at the place from which to read on.
	errFeedBehind = errors.New("the feed is behind the log")
	// errFeedGap: the feed has lost messages from that place on, by age, size or deletion.
	errFeedGap = errors.New("the feed does not have every event any more")
	errEnough  = errors.New("enough was read")
)

// want is what a refill reads, as it was when it began.
type want struct {
	account string
	terms   []terms
	from    entry  // feed and commit: where to begin; number: of the first that matches
	to      uint64 // feed sequence up to which the log was folded
	commit  uint64 // log sequence of that place
	settled uint64 // up to this feed sequence nothing is for the queue: lane.restored
	room    int    // in the queue
	began   time.Time
	log     bool // read the log, and not the feed
}

// found is what it read: entries, and the place from which to read on. Its commit may
// lie before that place, never behind it.
type found struct {
	entries []entry
	next    entry
	queued  int  // of the entries: for the queue
	feed    bool // read from the feed
}

// take looks at an event and notes it if it is owed.
func (f *found) take(w *want, feed, commit uint64, eventType, environment string) {
	if owedBy(w.terms, feed, eventType, environment) {
		f.entries = append(f.entries, entry{feed: feed, commit: commit, number: f.next.number})
		f.next.number++
		if feed > w.settled {
			f.queued++
		}
	}
	f.next.feed, f.next.commit = feed+1, commit
}

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
		if !l.wantsRefill(now) {
			d.mu.Unlock()
			continue
		}
		l.refilling = true
		w := d.wanted(l, now)
		d.mu.Unlock()
		f, err := d.readOn(ctx, w)
		d.counts.refilled(f, err)
		d.refilled(l, w, f, err)
		if isDamage(err) {
			return fmt.Errorf("deliver webhooks: %w", err)
		}
	}
}

// wanted is what a lane that is behind wants now. One that has waited for the feed long
// enough turns to the log for a while. d.mu is held.
func (d *Dispatcher) wanted(l *lane, now time.Time) *want {
	if !l.lagging.IsZero() && now.Sub(l.lagging) >= feedPatience {
		l.lagging, l.fromLog = time.Time{}, now.Add(feedRest)
	}
	return &want{
		account: l.account, terms: l.terms, from: l.next,
		to: d.read.Ordinal, commit: d.read.Sequence, settled: l.restored, room: laneQueueMax - len(l.queue),
		began: now, log: now.Before(l.fromLog),
	}
}

// readOn reads the feed, and the log where the feed cannot serve.
func (d *Dispatcher) readOn(ctx context.Context, w *want) (*found, error) {
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
	default:
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
	for _, e := range f.entries {
		if e.feed <= l.restored {
			l.resume(e)
		} else {
			l.queue = append(l.queue, e)
		}
	}
	d.unsaved += f.next.feed - l.next.feed
	l.next = f.next
	if !l.rereads() {
		l.leaveOut(&say)
	}
	if l.next.feed > d.read.Ordinal {
		l.behind = false
		if l.next.number != l.owed+1 {
			say.add(l, slog.LevelError, "the feed and the log do not agree on what an endpoint is owed", "feed", l.next.number-1, "log", l.owed)
		}
	}
	l.forgetTerms()
	return say
}

// readFeed reads the account's events from the feed. The feed is dense from its first
// message on unless something was deleted in it, so what is asked is whether it was: at
// the end, because messages can leave it at any time. Half of its time is for that: a feed
// that is slow gives what it has given until then.
func (d *Dispatcher) readFeed(ctx context.Context, w *want) (*found, error) {
	ctx, cancel := context.WithTimeout(ctx, refillWithin)
	defer cancel()
	half := time.Now().Add(refillWithin / 2)
	stream, err := d.cfg.JS.Stream(ctx, store.StreamFeed(d.cfg.Partition))
	if err != nil {
		return nil, err
	}
	end := min(stream.CachedInfo().State.LastSeq, w.to)
	f := &found{next: w.from, feed: true}
	filter := jetstream.WithGetMsgSubject(store.SubjectFeed(d.cfg.Partition) + w.account + ".>")
	for range refillMessages {
		if f.next.feed > end || f.queued >= w.room || time.Now().After(half) {
			break
		}
		msg, err := stream.GetMsg(ctx, f.next.feed, filter)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, err
		}
		if err != nil || msg.Sequence > end {
			f.next.feed = end + 1
			break
		}
		if err := f.message(w, msg); err != nil {
			return nil, err
		}
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case info.State.FirstSeq > w.from.feed || info.State.NumDeleted > 0:
		return nil, errFeedGap
	case f.next.feed == w.from.feed:
		return nil, errFeedBehind
	}
	return f, nil
}

// message takes one message of the feed.
func (f *found) message(w *want, msg *jetstream.RawStreamMsg) error {
	// keyledger.events.<p>.<account>.<environment>.<noun>.<verb>.<subject>
	token := strings.Split(msg.Subject, ".")
	position, err := events.ParsePosition(msg.Header.Get("ce-position"))
	if err != nil || len(token) < 7 || position.Sequence < w.from.commit || position.Sequence > w.commit {
		return fmt.Errorf("message %d of the feed, on %s, is not an event", msg.Sequence, msg.Subject)
	}
	environment := token[4]
	if environment == "-" {
		environment = ""
	}
	f.take(w, msg.Sequence, position.Sequence, token[5]+"."+token[6], environment)
	return nil
}

// readLog reads the account's events from the log itself, a number of commits at a time.
func (d *Dispatcher) readLog(ctx context.Context, w *want) (*found, error) {
	ctx, cancel := context.WithTimeout(ctx, refillWithin)
	defer cancel()
	chain := store.Chain{Partition: d.cfg.Partition}
	if w.from.commit > 1 {
		before, err := d.foldedCommit(ctx, w.from.commit-1)
		if err != nil {
			return nil, err
		}
		chain = store.ChainAt(before)
	}
	f := &found{next: w.from}
	end := min(w.commit, chain.Sequence+refillCommits)
	err := store.ReadChecked(ctx, d.cfg.Tail.Log(), &chain, end, func(c *store.Commit) error {
		feed := c.Ordinal
		for i := range c.Entries {
			for j := range c.Entries[i].Events {
				e := &c.Entries[i].Events[j]
				if feed++; feed < w.from.feed || e.Account != w.account {
					continue
				}
				if f.queued >= w.room {
					return errEnough
				}
				f.take(w, feed, c.Sequence, e.Type, e.Environment)
			}
		}
		f.next.feed, f.next.commit = c.End()+1, c.Sequence+1
		return nil
	})
	if errors.Is(err, errEnough) {
		return f, nil
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("read the log from commit %d: %w", w.from.commit, err)
	}
	return f, nil
}
