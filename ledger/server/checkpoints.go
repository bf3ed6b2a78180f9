package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/events/store/proof"
	"github.com/keyledger/keyledger/ledger/service"
	"github.com/keyledger/keyledger/ledger/writer"
	"github.com/keyledger/keyledger/projections"
)

const (
	// fileCheckpointKey holds the key that signs checkpoints, mode 0600: an ed25519 seed of
	// 32 bytes, written as base64. Names are stored: for ever.
	fileCheckpointKey = "checkpoint.key"
	// envCheckpointKey is the environment variable that can stand in for it.
	envCheckpointKey = "KEYLEDGER_CHECKPOINT_KEY"
	// dirProof holds fileHashes, the hashes of the Merkle tree. They are derived.
	dirProof   = "proof"
	fileHashes = "hashes"
)

// checkpointSeed is the seed of the key that signs checkpoints, false where there is none.
// fromEnv is the value of KEYLEDGER_CHECKPOINT_KEY, which stands in for the file and is
// never written down. Two different ones are refused.
func (d *dataDir) checkpointSeed(fromEnv string) (seed [proof.SeedBytes]byte, ok bool, err error) {
	path := filepath.Join(d.path, fileCheckpointKey)
	text, err := readSecret(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return seed, false, fmt.Errorf("read checkpoint key: %w", err)
	}
	if !missing {
		if seed, err = parseSealKey(text); err != nil {
			return seed, false, fmt.Errorf("read checkpoint key %s: %w; restore it from its backup", path, err)
		}
	}
	if fromEnv == "" {
		return seed, !missing, nil
	}
	given, err := parseSealKey(fromEnv)
	if err != nil {
		return seed, false, fmt.Errorf("read checkpoint key from %s: %w", envCheckpointKey, err)
	}
	if !missing && given != seed {
		return seed, false, fmt.Errorf("read checkpoint key: %s and %s hold different keys; keep the one whose public key was published", envCheckpointKey, path)
	}
	return given, true, nil
}

// openCheckpointKey reads the key that signs checkpoints. Where there is none, and with
// create, it makes one; where checkpoints are stored already, it does not: nobody who has
// the published key could check the next one. In a restored directory a key is refused that
// may have signed another log.
func (s *Server) openCheckpointKey(ctx context.Context, create bool) error {
	ledger, err := s.dir.ledgerID()
	if err != nil {
		return err
	}
	seed, ok, err := s.dir.checkpointSeed(s.cfg.CheckpointKey)
	if err != nil {
		return err
	}
	if !ok {
		return s.makeCheckpointKey(ctx, ledger, create)
	}
	key, err := proof.NewKey(seed, proof.Origin(ledger, partition))
	if err != nil {
		return err
	}
	restored, err := s.dir.restored()
	if err != nil {
		return err
	}
	if restored != nil && !restored.allows(key) {
		return restored.refused(s.dir, key)
	}
	s.checkpointKey = key
	return nil
}

// makeCheckpointKey makes the key where there is none, if it may.
func (s *Server) makeCheckpointKey(ctx context.Context, ledger string, create bool) error {
	path := filepath.Join(s.dir.path, fileCheckpointKey)
	held, err := s.holdsCheckpoints(ctx)
	switch {
	case err != nil:
		return err
	case held:
		return fmt.Errorf("checkpoint key %s is missing, and %s holds checkpoints signed with it: restore the file from its backup, or give the key in %s; "+
			"to go on under a new key, which has to be published, move the stream's folder in %s away", path, store.StreamCheckpoints(partition), envCheckpointKey, s.dir.streamsDir())
	case !create:
		return nil
	}
	restored, err := s.dir.restored()
	if err != nil {
		return err
	}
	if restored != nil {
		if err := restored.mayMake(s.dir); err != nil {
			return err
		}
	}
	var seed [proof.SeedBytes]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("make checkpoint key: %w", err)
	}
	key, err := proof.NewKey(seed, proof.Origin(ledger, partition))
	if err != nil {
		return err
	}
	if restored != nil {
		restored.Key = key.Public()
		if err := restored.note(s.dir); err != nil {
			return err
		}
	}
	// If we stop before this: no key, and perhaps the note of one that nobody has.
	// If we stop in here: no key, or a whole one that has signed nothing yet.
	if err := writeSecret(path, base64.StdEncoding.EncodeToString(seed[:])); err != nil {
		return fmt.Errorf("make checkpoint key: %w", err)
	}
	s.cfg.Logger.Info("made a new key that signs checkpoints: publish its public key, and back the file up", "public", key.Public(), "file", path)
	s.checkpointKey = key
	return nil
}

