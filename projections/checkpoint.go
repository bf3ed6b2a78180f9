package projections

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events/store"
)

const (
	// defaultCheckpointEvery and defaultCheckpointPause are those of the writer's snapshots.
	defaultCheckpointEvery = 200_000
	defaultCheckpointPause = time.Minute

	// caughtUpPart is what part of Every the views may be behind when one is begun.
	caughtUpPart = 16

	// checkpointTurnBytes ends a turn of the walk: some 50 µs during which nothing is
	// applied. What one account has is not divided.
	checkpointTurnBytes = 8 << 10
	// checkpointBytesPerSecond is how fast a checkpoint is written, and checkpointSyncBytes
	// how much of it is synced at once, so that the log's fsyncs never wait behind it.
	checkpointBytesPerSecond = 16 << 20
	checkpointSyncBytes      = 4 << 20
	// checkpointRetryPauses is how many pauses there are after one that could not be made.
	checkpointRetryPauses = 10
)

// CheckpointConfig says where and when a Runner saves its projections. The zero value of
// a member but Dir means its default.
type CheckpointConfig struct {
	// Dir is the folder of the checkpoints, made when the first one is. "": none are made.
	Dir string
	// Every is how many commits and events the log goes on after a checkpoint before the
	// next one is made; no fewer than there are accounts, so that reading the tail costs a
	// start about as much as reading the checkpoint. Default 200,000.
	Every int
	// Pause is the least time between two. Default 1 minute.
	Pause time.Duration
	// Room is asked whether the volume has room for so many more bytes; the log's own room
	// must stay. Default: it has.
	Room func(bytes int64) error
}

// CheckpointStats is the newest checkpoint that was made or started from.
type CheckpointStats struct {
	Position string `json:"position"` // where it begins: a start reads the log after that
	Accounts int64  `json:"accounts"`
	Bytes    int64  `json:"bytes"`
	TookMS   int64  `json:"took_ms"` // to make or to read it
}

// checkpoints is what a Runner needs to make them.
type checkpoints struct {
	CheckpointConfig
	from   store.Chain      // guarded by the Runner's mu: base of the newest
	newest string           // likewise: its file's name, "" for none
	stats  *CheckpointStats // likewise
	wake   chan struct{}    // one may be due
	turn   int              // bytes that end a turn of the walk
	// step is called after each durable step, by its name: a test looks at the folder there.
	step func(string)
}

// Checkpoints has the Runner save its projections, and Restore read what was saved. It
// must be called before both.
func (r *Runner) Checkpoints(cfg CheckpointConfig) {
	if cfg.Every == 0 {
		cfg.Every = defaultCheckpointEvery
	}
	if cfg.Pause == 0 {
		cfg.Pause = defaultCheckpointPause
	}
	if cfg.Room == nil {
		cfg.Room = func(int64) error { return nil }
	}
	r.saving.CheckpointConfig = cfg
}

// Checkpoint returns a look at the newest checkpoint, nil if there is none.
func (r *Runner) Checkpoint() *CheckpointStats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.saving.stats
}

// due says whether the log has gone on enough since the last checkpoint. mu must be held.
func (r *Runner) due() bool {
	s := &r.saving
	behind := r.applied.Sequence - s.from.Sequence + r.applied.Ordinal - s.from.Ordinal
	return s.Dir != "" && behind >= max(uint64(s.Every), uint64(len(r.known)))
}

// save makes checkpoints as they are due, until ctx ends. What goes wrong costs the next
// start time and nothing else, so it is logged and tried again.
func (r *Runner) save(ctx context.Context) error {
	for {
		select {
		case <-r.saving.wake:
		case <-ctx.Done():
			return nil
		}
		if !r.caughtUp() {
			continue // the next commit wakes again
		}
		pause := r.saving.Pause
		if err := r.checkpoint(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("cannot save the views: a start has to read more of the log", "error", err)
			pause *= checkpointRetryPauses
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// caughtUp says whether the projections are at the log's end, to within a small part of what
// is between two checkpoints. One that is made on a long way there would be old at once.
func (r *Runner) caughtUp() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	end := r.tail.End()
	return !r.ahead() && end.Sequence+end.Ordinal <= r.applied.Sequence+r.applied.Ordinal+uint64(r.saving.Every/caughtUpPart)
}

// saveWalk goes over the accounts, a turn at a time, and stamps each with the sequence
// that it reflects. Nothing stops for it and nothing is copied.
type saveWalk struct {
	checkpointHeader
	slots []int // of projections that are saved
	end   checkpointEnd
	next  uint64

	section, piece []byte // memory for one account
}

// checkpoint makes one checkpoint.
func (r *Runner) checkpoint(ctx context.Context) (err error) {
	began := time.Now()
	k, b := r.beginWalk()
	if err := r.makeRoom(k.base.Partition); err != nil {
		return err
	}
	name := checkpointName(&k.base)
	w, err := createCheckpoint(filepath.Join(r.saving.Dir, name), r.saving.Room)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			w.abandon()
		}
	}()
	pace := rate.NewLimiter(checkpointBytesPerSecond, checkpointBytesPerSecond)
	for {
		if err := pace.WaitN(ctx, min(len(b), pace.Burst())); err != nil {
			return err
		}
		if err := w.write(b); err != nil {
			return err
		}
		r.saving.step("turn")
		if k.next == k.accounts {
			break
		}
		if b, err = r.walkOn(k, b[:0]); err != nil {
			return err
		}
	}
	if err := w.finish(k.base.Partition, k.end, r.saving.step); err != nil {
		return err
	}
	size, took := int64(w.length)+checkpointFooter, time.Since(began).Milliseconds()
	r.saved(name, &k.checkpointHeader, size, took)
	r.log.Info("saved the views", "checkpoint", name, "accounts", k.accounts, "bytes", size, "took_ms", took)
	return nil
}

