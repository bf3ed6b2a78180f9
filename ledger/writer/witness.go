package writer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyledger/keyledger/events/store"
)

// ErrLoss is what Run and CheckWitnesses return where a witness proves that the log lost
// what it once held.
var ErrLoss = errLoss

// NoteHead writes the head witness in dir, of a log that was written by other means than
// a Writer and is durable.
func NoteHead(dir string, end *store.Chain) error {
	head, err := openHead(filepath.Join(dir, HeadName))
	if err != nil {
		return err
	}
	return errors.Join(head.note(end), head.Close())
}

// CheckWitnesses compares a log that was checked up to end, its last commit, with the
// witnesses and with the head witness in dir, as a takeover does. It writes nothing. It
// returns the names of those that agree, or ErrLoss.
func CheckWitnesses(ctx context.Context, log store.Log, end *store.Chain, dir string, witnesses []Witness) ([]string, error) {
	f, err := os.Open(filepath.Join(dir, HeadName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open the head witness: %w", err)
	default:
		defer f.Close()
		if head, ok := (&headFile{f}).read(); ok {
			witnesses = append(witnesses, head)
		}
	}
	if err := checkReached(witnesses, end); err != nil {
		return nil, err
	}
	var agree []string
	for _, witness := range witnesses {
		agree = append(agree, witness.Name)
		if witness.Hash == nil || witness.Sequence == 0 {
			continue
		}
		data, err := log.Get(ctx, witness.Sequence)
		if err != nil {
			return nil, fmt.Errorf("compare with the %s: %w", witness.Name, err)
		}
		commit, err := store.Decode(data)
		if err != nil {
			return nil, fmt.Errorf("compare with the %s: %w", witness.Name, store.Undecodable(end.Partition, witness.Sequence, err))
		}
		if commit.Sequence != witness.Sequence {
			return nil, fmt.Errorf("compare with the %s: %w", witness.Name, &store.DamageError{
				Partition: end.Partition, Sequence: witness.Sequence, Reason: fmt.Sprintf("it was written to follow sequence %d", commit.PrevSequence)})
		}
		if err := checkHash(witnesses, commit); err != nil {
			return nil, err
		}
	}
	return agree, nil
}
