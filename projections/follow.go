package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events/store"
)

// ErrLoss means that a derived stream holds what the log does not: acknowledged commits
// are gone, or the log is another one. Nothing is written any more.
var ErrLoss = errors.New("the log has lost what was derived from it")

// Pause before a follower that lost its footing tries again, doubled up to the most each
// time it gets nowhere.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 10 * time.Second
)

// persist runs follow until ctx ends, then it returns nil. Whatever makes follow return
// is cured by running it again from where its stream really is, except a log that is
// damaged or has lost something: that is returned, and so is errFinished. progress grows
// with what was done.
func persist(ctx context.Context, log *slog.Logger, follow func(context.Context) error, progress func() uint64) error {
	pause := pauseMin
	for {
		before := progress()
		err := follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var damage *store.DamageError
		if errors.As(err, &damage) || errors.Is(err, ErrLoss) || errors.Is(err, errFinished) {
			return err
		}
		if progress() != before {
			pause = pauseMin
		}
		log.Warn("interrupted; finding the place again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseMax)
	}
}

// checkEvery is how often an idle follower looks whether its stream is still there.
const checkEvery = 10 * time.Second

// guardStream returns an error when a stream is gone or was made anew. Whoever writes
// often notices by itself; this is for those that have nothing to write.
func guardStream(ctx context.Context, js jetstream.JetStream, name string, after func(time.Duration) <-chan time.Time) error {
	var made time.Time
	for {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", name, err)
		}
		now := stream.CachedInfo().Created
		if !made.IsZero() && !made.Equal(now) {
			return fmt.Errorf("stream %s was made anew", name)
		}
		made = now
		select {
		case <-after(checkEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errKnown = errors.New("the log's end is known")

// awaitLog returns when the tail knows an acknowledged end, which is when the writer has
// taken the partition over. Before that nobody can say what the log holds.
func awaitLog(ctx context.Context, tail *store.Tail, partition uint32) error {
	if tail.End().Sequence > 0 {
		return nil
	}
	err := tail.Follow(ctx, store.Chain{Partition: partition}, func(*store.Commit) error { return errKnown })
	if err == nil || errors.Is(err, errKnown) {
		return ctx.Err()
	}
	return err
}

// commitAt reads one commit that is known to be in the log. Its own hash is checked, its
// place in the chain is not.
func commitAt(ctx context.Context, tail *store.Tail, partition uint32, sequence uint64) (*store.Commit, error) {
	data, err := tail.Log().Get(ctx, sequence)
	if errors.Is(err, store.ErrNoMessage) {
		return nil, &store.DamageError{Partition: partition, Sequence: sequence, Reason: "message missing"}
	}
	if err != nil {
		return nil, err
	}
	c, err := store.Decode(data)
	if err != nil {
		return nil, store.Undecodable(partition, sequence, err)
	}
	if c.Sequence != sequence || c.Partition != partition {
		return nil, &store.DamageError{Partition: partition, Sequence: sequence,
			Reason: fmt.Sprintf("it was written as %d:%d", c.Partition, c.Sequence)}
	}
	return c, nil
}

// commitOf finds the commit that holds the partition's event with an ordinal, which must
// be before end's, and the chain before that commit.
func commitOf(ctx context.Context, tail *store.Tail, ordinal uint64, end store.Chain) (*store.Commit, store.Chain, error) {
	low, high := uint64(1), end.Sequence
	for low < high {
		middle := low + (high-low)/2
		c, err := commitAt(ctx, tail, end.Partition, middle)
		if err != nil {
			return nil, store.Chain{}, err
		}
		if c.End() > ordinal {
			high = middle
		} else {
			low = middle + 1
		}
	}
	found, err := commitAt(ctx, tail, end.Partition, low)
	if err != nil {
		return nil, store.Chain{}, err
	}
	before := store.Chain{Partition: end.Partition}
	if low > 1 {
		c, err := commitAt(ctx, tail, end.Partition, low-1)
		if err != nil {
			return nil, store.Chain{}, err
		}
		before = store.ChainAt(c)
	}
	if ordinal < found.Ordinal || ordinal >= found.End() {
		return nil, store.Chain{}, &store.DamageError{Partition: end.Partition, Sequence: low,
			Reason: fmt.Sprintf("event %d is in no commit", ordinal)}
	}
	return found, before, nil
}
