package main

import (
	"context"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// replayFilter says which events are replayed. Zero members let all pass.
type replayFilter struct {
	account, key, eventType, environment string
	from, to                             events.Position // to is included
	fromTime, toTime                     events.Time     // toTime is included
	passed                               int             // how many events did, or commits were printed whole
}

// bounds finds the commits worth reading: the chain before the first, and the last.
func (f *replayFilter) bounds(ctx context.Context, log store.Log, last uint64) (store.Chain, uint64, error) {
	first := max(f.from.Sequence, 1)
	if f.to.Sequence != 0 {
		last = min(last, f.to.Sequence)
	}
	until := func(limit events.Time) (uint64, error) {
		found, _, err := store.Until(last, limit, func(sequence uint64) (*store.Commit, error) { return getCommit(ctx, log, sequence) })
		return found, err
	}
	if f.fromTime != 0 {
		before, err := until(f.fromTime - 1)
		if err != nil {
			return store.Chain{}, 0, err
		}
		first = max(first, before+1)
	}
	if f.toTime != 0 {
		var err error
		if last, err = until(f.toTime); err != nil {
			return store.Chain{}, 0, err
		}
	}
	start := store.Chain{Partition: partition}
	switch {
	case first > last:
		return start, 0, nil
	case first == 1:
		return start, last, nil
	}
	before, err := getCommit(ctx, log, first-1)
	if err != nil {
		return store.Chain{}, 0, err
	}
	return store.ChainAt(before), last, nil
}

// getCommit reads one commit by its sequence.
func getCommit(ctx context.Context, log store.Log, sequence uint64) (*store.Commit, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := log.Get(ctx, sequence)
	if err != nil {
		return nil, fmt.Errorf("read commit %d:%d: %w; \"keyledger audit verify\" tells whether the log is damaged", partition, sequence, err)
	}
	c, err := store.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("read commit %d:%d: %w; \"keyledger audit verify\" tells whether the log is damaged", partition, sequence, err)
	}
	return c, nil
}

// passes says whether an event is to be replayed, and counts those that are. Its time was
// looked at by bounds.
func (f *replayFilter) passes(e *events.CloudEvent) bool {
	if !f.fits(e) {
		return false
	}
	f.passed++
	return true
}

func (f *replayFilter) fits(e *events.CloudEvent) bool {
	at := e.Position
	switch {
	case f.account != "" && e.Account != f.account,
		f.environment != "" && e.Environment != f.environment,
		f.key != "" && e.Subject != f.key && heldFor(e) != f.key,
		!events.Matches(f.eventType, e.Type),
		at.Sequence == f.from.Sequence && at.Index < f.from.Index,
		at.Sequence == f.to.Sequence && f.to.Index != events.NoIndex && at.Index > f.to.Index:
		return false
	}
	return true
}

// heldFor is the key that a hold is for: its events go by the hold.
func heldFor(e *events.CloudEvent) string {
	if d, ok := e.Data.(*events.Held); ok {
		return d.Key
	}
	return ""
}

// everything says whether no event is left out for what it is.
func (f *replayFilter) everything() bool {
	return f.account == "" && f.key == "" && f.environment == "" && f.eventType == "*"
}

// printEvents prints a commit's events that pass, as structured CloudEvents.
func printEvents(w io.Writer, c *store.Commit, f *replayFilter) error {
	return c.Each(func(e *events.CloudEvent) error {
		if !f.passes(e) {
			return nil
		}
		body, err := e.Structured()
		if err != nil {
			return err
		}
		_, err = w.Write(append(body, '\n'))
		return err
	})
}

// rawCommit is a line of audit replay --raw.
type rawCommit struct {
	*store.Commit
	Entries []rawEntry `json:"entries"` // instead of the commit's own
}

type rawEntry struct {
	*store.Entry
	Events []jsontext.Value `json:"events"`
}

// printCommit prints a commit whole, if one of its events passes.
func printCommit(w io.Writer, c *store.Commit, f *replayFilter) error {
	out := rawCommit{Commit: c, Entries: make([]rawEntry, len(c.Entries))}
	passes := f.everything()
	if passes {
		f.passed++
	}
	entry := 0
	err := c.Each(func(e *events.CloudEvent) error {
		passes = passes || f.passes(e)
		body, err := e.Structured()
		if err != nil {
			return err
		}
		for len(out.Entries[entry].Events) == len(c.Entries[entry].Events) {
			entry++
		}
		out.Entries[entry].Events = append(out.Entries[entry].Events, body)
		return nil
	})
	if err != nil || !passes {
		return err
	}
	for i := range c.Entries {
		out.Entries[i].Entry = &c.Entries[i]
	}
	return printJSON(w, out)
}

// printJSON prints one line of JSON.
func printJSON(w io.Writer, v any) error {
	body, err := events.Encode(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(body, '\n'))
	return err
}
