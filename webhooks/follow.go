package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// followPause is how long the fold waits where the log cannot be read at the moment.
const followPause = time.Second

// follow folds the log, commit by commit, for ever, from the saved directory's place on, or
// from its beginning. From the commit on that was the
// log's end when it began, attempts are made. What keeps the log from being read is only
// logged, and tried again; a log that is damaged or has lost something is fatal.
func (d *Dispatcher) follow(ctx context.Context) error {
	begin := max(d.cfg.Tail.End().Sequence, d.restored.Sequence)
	if d.read.Sequence >= begin { // the saved directory is of the log's end
		d.begin()
	}
	for {
		err := d.cfg.Tail.Follow(ctx, d.read, func(c *store.Commit) error {
			if c.Sequence == d.restored.Sequence && c.Hash != d.restored.Hash {
				return fmt.Errorf("%w: commit %d:%d has the hash %s, and the last checkpoint in %s saw %s; restore the log from an intact copy",
					ErrLoss, c.Partition, c.Sequence, c.Hash, store.StreamLanes(d.cfg.Partition), d.restored.Hash)
			}
			if err := d.fold(ctx, c); err != nil {
				return err
			}
			if !d.live && c.Sequence >= begin {
				d.begin()
			}
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case isDamage(err), errors.Is(err, ErrLoss):
			return fmt.Errorf("deliver webhooks: %w", err)
		}
		d.cfg.Logger.Warn("cannot read the log on for webhooks; trying again", "position", d.read.Position().String(), "error", err)
		d.pause(ctx, followPause)
	}
}

// foldedCommit reads a commit that was folded, so that one which is not there is damage,
// as long as the log's end is not being looked for again.
func (d *Dispatcher) foldedCommit(ctx context.Context, sequence uint64) (*store.Commit, error) {
	return d.foldedFor(ctx, sequence, "")
}

// foldedFor is foldedCommit for one account, as store.DecodeFor.
func (d *Dispatcher) foldedFor(ctx context.Context, sequence uint64, account string) (*store.Commit, error) {
	c, err := d.cfg.Tail.CommitFor(ctx, sequence, account)
	if errors.Is(err, store.ErrNoMessage) && sequence <= d.cfg.Tail.End().Sequence {
		err = &store.DamageError{Partition: d.cfg.Partition, Sequence: sequence, Reason: "message missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("read commit %d: %w", sequence, err)
	}
	return c, nil
}

// isDamage says whether an error is of a log that is damaged, so that nothing more may be
// delivered from it.
func isDamage(err error) bool {
	var damage *store.DamageError
	return errors.As(err, &damage)
}

// pause waits, or until ctx ends.
func (d *Dispatcher) pause(ctx context.Context, wait time.Duration) {
	fired, stop := d.cfg.Timer(d.cfg.Clock().Add(wait))
	defer stop()
	select {
	case <-fired:
	case <-ctx.Done():
	}
}

// fold takes one commit in, as one step. Its error means that it did not: an older commit
// could not be read.
func (d *Dispatcher) fold(ctx context.Context, c *store.Commit) error {
	skips, err := d.skipsIn(ctx, c)
	if err != nil {
		return err
	}
	var say notices
	d.mu.Lock()
	now := d.cfg.Clock()
	at := sight{feed: c.Ordinal, commit: c.Sequence, in: c}
	owe := func(s *subscriber) {
		l := d.lanes[s.endpoint.ID]
		if l.owe(entry{feed: at.feed, commit: c.Sequence, number: s.owed, group: groupOf(at.Event)}) {
			d.arrange(l, now)
		}
	}
	for i := range c.Entries {
		for j := range c.Entries[i].Events {
			at.Event, at.cloud = &c.Entries[i].Events[j], nil
			at.feed++
			if about := d.directory.fold(&at, owe); about != nil {
				d.change(about, &at, skips[at.feed], now, &say)
			}
			d.asked(&at, now)
		}
	}
	d.unsaved += at.feed - c.Ordinal + 1
	d.read = store.ChainAt(c)
	d.moved.Broadcast()
	d.mu.Unlock()
	say.log(d.cfg.Logger)
	return nil
}

// change makes a lane follow its endpoint after an event: registered, in another state,
// jumping over what it was owed up to a feed sequence, or removed. d.mu is held.
func (d *Dispatcher) change(s *subscriber, at *sight, skip uint64, now time.Time, say *notices) {
	l := d.lanes[s.endpoint.ID]
	if l == nil {
		l = d.open(s, now)
		d.lanes[s.endpoint.ID] = l
	}
	l.gone = l.gone && s.endpoint.FailingPercent > 0 // a notice says nothing about the receiver's answers
	l.heard(at.commit > d.restored.Sequence)
	l.pace = l.pace.withRate(rateOf(s.endpoint))
	l.order(s.endpoint.Ordering == events.OrderingKey)
	if d.live && (at.Type == "endpoint.resumed" || at.Type == "endpoint.updated") {
		l.probe(now)
	}
	if s.terms.unread != nil {
		say.add(l, slog.LevelError, "the content filters of an endpoint cannot be read, so it is owed only tests; use a newer keyledger", "error", s.terms.unread)
	}
	switch {
	case s.endpoint.Status == events.Removed:
		l.drop()
		delete(d.lanes, s.endpoint.ID)
		d.dirty = true
	case skip > 0:
		l.skip(skip, at.feed)
		if d.live && !l.rereads() {
			l.leaveOut(say)
		}
		d.dirty = true
	}
	d.arrange(l, now)
}

// open makes the lane of a new endpoint, as the last checkpoint knew it.
func (d *Dispatcher) open(s *subscriber, now time.Time) *lane {
	l := newLane(s)
	l.pace, l.ordered = l.pace.withRate(rateOf(s.endpoint)), s.endpoint.Ordering == events.OrderingKey
	l.restored = d.restored.Feed
	if state := d.restored.lane(s.registered); state != nil {
		l.restored, l.saved, l.listed = state.Cursor, openDeliveries(state.Open, now), state.groups()
		l.parked, l.probing, l.failing = state.Parked, state.Probing, state.Failing.failing(s.endpoint, events.At(now)-d.restored.At)
		l.held = minTime(state.Held.Std(), now.Add(MaxWait))
	}
	return l
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// begin lets attempts start: every lane is as the last checkpoint and the log say.
func (d *Dispatcher) begin() {
	var say notices
	d.mu.Lock()
	for _, l := range d.lanes {
		if !l.rereads() {
			l.leaveOut(&say)
		}
	}
	d.restored.Lanes = nil
	// A checkpoint soon, even if nothing is delivered: a start uses no saved directory
	// without one.
	d.live, d.dirty = true, true
	d.moved.Broadcast() // Wait waits for this too
	now := d.cfg.Clock()
	for _, l := range d.lanes {
		d.arrange(l, now)
	}
	d.mu.Unlock()
	say.log(d.cfg.Logger)
}

// leaveOut forgets what the last checkpoint lists for a lane and nobody found.
func (l *lane) leaveOut(say *notices) {
	if len(l.saved) > 0 {
		say.add(l, slog.LevelError, "the last checkpoint of webhooks lists deliveries that the log does not owe; they are left out", "deliveries", len(l.saved))
	}
	l.saved, l.listed = nil, nil
}

// notices are lines about lanes, noted while d.mu is held and logged once it is free: a
// log that takes its time must not hold every lane up.
type notices []notice

type notice struct {
	level slog.Level
	text  string
	args  []any
}

// add notes a line about a lane. d.mu is held.
func (n *notices) add(l *lane, level slog.Level, text string, args ...any) {
	*n = append(*n, notice{level, text, append([]any{"account", l.account, "endpoint", l.endpoint.ID}, args...)})
}

// log logs them. d.mu is not held.
func (n notices) log(logger *slog.Logger) {
	for _, line := range n {
		logger.Log(context.Background(), line.level, line.text, line.args...)
	}
}

// Wait returns when the commit at sequence has been folded and attempts are made, or
// with an error that wraps ctx's when ctx ends first.
func (d *Dispatcher) Wait(ctx context.Context, sequence uint64) error {
	if d.until(ctx, func() bool { return d.live && d.read.Sequence >= sequence }) {
		return nil
	}
	return fmt.Errorf("wait for webhooks to reach sequence %d: %w", sequence, context.Cause(ctx))
}

// until waits until a condition holds and says whether it came to hold before ctx ended.
// The condition is looked at with d.mu held, after each change.
func (d *Dispatcher) until(ctx context.Context, holds func() bool) bool {
	defer context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.moved.Broadcast()
	})()
	d.mu.Lock()
	defer d.mu.Unlock()
	for !holds() {
		if ctx.Err() != nil {
			return false
		}
		d.moved.Wait()
	}
	return true
}

// Stats says how a Dispatcher stands, for status and metrics.
type Stats struct {
	Position    string `json:"position"`     // of the last commit that was folded
	Delivering  bool   `json:"delivering"`   // the log was folded up to the end it had at the start
	Lanes       int    `json:"lanes"`        // endpoints that are not removed
	Behind      int    `json:"behind"`       // of those: owed more than they have in memory
	HeldBack    int    `json:"held_back"`    // of those: their receiver asked for a pause
	Failing     int    `json:"failing"`      // of those: every attempt fails
	Parked      int    `json:"parked"`       // of those: so much fails that only the oldest delivery is tried
	Pending     uint64 `json:"pending"`      // deliveries owed and not settled; more after a crash, until its lanes have read again
	InFlight    int    `json:"in_flight"`    // attempts under way
	Slots       Slots  `json:"slots"`        // those, by the slots they hold
	OpenRetries int    `json:"open_retries"` // deliveries that wait for their next try

	Delivered   uint64 `json:"delivered"`    // deliveries since the start
	Failed      uint64 `json:"failed"`       // attempts that failed, those of dead deliveries included
	Dead        uint64 `json:"dead"`         // deliveries given up since the start
	RecordsLost uint64 `json:"records_lost"` // attempt records that could not be stored

	Refills    Refills         `json:"refills"`
	Checkpoint CheckpointStats `json:"checkpoint"`
}

// Stats returns how d stands at this moment.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Stats{
		Position: d.read.Position().String(), Delivering: d.live, Lanes: len(d.lanes),
		Delivered: d.delivered, Failed: d.failed, Dead: d.dead, RecordsLost: d.attempt.lost.Load(), Slots: d.slots(),
	}
	now := d.cfg.Clock()
	s.Refills, s.Checkpoint = d.counts.refills(), d.counts.checkpoint(now, d.dirty)
	for _, l := range d.lanes {
		s.Pending += l.pending()
		s.InFlight += l.firsts + l.agains
		s.OpenRetries += len(l.waiting)
		if l.behind {
			s.Behind++
		}
		if l.held.After(now) {
			s.HeldBack++
		}
		if l.parked {
			s.Parked++
		}
		if l.failing != nil {
			s.Failing++
		}
	}
	return s
}
