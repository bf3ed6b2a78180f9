package webhooks

import (
	"context"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// rangeOf finds which events a replay may send, and the commit of the first, or one before.
// It reads some commits, all of before the replay's own event: those in positions, and by
// binary search those at times.
func (d *Dispatcher) rangeOf(ctx context.Context, r *replay) (*found, error) {
	ctx, cancel := context.WithTimeout(ctx, refillWithin)
	defer cancel()
	get := func(sequence uint64) (*store.Commit, error) { return d.foldedCommit(ctx, sequence) }
	f := &found{first: 1, last: r.asked - 1, next: place{entry: entry{commit: 1}}}
	if err := f.from(r, get); err != nil {
		return nil, err
	}
	if p, err := events.ParsePosition(r.request.To); err == nil && p.Sequence <= r.commit {
		var c *store.Commit
		if p.Sequence == 0 {
			f.last = 0
		} else if c, err = get(p.Sequence); err != nil {
			return nil, err
		} else {
			f.last = min(f.last, lastAt(c, p.Index))
		}
	}
	if r.request.ToTime > 0 {
		_, c, err := store.Until(r.commit, r.request.ToTime, get)
		if err != nil {
			return nil, err
		}
		if c == nil {
			f.last = 0
		} else {
			f.last = min(f.last, c.End())
		}
	}
	return f, nil
}

// from finds the first event of a replay's range.
func (f *found) from(r *replay, get func(uint64) (*store.Commit, error)) error {
	if p, err := events.ParsePosition(r.request.From); err == nil && p.Sequence > r.commit {
		f.first = r.asked // nothing
	} else if err == nil && p.Sequence > 0 {
		c, err := get(p.Sequence)
		if err != nil {
			return err
		}
		f.first, f.next.commit = min(c.Ordinal+1+uint64(max(p.Index, 0)), c.End()+1), p.Sequence
	}
	if r.request.FromTime > 0 {
		n, c, err := store.Until(r.commit, r.request.FromTime-1, get)
		if err != nil {
			return err
		}
		if c != nil && c.End() >= f.first {
			f.first, f.next.commit = c.End()+1, n
		}
	}
	return nil
}
