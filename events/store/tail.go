package store

import (
	"context"
	"fmt"
	"sync"
)

// maxTailEvents bounds the commits a Tail keeps: about 100 MiB at the most.
const maxTailEvents = 100_000

// Tail is how readers in the writer's process follow the log. It knows the acknowledged
// end, which no reader passes, and keeps the newest commits as the writer made them, so
// that a reader at the head decodes nothing. Older ones are read from the log and
// checked.
type Tail struct {
	log       Log
	partition uint32

	mu     sync.Mutex // guards all below
	end    Chain
	recent []*Commit // dense, up to end
	events int       // in recent
	moved  chan struct{}
}

// NewTail makes a Tail whose acknowledged end is the beginning of the log.
func NewTail(log Log, partition uint32) *Tail {
	return &Tail{log: log, partition: partition, end: Chain{Partition: partition}, moved: make(chan struct{})}
}

// Reset sets the acknowledged end after a takeover.
func (t *Tail) Reset(end Chain) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end, t.recent, t.events = end, nil, 0
	t.wake()
}

// Push moves the acknowledged end over a commit. The commit is shared from now on and
// must not change.
func (t *Tail) Push(c *Commit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = ChainAt(c)
	t.recent = append(t.recent, c)
	t.events += c.EventCount() + 1
	drop := 0
	for t.events > maxTailEvents && drop < len(t.recent)-1 {
		t.events -= t.recent[drop].EventCount() + 1
		t.recent[drop] = nil
		drop++
	}
	t.recent = t.recent[drop:]
	t.wake()
}

// wake must be called with mu held.
func (t *Tail) wake() {
	close(t.moved)
	t.moved = make(chan struct{})
}

// End returns the acknowledged end.
func (t *Tail) End() Chain {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
}

// Log returns the log behind the tail.
func (t *Tail) Log() Log { return t.log }

// next returns the commit after sequence if it is kept in memory, else nil and the
// acknowledged end. The channel closes when the end moves.
func (t *Tail) next(sequence uint64) (*Commit, uint64, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.recent); n > 0 {
		if first := t.recent[0].Sequence; sequence+1 >= first && sequence < t.end.Sequence {
			return t.recent[sequence+1-first], t.end.Sequence, t.moved
		}
	}
	return nil, t.end.Sequence, t.moved
}

// Follow calls f for each acknowledged commit after from, for ever. It returns nil when
// ctx ends, a *DamageError where the log does not fit, or f's error.
func (t *Tail) Follow(ctx context.Context, from Chain, f func(*Commit) error) error {
	chain := from
	for {
		commit, end, moved := t.next(chain.Sequence)
		var err error
		switch {
		case commit != nil:
			if err = chain.Accept(commit); err == nil {
				err = f(commit)
			}
		case chain.Sequence < end:
			err = ReadChecked(ctx, t.log, &chain, end, f)
		case chain.Sequence > end && end > 0:
			err = fmt.Errorf("follow the log: place %d is beyond its acknowledged end %d", chain.Sequence, end)
		default:
			select {
			case <-ctx.Done():
			case <-moved:
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Commit returns one acknowledged commit, from memory if it is still there, or
// ErrNoMessage. Read from the log, its own hash and its sequence are checked, not what
// came before it.
func (t *Tail) Commit(ctx context.Context, sequence uint64) (*Commit, error) {
	if sequence == 0 {
		return nil, ErrNoMessage
	}
	c, end, _ := t.next(sequence - 1)
	if c != nil {
		return c, nil
	}
	if sequence > end { // perhaps stored already, but nobody was told yet
		return nil, ErrNoMessage
	}
	data, err := t.log.Get(ctx, sequence)
	if err != nil {
		return nil, err
	}
	place := Chain{Partition: t.partition}
	if c, err = Decode(data); err != nil {
		return nil, place.damaged(sequence, "%v", err)
	}
	if c.Sequence != sequence {
		return nil, place.damaged(sequence, "it was written to follow sequence %d", c.PrevSequence)
	}
	return c, nil
}
