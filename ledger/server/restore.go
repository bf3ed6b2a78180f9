package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger/writer"
)

// fileUnfinished marks a data directory that a restore has not finished. Names are
// stored: for ever.
const fileUnfinished = "restore.unfinished"

// RestoreConfig says what Restore makes of an export.
type RestoreConfig struct {
	DataDir string // that is empty, missing, or of a restore that did not finish

	// SealKeyFile is a copy of the seal.key of the ledger that was exported. It is copied
	// into the directory. Empty: the key must come there before a server can start, or be
	// given to it in KEYLEDGER_SEAL_KEY.
	SealKeyFile string

	// Checkpoint is the newest signed checkpoint that is known of the ledger that was
	// exported. The export must have it. Its key then signs on; without it the restored
	// ledger makes a new one, and refuses every other.
	Checkpoint []byte

	LogBytesMax int64        // byte limit of the log; 0: 44 % of the volume
	Logger      *slog.Logger // nil: none

	// Each is called for every commit, with the sequence of the last there will be.
	Each func(c *store.Commit, last uint64)

	step func(name string) error   // tests stop there
	sync func(file *os.File) error // tests look at what is made durable
}

// restore is one run of Restore.
type restore struct {
	cfg    RestoreConfig
	s      *Server
	export *store.ExportReader
	key    string // the seal key as it is written, "" for none
	marked bool   // the directory, as not whole
	signed claims // what the log must contain
	note   restored
}

// Restore makes a data directory of an export, with the same ledger in it, commit by
// commit and hash by hash. When it returns nil all of it is durable, and the next start
// continues the log in a new epoch, and signs it with a new key. Before, the directory is marked as not whole, and
// nothing but Restore will use it.
//
// It refuses an export that is not whole (*store.ExportError) and a seal key of another
// ledger. The ledger that was exported must never serve again: the two would go on
// differently under one id.
func Restore(ctx context.Context, in io.Reader, cfg RestoreConfig) (found *Exported, err error) {
	if cfg.step == nil {
		cfg.step = func(string) error { return nil }
	}
	if cfg.sync == nil {
		cfg.sync = (*os.File).Sync
	}
	r := &restore{cfg: cfg, s: &Server{cfg: Config{DataDir: cfg.DataDir, LogBytesMax: cfg.LogBytesMax, Logger: cfg.Logger}.withDefaults()}}
	if r.export, err = store.OpenExport(in); err != nil {
		return nil, err
	}
	if err := r.checkHeader(); err != nil {
		return nil, err
	}
	if r.s.dir, err = lockDataDir(cfg.DataDir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.s.Close()) }()
	for _, step := range []func(context.Context) error{r.begin, r.fill, r.makeDurable, r.finish} {
		if err := step(ctx); err != nil {
			return nil, r.failed(err)
		}
	}
	found = &Exported{Header: r.export.Header, End: r.export.End()}
	found.Bytes, found.Sum = r.export.Sum()
	found.Signed = r.note.Exported
	return found, nil
}

// failed says what has become of the directory.
func (r *restore) failed(err error) error {
	err = r.s.storageFailed(err)
	if r.marked {
		err = fmt.Errorf("%w (%s is not whole and will not be served; run restore on it again)", err, r.s.dir.path)
	}
	return err
}

// checkHeader checks what can be told before anything is written.
func (r *restore) checkHeader() error {
	h := &r.export.Header
	if h.Partition != partition || h.Partitions != partitions {
		return fmt.Errorf("restore: it is partition %d of %d, and this keyledger has %d: run the keyledger that made it", h.Partition, h.Partitions, partitions)
	}
	if err := r.checkCheckpoint(); err != nil {
		return fmt.Errorf("the checkpoint: %w", err)
	}
	if r.cfg.SealKeyFile == "" {
		return nil
	}
	text, err := readSecret(r.cfg.SealKeyFile)
	if err != nil {
		return fmt.Errorf("read seal key: %w", err)
	}
	key, err := checkSealKey(text, h)
	if err != nil {
		return fmt.Errorf("read seal key %s: %w", r.cfg.SealKeyFile, err)
	}
	r.key = base64.StdEncoding.EncodeToString(key[:])
	return nil
}

