package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

// ErrHashes means that the file of hashes is not what was written to it. The tree is made
// again.
var ErrHashes = errors.New("the file of the Merkle tree's hashes is damaged")

// signTimely signs what is new each minute, and earlier where somebody waits for it.
func (c *Checkpoints) signTimely(ctx context.Context) error {
	minute := c.after(signEvery)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.broken:
			return c.distrust(ErrHashes)
		case <-c.kick:
		case <-minute:
			minute = c.after(signEvery)
		}
		if err := c.sign(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.after(signPause):
		}
	}
}

// signLast signs what is new at a stop, up to the acknowledged end.
func (c *Checkpoints) signLast() error {
	ctx, cancel := context.WithTimeout(context.Background(), signStop)
	defer cancel()
	end := c.cfg.Tail.End()
	c.mu.Lock()
	from, placed := c.chain, c.placed
	c.mu.Unlock()
	if end.Sequence == 0 {
		return nil // the writer never took the partition over
	}
	if !placed {
		var err error
		if from, err = c.place(ctx); err != nil {
			return err
		}
	}
	if from.Sequence < end.Sequence {
		err := c.cfg.Tail.Follow(ctx, from, func(commit *store.Commit) error {
			if err := c.add(commit); err != nil {
				return err
			}
			if commit.Sequence == end.Sequence {
				return errReached
			}
			return nil
		})
		if !errors.Is(err, errReached) {
			return errors.Join(err, ctx.Err())
		}
	}
	return c.sign(ctx)
}

// sign signs and stores a checkpoint of the tree as it is, if it is beyond the newest.
func (c *Checkpoints) sign(ctx context.Context) error {
	c.mu.Lock()
	chain, newest := c.chain, c.newest
	_, root := c.tree.Head()
	c.mu.Unlock()
	if chain.Sequence == 0 || newest != nil && newest.Size >= chain.Sequence {
		return nil
	}
	next := &signed{Checkpoint: proof.NewCheckpoint(c.cfg.Key.Verifier().Name(), &chain, root)}
	if err := c.checkConsistent(newest, next); err != nil {
		return err
	}
	// If we stop here: nothing was signed, and hashes behind the newest signed size may be
	// lost or half written. The next start cuts them off and makes them again.
	if err := errors.Join(c.step("checked"), c.tree.Sync()); err != nil {
		return err
	}
	// If we stop here: the file has more than what is signed. It is cut off, likewise.
	var err error
	if next.note, err = c.cfg.Key.Sign(next.Checkpoint); err != nil {
		return err
	}
	// If we stop here: a signature that nobody has seen. The next one is of this tree too, or
	// of one that begins with it, for all of it was acknowledged.
	if err := c.step("signed"); err != nil {
		return err
	}
	if err := c.store(ctx, newest, next); err != nil {
		return err
	}
	// If we stop here: it is stored, and those who listen have it. The next start reads it,
	// and so does this one where storing was reported as failed.
	if err := c.step("stored"); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(next)
	return nil
}

// checkConsistent makes sure by a proof that the next checkpoint's tree begins with the
// newest one's. That both ends of the proof come out right also shows that the file has
// what was written. The root comes from memory: a damaged file gets none signed.
func (c *Checkpoints) checkConsistent(newest, next *signed) error {
	if newest == nil {
		return nil
	}
	hashes, err := c.tree.Consistency(next.Size, newest.Size)
	if err != nil {
		return c.distrust(err)
	}
	if err := proof.CheckConsistency(hashes, newest.Checkpoint, next.Checkpoint); err != nil {
		return c.distrust(fmt.Errorf("%w: %w", ErrHashes, err))
	}
	return nil
}

// distrust has the tree made again from the log, which then says whether the file or a
// signature was wrong.
func (c *Checkpoints) distrust(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remake = true
	return err
}

// store stores a checkpoint behind the newest (Nats-Expected-Last-Sequence, ADR-22). After
// an error it may be stored or not: whoever goes on reads the newest again.
func (c *Checkpoints) store(ctx context.Context, newest, next *signed) error {
	ctx, cancel := context.WithTimeout(ctx, storeWithin)
	defer cancel()
	last := uint64(0)
	if newest != nil {
		last = newest.sequence
	}
	msg := &nats.Msg{Subject: store.SubjectCheckpoints(c.cfg.Partition), Data: next.note}
	ack, err := c.cfg.JS.PublishMsg(ctx, msg, jetstream.WithExpectLastSequence(last), jetstream.WithRetryAttempts(0))
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.placed = false
		return fmt.Errorf("store the checkpoint at %s: %w", next.Position(), err)
	}
	next.sequence = ack.Sequence
	return nil
}

