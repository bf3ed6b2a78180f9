package writer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// defaultSnapshotEvery is how many commits and events of log are behind the newest
	// snapshot before the next one is made: less than a second of replay. A state with
	// more accounts waits for as many, so that replaying the tail costs a start about as
	// much as reading the snapshot and what is written stays in proportion.
	defaultSnapshotEvery = 200_000
	// defaultSnapshotPause is how long nothing is written after a snapshot, so that a
	// writer at full speed is not for ever making one.
	defaultSnapshotPause = time.Minute

	// sliceBytes and sliceReceipts end a turn of the walk: about 100 µs of the writer's
	// time, less than an fsync takes. One account's section is not divided.
	sliceBytes    = 16 << 10
	sliceReceipts = 256
	// sliceCount is how many slices may be on their way to the store.
	sliceCount = 4

	// snapshotChunkBytes is the size of the messages that a snapshot is stored in.
	snapshotChunkBytes = 256 << 10
	// snapshotBytesPerSecond is how fast a snapshot is written, so that the log's fsyncs
	// never wait behind it: a million accounts take less than a minute.
	snapshotBytesPerSecond = 16 << 20
	// retryPauses is how many pauses there are after one that could not be stored.
	retryPauses = 10
)

// SnapshotStats is the newest snapshot that this writer made or started from.
type SnapshotStats struct {
	Position string `json:"position"` // where it begins: a start replays the log after that
	AgeMS    int64  `json:"age_ms"`   // since it was finished
	Bytes    int64  `json:"bytes"`
	Accounts int64  `json:"accounts"`
	TookMS   int64  `json:"took_ms"`
}

// walk goes over the accounts of a running writer, a slice at a time, and stamps each
// with the sequence that it reflects. Nothing stops for it and nothing is copied.
type walk struct {
	snapshot store.Snapshot
	base     store.Chain
	end      store.Chain // at the highest stamp
	accounts int         // that there were at its beginning
	next     int
	headed   bool // the header is in a slice
	handed   bool // the last slice is handed on
	begun    time.Time

	frames            frames // and more memory for one account
	section, receipts []byte
}

// slice is what the walk hands on in one turn.
type slice struct {
	walk  *walk // its snapshot is the store's from now on
	bytes []byte
	last  bool // of a snapshot that rests on acknowledged commits alone
}

// snapshots makes snapshots: the walk is the writer's, the rest goes on beside it.
type snapshots struct {
	store     store.Snapshots // nil: none are made
	log       *slog.Logger
	clock     func() time.Time
	partition uint32
	every     uint64
	pause     time.Duration
	slice     int    // bytes that end a turn
	receipts  uint32 // of one account in a turn, at most
	chunk     int    // bytes from which on they are stored

	// Owned by the goroutine of Run.
	walk *walk       // nil when there is none
	from store.Chain // base of the newest snapshot that was made or started from
	next time.Time   // not before that

	free   chan []byte // memory for slices; to have one is to have a turn
	slices chan slice
	failed atomic.Pointer[store.Snapshot] // the last one that could not be stored
	newest atomic.Pointer[store.Snapshot] // finished
}

func newSnapshots(cfg *Config) *snapshots {
	s := &snapshots{
		store: cfg.Snapshots, log: cfg.Logger, clock: cfg.Clock, partition: cfg.Partition,
		every: uint64(cfg.SnapshotEvery), pause: cfg.SnapshotPause,
		slice: sliceBytes, receipts: sliceReceipts, chunk: snapshotChunkBytes,
		free: make(chan []byte, sliceCount), slices: make(chan slice, sliceCount),
	}
	for range sliceCount {
		s.free <- nil
	}
	return s
}

