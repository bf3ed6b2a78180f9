package webhooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/keyledger/keyledger/events/store"
)

// errUnusable: a saved directory is not of this log, or the log is not what the last
// checkpoint has seen.
var errUnusable = errors.New("it does not fit the log")

// directoryPath is the file in which the directory is saved.
func (d *Dispatcher) directoryPath() string {
	return filepath.Join(d.cfg.Dir, store.FileDirectory(d.cfg.Partition))
}

// recall takes the saved directory in, if there is one that fits the log and the last
// checkpoint, which restore has read. Without it the whole log is folded. DESIGN.md says why
// either may be the older one.
func (d *Dispatcher) recall(ctx context.Context) error {
	if d.cfg.Dir == "" {
		return nil
	}
	path := d.directoryPath()
	if d.restored.Sequence == 0 {
		// Nothing is known to be settled: a first start, or somebody deleted the checkpoints
		// so that everything is sent again. What the file calls settled must not count, now
		// or once there are checkpoints again. If we crash before it is gone, the next start
		// finds no checkpoint either.
		if err := removeDirectory(path); err != nil {
			return fmt.Errorf("start webhooks: %w", err)
		}
		return nil
	}
	saved, err := readDirectory(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = d.fits(ctx, saved)
	}
	if err != nil {
		if ctx.Err() == nil {
			d.cfg.Logger.Warn("the saved directory of webhooks is not used; the whole log is read instead", "file", path, "error", err)
		}
		return nil
	}
	d.adopt(saved)
	d.cfg.Logger.Info("webhooks go on from the saved directory", "position", saved.at.Position().String(), "endpoints", len(saved.lanes))
	return nil
}

// fits says whether the log has been at the directory's place. It looks at the commit that
// the last checkpoint has seen as well: the fold, which does so, may begin behind it. Where
// that one differs, the fold of the whole log says so.
func (d *Dispatcher) fits(ctx context.Context, saved *savedDirectory) error {
	at, err := d.commitAt(ctx, saved.at.Sequence)
	if err != nil {
		return err
	}
	if at != saved.at {
		return fmt.Errorf("%w: it saw commit %s with the hash %s, and it has %s", errUnusable, saved.at.Position(), saved.at.Hash, at.Hash)
	}
	seen, err := d.commitAt(ctx, d.restored.Sequence)
	if err == nil && seen.Hash != d.restored.Hash {
		return fmt.Errorf("%w: the last checkpoint saw commit %s with the hash %s, and it has %s", errUnusable, seen.Position(), d.restored.Hash, seen.Hash)
	}
	return err
}

// commitAt returns the place of a commit of the log. It waits where the log cannot be read
// at the moment.
func (d *Dispatcher) commitAt(ctx context.Context, sequence uint64) (store.Chain, error) {
	for {
		c, err := d.cfg.Tail.Commit(ctx, sequence)
		switch {
		case err == nil:
			return store.ChainAt(c), nil
		case errors.Is(err, store.ErrNoMessage):
			return store.Chain{}, fmt.Errorf("%w: the log has no commit %d:%d", errUnusable, d.cfg.Partition, sequence)
		case isDamage(err), ctx.Err() != nil:
			return store.Chain{}, err
		}
		d.cfg.Logger.Warn("cannot read the log for webhooks; trying again", "commit", sequence, "error", err)
		d.pause(ctx, followPause)
	}
}

// adopt makes the directory and the lanes what was saved, as the last checkpoint knew them.
func (d *Dispatcher) adopt(saved *savedDirectory) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Clock()
	for i := range saved.lanes {
		s := &saved.lanes[i]
		known := s.subscriber
		l := d.open(&known, now)
		l.recall(s, saved.at.Ordinal, now)
		for _, r := range s.replays {
			d.replay(l, r, now)
		}
		d.directory[s.account] = append(d.directory[s.account], l.subscriber)
		d.lanes[s.endpoint.ID] = l
	}
	d.read = saved.at
}

// recall gives the lane what was not settled when the directory was saved, up to its place
// in the feed: a delivery that either the checkpoint or the directory calls settled is.
func (l *lane) recall(s *savedLane, place uint64, now time.Time) {
	l.skip(s.skipped, place)
	for _, e := range s.open {
		if !l.seen(e) { // its first try began after the checkpoint
			l.wait(&delivery{entry: e, next: now})
			continue
		}
		l.resume(e)
	}
	for i := range s.groups {
		l.recallGroup(&s.groups[i])
	}
	for _, p := range s.queue {
		l.meet(p)
	}
	l.behind, l.next = s.behind, s.next
	met := place + 1
	if l.behind {
		met = l.next.feed
	}
	for name, from := range l.listed {
		l.listed[name] = max(from, met) // what is before is in the lists
	}
	for feed, o := range l.saved {
		if feed <= place && !s.reads(o) {
			delete(l.saved, feed) // settled after the checkpoint
		}
	}
}

// recallGroup lets a group read again what it withholds.
func (l *lane) recallGroup(s *savedGroup) {
	g := l.group(s.name)
	g.more, g.next, g.settled = s.more, s.next, l.restored
	if from, ok := l.listed[s.name]; ok {
		g.settled = max(min(from-1, l.restored), l.skipped)
	}
}

// reads says whether a delivery that the checkpoint calls open is among what the lane reads
// on. A checkpoint of a lane without an order does not say of which group it is; it then is
// among what a group withholds if it is behind the first of it.
func (l *savedLane) reads(o *delivery) bool {
	return l.behind && o.feed >= l.next.feed || slices.ContainsFunc(l.groups, func(g savedGroup) bool {
		return o.feed >= g.next.feed && (o.group == g.name || o.group == 0)
	})
}

// keepDirectories saves the directory whenever enough was read since it last was.
func (d *Dispatcher) keepDirectories(ctx context.Context) {
	for {
		d.pause(ctx, d.cfg.DirectoryPause)
		if ctx.Err() != nil {
			return
		}
		d.mu.Lock()
		due := d.unsaved >= d.cfg.DirectoryEvery
		d.mu.Unlock()
		if due {
			d.keepDirectory()
		}
	}
}

// keepDirectory saves the directory, once the log has been folded. That it cannot be written
// is only logged: the next start then reads more.
func (d *Dispatcher) keepDirectory() {
	d.mu.Lock()
	if !d.live || d.cfg.Dir == "" {
		d.mu.Unlock()
		return
	}
	saved := d.takeDown()
	d.unsaved = 0
	d.mu.Unlock()
	b := saved.encode()
	err := d.cfg.Room(int64(len(b)))
	if err == nil {
		err = writeDirectory(d.directoryPath(), b, d.step)
	}
	if err != nil {
		d.cfg.Logger.Error("cannot save the directory of webhooks; the next start reads more of the log", "file", d.directoryPath(), "error", err)
	}
}

// sort puts lanes and open deliveries into the order in which they are stored.
func (s *savedDirectory) sort() {
	slices.SortFunc(s.lanes, func(a, b savedLane) int { return cmp.Compare(a.registered, b.registered) })
	for i := range s.lanes {
		slices.SortFunc(s.lanes[i].open, func(a, b entry) int { return cmp.Compare(a.feed, b.feed) })
		slices.SortFunc(s.lanes[i].groups, func(a, b savedGroup) int { return cmp.Compare(a.name, b.name) })
	}
}
