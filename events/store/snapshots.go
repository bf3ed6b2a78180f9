package store

import (
	"context"
	"hash"
	"slices"
	"strconv"

	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events"
)

// Snapshot describes one snapshot of a partition's state. What is in it is the writer's
// business.
type Snapshot struct {
	ID       string      `json:"id"`       // its name: <partition>-<sequence>-<ULID>
	Sequence uint64      `json:"sequence"` // of the commit that it begins at: the log after that is needed with it
	End      uint64      `json:"end"`      // of the newest commit that it reflects anything of
	EndHash  Hash        `json:"end_hash"` // of that commit: the snapshot is a witness of it
	Accounts int64       `json:"accounts"` // in it
	Bytes    int64       `json:"bytes"`    // of all chunks
	Made     events.Time `json:"made"`     // when it was finished
	TookMS   int64       `json:"took_ms"`  // from its beginning to then

	// Err says why the description of a finished snapshot cannot be trusted; then only ID
	// is set.
	Err error `json:"-"`

	chunks int       // so far, while it is written
	sum    hash.Hash // over their bytes
}

// NewSnapshot returns a snapshot to be written that begins at a sequence.
func NewSnapshot(partition uint32, sequence uint64) Snapshot {
	digits := strconv.FormatUint(sequence, 10)
	for len(digits) < 20 {
		digits = "0" + digits
	}
	return Snapshot{ID: snapshotPrefix(partition) + digits + "-" + ulid.Make().String(), Sequence: sequence}
}

func snapshotPrefix(partition uint32) string { return number(partition) + "-" }

// Snapshots is where the snapshots of a partition's state are kept. ObjectSnapshots and
// MemorySnapshots are its two implementations. Nobody relies on a snapshot: whatever
// happens to one, the log has it all.
type Snapshots interface {
	// List returns the finished snapshots, the one with the highest sequence first, those
	// with Err last.
	List(ctx context.Context) ([]Snapshot, error)
	// Append adds a chunk to a snapshot that is not finished: nobody lists it yet.
	Append(ctx context.Context, s *Snapshot, chunk []byte) error
	// Finish puts a snapshot on the list, with all members that are set by then, in one
	// step.
	Finish(ctx context.Context, s *Snapshot) error
	// Read calls f with each chunk of a finished snapshot, in order. The callee may keep
	// chunks. It does not promise that they are all there or whole.
	Read(ctx context.Context, id string, f func(chunk []byte) error) error
	// Prune deletes all but the one with an id, "" for none, and all that is unfinished.
	Prune(ctx context.Context, keep string) error
}

// sortSnapshots puts a list in the order of List.
func sortSnapshots(list []Snapshot) {
	slices.SortFunc(list, func(a, b Snapshot) int {
		switch {
		case (a.Err == nil) != (b.Err == nil):
			if a.Err == nil {
				return -1
			}
			return 1
		case a.Sequence != b.Sequence:
			if a.Sequence > b.Sequence {
				return -1
			}
			return 1
		case a.ID > b.ID:
			return -1
		}
		return 1
	})
}