// stats returns a look at the newest snapshot, nil if there is none.
func (s *snapshots) stats() *SnapshotStats {
	newest := s.newest.Load()
	if newest == nil {
		return nil
	}
	at := events.Position{Partition: s.partition, Sequence: newest.Sequence, Index: events.NoIndex}
	return &SnapshotStats{
		Position: at.String(), AgeMS: max(int64(events.At(s.clock())-newest.Made), 0),
		Bytes: newest.Bytes, Accounts: newest.Accounts, TookMS: newest.TookMS,
	}
}

// due says whether it is time to begin a snapshot at chain, the acknowledged end.
func (s *snapshots) due(chain *store.Chain, accounts int) bool {
	behind := chain.Sequence - s.from.Sequence + chain.Ordinal - s.from.Ordinal
	return s.store != nil && s.walk == nil && behind >= max(s.every, uint64(accounts)) && !time.Now().Before(s.next)
}

// beginWalk begins a snapshot at the acknowledged end.
func (w *Writer) beginWalk() {
	w.snapshots.walk = &walk{
		snapshot: store.NewSnapshot(w.cfg.Partition, w.chain.Sequence),
		base:     w.chain, end: w.chain, accounts: w.state.Accounts(), begun: time.Now(),
	}
	w.receipts.reading = 0
}

// endWalk ends the walk and keeps the next one off for a while. What an unfinished one
// has stored is on no list and is deleted before the next one is written.
func (s *snapshots) endWalk(pause time.Duration) {
	if s.walk != nil {
		s.walk, s.next = nil, time.Now().Add(pause)
	}
}

// turn begins and ends walks as it is time, and returns where the writer may take the
// next turn of one from, nil while it may not. It may when the state is exactly that
// after the newest append, which is when nothing has been decided since. The last turn
// waits until all that the accounts reflect is acknowledged: an append that is lost takes
// the walk with it.
func (w *Writer) turn() <-chan []byte {
	s := w.snapshots
	if s.due(&w.chain, w.state.Accounts()) {
		w.beginWalk()
	}
	k := s.walk
	switch {
	case k == nil:
		return nil
	case s.newest.Load() == &k.snapshot:
		s.from = k.base
		s.endWalk(s.pause)
		return nil
	case s.failed.Load() == &k.snapshot:
		s.endWalk(retryPauses * s.pause)
		return nil
	case k.handed, w.open != nil && len(w.open.commit.Entries) > 0:
		return nil
	case k.next == k.accounts && w.chain.Sequence < k.end.Sequence:
		return nil
	}
	return s.free
}

// walkOn takes one turn of the walk, in the memory of b.
func (w *Writer) walkOn(b []byte) {
	s := w.snapshots
	k := s.walk
	b = b[:0]
	if !k.headed {
		b = k.frames.appendHeader(b, k.base)
		k.headed = true
	}
	if k.next == k.accounts {
		b = k.frames.appendFooter(b, snapshotEnd{accounts: uint64(k.accounts), sequence: k.end.Sequence, hash: k.end.Hash})
		k.snapshot.End, k.snapshot.EndHash, k.snapshot.Accounts = k.end.Sequence, k.end.Hash, int64(k.accounts)
		k.handed = true
	}
	for k.next < k.accounts && len(b) < s.slice {
		b = w.walkAccount(b)
	}
	s.slices <- slice{walk: k, bytes: b, last: k.handed} // never waits: it has room for all there are
}

// walkAccount appends the walk's next account, or the next piece of one that has many
// receipts.
func (w *Writer) walkAccount(b []byte) []byte {
	k := w.snapshots.walk
	account := w.state.AccountAt(k.next)
	var more bool
	k.receipts, more = w.receipts.appendSome(k.receipts[:0], account, w.snapshots.receipts)
	if more {
		c := k.frames.begin(frameReceipts)
		c.String(&account)
		c.Blob(&k.receipts)
		return k.frames.end(b)
	}
	// Not the acknowledged end: the state has what is in flight too.
	k.end = w.sent
	k.section = w.state.AppendAccount(k.section[:0], k.next)
	c := k.frames.begin(frameAccount)
	c.Uint(&k.end.Sequence)
	c.Blob(&k.section)
	c.Blob(&k.receipts)
	k.next++
	return k.frames.end(b)
}

