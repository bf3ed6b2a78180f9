package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/writer"
	"github.com/keyledger/keyledger/projections"
)

// ErrLoss is what Run and Verify return where a witness proves that the log lost
// acknowledged commits.
var ErrLoss = writer.ErrLoss

// Verification is what Verify found.
type Verification struct {
	Ledger      string // its id, "" in a directory from before there were any
	End         store.Chain
	Witnesses   []string // that saw the log, and agree with it
	Checkpoints int      // signed, that are of this log
	// TornBytes stand behind the last commit: a write that was cut short. No witness knows
	// of more than that.
	TornBytes int
	// SealKeyMissing: there was no seal key, which no check of the log needs. Whether it is
	// the right one could not be told.
	SealKeyMissing bool
}

// Verify checks the ledger in a data directory on which no server runs: every commit as
// it lies on the disk and with it every signed checkpoint, then whose log it is, what its
// witnesses saw, every event of the feed and every file of the archive, of which those that
// are damaged are removed: they are made again from the log. It does not take the partition
// over and adds nothing to the log, and where a commit is bad it changes nothing at all. It
// calls each for every commit. Of cfg it uses DataDir, SealKey, CheckpointKey and Logger.
//
// What it finds it says in the words in which a start refuses: *store.DamageError,
// ErrLoss and the rest.
func Verify(ctx context.Context, cfg Config, each func(*store.Commit) error) (found *Verification, err error) {
	s := &Server{cfg: cfg.withDefaults()}
	if !(&dataDir{path: s.cfg.DataDir}).hasLog() {
		return nil, fmt.Errorf("verify %s: there is no log in it: %w", s.cfg.DataDir, fs.ErrNotExist)
	}
	if s.dir, err = openDataDir(s.cfg.DataDir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	found = &Verification{End: store.Chain{Partition: partition}}
	blocks, err := store.BlockFiles(s.dir.streamsDir(), store.StreamLog(partition))
	if err != nil {
		return nil, err
	}
	trees := signedTrees{}
	trees.left, trees.err = s.checkpointFiles()
	found.Checkpoints = len(trees.left)
	found.TornBytes, err = store.CheckFiles(blocks, &found.End, func(c *store.Commit) error {
		trees.add(c)
		return each(c)
	})
	if err != nil {
		return nil, err
	}
	if err := s.openStore(); err != nil {
		return nil, err
	}
	found.SealKeyMissing = s.sealer == nil
	if err := s.verifyWitnesses(ctx, found); err != nil {
		return found, err // in the words of a start, which looks at no older checkpoint
	}
	if err := trees.end(&found.End); err != nil {
		return found, err
	}
	return found, s.verifyArchive(ctx)
}

// openStore takes the seal key, if there is one, and starts NATS for nobody else.
func (s *Server) openStore() error {
	_, err := os.Lstat(filepath.Join(s.dir.path, fileSealKey))
	if errors.Is(err, fs.ErrNotExist) && s.cfg.SealKey == "" {
		return s.startAlone("keyledger verify", false)
	}
	sealKey, err := s.dir.sealKey(s.cfg.SealKey)
	if err != nil {
		return err
	}
	if s.sealer, err = events.NewSealer(sealKey[:]); err != nil {
		return err
	}
	return s.startAlone("keyledger verify", false)
}

// startAlone starts NATS for nobody else: on a port and for an operator that nobody knows.
func (s *Server) startAlone(name string, lazySync bool) error {
	nobody, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	defer nobody.Wipe()
	operator, err := nobody.PublicKey()
	if err != nil {
		return err
	}
	s.nats, err = startNATS(natsOptions{
		StoreDir: s.dir.natsDir(), Listen: "127.0.0.1:0", Operator: operator, LazySync: lazySync, Logger: s.cfg.Logger,
	})
	if err != nil {
		return err
	}
	if s.store, err = s.nats.ConnectStore(name); err != nil {
		return err
	}
	s.js, err = jetstream.New(s.store)
	return err
}

// verifyWitnesses compares the log with all that knows of it.
func (s *Server) verifyWitnesses(ctx context.Context, found *Verification) error {
	identity, _, _, err := s.checkIdentity(ctx)
	if err != nil {
		return err
	}
	found.Ledger = identity.Ledger
	if err := s.openCheckpointKey(ctx, false); err != nil {
		return err
	}
	log, err := store.OpenJetStream(ctx, s.js, partition)
	if err != nil {
		return err
	}
	end, err := verifyEnd(ctx, log, found.End)
	if err != nil {
		return err
	}
	list, err := s.witnesses(ctx)
	if err != nil {
		return fmt.Errorf("look up witnesses: %w", err)
	}
	snapshots, err := s.snapshotWitnesses(ctx)
	if err != nil {
		return err
	}
	list = append(list, snapshots...)
	if found.Witnesses, err = writer.CheckWitnesses(ctx, log, &end, s.dir.path, list); err != nil {
		return err
	}
	err = projections.CheckFeed(ctx, s.js, log, partition, end.Sequence)
	if errors.Is(err, jetstream.ErrStreamNotFound) { // it will be made anew
		return nil
	}
	return err
}

// snapshotWitnesses is what the snapshots of the state saw.
func (s *Server) snapshotWitnesses(ctx context.Context) ([]writer.Witness, error) {
	snapshots, err := store.OpenSnapshots(ctx, s.js, partition)
	if errors.Is(err, jetstream.ErrStreamNotFound) { // a ledger from before there were any
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := snapshots.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up snapshots: %w", err)
	}
	return writer.SnapshotWitnesses(list), nil
}

// verifyEnd is the log's end as NATS gives it out, which is what a start would see: that
// of the files unless something is wrong.
func verifyEnd(ctx context.Context, log store.Log, files store.Chain) (store.Chain, error) {
	last, err := log.Last(ctx)
	if err != nil || last == files.Sequence {
		return files, err
	}
	if last > files.Sequence {
		// Nothing is behind the files' end: this says so.
		return files, store.ReadChecked(ctx, log, &files, last, func(*store.Commit) error { return nil })
	}
	end := store.Chain{Partition: partition}
	return end, store.ReadChecked(ctx, log, &end, last, func(*store.Commit) error { return nil })
}

// signedTrees compares signed checkpoints with the log as it is read.
type signedTrees struct {
	edge proof.Edge
	left []storedCheckpoint // as they were stored, so in the order of their size
	err  error              // the first that is wrong
}

// add takes the next commit.
func (t *signedTrees) add(c *store.Commit) {
	t.edge.Append(c.Hash)
	chain := store.ChainAt(c)
	for len(t.left) > 0 && t.left[0].Size == c.Sequence {
		next := t.left[0]
		t.left = t.left[1:]
		if want := proof.NewCheckpoint(next.Origin, &chain, t.edge.Root()); *next.Checkpoint != *want && t.err == nil {
			t.err = fmt.Errorf("%w: signed checkpoint %d saw commit %d:%d with hash %s and root %s, the log gives %s and %s; restore the newest intact copy of the data directory",
				ErrLoss, next.sequence, c.Partition, c.Sequence, next.Hash, next.Root, want.Hash, want.Root)
		}
	}
}

// end returns what is wrong with any of them; the log ends at end.
func (t *signedTrees) end(end *store.Chain) error {
	if t.err != nil || len(t.left) == 0 {
		return t.err
	}
	next := t.left[0]
	return fmt.Errorf("%w: signed checkpoint %d saw commit %s, the log ends at %d or had passed it before; restore the newest intact copy of the data directory",
		ErrLoss, next.sequence, next.Position(), end.Sequence)
}
