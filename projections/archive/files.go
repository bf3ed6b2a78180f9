package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/keyledger/keyledger/events/store"
)

// path is the file of a segment.
func (a *Archive) path(level uint32, number uint64) string {
	return filepath.Join(a.cfg.Dir, segmentName(level, number))
}

// load opens what the directory has. Files that are not whole, damaged or of another shape
// are removed, and those that a larger segment stands for; all come from the log.
func (a *Archive) load() error {
	files, err := os.ReadDir(a.cfg.Dir)
	if err != nil {
		return err
	}
	var found []*segment
	for _, file := range files {
		path := filepath.Join(a.cfg.Dir, file.Name())
		switch {
		case file.Name() == checkDir:
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		case strings.HasSuffix(path, suffixTemp):
			if err := os.Remove(path); err != nil {
				return err
			}
		case strings.HasSuffix(path, suffixSegment):
			s, err := a.openFile(path)
			if err != nil {
				return err
			}
			if s != nil {
				found = append(found, s)
			}
		}
	}
	slices.SortFunc(found, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.first(), b.first()), cmp.Compare(b.Level, a.Level))
	})
	behind := uint64(0)
	for _, s := range found {
		if s.first() < behind {
			a.remove(s) // it was merged, and we stopped before it was removed
			continue
		}
		a.later, behind = append(a.later, s), s.behind()
	}
	return nil
}

// openFile opens a segment, nil where it cannot be used and was removed. That it cannot be
// read is no reason to refuse a start, unless it is because too many files are open.
func (a *Archive) openFile(path string) (*segment, error) {
	s, err := openSegment(path)
	switch {
	case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
		return nil, err
	case err != nil:
		a.cfg.Logger.Warn("a file of the archive is made again from the log", "error", err)
		return nil, putAway(path)
	}
	if s.Fan != uint32(a.fan) || s.Span != a.cfg.Span || s.Start.Partition != a.cfg.Partition ||
		filepath.Base(path) != segmentName(s.Level, s.Number) {
		a.cfg.Logger.Warn("a file of the archive has another shape or name and is made again from the log", "file", path)
		a.remove(s)
		return nil, nil
	}
	return s, nil
}

// putAway removes what has a segment's name and is none, or renames what cannot be removed.
func putAway(path string) error {
	if os.Remove(path) == nil {
		return nil
	}
	return os.Rename(path, path+suffixUnreadable)
}

// remove throws a segment away. Readers that have it read on.
func (a *Archive) remove(s *segment) {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		a.cfg.Logger.Warn("cannot remove a file of the archive", "error", err)
	}
	s.release()
}

// absorb moves segments to those that are held, as far as there is no gap. The caller holds
// mu.
func (a *Archive) absorb() {
	end := a.heldEnd()
	for len(a.later) > 0 && a.later[0].first() <= a.number(end) {
		s := a.later[0]
		a.later = a.later[1:]
		if s.Start != end {
			a.cfg.Logger.Warn("a file of the archive does not go on where the one before ends and is made again from the log", "file", s.path)
			a.remove(s)
			continue
		}
		a.held, end = append(slices.Clip(a.held), s), s.End
	}
}

// check throws away what is not of this log: the last commit of a segment must stand in the
// log with its hash, which vouches for all segments before it up to a gap.
func (a *Archive) check(ctx context.Context) error {
	a.mu.RLock()
	all := slices.Concat(a.held, a.later)
	a.mu.RUnlock()
	var vouched *store.Chain // where the segment behind begins, which is of this log
	for i := len(all) - 1; i >= 0; i-- {
		if vouched != nil && *vouched == all[i].End {
			vouched = &all[i].Start
			continue
		}
		same, err := a.inLog(ctx, all[i].End)
		if err != nil {
			return fmt.Errorf("compare the archive with the log: %w", err)
		}
		if same {
			vouched = &all[i].Start
			continue
		}
		a.cfg.Logger.Warn("a file of the archive is of another log and is made again", "file", all[i].path, "position", all[i].End.Position().String())
		a.drop(all[i])
	}
	return nil
}

