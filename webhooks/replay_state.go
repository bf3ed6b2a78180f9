package webhooks

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events"
)

// replayState is a replay that is not finished, in a checkpoint. One that is not listed, and
// not newer than the checkpoint's Feed, is finished.
type replayState struct {
	Asked uint64      // feed sequence of its event: its name here
	Done  uint64      // everything up to here is done, except what Open lists
	Open  []openState // by Feed
}

func (r *replayState) code(c *events.Coder, reasons []string) {
	c.Uint(&r.Asked)
	c.Uint(&r.Done)
	codeOpen(c, &r.Open, reasons)
}

// state takes down how a replay stands, at a moment.
func (r *replay) state(at events.Time) replayState {
	return replayState{Asked: r.asked, Done: max(r.started()-1, r.done), Open: openStates(at, maps.Values(r.open), maps.Values(r.saved))}
}

// openStates takes deliveries down, by Feed.
func openStates(at events.Time, lists ...iter.Seq[*delivery]) []openState {
	var states []openState
	for _, list := range lists {
		for o := range list {
			state := openState{
				Feed: o.feed, Tries: o.tries, Next: at,
				First: o.first, Last: o.last, Status: o.status, Reason: o.reason,
			}
			if !o.flying {
				state.Next = roundUp(o.next)
			}
			states = append(states, state)
		}
	}
	slices.SortFunc(states, func(a, b openState) int { return cmp.Compare(a.Feed, b.Feed) })
	return states
}

// openDeliveries returns open deliveries by feed sequence. None waits longer than MaxWait
// from now, whatever the clock was when the checkpoint was written.
func openDeliveries(states []openState, now time.Time) map[uint64]*delivery {
	latest := now.Add(MaxWait)
	m := make(map[uint64]*delivery, len(states))
	for _, o := range states {
		m[o.Feed] = &delivery{
			entry: entry{feed: o.Feed, group: o.Group}, tries: o.Tries, next: minTime(o.Next.Std(), latest),
			first: o.First, last: o.Last, status: o.Status, reason: o.Reason,
		}
	}
	return m
}

// shorten leaves out which deliveries were tried: all of them count as not settled.
func (l *laneState) shorten() {
	if len(l.Open) > 0 {
		l.Cursor, l.Open = min(l.Cursor, l.Open[0].Feed-1), nil
	}
	if len(l.Groups) > 0 {
		l.Cursor, l.Groups = min(l.Cursor, l.Groups[0].From-1), nil
	}
	for i := range l.Replays {
		if r := &l.Replays[i]; len(r.Open) > 0 {
			r.Done, r.Open = min(r.Done, r.Open[0].Feed-1), nil
		}
	}
}

// back is the feed sequence up to which everything is settled, and every replay finished that
// was asked for.
func (l *laneState) back() uint64 {
	if len(l.Replays) > 0 {
		return min(l.Cursor, l.Replays[0].Asked-1)
	}
	return l.Cursor
}

// opens calls f for each list of open deliveries.
func (l *laneState) opens(f func([]openState)) {
	f(l.Open)
	for i := range l.Replays {
		f(l.Replays[i].Open)
	}
}
