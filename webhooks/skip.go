package webhooks

import (
	"context"
	"maps"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// skipNow is the Endpoint.SkipTo that stands for its own event.
const skipNow = "now"

// skipsIn finds the events of a commit in which an endpoint jumps over what it was owed, and
// up to which feed sequence each does. To know that, it may have to read a commit.
func (d *Dispatcher) skipsIn(ctx context.Context, c *store.Commit) (map[uint64]uint64, error) {
	var skips map[uint64]uint64
	feed := c.Ordinal
	for i := range c.Entries {
		for j := range c.Entries[i].Events {
			feed++
			e, _ := c.Entries[i].Events[j].Data.(*events.Endpoint)
			if e == nil || e.SkipTo == "" {
				continue
			}
			up, err := d.skipTo(ctx, c, feed, e.SkipTo)
			if err != nil {
				return nil, err
			}
			if skips == nil {
				skips = map[uint64]uint64{}
			}
			skips[feed] = up
		}
	}
	return skips, nil
}

// skipTo resolves a SkipTo of the event with a feed sequence in a commit. A position that is
// beyond the event is the event itself; one that is none, which no command gets past its
// checks, is before every event.
func (d *Dispatcher) skipTo(ctx context.Context, c *store.Commit, feed uint64, to string) (uint64, error) {
	p, err := events.ParsePosition(to)
	switch {
	case to == skipNow, err == nil && p.Sequence > c.Sequence:
		return feed, nil
	case err != nil, p.Partition != c.Partition, p.Sequence == 0:
		return 0, nil
	case p.Sequence < c.Sequence:
		if c, err = d.foldedCommit(ctx, p.Sequence); err != nil {
			return 0, err
		}
	}
	return min(lastAt(c, p.Index), feed), nil
}

// lastAt is the feed sequence of a commit's event with an index, or of its last one where
// there is no such index.
func lastAt(c *store.Commit, index int) uint64 {
	if index == events.NoIndex {
		return c.End()
	}
	return min(c.Ordinal+uint64(index)+1, c.End())
}

// skip settles without a delivery what the endpoint is owed up to a feed sequence. What is
// under way ends without a further try. So does what replays that were asked for before would
// send. folded is the feed sequence up to which the log was
// folded: a skip that goes so far has the lane at the head.
func (l *lane) skip(up, folded uint64) {
	l.skipped, l.restored = max(l.skipped, up), max(l.restored, up)
	maps.DeleteFunc(l.saved, func(feed uint64, _ *delivery) bool { return feed <= up })
	maps.DeleteFunc(l.open, func(feed uint64, _ *delivery) bool { return feed <= up })
	l.waiting = slices.DeleteFunc(l.waiting, func(d *delivery) bool { return d.feed <= up })
	met := folded
	if l.behind {
		met = l.next.feed - 1
	}
	l.skipGroups(up, met)
	l.rewait()
	l.queue = slices.DeleteFunc(l.queue, func(p place) bool { return p.feed <= up })
	for _, r := range l.replays {
		r.skip(up)
	}
	l.endReplays()
	l.behind = l.behind && up < folded
	if a := l.before(up + 1); l.behind && a != nil && a.feed > l.next.feed {
		l.next = *a
	}
}

// dropped says whether a delivery under way is settled already: it was jumped over, or the
// endpoint was removed.
func (l *lane) dropped(d *delivery) bool { return l.openOf(d)[d.feed] != d }
