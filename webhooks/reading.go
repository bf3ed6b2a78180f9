package webhooks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

var (
	// errFeedBehind: the feed has nothing yet at the place from which to read on.
	errFeedBehind = errors.New("the feed is behind the log")
	// errFeedGap: the feed has lost messages from that place on, by age, size or deletion.
	errFeedGap = errors.New("the feed does not have every event any more")
	errEnough  = errors.New("enough was read")
)

// place is where the events of an endpoint are read on: feed and commit of the next one, the
// number of the next that is owed, and the terms in force before it, nil where it is not
// registered yet.
type place struct {
	entry
	terms *terms
}

// want is what is read for an endpoint, as it was when the reading began.
type want struct {
	account, endpoint string
	registered        uint64
	from              place
	to                uint64 // feed sequence up to which is read
	commit            uint64 // log sequence up to which it was folded
	settled           uint64 // up to this feed sequence nothing takes room
	room              int    // for so many entries
	group             *group // to read for, nil: for the lane
	name              uint64 // the group's
	most              uint64 // how many entries it has behind
	began             time.Time
	log               bool    // read the log, and not the feed
	replay            *replay // that reads, nil: the queue
	locate            bool    // it is the range of the replay that is looked for
}

// found is what was read: entries, and the place from which to read on. Its commit may
// lie before that place, never behind it.
type found struct {
	entries     []place
	next        place
	queued      int    // of the entries: that take room
	feed        bool   // read from the feed
	first, last uint64 // of a replay that was located: feed sequences of its events
}

// take looks at an event, notes it if it is owed, or to be replayed, and moves the terms over
// it. One that is not owed has no number.
func (f *found) take(w *want, s *sight) {
	after := s.about()
	if after != nil && (after.ID != w.endpoint || s.feed < w.registered) {
		after = nil
	}
	e := entry{feed: s.feed, commit: s.commit}
	if t := f.next.terms; t != nil && t.owes(w.endpoint, s) {
		e.number = f.next.number
		f.next.number++
	}
	if f.selects(w, s, &e) {
		f.entries = append(f.entries, place{e, f.next.terms})
		if s.feed > w.settled {
			f.queued++
		}
	}
	if after != nil {
		f.next.terms = f.next.terms.after(after)
	}
	f.next.feed, f.next.commit = s.feed+1, s.commit
}

// selects says whether an event is what is read for: one to be replayed, or one that is owed,
// of the group if it is for one. It names the event's group.
func (f *found) selects(w *want, s *sight, e *entry) bool {
	if w.replay != nil && !w.replay.selects(s) || w.replay == nil && e.number == 0 {
		return false
	}
	e.group = groupOf(s.Event)
	return w.group == nil || e.group == w.name
}

// full says whether enough was read.
func (f *found) full(w *want) bool {
	return f.queued >= w.room || w.group != nil && uint64(len(f.entries)) >= w.most
}

// wants says whether an event's data is needed: to see the endpoint's own terms change, or
// the key that it is about.
func (f *found) wants(w *want, e *events.Event) bool {
	return strings.HasPrefix(e.Type, "endpoint.") && e.Subject == w.endpoint || f.next.terms != nil && len(f.next.terms.keys) > 0 ||
		w.replay != nil && len(w.replay.terms.keys) > 0
}

// readFeed reads the account's events from the feed. The feed is dense from its first
// message on unless something was deleted in it, so what is asked is whether it was: at
// the end, because messages can leave it at any time. Half of its time is for that: a feed
// that is slow gives what it has given until then.
func (d *Dispatcher) readFeed(ctx context.Context, w *want) (*found, error) {
	ctx, cancel := context.WithTimeout(ctx, refillWithin)
	defer cancel()
	state, err := d.feed.state(ctx)
	if err != nil {
		return nil, err
	}
	f := &found{next: w.from, feed: true}
	if end := min(state.LastSeq, w.to); f.next.feed <= end {
		if err := d.readMessages(ctx, w, f, end); err != nil {
			return nil, err
		}
	}
	if state, err = d.feed.state(ctx); err != nil {
		return nil, err
	}
	switch {
	case state.FirstSeq > w.from.feed || state.NumDeleted > 0:
		return nil, errFeedGap
	case f.next.feed == w.from.feed:
		return nil, errFeedBehind
	}
	return f, nil
}

// readMessages moves f over messages up to a feed sequence, until it has enough.
func (d *Dispatcher) readMessages(ctx context.Context, w *want, f *found, end uint64) error {
	half, cancel := context.WithTimeout(ctx, refillWithin/2)
	defer cancel()
	looked := 0
	err := d.feed.read(half, w.account, f.next.feed, end, func(m *store.Scanned) error {
		s, err := sightOf(m, func(e *events.Event) bool { return f.wants(w, e) })
		if err != nil {
			return err
		}
		if s.commit < w.from.commit || s.commit > w.commit {
			return fmt.Errorf("message %d of the feed has position %s, between commits %d and %d", m.Sequence, s.cloud.Position, w.from.commit, w.commit)
		}
		if looked++; looked > refillMessages || f.full(w) {
			return errEnough
		}
		f.take(w, s)
		return nil
	})
	switch {
	case err == nil:
		f.next.feed = end + 1
	case errors.Is(err, errEnough), half.Err() != nil && ctx.Err() == nil && f.next.feed > w.from.feed:
	default:
		return err
	}
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
		s := sight{feed: c.Ordinal, commit: c.Sequence, in: c}
		for i := range c.Entries {
			for j := range c.Entries[i].Events {
				s.Event, s.cloud = &c.Entries[i].Events[j], nil
				if s.feed++; s.feed < w.from.feed || s.Account != w.account {
					continue
				}
				if s.feed > w.to || f.full(w) {
					return errEnough
				}
				f.take(w, &s)
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