// checkCheckpoint looks at the checkpoint that was given, if any.
func (r *restore) checkCheckpoint() error {
	if len(r.cfg.Checkpoint) == 0 {
		return nil
	}
	h := &r.export.Header
	c, key, err := readOwn(h.Ledger, r.cfg.Checkpoint)
	if err != nil {
		return err
	}
	if c.Size > h.End {
		return fmt.Errorf("it is of %s, and the export ends at %d: the key %s has signed what would not be in the restored log; restore a newer export, or without --checkpoint under a new key", c.Position(), h.End, key)
	}
	r.note.Known = string(r.cfg.Checkpoint)
	r.signed.claim("the checkpoint that was given", c)
	return nil
}

// putBeside takes what stands in the export beside the log.
func (r *restore) putBeside(ctx context.Context, beside store.ExportBeside) error {
	if err := r.signed.ofExport(r.export.Header.Ledger, beside.Signed); err != nil {
		return err
	}
	r.note.Exported = string(beside.Signed)
	if n := len(r.signed.left); n == 2 && r.signed.left[1].Size > r.signed.left[0].Size {
		return fmt.Errorf("the checkpoint that was given, of %s, is not the newest: the export has one of %s", r.signed.left[0].Position(), r.signed.left[1].Position())
	}
	if beside.Lanes == nil {
		return nil
	}
	_, err := r.s.js.Publish(ctx, store.SubjectLanes(partition), beside.Lanes)
	return err
}

// checkSealKey reads a key that must have sealed what is in the export.
func checkSealKey(text string, h *store.ExportHeader) ([sealKeyBytes]byte, error) {
	key, err := parseSealKey(text)
	if err != nil {
		return key, err
	}
	sealer, err := events.NewSealer(key[:])
	if err != nil {
		return key, err
	}
	if sealer.KeyID() != h.SealKey {
		return key, fmt.Errorf("it has the id %s, and the export was sealed with %s: give the seal.key of ledger %s", sealer.KeyID(), h.SealKey, h.Ledger)
	}
	return key, nil
}

// begin marks the directory and takes away what a former restore left.
func (r *restore) begin(context.Context) error {
	d, marker := r.s.dir, filepath.Join(r.s.dir.path, fileUnfinished)
	_, err := os.Lstat(marker)
	again := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !again {
		if err := d.mustBeEmpty(); err != nil {
			return err
		}
		// If we stop before this: a directory with a lock file or the marker's temporary one,
		// as good as empty. Behind it: the marker, and every start refuses.
		if err := writeSecret(marker, "ledger "+r.export.Header.Ledger); err != nil {
			return fmt.Errorf("mark %s as not restored yet: %w", d.path, err)
		}
	}
	r.marked = true
	if err := r.cfg.step("marked"); err != nil {
		return err
	}
	// If we stop in here: less than there was, and the marker.
	for _, name := range []string{dirNATS, writer.HeadName, fileLedger, fileRestored} {
		if err := os.RemoveAll(filepath.Join(d.path, name)); err != nil {
			return fmt.Errorf("take away what an unfinished restore left: %w", err)
		}
	}
	text, err := readSecret(filepath.Join(d.path, fileSealKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil { // a former run's, or put there by hand since: a key is never removed
		_, err = checkSealKey(text, &r.export.Header)
	}
	if err != nil {
		return fmt.Errorf("read seal key %s: %w", filepath.Join(d.path, fileSealKey), err)
	}
	r.key = ""
	return nil
}

// mustBeEmpty refuses a directory with anything in it but what a start of Restore leaves.
func (d *dataDir) mustBeEmpty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains([]string{fileLock, fileUnfinished + ".tmp", "lost+found"}, e.Name()) {
			return fmt.Errorf("restore into %s: %s is in it; give a directory that is empty, or none yet", d.path, e.Name())
		}
	}
	return nil
}

// checkRestored refuses a directory that a restore has not finished.
func (d *dataDir) checkRestored() error {
	_, err := os.Lstat(filepath.Join(d.path, fileUnfinished))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("open data directory %s: it was not restored to the end: run keyledger restore again, with the same export and this directory", d.path)
	}
	return err
}

