package store

import (
	"errors"
	"fmt"

	"github.com/keyledger/keyledger/events"
)

// DamageError says that the log is not what was written. Nothing behind Sequence can be
// trusted, so every reader stops there.
type DamageError struct {
	Partition uint32
	Sequence  uint64
	Reason    string
	Newer     bool // not damaged: a newer keyledger wrote it
}

// Error implements error.
func (e *DamageError) Error() string {
	if e.Newer {
		return fmt.Sprintf("log cannot be read from %d:%d on: %s", e.Partition, e.Sequence, e.Reason)
	}
	return fmt.Sprintf("log damaged at %d:%d: %s; stop here, keep the data directory as it is and restore from an intact copy",
		e.Partition, e.Sequence, e.Reason)
}

// Chain is a place in the log and all that the next commit must agree with. The zero
// Chain of a partition is its beginning. JetStream can skip a corrupt record without
// telling its consumer (nats-server #8632) and cut a block at the first bad checksum, so
// every reader checks density and hashes itself, with this.
type Chain struct {
	Partition uint32
	Sequence  uint64
	Hash      Hash
	Ordinal   uint64 // events up to and with Sequence
	Epoch     uint64
	Time      events.Time
}

// Check decodes the next message and moves the chain over it. A *DamageError leaves the
// chain where it was.
func (c *Chain) Check(sequence uint64, data []byte) (*Commit, error) {
	commit, err := Decode(data)
	return c.follow(sequence, commit, err)
}

// follow is Check of a message that was decoded before, with what came of that.
func (c *Chain) follow(sequence uint64, commit *Commit, err error) (*Commit, error) {
	if sequence != c.Sequence+1 {
		return nil, c.damaged(c.Sequence+1, "message missing: the next one there is has sequence %d", sequence)
	}
	if err != nil {
		return nil, Undecodable(c.Partition, sequence, err)
	}
	if err := c.Accept(commit); err != nil {
		return nil, err
	}
	return commit, nil
}

// Undecodable is Decode's error as one of the log.
func Undecodable(partition uint32, sequence uint64, err error) *DamageError {
	return &DamageError{Partition: partition, Sequence: sequence, Reason: err.Error(), Newer: errors.Is(err, events.ErrNewer)}
}

// Accept moves the chain over an already decoded commit, or says why it does not follow.
func (c *Chain) Accept(commit *Commit) error {
	next := c.Sequence + 1
	switch {
	case commit.Partition != c.Partition:
		return c.damaged(next, "it belongs to partition %d", commit.Partition)
	case commit.PrevSequence != c.Sequence:
		return c.damaged(next, "it was written to follow sequence %d", commit.PrevSequence)
	case commit.PrevHash != c.Hash:
		return c.damaged(next, "it was written to follow another commit (previous hash %s, not %s)", commit.PrevHash, c.Hash)
	case commit.Ordinal != c.Ordinal:
		return c.damaged(next, "it counts %d events before it, not %d", commit.Ordinal, c.Ordinal)
	case commit.Epoch < c.Epoch:
		return c.damaged(next, "its epoch %d is before epoch %d", commit.Epoch, c.Epoch)
	case commit.Time < c.Time:
		return c.damaged(next, "its time %s is before %s", commit.Time, c.Time)
	}
	*c = ChainAt(commit)
	return nil
}

// ChainAt is the chain after a commit that is already trusted.
func ChainAt(commit *Commit) Chain {
	return Chain{
		Partition: commit.Partition,
		Sequence:  commit.Sequence,
		Hash:      commit.Hash,
		Ordinal:   commit.End(),
		Epoch:     commit.Epoch,
		Time:      commit.Time,
	}
}

func (c *Chain) damaged(sequence uint64, format string, args ...any) error {
	return &DamageError{Partition: c.Partition, Sequence: sequence, Reason: fmt.Sprintf(format, args...)}
}

// Position returns the chain's place as a position of a whole commit.
func (c Chain) Position() events.Position {
	return events.Position{Partition: c.Partition, Sequence: c.Sequence, Index: events.NoIndex}
}