// keep stores the slices until the channel closes. It is a goroutine of its own, at a
// measured pace, so that the writer waits neither for the store nor for the disk.
func (s *snapshots) keep(ctx context.Context) error {
	var doing *storing
	pace := rate.NewLimiter(snapshotBytesPerSecond, 2*snapshotChunkBytes)
	for next := range s.slices {
		snapshot := &next.walk.snapshot
		if doing == nil || doing.snapshot != snapshot {
			doing = &storing{store: s.store, snapshot: snapshot, keep: s.newest.Load(), sum: sha256.New(), pace: pace, enough: s.chunk}
		}
		if s.failed.Load() != snapshot {
			if err := s.take(ctx, doing, &next); err != nil {
				if ctx.Err() == nil {
					s.log.Warn("cannot store a snapshot of the state: a start has to replay more of the log", "snapshot", snapshot.ID, "error", err)
				}
				s.failed.Store(snapshot)
			}
		}
		s.free <- next.bytes
	}
	return nil
}

// take stores one slice and, after the last one, finishes the snapshot.
func (s *snapshots) take(ctx context.Context, doing *storing, next *slice) error {
	if err := doing.add(ctx, next.bytes); err != nil || !next.last {
		return err
	}
	done := doing.snapshot
	done.Made, done.TookMS = events.At(s.clock()), time.Since(next.walk.begun).Milliseconds()
	if err := doing.finish(ctx); err != nil {
		return err
	}
	s.log.Info("made a snapshot of the state", "snapshot", done.ID, "accounts", done.Accounts, "bytes", done.Bytes, "took_ms", done.TookMS)
	s.newest.Store(done)
	return nil
}

// storing is a snapshot on its way into the store.
type storing struct {
	store    store.Snapshots
	snapshot *store.Snapshot
	keep     *store.Snapshot // the one before it, nil for none
	pace     *rate.Limiter
	sum      hash.Hash // over all bytes
	chunk    []byte    // not stored yet
	enough   int       // so many bytes are stored
	begun    bool
}

// add stores bytes, by whole chunks.
func (d *storing) add(ctx context.Context, b []byte) error {
	if !d.begun {
		// Room is made first: what a stop or a failure left unfinished goes, and every
		// finished one but that which was last made or started from, which is known to be
		// whole. If we stop right here, that one is there.
		keep := ""
		if d.keep != nil {
			keep = d.keep.ID
		}
		if err := d.store.Prune(ctx, keep); err != nil {
			return err
		}
		d.begun = true
	}
	d.sum.Write(b)
	if d.chunk = append(d.chunk, b...); len(d.chunk) < d.enough {
		return nil
	}
	return d.flush(ctx)
}

// flush stores all there is.
func (d *storing) flush(ctx context.Context) error {
	for rest := d.chunk; len(rest) > 0; {
		n := min(len(rest), snapshotChunkBytes)
		if err := d.pace.WaitN(ctx, n); err != nil {
			return fmt.Errorf("pace: %w", err)
		}
		// If we stop right here, or at any chunk, there are chunks that no list knows: no
		// start reads them, and the next snapshot deletes them.
		if err := d.store.Append(ctx, d.snapshot, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	d.chunk = d.chunk[:0]
	return nil
}

// finish stores what is left and puts the snapshot on the list.
func (d *storing) finish(ctx context.Context) error {
	d.chunk = d.sum.Sum(d.chunk)
	if err := d.flush(ctx); err != nil {
		return err
	}
	if err := d.store.Finish(ctx, d.snapshot); err != nil {
		return err // on the list or not: both are whole states
	}
	// If we stop right here, it is the newest on the list. The store does not fsync: after
	// a power cut it may be gone or lack anything, which a reader finds; the one before it,
	// a pause older, and the log are there.
	return nil
}
