package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// maxPastEvents is how many events of an account one question about the past folds. It bounds
// accounts whose events lie many to a commit: of those that lie one to a commit, each read
// from the log in 0.3 to 0.4 ms, the default timeout of 5 s is enough for about 15,000, and
// the longest, a minute, for about 170,000.
const maxPastEvents = 200_000

// Past calls each for every event of an account up to a position that is acknowledged, in
// order, with the event's index in its commit. Commits are checked; they are shared.
type Past func(ctx context.Context, account string, to events.Position, each func(c *store.Commit, index int) error) error

// moment is the part of a query's body that asks for the past: the state after an event
// (after a whole commit where the position has no index), or after the last commit that is
// not later than a time. Empty: now.
type moment struct {
	AtPosition string      `json:"at_position"`
	AtTime     events.Time `json:"at_time"`
}

// asked says whether the past is meant.
func (m *moment) asked() bool { return m.AtPosition != "" || m.AtTime != 0 }

// past makes a QueryFunc that also answers from the past, of one that answers from now.
// The views of that moment are made for the question alone, of the account's own events:
// the answer is what a replay of the log up to there would give.
func past[Body any](v *Views, now QueryFunc, answer func(v *Views, account string, body *Body) (any, *events.Error), when func(*Body) *moment) QueryFunc {
	return func(ctx context.Context, q *Query) (Answer, *events.Error) {
		var body Body
		if err := events.DecodeStrict(q.Body, &body); err != nil {
			return Answer{}, err
		}
		m := when(&body)
		if !m.asked() {
			return now(ctx, q)
		}
		if err := v.unknown(q.Account); err != nil {
			return Answer{}, err
		}
		if err := store.TurnOf(ctx).Read(ctx); err != nil {
			return Answer{}, err
		}
		at, err := v.at(ctx, m)
		if err != nil {
			return Answer{}, err
		}
		then, err := v.then(ctx, q.Account, at)
		if err != nil {
			return Answer{}, err
		}
		result, err := answer(then, q.Account, &body)
		if err != nil {
			if err.Code == events.NotFound { // not yet: it may be there now
				err.Message += " at " + at.Position.String()
			}
			return Answer{}, err
		}
		return Answer{Result: result, Position: at.Position}, nil
	}
}

// unknown is the refusal where the log has no such account, so that nobody takes a turn to read
// for it. Where the views are behind the log, that cannot be told.
func (v *Views) unknown(account string) *events.Error {
	applied, end := v.Applied(), v.tail.End()
	if _, err := v.Known(account); err != nil && err.Code == events.NotFound && applied.Sequence >= end.Sequence {
		return err
	}
	return nil
}

// pastPlace is a position in the log and the commit it is in.
type pastPlace struct {
	events.Position
	commit *store.Commit // nil before the first
}

// at finds what a moment means.
func (v *Views) at(ctx context.Context, m *moment) (pastPlace, *events.Error) {
	end := v.tail.End()
	if m.AtTime != 0 {
		if m.AtPosition != "" {
			return pastPlace{}, events.Errorf(events.InvalidArgument, "give at_position or at_time, not both")
		}
		return v.atTime(ctx, m.AtTime, end)
	}
	p, err := events.ParsePosition(m.AtPosition)
	if err != nil || p.Partition != end.Partition || p.Sequence == 0 {
		return pastPlace{}, events.Errorf(events.InvalidArgument, "at_position must be a position such as 0:42.0, or 0:42 for a whole commit")
	}
	if p.Sequence > end.Sequence {
		last := end.Position()
		return pastPlace{}, events.Errorf(events.InvalidArgument, "at_position %s is beyond the log's end %s", p, last).With("end", last.String())
	}
	c, err := v.tail.Asked(ctx, p.Sequence, "")
	if err != nil {
		return pastPlace{}, v.pastFailed(ctx, err)
	}
	if n := c.EventCount(); p.Index != events.NoIndex && p.Index >= n {
		return pastPlace{}, events.Errorf(events.InvalidArgument, "at_position %s: the commit has %d events", p, n)
	}
	return pastPlace{p, c}, nil
}

// atTime finds the last commit that is not later.
func (v *Views) atTime(ctx context.Context, limit events.Time, end store.Chain) (pastPlace, *events.Error) {
	sequence, c, err := store.Until(end.Sequence, limit, func(sequence uint64) (*store.Commit, error) {
		return v.tail.Asked(ctx, sequence, "")
	})
	if err != nil {
		return pastPlace{}, v.pastFailed(ctx, err)
	}
	return pastPlace{events.Position{Partition: end.Partition, Sequence: sequence, Index: events.NoIndex}, c}, nil
}

// then makes the views of an account as they were.
func (v *Views) then(ctx context.Context, account string, at pastPlace) (*Views, *events.Error) {
	then := &Views{accounts: newAccounts(), keys: newKeys(), balances: newBalances()}
	then.Runner = &Runner{applied: store.Chain{Partition: at.Partition}}
	if at.commit == nil {
		return then, nil
	}
	then.applied = store.ChainAt(at.commit)
	folds := [...]Projection{then.accounts, then.keys, then.balances}
	count := 0
	err := v.Past(ctx, account, at.Position, func(c *store.Commit, index int) error {
		if count++; count > maxPastEvents {
			return errPastTooLong
		}
		e := c.Event(index)
		for _, p := range folds {
			if err := p.Apply(c, index, e); err != nil {
				return fmt.Errorf("fold %d:%d.%d into %s: %w", c.Partition, c.Sequence, index, p.Name(), err)
			}
		}
		return nil
	})
	if errors.Is(err, errPastTooLong) {
		return nil, events.Errorf(events.LimitExceeded,
			"account %s has more than %d events up to there, too many for one question: keyledger audit replay --account %s --to-position %s has them all",
			account, maxPastEvents, account, at.Position).With("limit", maxPastEvents)
	}
	if err != nil {
		return nil, v.pastFailed(ctx, err)
	}
	return then, nil
}

var errPastTooLong = errors.New("too many events")

// pastFailed is the answer where the past could not be read.
func (v *Views) pastFailed(ctx context.Context, err error) *events.Error {
	var refused *events.Error
	if errors.As(err, &refused) {
		return refused
	}
	if ctx.Err() != nil {
		return events.Errorf(events.Unavailable, "the past was not read in time; try again with a longer %s", store.HeaderTimeout)
	}
	v.log.Error("cannot read the past", "error", err)
	return events.Errorf(events.Unavailable, "the log could not be read: %v", err)
}