// inLog says whether the log has come to a place.
func (a *Archive) inLog(ctx context.Context, at store.Chain) (bool, error) {
	if at.Sequence == 0 {
		return true, nil
	}
	c, err := a.cfg.Tail.Commit(ctx, at.Sequence)
	if errors.Is(err, store.ErrNoMessage) {
		return false, nil
	}
	return err == nil && store.ChainAt(c) == at, err
}

// drop throws a segment away wherever it is, and makes following begin again before it.
func (a *Archive) drop(s *segment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.held, s); i >= 0 {
		a.later = slices.Concat(a.held[i+1:], a.later)
		a.held = a.held[:i]
		a.remove(s)
		a.begin()
		if a.again != nil {
			a.again()
		}
	} else if i := slices.Index(a.later, s); i >= 0 {
		a.later = slices.Delete(slices.Clone(a.later), i, i+1)
		a.remove(s)
	}
}

// found deals with damage that a read came upon: the segment is made again. It returns err.
func (a *Archive) found(err error) error {
	var d *damage
	if errors.As(err, &d) {
		a.cfg.Logger.Warn("a file of the archive is made again from the log", "error", err)
		a.drop(d.segment)
	}
	return err
}

// Verify reads every file whole and compares it with its sum: reading for an answer checks
// only what it reads. What is damaged is logged and made again by Run; it returns how many
// files that are. An error says that it did not come to the end.
func (a *Archive) Verify(ctx context.Context) (damaged int, err error) {
	a.mu.RLock()
	all := slices.Concat(a.held, a.later)
	for _, s := range all {
		s.acquire()
		defer s.release()
	}
	a.mu.RUnlock()
	for _, s := range all {
		if ctx.Err() != nil {
			return damaged, ctx.Err()
		}
		var d *damage
		switch err := a.found(s.verify()); {
		case errors.As(err, &d):
			damaged++
		case err != nil:
			return damaged, err
		}
	}
	return damaged, nil
}

// lookForWork makes mergeAll look.
func (a *Archive) lookForWork() {
	select {
	case a.work <- struct{}{}:
	default:
	}
}

// mergeAll merges what is to be merged until ctx ends.
func (a *Archive) mergeAll(ctx context.Context) {
	pause := retryPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.work:
		}
		for ctx.Err() == nil {
			more, err := a.mergeNext(ctx)
			if err != nil && ctx.Err() == nil {
				a.cfg.Logger.Warn("segments of the archive are merged a little later", "error", a.found(err), "pause", pause)
				select {
				case <-ctx.Done():
				case <-a.after(pause):
				}
				pause = min(2*pause, retryPauseMax)
				continue
			}
			pause = retryPause
			if !more {
				break
			}
		}
	}
}

// mergeNext merges the first segments that are to be, false where there are none.
func (a *Archive) mergeNext(ctx context.Context) (bool, error) {
	a.mu.RLock()
	i := mergeable(a.held, a.fan)
	if i < 0 {
		a.mu.RUnlock()
		return false, nil
	}
	sources, bytes := slices.Clone(a.held[i:i+a.fan]), int64(0)
	for _, s := range sources {
		s.acquire()
		defer s.release()
		bytes += s.size()
	}
	a.mu.RUnlock()
	err := a.room(bytes)
	if err == nil {
		err = merge(ctx, a.cfg.Dir, sources, a.stepped)
	}
	if err != nil {
		return false, fmt.Errorf("merge segments: %w", err)
	}
	merged, err := openSegment(a.path(sources[0].Level+1, sources[0].Number/uint64(a.fan)))
	if err != nil {
		return false, fmt.Errorf("open a segment that was just merged: %w", err)
	}
	a.mu.Lock()
	at := slices.Index(a.held, sources[0])
	if at < 0 || at+a.fan > len(a.held) || !slices.Equal(a.held[at:at+a.fan], sources) {
		a.mu.Unlock()
		a.remove(merged) // one of them was thrown away meanwhile
		return true, nil
	}
	a.held = slices.Concat(a.held[:at], []*segment{merged}, a.held[at+a.fan:])
	a.mu.Unlock()
	// If we crash before all are removed, a start removes those that are left.
	for _, s := range sources {
		a.remove(s)
	}
	return true, a.step(stepMerged)
}
