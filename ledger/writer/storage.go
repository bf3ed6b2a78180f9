package writer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/keyledger/keyledger/events"
	"github.com/keyledger/keyledger/events/store"
)

const (
	// reserveBytes of the log's limit and of its volume are kept for "epoch started": a
	// log that is full for commands can still be taken over. Of a small limit or volume
	// a tenth is kept.
	reserveBytes = 16 << 20
	// claimBytes must be free on the volume before "epoch started" is tried: a write that
	// fails for want of space would stop the stream for good. A new block file and its
	// directory fit in.
	claimBytes = 64 << 10
	// volumeFactor is how many bytes of the volume a byte of the log costs until the next
	// look, feed and buckets included: an entry of 300 bytes becomes an event of 700.
	volumeFactor = 4
	// lookEvery is how often the storage is looked at.
	lookEvery = 200 * time.Millisecond
)

// ErrStorageFailed means that a stream could not be written or synced. JetStream takes
// nothing more into it until the server starts again, and does not answer.
var ErrStorageFailed = errors.New("the storage failed")

// Usage is how full the log and its volume are, in bytes.
type Usage struct {
	Log, LogMax int64 // held, and the stream's limit; no limit: 0
	Free        int64 // on the volume
	Volume      int64 // its size; not known: 0
}

// room is how much the log may still take. Between two looks at the storage the writer
// counts what it appends, so that no commit has to ask.
type room struct {
	appended atomic.Int64 // bytes of the log acknowledged since the start
	seen     atomic.Pointer[seenUsage]
	readOnly atomic.Bool // not even "epoch started" fits
}

// seenUsage is what was looked up when appended was mark, or more: what came between is
// counted twice, never left out.
type seenUsage struct {
	Usage
	mark int64
}

// watchStorage looks at the storage until ctx ends. When it has failed, stop is called
// and the failure returned.
func (w *Writer) watchStorage(ctx context.Context, stop func()) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := w.lookAtStorage(ctx); err != nil {
			stop()
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// lookAtStorage refreshes the room there is. It returns an error only when the storage
// has failed.
func (w *Writer) lookAtStorage(ctx context.Context) error {
	if w.cfg.Storage == nil {
		return nil
	}
	mark := w.room.appended.Load()
	usage, err := w.cfg.Storage(ctx)
	switch {
	case errors.Is(err, ErrStorageFailed):
		return err
	case err != nil:
		if ctx.Err() == nil {
			w.log.Warn("cannot tell how full the storage is", "error", err)
		}
	default:
		w.room.seen.Store(&seenUsage{usage, mark})
	}
	return nil
}

// refusal returns why pending more bytes must not be added to the log, nil if they may.
func (r *room) refusal(pending int64) *events.Error {
	u := r.seen.Load()
	if u == nil {
		return nil
	}
	pending += r.appended.Load() - u.mark
	if left := u.LogMax - u.Log - pending; u.LogMax > 0 && left < reserve(u.LogMax) {
		return events.Errorf(events.StorageFull, "the log has reached its limit of %d bytes, less a reserve; start keyledger with a higher --log-max-bytes or on a larger volume", u.LogMax)
	}
	if left := u.Free - volumeFactor*pending; u.Volume > 0 && left < reserve(u.Volume) {
		return events.Errorf(events.StorageFull, "the volume of the data directory has %d bytes free and %d are kept in reserve; free some space, and commands are taken again by themselves", u.Free, reserve(u.Volume))
	}
	return nil
}

func reserve(limit int64) int64 { return min(reserveBytes, limit/10) }

// refuseEntry returns why the newest entry of the open group, of size bytes, cannot be
// committed, nil if it can.
func (w *Writer) refuseEntry(size int) *events.Error {
	if size > maxEntryBytes {
		return events.Errorf(events.LimitExceeded, "the command's outcome has %d bytes, at most %d fit in the log", size, maxEntryBytes)
	}
	return w.refuseMore(0)
}

// refuseMore returns why more bytes than the open group has now cannot be committed, nil
// if they can.
func (w *Writer) refuseMore(bytes int64) *events.Error {
	bytes += int64(len(w.open.entries))
	if w.inFlight != nil {
		bytes += recordBytes(w.inFlight)
	}
	return w.room.refusal(bytes)
}

func recordBytes(g *group) int64 {
	return store.RecordBytes(g.commit.Partition, len(g.message), g.commit.PrevSequence)
}

// checkClaim refuses to try "epoch started" on a volume that has no room for it. That the
// log has none, it says itself.
func (r *room) checkClaim() error {
	if u := r.seen.Load(); u != nil && u.Volume > 0 && u.Free < min(claimBytes, reserve(u.Volume)) {
		return fmt.Errorf("%w: the volume has %d bytes free", store.ErrStorageFull, u.Free)
	}
	return nil
}

// serveReadOnly lets the views have what the log holds, up to chain, although it is too
// full for a takeover. What the lost groups came to is not known until there is one.
func (w *Writer) serveReadOnly(chain store.Chain, lost []*group) {
	w.giveUp(lost)
	if w.room.readOnly.Swap(true) && w.cfg.Tail.End().Sequence == chain.Sequence {
		return
	}
	w.log.Error("the log is too full for a takeover: serving queries only until there is room", "sequence", chain.Sequence)
	w.cfg.Tail.Reset(chain)
	w.readyOnce.Do(func() { close(w.ready) })
}

// pause waits between two tries to take over. While read-only it refuses what comes.
func (w *Writer) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		var intake <-chan struct{}
		if w.room.readOnly.Load() {
			intake = w.intake.signal
			for _, req := range w.intake.remove(func(*Request) bool { return true }) {
				w.answerOne(req, &Reply{Err: w.room.readOnlyRefusal()})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-intake:
		}
	}
}

// readOnlyRefusal says what to do, whatever the last look at the storage found.
func (r *room) readOnlyRefusal() *events.Error {
	if err := r.refusal(0); err != nil {
		return err
	}
	return events.Errorf(events.StorageFull, "the log is full; start keyledger with a higher --log-max-bytes, or free some space on its volume")
}

// stats fills in what is known of the storage.
func (r *room) stats(s *Stats) {
	s.ReadOnly = r.readOnly.Load()
	s.StorageFull = s.ReadOnly || r.refusal(0) != nil
	if u := r.seen.Load(); u != nil {
		s.LogBytes, s.LogBytesMax, s.VolumeBytesFree = u.Log+r.appended.Load()-u.mark, u.LogMax, u.Free
	}
}