// fill writes the streams that cannot be derived. NATS does not sync them: makeDurable
// does, at the end, which is what makes millions of commits a matter of seconds. If we
// stop in here: a part of the log, and the marker.
func (r *restore) fill(ctx context.Context) error {
	s := r.s
	if err := s.startAlone("keyledger restore", true); err != nil {
		return err
	}
	budget, err := storeBytesMax(s.dir.natsDir())
	if err != nil {
		return err
	}
	streams := store.Streams(partition, budget)
	if s.cfg.LogBytesMax != 0 {
		if err := store.LimitLog(streams, budget, s.cfg.LogBytesMax); err != nil {
			return fmt.Errorf("limit the log: %w", err)
		}
	}
	own := named(streams, store.StreamLog(partition), store.StreamLanes(partition))
	r.export.Header.Identity().Put(&own[0])
	if err := store.CreateStreams(ctx, s.js, own); err != nil {
		return err
	}
	filler, err := store.NewFiller(s.store, partition)
	if err != nil {
		return err
	}
	err = r.export.Each(func(beside store.ExportBeside) error { return r.putBeside(ctx, beside) }, func(c *store.Commit, data []byte) error {
		if r.cfg.Each != nil {
			r.cfg.Each(c, r.export.Header.End)
		}
		if err := r.signed.add(c); err != nil {
			return err
		}
		return filler.Append(ctx, data)
	})
	if err == nil {
		err = errors.Join(r.signed.end(r.export.End()), filler.Flush(ctx))
	}
	if errors.Is(err, store.ErrStorageFull) {
		return fmt.Errorf("restore commit %d: %w: its limit is %d bytes; give a larger one (--log-max-bytes) or a larger volume", r.export.End().Sequence, err, own[0].MaxBytes)
	}
	if err != nil {
		return err
	}
	return r.cfg.step("filled")
}

// makeDurable stops NATS, syncs what it wrote, and reads the log back from the disk. If we
// stop in here: all files are there, not all durable, and the marker.
func (r *restore) makeDurable(context.Context) error {
	s := r.s
	s.store.Close()
	s.nats.Close()
	s.store, s.nats = nil, nil
	if err := syncTree(s.dir.natsDir(), r.cfg.sync); err != nil {
		return fmt.Errorf("make the restored log durable: %w", err)
	}
	blocks, err := store.BlockFiles(s.dir.streamsDir(), store.StreamLog(partition))
	if err != nil {
		return err
	}
	end := store.Chain{Partition: partition}
	if _, err := store.CheckFiles(blocks, &end, func(*store.Commit) error { return nil }); err != nil {
		return fmt.Errorf("read the restored log back: %w", err)
	}
	if want := r.export.End(); end != want {
		return fmt.Errorf("read the restored log back: it ends at %s with hash %s, and the export at %s with hash %s",
			end.Position(), end.Hash, want.Position(), want.Hash)
	}
	return r.cfg.step("durable")
}

// finish writes what stands beside the log, and takes the marker away last.
func (r *restore) finish(context.Context) error {
	d, end := r.s.dir, r.export.End()
	// If we stop before any of the next lines: some of these files, and the marker.
	if err := writer.NoteHead(d.path, &end); err != nil {
		return err
	}
	if err := writeSecret(filepath.Join(d.path, fileLedger), r.export.Header.Ledger); err != nil {
		return fmt.Errorf("write ledger id: %w", err)
	}
	if err := r.note.note(d); err != nil {
		return err
	}
	if err := r.cfg.step("identified"); err != nil {
		return err
	}
	if r.key != "" {
		if err := writeSecret(filepath.Join(d.path, fileSealKey), r.key); err != nil {
			return fmt.Errorf("write seal key: %w", err)
		}
	}
	if err := syncTree(d.path, r.cfg.sync); err != nil {
		return fmt.Errorf("make the restored ledger durable: %w", err)
	}
	if err := r.cfg.step("written"); err != nil {
		return err
	}
	// If we stop before this line, the next start asks for restore again. Behind it the
	// directory is whole; a power cut may bring the marker back until the line after it.
	if err := os.Remove(filepath.Join(d.path, fileUnfinished)); err != nil {
		return err
	}
	return syncPath(d.path, r.cfg.sync)
}
