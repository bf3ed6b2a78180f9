package store

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// A range of some length is read by two goroutines: one reads, hashes and decodes, the
// other checks the chain and hands the commits on. What is between them is bounded: at most
// batchesAhead+2 batches, each of less than batchBytes and a commit, which is 1.5 MiB as
// stored and about ten times that decoded.
const (
	aheadMin     = 32        // commits in the shortest such range
	batchBytes   = 128 << 10 // a batch is handed over once it has so many bytes as stored
	batchesAhead = 2         // batches that wait
)

// decoded is a message that was read, and the commit in it or why there is none.
type decoded struct {
	sequence uint64
	commit   *Commit
	err      error
}

// ReadChecked reads the commits after chain up to sequence end, checks each, moves chain
// over it and calls f, all in order. A message that should be there and is not is a
// *DamageError too. F never runs beside itself; after its error nothing more is called.
func ReadChecked(ctx context.Context, log Log, chain *Chain, end uint64, f func(*Commit) error) error {
	read := readInTwo
	if end < chain.Sequence+aheadMin {
		read = readInOne
	}
	err := read(ctx, log, chain.Sequence+1, end, func(d *decoded) error {
		commit, err := chain.follow(d.sequence, d.commit, d.err)
		if err != nil {
			return err
		}
		return f(commit)
	})
	if err == nil && ctx.Err() == nil && chain.Sequence < end {
		return chain.damaged(chain.Sequence+1, "message missing: the log goes on to %d", end)
	}
	return err
}

// readInOne reads, decodes and hands on in one goroutine.
func readInOne(ctx context.Context, log Log, from, end uint64, f func(*decoded) error) error {
	return log.Read(ctx, from, end, func(sequence uint64, data []byte) error {
		d := decoded{sequence: sequence}
		d.commit, d.err = Decode(data)
		return f(&d)
	})
}

// readInTwo decodes in a goroutine of its own. It returns once that has ended.
func readInTwo(ctx context.Context, log Log, from, end uint64, f func(*decoded) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	batches := make(chan []decoded, batchesAhead)
	var group errgroup.Group
	group.Go(func() error {
		defer close(batches)
		return decodeRange(ctx, log, from, end, batches)
	})
	for batch := range batches {
		for i := range batch {
			err := ctx.Err()
			if err == nil {
				err = f(&batch[i])
			}
			if err != nil {
				stop()
				_ = group.Wait() // it ends because we do
				return err
			}
		}
	}
	return group.Wait()
}

// errUndecodable ends a range at a message behind which nothing can be trusted.
var errUndecodable = errors.New("a message could not be decoded")

// decodeRange hands on what it reads, in order, up to the first message that cannot be
// decoded, and what it has read before an error too.
func decodeRange(ctx context.Context, log Log, from, end uint64, batches chan<- []decoded) error {
	var batch []decoded
	bytes := 0
	hand := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case batches <- batch:
			batch, bytes = make([]decoded, 0, len(batch)), 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := log.Read(ctx, from, end, func(sequence uint64, data []byte) error {
		commit, err := Decode(data)
		batch = append(batch, decoded{sequence, commit, err})
		if err != nil {
			return errUndecodable
		}
		if bytes += len(data); bytes < batchBytes {
			return nil
		}
		return hand()
	})
	if handed := hand(); err == nil {
		err = handed
	}
	return err
}