// saved notes the newest checkpoint.
func (r *Runner) saved(name string, h *checkpointHeader, size, took int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.saving.newest, r.saving.from = name, h.base
	r.saving.stats = &CheckpointStats{Position: h.base.Position().String(), Accounts: int64(h.accounts), Bytes: size, TookMS: took}
}

// makeRoom removes all but the checkpoint that was last made or started from, which is
// known to be whole. If we stop anywhere in here, that one is there.
func (r *Runner) makeRoom(partition uint32) error {
	dir := r.saving.Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, begun, err := checkpointNames(dir, partition)
	if err != nil {
		return err
	}
	r.mu.RLock()
	newest := r.saving.newest
	r.mu.RUnlock()
	for _, name := range append(begun, names...) {
		if name == newest {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.saving.step("removed")
	}
	return nil
}

// beginWalk begins a walk where the projections are, and returns the file's first bytes.
// A projection that failed, or is not there yet, is left out.
func (r *Runner) beginWalk() (*saveWalk, []byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k := &saveWalk{end: checkpointEnd{r.applied.Sequence, r.applied.Hash}}
	k.base, k.accounts = r.applied, uint64(len(r.known))
	for i := range r.slots {
		if s := &r.slots[i]; s.works() {
			k.slots = append(k.slots, i)
			k.projections = append(k.projections, savedProjection{s.Name(), s.Version()})
		}
	}
	return k, k.appendTo(nil)
}

// walkOn appends the sections of the next accounts to b: one turn, in which nothing is
// applied.
func (r *Runner) walkOn(k *saveWalk, b []byte) ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, i := range k.slots {
		if s := &r.slots[i]; s.failure != nil {
			return nil, fmt.Errorf("the view %s stopped meanwhile", s.Name())
		}
	}
	for k.next < k.accounts && len(b) < r.saving.turn {
		b = r.appendSection(b, k)
		k.next++
	}
	k.end = checkpointEnd{r.applied.Sequence, r.applied.Hash}
	return b, nil
}

// appendSection appends what all have of the walk's next account.
func (r *Runner) appendSection(b []byte, k *saveWalk) []byte {
	k.section = binary.AppendUvarint(k.section[:0], r.applied.Sequence)
	k.section = appendPiece(k.section, []byte(r.known[k.next]))
	for _, i := range k.slots {
		k.piece = r.appendSaved(&r.slots[i], r.known[k.next], k.piece[:0])
		k.section = appendPiece(k.section, k.piece)
	}
	return appendPiece(b, k.section)
}

// appendSaved appends what a projection holds of an account, whether that is loaded or not.
// mu must be held.
func (r *Runner) appendSaved(s *slot, account string, b []byte) []byte {
	if u := r.unread; u != nil && s.saved > 0 {
		if i, found := u.index[account]; found && u.at[i] != 0 {
			return append(b, u.piece(int(i), s.saved-1)...)
		}
	}
	return s.Save(account, b)
}

// A CheckpointWitness is what a checkpoint proves: it holds acknowledged commits alone, so
// the log once went on to its end.
type CheckpointWitness struct {
	Name     string // the file's
	Sequence uint64
	Hash     store.Hash
}

// CheckpointWitnesses returns what the checkpoints in a folder saw. One whose beginning or
// end is damaged, or of another format, says nothing. One that cannot be read might prove a
// loss: the error wraps store.ErrDamagedWitness, except where this process has too many files
// open.
func CheckpointWitnesses(dir string, partition uint32) ([]CheckpointWitness, error) {
	names, _, err := checkpointNames(dir, partition)
	if err != nil {
		return nil, err
	}
	var list []CheckpointWitness
	for _, name := range names {
		f, err := openCheckpoint(filepath.Join(dir, name), partition)
		var broken *fs.PathError
		switch {
		case errors.As(err, &broken) && !errors.Is(err, fs.ErrNotExist):
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				return nil, err
			}
			return nil, fmt.Errorf("a checkpoint of the views %w: %w; make it readable, or move %s away: the views are made from the log",
				store.ErrDamagedWitness, err, filepath.Join(dir, name))
		case err != nil:
			continue
		}
		list = append(list, CheckpointWitness{name, f.end.sequence, f.end.hash})
		if err := f.file.Close(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
