package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyledger/keyledger/events/store"
	"github.com/keyledger/keyledger/ledger"
)

const (
	// progressEvery is how often a long replay says how far it is.
	progressEvery = 5 * time.Second
	// lookUpPatience is how long reading one commit may take. A disk that stalls is waited
	// for: the alternative to a snapshot is a replay of the whole log.
	lookUpPatience = 30 * time.Second
)

// listSnapshots lists what is finished, the newest first.
func (w *Writer) listSnapshots(ctx context.Context) ([]store.Snapshot, error) {
	if w.cfg.Snapshots == nil {
		return nil, nil
	}
	list, err := w.cfg.Snapshots.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up snapshots: %w", err)
	}
	return list, nil
}

// SnapshotWitnesses is what snapshots prove: each was finished once all that it reflects
// was acknowledged, so the log once went on to its end.
func SnapshotWitnesses(list []store.Snapshot) []Witness {
	var witnesses []Witness
	for i := range list {
		if s := &list[i]; s.Err == nil {
			witnesses = append(witnesses, Witness{Name: "snapshot " + s.ID, Sequence: s.End, Hash: &s.EndHash})
		}
	}
	return witnesses
}

// restore sets state and receipts to the newest snapshot that is whole and stands on the
// log, and returns the place in the log that the replay goes on from. Without one that
// is the log's beginning. Nothing of a snapshot that is not whole is ever used. The
// receipts have no index yet.
func (w *Writer) restore(ctx context.Context, list []store.Snapshot) store.Chain {
	w.state, w.receipts = nil, nil // room for the new ones
	for i := range list {
		began := time.Now()
		l, err := w.load(ctx, &list[i])
		if ctx.Err() != nil {
			break // stopping: no fault of the snapshot's
		}
		if err != nil {
			w.log.Warn("skip a snapshot of the state: an older one or the whole log takes its place", "snapshot", list[i].ID, "error", err)
			continue
		}
		w.state, w.receipts, w.stamps = l.state, l.receipts, l.stamps
		w.directory.fill(w.state)
		w.snapshots.from = l.base
		w.snapshots.newest.Store(&list[i])
		w.log.Info("read a snapshot of the state", "snapshot", list[i].ID, "accounts", l.end.accounts,
			"bytes", list[i].Bytes, "took_ms", time.Since(began).Milliseconds())
		return l.base
	}
	w.state, w.receipts, w.stamps = w.newState(), newReceipts(w.cfg.MaxReceipts), nil
	w.receipts.dropIndex()
	w.snapshots.from = store.Chain{}
	return store.Chain{Partition: w.cfg.Partition}
}

// newState returns the state of an empty log.
func (w *Writer) newState() *ledger.State {
	st := ledger.NewState()
	st.Notices = w.cfg.Notices
	return st
}

// load reads one snapshot.
func (w *Writer) load(ctx context.Context, s *store.Snapshot) (*loaded, error) {
	if s.Err != nil {
		return nil, s.Err
	}
	r := newSnapshotReader(w.newState(), w.cfg.MaxReceipts, func(base store.Chain) error { return w.standsOnLog(ctx, base) })
	if err := w.cfg.Snapshots.Read(ctx, s.ID, r.feed); err != nil {
		return nil, err
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	return &r.loaded, nil
}

// standsOnLog says what is wrong with a base that is not in the log as it was.
func (w *Writer) standsOnLog(ctx context.Context, base store.Chain) error {
	if base.Partition != w.cfg.Partition {
		return fmt.Errorf("it is of partition %d", base.Partition)
	}
	c, err := w.commitAt(ctx, base.Sequence)
	switch {
	case err != nil:
		return fmt.Errorf("look up its base %d:%d: %w", base.Partition, base.Sequence, err)
	case store.ChainAt(c) != base:
		return fmt.Errorf("it begins at commit %d:%d with hash %s, the log holds %s there", base.Partition, base.Sequence, base.Hash, c.Hash)
	}
	return nil
}

// commitAt reads one commit, checked by itself. A message that is missing or damaged is
// a *store.DamageError.
func (w *Writer) commitAt(ctx context.Context, sequence uint64) (*store.Commit, error) {
	try, cancel := context.WithTimeout(ctx, lookUpPatience)
	defer cancel()
	damage := func(reason string) error {
		return &store.DamageError{Partition: w.cfg.Partition, Sequence: sequence, Reason: reason}
	}
	data, err := w.cfg.Log.Get(try, sequence)
	if errors.Is(err, store.ErrNoMessage) {
		return nil, damage("message missing")
	}
	if err != nil {
		return nil, err
	}
	c, err := store.Decode(data)
	if err != nil {
		return nil, store.Undecodable(w.cfg.Partition, sequence, err)
	}
	if c.Sequence != sequence {
		return nil, damage(fmt.Sprintf("it was written to follow sequence %d", c.PrevSequence))
	}
	return c, nil
}

// checkBehind holds the witnesses of commits up to chain against the log: a replay that
// goes on from a snapshot does not come by them.
func (w *Writer) checkBehind(ctx context.Context, chain *store.Chain, witnesses []Witness) error {
	for i := range witnesses {
		if sequence := witnesses[i].Sequence; sequence == 0 || sequence > chain.Sequence || witnesses[i].Hash == nil {
			continue
		}
		c, err := w.commitAt(ctx, witnesses[i].Sequence)
		if err != nil {
			return fmt.Errorf("look up what %s saw: %w", witnesses[i].Name, err)
		}
		if err := checkHash(witnesses[i:i+1], c); err != nil {
			return err
		}
	}
	return nil
}

// progress says now and then how far a replay is.
type progress struct {
	log  *slog.Logger
	last time.Time // of the last line
	at   store.Chain
}

// passed is called with each commit that was replayed, on the way to sequence end.
func (p *progress) passed(now time.Time, at store.Chain, end uint64) {
	elapsed := now.Sub(p.last)
	if elapsed < progressEvery {
		return
	}
	commits, seconds := at.Sequence-p.at.Sequence, elapsed.Seconds()
	left := end - at.Sequence
	p.log.Info("replaying the log", "position", at.Position().String(), "end", end,
		"events_per_second", int64(float64(at.Ordinal-p.at.Ordinal)/seconds),
		"remaining_commits", left, "remaining_seconds", int64(float64(left)*seconds/float64(commits)))
	p.last, p.at = now, at
}
