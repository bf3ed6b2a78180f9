package store

import (
	"context"
	"errors"
)

// ErrDamagedWitness means that what should prove how far the log once reached is there and
// cannot be read: it is not tried again, for it will not become better by itself.
var ErrDamagedWitness = errors.New("cannot be used")

// Errors of Append. Anything else means that the outcome is unknown: the message may be
// stored, may still come to be stored, or neither.
var (
	// ErrConflict: the log had another last sequence than expected; nothing was stored.
	ErrConflict = errors.New("the log moved: another writer appended")
	// ErrStorageFull: the log is at its byte limit; nothing was stored.
	ErrStorageFull = errors.New("the log is full")
	// ErrNoMessage: there is no message at that sequence.
	ErrNoMessage = errors.New("no message at this sequence")
)

// Log is one partition's stream of messages. JetStream and Memory are its two
// implementations.
type Log interface {
	// Append stores data as the message after sequence expected, durably, and returns
	// the sequence it got. It never sends the same bytes twice.
	Append(ctx context.Context, data []byte, expected uint64) (uint64, error)
	// Last returns the last sequence, 0 for an empty log.
	Last(ctx context.Context) (uint64, error)
	// Get returns one message, or ErrNoMessage.
	Get(ctx context.Context, sequence uint64) ([]byte, error)
	// Read calls f for each message it is given from sequence from to sequence to, both
	// included, in order. It does not promise density: check with a Chain. data is the
	// callee's to keep.
	Read(ctx context.Context, from, to uint64, f func(sequence uint64, data []byte) error) error
}
