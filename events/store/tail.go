package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxTailEvents bounds the commits a Tail keeps: about 100 MiB at the most.
const maxTailEvents = 100_000

// maxTailMarks bounds how many of the commits it no longer keeps a Tail knows the time
// of; tailMark is the least time between two of them at first.
const (
	maxTailMarks = 1024
	tailMark     = 100 * time.Millisecond
)

// askedAtOnce is how many commits are read from the log at once to answer questions:
// whoever decides shares the processor, the disk and nats-server with them.
const askedAtOnce = 2

// Tail is how readers in the writer's process follow the log. It knows the acknowledged
// end, which no reader passes, and keeps the newest commits as the writer made them, so
// that a reader at the head decodes nothing. Older ones are read from the log and
// checked.
type Tail struct {
	log       Log
	partition uint32
	asking    chan struct{} // has room for one more that reads for a question

	mu     sync.Mutex // guards all below
	end    Chain
	recent []*Commit // dense, up to end
	events int       // in recent
	moved  chan struct{}

	clock func() time.Duration // monotonic
	acked []time.Duration      // of each of recent, when it was acknowledged
	marks []mark               // of some before those
	apart time.Duration        // at the least between two marks
}

// mark says when a commit was acknowledged.
type mark struct {
	sequence uint64
	at       time.Duration
}

// NewTail makes a Tail whose acknowledged end is the beginning of the log.
func NewTail(log Log, partition uint32) *Tail {
	began := time.Now()
	t := &Tail{log: log, partition: partition, asking: make(chan struct{}, askedAtOnce), end: Chain{Partition: partition}, moved: make(chan struct{}),
		clock: func() time.Duration { return time.Since(began) }}
	t.forget()
	return t
}

// Reset sets the acknowledged end after a takeover.
func (t *Tail) Reset(end Chain) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end, t.recent, t.events = end, nil, 0
	t.forget()
	t.wake()
}

// Push moves the acknowledged end over a commit. The commit is shared from now on and
// must not change.
func (t *Tail) Push(c *Commit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = ChainAt(c)
	t.recent = append(t.recent, c)
	t.acked = append(t.acked, t.clock())
	t.events += c.EventCount() + 1
	drop := 0
	for t.events > maxTailEvents && drop < len(t.recent)-1 {
		t.events -= t.recent[drop].EventCount() + 1
		t.mark(t.recent[drop].Sequence, t.acked[drop])
		t.recent[drop] = nil
		drop++
	}
	t.recent, t.acked = t.recent[drop:], t.acked[drop:]
	t.wake()
}

// forget forgets when commits were acknowledged: those that there are count from now on.
func (t *Tail) forget() {
	t.acked, t.marks, t.apart = nil, []mark{{0, t.clock()}}, tailMark
}

// mark notes when a commit that is no longer kept was acknowledged, where that is not
// close to the last one that was noted. Where there are too many, every second one goes.
func (t *Tail) mark(sequence uint64, at time.Duration) {
	if at-t.marks[len(t.marks)-1].at < t.apart {
		return
	}
	t.marks = append(t.marks, mark{sequence, at})
	if len(t.marks) < maxTailMarks {
		return
	}
	half := t.marks[:0]
	for i := 0; i < len(t.marks); i += 2 {
		half = append(half, t.marks[i])
	}
	t.marks, t.apart = half, max(tailMark, (at-half[0].at)/time.Duration(len(half)))
}

// Acknowledged returns how long ago a commit was acknowledged, while it is kept in memory.
func (t *Tail) Acknowledged(sequence uint64) (ago time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.recent); n == 0 || sequence < t.recent[0].Sequence || sequence > t.end.Sequence {
		return 0, false
	}
	return t.clock() - t.acked[sequence-t.recent[0].Sequence], true
}

// Waiting returns for how long a reader that has come to sequence has been behind: since
// the next commit was acknowledged, or was found in the log at a start. 0 at the end. Of
// a commit that is no longer in memory the time may be that of one before it: by 100 ms,
// or by a 500th of the time since the start where that is more.
func (t *Tail) Waiting(sequence uint64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := sequence + 1
	switch {
	case next > t.end.Sequence:
		return 0
	case len(t.recent) > 0 && next >= t.recent[0].Sequence:
		return t.clock() - t.acked[next-t.recent[0].Sequence]
	}
	i, found := slices.BinarySearchFunc(t.marks, next, func(m mark, s uint64) int { return cmp.Compare(m.sequence, s) })
	if !found {
		i-- // the first is 0, which is before all
	}
	return t.clock() - t.marks[i].at
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

// Kept returns an acknowledged commit that is in memory, else nil.
func (t *Tail) Kept(sequence uint64) *Commit {
	if sequence == 0 {
		return nil
	}
	c, _, _ := t.next(sequence - 1)
	return c
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
	return t.CommitFor(ctx, sequence, "")
}

// Asked is CommitFor to answer a question: where others are being read it waits.
func (t *Tail) Asked(ctx context.Context, sequence uint64, account string) (*Commit, error) {
	if c := t.Kept(sequence); c != nil {
		return c, nil
	}
	select {
	case t.asking <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-t.asking }()
	return t.CommitFor(ctx, sequence, account)
}

// CommitFor is Commit for one account, as DecodeFor: of the events of others it may have
// neither subject nor data.
func (t *Tail) CommitFor(ctx context.Context, sequence uint64, account string) (*Commit, error) {
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
	if c, err = decode(data, account); err != nil {
		return nil, Undecodable(t.partition, sequence, err)
	}
	if c.Sequence != sequence {
		return nil, place.damaged(sequence, "it was written to follow sequence %d", c.PrevSequence)
	}
	return c, nil
}
