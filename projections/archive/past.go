package archive

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Past calls each for every event of an account up to a position that is acknowledged, in
// order, with its index in its commit, once the archive has come that far. Commits are
// shared. It returns ctx's error, that of a file or of the log, or each's.
func (a *Archive) Past(ctx context.Context, account string, to events.Position, each func(c *store.Commit, index int) error) error {
	if err := a.Wait(ctx, to.Sequence); err != nil {
		return err
	}
	commits := commits{tail: a.cfg.Tail}
	for e, err := range a.History(ctx, account, Filter{To: to}) {
		if err != nil {
			return err
		}
		c, err := commits.at(ctx, &e)
		if err != nil {
			return err
		}
		if err := each(c, e.Position.Index); err != nil {
			return err
		}
	}
	return nil
}

// commits reads commits of the log, and keeps the last one: its events often are asked for
// one after the other.
type commits struct {
	tail *store.Tail
	last *store.Commit
	read int // how many were
}

// at returns the commit of an entry, which must have an event of its type there.
func (r *commits) at(ctx context.Context, e *Entry) (*store.Commit, error) {
	p := e.Position
	if r.last == nil || r.last.Sequence != p.Sequence {
		c, err := r.tail.Commit(ctx, p.Sequence)
		if errors.Is(err, store.ErrNoMessage) {
			err = &store.DamageError{Partition: p.Partition, Sequence: p.Sequence, Reason: "message missing"}
		}
		if err != nil {
			return nil, fmt.Errorf("read commit %d:%d: %w", p.Partition, p.Sequence, err)
		}
		r.last = c
		r.read++
	}
	if p.Index >= r.last.EventCount() || r.last.Event(p.Index).Type != e.Type {
		return nil, fmt.Errorf("there is no %s at %s", e.Type, p)
	}
	return r.last, nil
}

// before returns the sequence of the last commit of the log, up to end, that is before a
// time. Commit time never goes back.
func (a *Archive) before(ctx context.Context, time events.Time, end uint64) (uint64, error) {
	var failed error
	n := sort.Search(int(end), func(i int) bool {
		if failed != nil {
			return true
		}
		c, err := a.cfg.Tail.Commit(ctx, uint64(i)+1)
		if err != nil {
			failed = fmt.Errorf("read commit %d: %w", i+1, err)
			return true
		}
		return c.Time >= time
	})
	return uint64(n), failed
}
