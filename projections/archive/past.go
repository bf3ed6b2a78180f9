package archive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

// Past calls each for every event of an account up to a position that is acknowledged, in
// order, with its index in its commit, once the archive has come that far. Commits are
// shared. It returns ctx's error, that of a file or of the log, or each's.
func (a *Archive) Past(ctx context.Context, account string, to events.Position, each func(c *store.Commit, index int) error) error {
	r, err := a.readAt(ctx, account, historyPart, to.Sequence)
	if err != nil {
		return err
	}
	defer r.close()
	entries := func(yield func(Entry, error) bool) { r.history(ctx, Filter{To: to}, yield) }
	return a.readAhead(ctx, account, entries, each)
}

// aheadCommits is how many commits are read ahead of the one that is used.
const aheadCommits = 4

// ahead is a commit that is being read, with the entries in it; done says when that is over.
type ahead struct {
	entries []Entry
	commit  *store.Commit
	err     error
	done    chan struct{}
}

// readAhead calls each for every entry in order, with its commit, and reads the next ones
// meanwhile.
func (a *Archive) readAhead(ctx context.Context, account string, entries iter.Seq2[Entry, error], each func(c *store.Commit, index int) error) error {
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	list := make(chan *ahead, aheadCommits)
	reading.Go(func() {
		defer close(list)
		for one := range byCommit(entries) {
			select {
			case list <- one:
			case <-ctx.Done():
				return
			}
			reading.Go(func() { one.read(ctx, a.cfg.Tail, account) })
		}
	})
	for one := range list {
		<-one.done
		if one.err != nil {
			return one.err
		}
		for i := range one.entries {
			if err := each(one.commit, one.entries[i].Position.Index); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// byCommit gathers the entries of each commit.
func byCommit(entries iter.Seq2[Entry, error]) iter.Seq[*ahead] {
	return func(yield func(*ahead) bool) {
		var one *ahead
		for e, err := range entries {
			if one != nil && err == nil && one.entries[0].Position.Sequence == e.Position.Sequence {
				one.entries = append(one.entries, e)
				continue
			}
			if one != nil && !yield(one) {
				return
			}
			one = &ahead{entries: []Entry{e}, err: err, done: make(chan struct{})}
		}
		if one != nil {
			yield(one)
		}
	}
}

// read reads the commit, where the entries themselves could be read.
func (o *ahead) read(ctx context.Context, tail *store.Tail, account string) {
	defer close(o.done)
	commits := commits{tail: tail, account: account}
	for i := range o.entries {
		if o.err != nil {
			return
		}
		o.commit, o.err = commits.at(ctx, &o.entries[i])
	}
}

// commits reads commits of the log, and keeps the last one: its events often are asked for
// one after the other.
type commits struct {
	tail    *store.Tail
	account string // of which events they are read
	last    *store.Commit
	read    int // how many were
}

// at returns the commit of an entry, which must have an event of its type there.
func (r *commits) at(ctx context.Context, e *Entry) (*store.Commit, error) {
	p := e.Position
	if r.last == nil || r.last.Sequence != p.Sequence {
		c, err := r.tail.Asked(ctx, p.Sequence, r.account)
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
// time.
func (a *Archive) before(ctx context.Context, time events.Time, end uint64) (uint64, error) {
	found, _, err := store.Until(end, time-1, func(sequence uint64) (*store.Commit, error) {
		c, err := a.cfg.Tail.Asked(ctx, sequence, "")
		if err != nil {
			return nil, fmt.Errorf("read commit %d: %w", sequence, err)
		}
		return c, nil
	})
	return found, err
}
