package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
)

const (
	// signEvery is how long something new waits at most to be signed.
	signEvery = time.Minute
	// signPause is the least time between two signatures: a proof that needs a new one
	// waits that long at most.
	signPause = time.Second
	// signStop bounds the last signature, at a stop.
	signStop = 5 * time.Second
	// storeWithin bounds the storing of one.
	storeWithin = 10 * time.Second
)

// CheckpointsConfig is what Checkpoints work with. All members are required.
type CheckpointsConfig struct {
	JS        jetstream.JetStream
	Tail      *store.Tail
	Partition uint32
	// Stream is the stream of checkpoints, to make it again where it is gone.
	Stream jetstream.StreamConfig
	Key    *proof.Key
	// Path is the file of the tree's hashes.
	Path   string
	Logger *slog.Logger
}

// Checkpoints keep the Merkle tree of the log and sign it: within a minute where there is
// something new, when a proof needs it, and at a stop. What is signed was acknowledged, so
// it can never go; it is a witness, which the log must reach with the same hash at every
// start. Each is stored before anybody learns of it here, and is consistent with the one
// before it, which is looked at in the stream and checked by a proof: the key never signs
// two trees of which one is not the beginning of the other.
type Checkpoints struct {
	cfg   CheckpointsConfig
	tree  *proof.Tree
	after func(time.Duration) <-chan time.Time
	// step, in tests, is told of each step of a signature and can end it there.
	step func(string) error

	kick   chan struct{} // somebody waits for a signature that can be given
	broken chan struct{} // the file of hashes is not what was written

	mu      sync.Mutex  // guards all below
	chain   store.Chain // the newest commit of the tree
	newest  *signed     // nil: none
	moved   chan struct{}
	wanted  uint64 // commits that somebody waits to see signed
	placed  bool   // the tree goes on from the newest checkpoint, and nothing failed since
	remake  bool   // the tree is to be made again from the log
	failure string
}

// signed is a checkpoint as it is stored.
type signed struct {
	*proof.Checkpoint
	note     []byte
	sequence uint64 // in the stream
}

// NewCheckpoints opens the file of hashes. Run works it; Close closes it.
func NewCheckpoints(cfg CheckpointsConfig) (*Checkpoints, error) {
	tree, err := proof.OpenTree(cfg.Path)
	if err != nil {
		return nil, err
	}
	return &Checkpoints{
		cfg: cfg, tree: tree, after: time.After, step: func(string) error { return nil },
		kick: make(chan struct{}, 1), broken: make(chan struct{}, 1),
		chain: store.Chain{Partition: cfg.Partition}, moved: make(chan struct{}),
	}, nil
}

// Close closes the file, after Run.
func (c *Checkpoints) Close() error { return c.tree.Close() }

// Run follows the log and signs until ctx ends; then it signs what is new and returns nil.
// It returns a *store.DamageError where the log is not what was written, and ErrLoss where
// it is not what was signed. After any other trouble it begins again from what is stored.
func (c *Checkpoints) Run(ctx context.Context) error {
	err := persist(ctx, c.cfg.Logger.With("stream", c.cfg.Stream.Name), func(ctx context.Context) error {
		err := c.follow(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			c.failure = err.Error()
		}
		return err
	}, func() uint64 { size, _ := c.tree.Head(); return size })
	if err != nil {
		return fmt.Errorf("sign checkpoints: %w", err)
	}
	if err := c.signLast(); err != nil {
		c.cfg.Logger.Warn("what is new was not signed at the stop; the next start does it", "error", err)
	}
	return nil
}

// follow keeps tree and signatures up with the log until something fails or ctx ends.
func (c *Checkpoints) follow(ctx context.Context) error {
	if err := awaitLog(ctx, c.cfg.Tail, c.cfg.Partition); err != nil {
		return err
	}
	from, err := c.place(ctx)
	if err != nil {
		return err
	}
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := c.cfg.Tail.Follow(both, from, c.add); err != nil {
			return err
		}
		return both.Err() // Follow ended because that did
	})
	group.Go(func() error { return c.signTimely(both) })
	group.Go(func() error { return guardStream(both, c.cfg.JS, c.cfg.Stream.Name, c.after) })
	err = group.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.placed = c.placed && ctx.Err() != nil && errors.Is(err, context.Canceled)
	return err
}