// holdsCheckpoints reports whether a checkpoint was ever stored.
func (s *Server) holdsCheckpoints(ctx context.Context) (bool, error) {
	stream, err := s.js.Stream(ctx, store.StreamCheckpoints(partition))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up checkpoints: %w", err)
	}
	return stream.CachedInfo().State.LastSeq > 0, nil
}

// openCheckpoints makes what signs.
func (s *Server) openCheckpoints(streams []jetstream.StreamConfig) error {
	conn, err := s.connectPart("keyledger checkpoints")
	if err != nil {
		return err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	s.parts.checkpoints, err = projections.NewCheckpoints(projections.CheckpointsConfig{
		JS: js, Tail: s.tail, Partition: partition, Logger: s.cfg.Logger, Key: s.checkpointKey,
		Stream: named(streams, store.StreamCheckpoints(partition))[0],
		Path:   filepath.Join(s.dir.path, dirProof, fileHashes),
	})
	return err
}

// checkpointWitness is what the newest signed checkpoint saw. That its root is the log's
// follows from the hash of its newest commit, unless the key signed something else: who
// makes the tree again finds that out.
func (s *Server) checkpointWitness(ctx context.Context) ([]writer.Witness, error) {
	if s.checkpointKey == nil { // nothing is signed yet
		return nil, nil
	}
	c, n, err := projections.NewestCheckpoint(ctx, s.js, partition, s.checkpointKey.Verifier())
	if c == nil || err != nil {
		return nil, err
	}
	return []writer.Witness{{Name: fmt.Sprintf("signed checkpoint %d", n), Sequence: c.Size, Hash: &c.Hash}}, nil
}

// storedCheckpoint is a signed checkpoint as it lies on the disk.
type storedCheckpoint struct {
	*proof.Checkpoint
	sequence uint64 // in its stream
}

// checkpointFiles reads and verifies all stored checkpoints, in the order of their size,
// from the files of their stream. NATS must not run on them.
func (s *Server) checkpointFiles() ([]storedCheckpoint, error) {
	name := store.StreamCheckpoints(partition)
	blocks, err := store.BlockFiles(s.dir.streamsDir(), name)
	if err != nil {
		return nil, err
	}
	seed, ok, err := s.dir.checkpointSeed(s.cfg.CheckpointKey)
	if !ok || err != nil {
		return nil, err // without a key: openCheckpointKey says what that means
	}
	ledger, err := s.dir.ledgerID()
	if ledger == "" || err != nil {
		return nil, err // from before there were ids, and checkpoints
	}
	key, err := proof.NewKey(seed, proof.Origin(ledger, partition))
	if err != nil {
		return nil, err
	}
	var list []storedCheckpoint
	err = store.ReadRecords(blocks, func(sequence uint64, data []byte) error {
		c, err := projections.OpenStored(data, key.Verifier())
		if err != nil {
			return fmt.Errorf("message %d of stream %s %w: %w", sequence, name, store.ErrDamagedWitness, err)
		}
		list = append(list, storedCheckpoint{c, sequence})
		return nil
	})
	return list, err
}

// checkpointQueries are what can be asked of checkpoints; all are the ledger's own.
func (s *Server) checkpointQueries() map[string]service.QueryFunc {
	return map[string]service.QueryFunc{
		"checkpoint.get":    s.getCheckpoint,
		"checkpoint.newest": s.lastCheckpoint,
		"proof.get":         s.getProof,
		"proof.consistency": s.getConsistency,
	}
}

// SignedCheckpoint answers checkpoint.get with a checkpoint of all that was acknowledged when
// it was asked for, signed for the purpose if need be; and checkpoint.newest with the newest
// that is signed already.
type SignedCheckpoint struct {
	Checkpoint *proof.Checkpoint `json:"checkpoint"`
	Signed     string            `json:"signed"` // the note
	Key        string            `json:"key"`    // the public key
}

// ProofFile answers proof.get and proof.consistency.
type ProofFile struct {
	Position string `json:"position"` // up to which the log is signed in it
	Proof    string `json:"proof"`    // the file
	Key      string `json:"key"`      // the public key
}

func (s *Server) getCheckpoint(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	if err := decodeOwn(account, "checkpoint.get", body, &struct{}{}); err != nil {
		return nil, events.Position{}, err
	}
	return s.signed(ctx, s.tail.End().Sequence)
}

// lastCheckpoint has nothing signed but the very first, so that whoever may ask nothing else
// may ask this.
func (s *Server) lastCheckpoint(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	if err := decodeOwn(account, "checkpoint.newest", body, &struct{}{}); err != nil {
		return nil, events.Position{}, err
	}
	return s.signed(ctx, 1)
}

// signed answers with a checkpoint of so many commits or more.
func (s *Server) signed(ctx context.Context, size uint64) (any, events.Position, *events.Error) {
	newest, refused := s.newest(ctx, size)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	return &SignedCheckpoint{newest.Checkpoint, string(newest.Note), s.checkpointKey.Public()}, newest.Checkpoint.Position(), nil
}

func (s *Server) getProof(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	var ask struct {
		Position string `json:"position"`
	}
	if err := decodeOwn(account, "proof.get", body, &ask); err != nil {
		return nil, events.Position{}, err
	}
	at, err := events.ParsePosition(ask.Position)
	if err != nil || at.Partition != partition || at.Sequence == 0 {
		return nil, events.Position{}, events.Errorf(events.InvalidArgument, "position must be that of a commit or event of partition %d, such as 0:42 or 0:42.0", partition)
	}
	if end := s.tail.End(); at.Sequence > end.Sequence {
		return nil, events.Position{}, events.Errorf(events.NotFound, "there is no %s yet: the log ends at %s", at, end.Position())
	}
	if _, refused := s.newest(ctx, at.Sequence); refused != nil {
		return nil, events.Position{}, refused
	}
	if refused := store.TurnOf(ctx).Read(ctx); refused != nil {
		return nil, events.Position{}, refused
	}
	p, err := s.parts.checkpoints.Prove(ctx, at.Sequence)
	if err != nil {
		return nil, events.Position{}, s.unproved(err)
	}
	commit, decodeErr := store.Decode(p.Commit)
	if decodeErr != nil {
		return nil, events.Position{}, s.unproved(decodeErr)
	}
	if at.Index != events.NoIndex && at.Index >= commit.EventCount() {
		whole := events.Position{Partition: partition, Sequence: at.Sequence, Index: events.NoIndex}
		return nil, events.Position{}, events.Errorf(events.NotFound, "there is no %s: commit %s has %s", at, whole, commit.CountInWords())
	}
	return s.proofFile(p.Signed, p.Encode())
}

func (s *Server) getConsistency(ctx context.Context, account string, body []byte) (any, events.Position, *events.Error) {
	var ask struct {
		Old string `json:"old"` // a signed checkpoint
		New string `json:"new"` // a later one; "": of all that is acknowledged
	}
	if err := decodeOwn(account, "proof.consistency", body, &ask); err != nil {
		return nil, events.Position{}, err
	}
	old, refused := s.openSigned("old", ask.Old)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	newer, refused := old, refused
	if ask.New != "" {
		if newer, refused = s.openSigned("new", ask.New); refused != nil {
			return nil, events.Position{}, refused
		}
		if newer.Checkpoint.Size < old.Checkpoint.Size {
			return nil, events.Position{}, events.Errorf(events.InvalidArgument, "new is of %s, before old, which is of %s: give them the other way round", newer.Checkpoint.Position(), old.Checkpoint.Position())
		}
	}
	size := newer.Checkpoint.Size
	if ask.New == "" {
		size = s.tail.End().Sequence
	}
	newest, refused := s.newest(ctx, size)
	if refused != nil {
		return nil, events.Position{}, refused
	}
	if ask.New == "" {
		newer = newest
	}
	if refused := store.TurnOf(ctx).Read(ctx); refused != nil {
		return nil, events.Position{}, refused
	}
	p, err := s.parts.checkpoints.ProveConsistent(old, newer)
	if err != nil {
		return nil, events.Position{}, s.unproved(err)
	}
	return s.proofFile(p.New, p.Encode())
}

// newest waits for a checkpoint of so many commits or more.
func (s *Server) newest(ctx context.Context, size uint64) (projections.Signed, *events.Error) {
	if refused := store.TurnOf(ctx).Wait(ctx); refused != nil {
		return projections.Signed{}, refused
	}
	newest, err := s.parts.checkpoints.Newest(ctx, size)
	if err != nil {
		return newest, s.unproved(err)
	}
	return newest, nil
}

// openSigned reads a signed checkpoint of a query.
func (s *Server) openSigned(member, text string) (projections.Signed, *events.Error) {
	c, err := proof.OpenCheckpoint([]byte(text), s.checkpointKey.Verifier())
	if err != nil {
		return projections.Signed{}, events.Errorf(events.InvalidArgument, "%s must be a checkpoint signed by %s: %v", member, s.checkpointKey.Public(), err)
	}
	if end := s.tail.End(); c.Size > end.Sequence {
		return projections.Signed{}, events.Errorf(events.FailedPrecondition, "the checkpoint is of %s, and the log ends at %s: it was signed for a log that this one does not contain", c.Position(), end.Position())
	}
	return projections.Signed{Checkpoint: c, Note: []byte(text)}, nil
}

func (s *Server) proofFile(signed, file []byte) (any, events.Position, *events.Error) {
	c, err := proof.OpenCheckpoint(signed, s.checkpointKey.Verifier())
	if err != nil {
		return nil, events.Position{}, s.unproved(err)
	}
	return &ProofFile{c.Position().String(), string(file), s.checkpointKey.Public()}, c.Position(), nil
}

// unproved says why there is no proof.
func (s *Server) unproved(err error) *events.Error {
	var damage *store.DamageError
	switch {
	case errors.Is(err, projections.ErrOtherTree):
		return events.Errorf(events.FailedPrecondition, "%v", err)
	case errors.As(err, &damage):
		return events.Errorf(events.Unavailable, "%v", err)
	case errors.Is(err, projections.ErrHashes):
		s.cfg.Logger.Warn("cannot prove", "error", err)
		return events.Errorf(events.Unavailable, "%v, and is being made again from the log; try again in a moment", projections.ErrHashes)
	case errors.Is(err, proof.ErrShort):
		return events.Errorf(events.Unavailable, "%v; try again", err)
	case errors.Is(err, context.DeadlineExceeded):
		return events.Errorf(events.Unavailable, "there is no signed checkpoint that goes so far yet; try again")
	}
	s.cfg.Logger.Warn("cannot prove", "error", err)
	return events.Errorf(events.Unavailable, "it cannot be proved at the moment; try again")
}

// decodeOwn reads the body of a query that is the ledger's own.
func decodeOwn(account, verb string, body []byte, v any) *events.Error {
	if account != "_" {
		return events.Errorf(events.InvalidArgument, "%s is the ledger's own: ask keyledger.query._.%s", verb, verb)
	}
	return events.DecodeStrict(body, v)
}
