package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/keyledger/keyledger/events/store"
)

// fileLedger holds the ledger's id, a ULID: that of the log whose directory this is. It
// is no secret, but nobody else has any business with it. Names are stored: for ever.
const fileLedger = "ledger.id"

// partitions is among how many partitions accounts are divided.
const partitions = 1

// streamsDir is where the streams lie, a folder each.
func (d *dataDir) streamsDir() string {
	return filepath.Join(d.natsDir(), natsserver.JetStreamStoreDir, natsAccountStore, "streams")
}

// ledgerID is the id in the directory, "" where there is none yet.
func (d *dataDir) ledgerID() (string, error) {
	path := filepath.Join(d.path, fileLedger)
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read ledger id: %w", err)
	}
	if id, err := ulid.ParseStrict(text); err != nil || id.String() != text {
		return "", fmt.Errorf("read ledger id: %s holds no ULID; restore it, or move it away and it is written again from the log", path)
	}
	return text, nil
}

// checkIdentity makes sure that the log under the directory is this ledger's. It returns
// the log's identity, and false where the stream has none: a new ledger, then without a
// stream, or one from before there were identities.
func (s *Server) checkIdentity(ctx context.Context) (identity store.Identity, exists, ok bool, err error) {
	own := store.Identity{Partitions: partitions}
	if s.sealer != nil {
		own.SealKey = s.sealer.KeyID()
	}
	if own.Ledger, err = s.dir.ledgerID(); err != nil {
		return own, false, false, err
	}
	stream, err := s.js.Stream(ctx, store.StreamLog(partition))
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && own.Ledger == "":
		return own, false, false, nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return own, false, false, fmt.Errorf("the log of ledger %s is gone: %s is not in %s; restore the newest intact copy of the data directory",
			own.Ledger, store.StreamLog(partition), s.dir.streamsDir())
	case err != nil:
		return own, false, false, err
	}
	identity, ok = store.IdentityOf(stream.CachedInfo().Config)
	if s.sealer == nil { // a check of the log alone
		own.SealKey = identity.SealKey
	}
	switch {
	case ok:
		return identity, true, true, identity.Check(own)
	case own.Ledger != "":
		return own, true, false, fmt.Errorf("the log says not whose it is, and this is the data directory of ledger %s: restore the newest intact copy of the data directory", own.Ledger)
	}
	return own, true, false, nil
}

// makeStreams makes the streams that are missing, checks whose log it is, and gives the
// ledger its id where it has none yet. The id comes into the log first and into the
// directory after it.
func (s *Server) makeStreams(ctx context.Context, streams []jetstream.StreamConfig, budget int64) error {
	identity, exists, ok, err := s.checkIdentity(ctx)
	if err != nil {
		return err
	}
	if err := s.limitLog(ctx, streams, budget); err != nil {
		return err
	}
	if !ok {
		identity.Ledger = ulid.Make().String()
	}
	log := named(streams, store.StreamLog(partition))[0]
	if exists && !ok {
		if err := s.identifyOld(ctx, identity, log.Name); err != nil {
			return err
		}
	}
	complete := true
	for i := range streams {
		if _, err := os.Stat(filepath.Join(s.dir.streamsDir(), streams[i].Name)); err != nil {
			complete = false
		}
		if streams[i].Name == log.Name {
			identity.Put(&streams[i])
		}
	}
	// If we stop in here: some streams, all empty. The next start makes the others.
	if err := store.CreateStreams(ctx, s.js, streams); err != nil {
		return err
	}
	if !complete {
		// NATS does not sync the files of a derived stream. Without this, a power cut
		// soon after could leave one with messages that cannot be recovered.
		if err := syncTree(s.dir.natsDir(), (*os.File).Sync); err != nil {
			return fmt.Errorf("make new streams durable: %w", err)
		}
	}
	// If we stop right here: the log has its id, and the next start writes it down.
	path := filepath.Join(s.dir.path, fileLedger)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := writeSecret(path, identity.Ledger); err != nil {
			return fmt.Errorf("write ledger id: %w", err)
		}
	}
	return nil
}

// identifyOld gives a log from before there were identities one.
func (s *Server) identifyOld(ctx context.Context, identity store.Identity, name string) error {
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	config := stream.CachedInfo().Config
	identity.Put(&config)
	// NATS writes the configuration and its checksum one after the other. If we stop
	// between the two, the next start refuses with the stream's name; its messages are
	// untouched.
	if _, err := s.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("give the log its identity: %w", err)
	}
	s.cfg.Logger.Info("gave the log its identity", "ledger", identity.Ledger)
	return nil
}

// checkFiles looks at the log's newest file before NATS opens it.
func (d *dataDir) checkFiles() error {
	blocks, err := store.BlockFiles(d.streamsDir(), store.StreamLog(partition))
	if err != nil {
		return err
	}
	return store.CheckNewestFile(blocks, partition)
}

// hasLog reports whether there is a log in the directory at all.
func (d *dataDir) hasLog() bool {
	names, _ := os.ReadDir(d.streamsDir()) // none: no log
	for _, name := range names {
		if name.Name() == store.StreamLog(partition) {
			return true
		}
	}
	return false
}