// place reads the newest checkpoint, compares it with the log, and takes over the tree
// that it signs, or begins a new one. It returns where the log is followed from.
func (c *Checkpoints) place(ctx context.Context) (store.Chain, error) {
	start := store.Chain{Partition: c.cfg.Partition}
	if err := store.CreateStreams(ctx, c.cfg.JS, []jetstream.StreamConfig{c.cfg.Stream}); err != nil {
		return start, err
	}
	newest, err := loadNewest(ctx, c.cfg.JS, c.cfg.Partition, c.cfg.Key.Verifier())
	if err != nil {
		return start, err
	}
	c.mu.Lock()
	remake := c.remake
	c.mu.Unlock()
	from := start
	if newest != nil {
		if from, err = c.checkSigned(ctx, newest); err != nil {
			return start, err
		}
		// If we stop in here: the file has the signed tree, or the next start makes it again.
		whole := false
		if !remake {
			if whole, err = c.tree.Adopt(newest.Size, newest.Root); err != nil {
				return start, err
			}
		}
		if !whole {
			c.cfg.Logger.Warn("the file of the Merkle tree's hashes is missing or does not have the signed root; making it again from the log", "file", c.cfg.Path, "to", newest.Position().String())
		}
		remake = !whole
	}
	if newest == nil || remake {
		from = start
		select { // whoever found the file damaged has what he wanted
		case <-c.broken:
		default:
		}
		if err := c.tree.Reset(); err != nil {
			return start, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chain, c.remake, c.placed = from, false, true
	c.settle(newest)
	return from, nil
}

// settle notes the newest checkpoint that is stored. c.mu is held.
func (c *Checkpoints) settle(newest *signed) {
	c.newest, c.failure = newest, ""
	close(c.moved)
	c.moved = make(chan struct{})
}

// checkSigned compares a checkpoint with the log and returns the chain at its end.
func (c *Checkpoints) checkSigned(ctx context.Context, s *signed) (store.Chain, error) {
	end := c.cfg.Tail.End()
	if s.Size > end.Sequence {
		return end, fmt.Errorf("%w: the signed checkpoint %d in %s is of %s, the log ends at %d; restore the newest intact copy of the data directory",
			ErrLoss, s.sequence, c.cfg.Stream.Name, s.Position(), end.Sequence)
	}
	commit, err := commitAt(ctx, c.cfg.Tail, c.cfg.Partition, s.Size)
	if err != nil {
		return end, err
	}
	if commit.Hash != s.Hash {
		return end, c.otherLog(s, "hash "+s.Hash.String(), "hash "+commit.Hash.String())
	}
	return store.ChainAt(commit), nil
}

// otherLog is a checkpoint that the log does not contain.
func (c *Checkpoints) otherLog(s *signed, saw, holds string) error {
	return fmt.Errorf("%w: the signed checkpoint %d in %s saw %s with %s, the log gives %s; restore the newest intact copy of the data directory",
		ErrLoss, s.sequence, c.cfg.Stream.Name, s.Position(), saw, holds)
}

// add puts the next acknowledged commit into the tree.
func (c *Checkpoints) add(commit *store.Commit) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.tree.Append(commit.Hash); err != nil {
		return err
	}
	c.chain = store.ChainAt(commit)
	if c.newest != nil && c.newest.Size == commit.Sequence { // the tree was made again
		if _, root := c.tree.Head(); root != c.newest.Root {
			return c.otherLog(c.newest, "root "+c.newest.Root.String(), "root "+root.String())
		}
		// If we stop before this is done: the next start makes it again.
		if err := c.tree.Sync(); err != nil {
			return err
		}
		c.cfg.Logger.Info("the Merkle tree is whole again", "position", c.newest.Position().String())
	}
	c.nudge()
	return nil
}

// nudge asks for a signature if somebody waits for one that can be given. c.mu is held.
func (c *Checkpoints) nudge() {
	if c.chain.Sequence < c.wanted || c.wanted == 0 || c.newest != nil && c.newest.Size >= c.wanted {
		return
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// loadNewest reads and verifies the newest stored checkpoint; nil where there is none.
func loadNewest(ctx context.Context, js jetstream.JetStream, partition uint32, v note.Verifier) (*signed, error) {
	name := store.StreamCheckpoints(partition)
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", name, err)
	}
	last := stream.CachedInfo().State.LastSeq
	if last == 0 {
		return nil, nil
	}
	msg, err := stream.GetMsg(ctx, last)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("the newest signed checkpoint %w: message %d of stream %s was deleted%s", store.ErrDamagedWitness, last, name, checkpointAdvice)
	}
	if err != nil {
		return nil, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	c, err := OpenStored(msg.Data, v)
	if err != nil {
		return nil, fmt.Errorf("the newest signed checkpoint %w: message %d of stream %s: %w", store.ErrDamagedWitness, last, name, err)
	}
	return &signed{c, msg.Data, last}, nil
}

const checkpointAdvice = "; restore the stream's folder from an intact copy, or, to give up the history of checkpoints, move it away"

// OpenStored verifies a stored checkpoint. The error says what to do.
func OpenStored(signed []byte, v note.Verifier) (*proof.Checkpoint, error) {
	c, err := proof.OpenCheckpoint(signed, v)
	switch {
	case err == nil:
		return c, nil
	case proof.SignedBy(signed, v):
		return nil, fmt.Errorf("%w%s", err, checkpointAdvice)
	}
	return nil, fmt.Errorf("%w; restore checkpoint.key, or, to begin a history of checkpoints under another key, which has to be published, move the stream's folder away", err)
}

// NewestCheckpoint returns the newest stored checkpoint of a partition, nil where there is
// none, and its sequence in the stream. One that does not verify is a
// store.ErrDamagedWitness.
func NewestCheckpoint(ctx context.Context, js jetstream.JetStream, partition uint32, v note.Verifier) (*proof.Checkpoint, uint64, error) {
	s, err := loadNewest(ctx, js, partition, v)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && s == nil {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return s.Checkpoint, s.sequence, nil
}