// Signed is a checkpoint with its signature.
type Signed struct {
	Checkpoint *proof.Checkpoint
	Note       []byte // the signed note
}

// Newest returns the newest checkpoint that has at least so many commits, and has one
// signed if that is still to be done. It returns ctx's error where that takes too long.
func (c *Checkpoints) Newest(ctx context.Context, commits uint64) (Signed, error) {
	for {
		c.mu.Lock()
		newest, moved := c.newest, c.moved
		if newest == nil || newest.Size < commits {
			c.wanted = max(c.wanted, commits)
			c.nudge()
		}
		c.mu.Unlock()
		if newest != nil && newest.Size >= commits {
			return Signed{newest.Checkpoint, newest.note}, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return Signed{}, ctx.Err()
		}
	}
}

// Prove proves that a commit, which must be acknowledged, is in the log, with the newest
// checkpoint. Every proof is checked here first.
func (c *Checkpoints) Prove(ctx context.Context, sequence uint64) (*proof.Inclusion, error) {
	newest, err := c.Newest(ctx, sequence)
	if err != nil {
		return nil, err
	}
	// What is wrong with the commit itself is said here; below it is the hashes.
	if _, err := commitAt(ctx, c.cfg.Tail, c.cfg.Partition, sequence); err != nil {
		return nil, err
	}
	p := &proof.Inclusion{Index: sequence - 1, Signed: newest.Note}
	if p.Commit, err = c.cfg.Tail.Log().Get(ctx, sequence); err != nil {
		return nil, err
	}
	if p.Hashes, err = c.tree.Inclusion(newest.Checkpoint.Size, p.Index); err != nil {
		return nil, err
	}
	if _, _, err := p.Check(c.cfg.Key.Verifier()); err != nil {
		return nil, c.breakOff(err)
	}
	return p, nil
}

// ErrOtherTree means that a checkpoint is signed by the ledger's key and is not of its
// log: somebody was shown another one.
var ErrOtherTree = errors.New("the key signed it, and it is not of this log")

// ProveConsistent proves that the log of newer begins with that of old. Both are signed
// checkpoints. It is ErrOtherTree where one of them is not of this log.
func (c *Checkpoints) ProveConsistent(old, newer Signed) (*proof.Consistency, error) {
	size := newer.Checkpoint.Size
	for _, s := range []Signed{old, newer} {
		root, err := c.tree.RootAt(s.Checkpoint.Size)
		if err != nil {
			return nil, err
		}
		if root == s.Checkpoint.Root {
			continue
		}
		// The file's own root there, if the newest signed tree begins with it, is the log's.
		c.mu.Lock()
		newest, ours := c.newest, *s.Checkpoint
		c.mu.Unlock()
		ours.Root = root
		hashes, err := c.tree.Consistency(newest.Size, ours.Size)
		if err != nil {
			return nil, err
		}
		ours.Time, ours.Epoch, ours.Hash = newest.Time, newest.Epoch, newest.Hash
		if err := proof.CheckConsistency(hashes, &ours, newest.Checkpoint); err != nil {
			return nil, c.breakOff(err)
		}
		return nil, fmt.Errorf("%w: the checkpoint at %s has the root %s, the log there %s", ErrOtherTree, s.Checkpoint.Position(), s.Checkpoint.Root, root)
	}
	p := &proof.Consistency{Old: old.Note, New: newer.Note}
	var err error
	if p.Hashes, err = c.tree.Consistency(size, old.Checkpoint.Size); err != nil {
		return nil, err
	}
	if _, _, err := p.Check(c.cfg.Key.Verifier()); err != nil {
		return nil, c.breakOff(err)
	}
	return p, nil
}

// breakOff has the tree made again: a proof from its file does not hold.
func (c *Checkpoints) breakOff(err error) error {
	select {
	case c.broken <- struct{}{}:
	default:
	}
	return fmt.Errorf("%w: %w", ErrHashes, err)
}

// CheckpointStatus is how the signing of checkpoints is.
type CheckpointStatus struct {
	Key      string      `json:"key"`      // the public key, to be published
	Position string      `json:"position"` // up to which the log is signed
	Root     string      `json:"root"`
	Time     events.Time `json:"time"`
	Commits  uint64      `json:"commits"` // in the tree: fewer than are signed while it is made again
	Failure  string      `json:"failure,omitempty"`
}

// Status returns it.
func (c *Checkpoints) Status() CheckpointStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := CheckpointStatus{Key: c.cfg.Key.Public(), Commits: c.chain.Sequence, Failure: c.failure}
	if c.newest != nil {
		out.Position, out.Root, out.Time = c.newest.Position().String(), c.newest.Root.String(), c.newest.Time
	}
	return out
}
